//! The authorization request, and what is asked for in it.

use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use url::Url;

use super::{AuthServer, Authorization, Challenge, OAuthError, discover::S256, failure, fetch};
use crate::connection::{Connection, Pkce, ResourceParameter, unite};
use crate::record::{OAuthClient, TokenSource};
use pleiades_core::{random, secret::Secret};

/// The scope of refresh tokens (OpenID Connect Core section 11).
const OFFLINE: &str = "offline_access";
/// Without it none of `OpenID`'s others means anything.
const OPENID: &str = "openid";
/// What gives an account its name and label (`OpenID` Connect Core section 5.4).
const NAMES: [&str; 3] = [OPENID, "profile", "email"];

/// An authorization request (RFC 6749 section 4.1.1, RFC 7636, RFC 8707).
/// Errors: [`super::OAuthErrorKind::Metadata`] without S256, or without an endpoint to send a person to.
pub(crate) fn authorize(
    connection: &Connection,
    server: &AuthServer,
    client: &OAuthClient,
    redirect: &str,
    scopes: &[String],
) -> Result<Authorization, OAuthError> {
    let mut url = endpoint(server)?;
    let state = Secret::new(random::token::<32>()?);
    let verifier = proof(connection, server)?;
    let is_openid = scopes.iter().any(|it| it == OPENID);
    let nonce = is_openid.then(random::token::<32>).transpose()?;
    let mut ours: Vec<(&str, String)> = vec![
        ("response_type", "code".to_owned()),
        ("client_id", client.id.clone()),
        ("redirect_uri", redirect.to_owned()),
        ("state", state.expose().to_owned()),
    ];
    if !scopes.is_empty() {
        ours.push(("scope", scopes.join(" ")));
    }
    if let Some(verifier) = &verifier {
        ours.push(("code_challenge", challenged(verifier)));
        ours.push(("code_challenge_method", S256.to_owned()));
    }
    ours.extend(resource(connection, server).map(|it| ("resource", it)));
    ours.extend(connection.audience.clone().map(|it| ("audience", it)));
    ours.extend(nonce.clone().map(|it| ("nonce", it)));
    // Without it OpenID providers leave the refresh token out.
    if scopes.iter().any(|it| it == OFFLINE) && !connection.parameters.contains_key("prompt") {
        ours.push(("prompt", "consent".to_owned()));
    }
    put(&mut url, &ours, connection);
    Ok(Authorization {
        url,
        state,
        verifier,
        nonce,
    })
}

fn endpoint(server: &AuthServer) -> Result<Url, OAuthError> {
    let text = &server.authorization_endpoint;
    let mut url = fetch::usable(text).ok_or_else(|| {
        let issuer = failure::quoted(server.issuer.as_deref().unwrap_or(&server.token_endpoint));
        let what = if text.is_empty() {
            format!("the metadata of {issuer} names no https URL as `authorization_endpoint`")
        } else {
            let endpoint = failure::quoted(text);
            format!("the authorization endpoint {endpoint} is no https URL, so nobody is sent there")
        };
        OAuthError::metadata(what).cure(
            "write the right `authorization_endpoint` into the descriptor; only on loopback may it be http",
        )
    })?;
    url.set_fragment(None);
    Ok(url)
}

/// The verifier of this authorization; `None` with `pkce: off`.
fn proof(connection: &Connection, server: &AuthServer) -> Result<Option<Secret>, OAuthError> {
    let methods = server.challenge_methods.as_deref();
    let is_listed = methods.is_some_and(|all| all.iter().any(|it| it == S256));
    match connection.pkce {
        Pkce::Off => return Ok(None),
        Pkce::Auto if !is_listed => return Err(unlisted(server)),
        Pkce::Auto | Pkce::S256 => {}
    }
    let (_, verifier) = PkceCodeChallenge::new_random_sha256();
    Ok(Some(Secret::new(verifier.secret())))
}

fn unlisted(server: &AuthServer) -> OAuthError {
    let issuer = failure::quoted(server.issuer.as_deref().unwrap_or(&server.token_endpoint));
    let problem = match &server.challenge_methods {
        None => "does not name `code_challenge_methods_supported`".to_owned(),
        Some(methods) => {
            let methods = failure::quoted(&methods.join(" "));
            format!("names {methods} as `code_challenge_methods_supported`, and not `S256`")
        }
    };
    OAuthError::metadata(format!("the metadata of {issuer} {problem}"))
        .cure(without_s256(server.challenge_methods.as_deref()))
}

/// What to do about a server whose `code_challenge_methods_supported` does not name S256.
#[must_use]
pub fn without_s256(methods: Option<&[String]>) -> &'static str {
    let is_plain = methods.is_some_and(|all| !all.is_empty() && all.iter().all(|it| it == "plain"));
    if is_plain {
        return "it names only `plain`: ask the provider whether it takes S256; if so write `pkce: s256` into the \
                descriptor, else `pkce: off`";
    }
    "many servers take PKCE with S256 without saying so, as Entra and Cognito do: write `pkce: s256` into the descriptor to \
     use it; `pkce: off` goes without, which only a server needs that chokes on it"
}

/// The endpoint's own and the descriptor's parameters, with ours in place of any of the same name.
fn put(url: &mut Url, ours: &[(&str, String)], connection: &Connection) {
    const RESERVED: [&str; 8] = [
        "response_type",
        "client_id",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
        "request",
        "request_uri",
    ];
    let is_ours = |name: &str| RESERVED.contains(&name) || ours.iter().any(|(key, _)| *key == name);
    let theirs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .filter(|(name, _)| !is_ours(name) && !connection.parameters.contains_key(name))
        .collect();
    let declared = connection.parameters.iter().filter(|(name, _)| !is_ours(name));
    url.query_pairs_mut()
        .clear()
        .extend_pairs(theirs)
        .extend_pairs(declared)
        .extend_pairs(ours);
}

/// The challenge of a verifier (RFC 7636 section 4.2).
fn challenged(verifier: &Secret) -> String {
    let verifier = PkceCodeVerifier::new(verifier.expose().to_owned());
    PkceCodeChallenge::from_code_verifier_sha256(&verifier)
        .as_str()
        .to_owned()
}

/// `resource` to send: as the descriptor says, else as the resource calls itself, else the upstream's URL.
pub(crate) fn resource(connection: &Connection, server: &AuthServer) -> Option<String> {
    match &connection.resource {
        ResourceParameter::Off => None,
        ResourceParameter::Url(url) => Some(url.clone()),
        ResourceParameter::Auto => Some(
            server
                .resource
                .clone()
                .unwrap_or_else(|| canonical(&connection.upstream)),
        ),
    }
}

/// Lower-case scheme and host, no fragment, no slash that stands for no path.
fn canonical(upstream: &Url) -> String {
    let mut url = upstream.clone();
    url.set_fragment(None);
    let text = url.as_str();
    let bare = url.path() == "/" && url.query().is_none();
    if bare { text.trim_end_matches('/') } else { text }.to_owned()
}

/// The scopes to ask for: the descriptors', else the challenge's, else the resource's, else none.
///
/// What is `wanted` beside them and what was asked for `before` are added, each once. `offline_access`, and
/// the scopes of `OpenID` by which an account gets its name, come along where the server lists them and no
/// descriptor decides; alone they would replace the server's own default, so they never come alone.
pub(crate) fn scopes(
    declared: Option<&[String]>,
    challenge: Option<&Challenge>,
    server: &AuthServer,
    wanted: &[String],
    before: &[String],
) -> Vec<String> {
    let challenged = challenge.and_then(|it| it.scopes.as_deref());
    let base = declared
        .or(challenged)
        .or(server.resource_scopes.as_deref())
        .unwrap_or_default();
    let mut all = unite(base.iter().chain(before).chain(wanted));
    if declared.is_none() && !all.is_empty() {
        for scope in beside(server) {
            if !all.iter().any(|it| it == scope) {
                all.push(scope.to_owned());
            }
        }
    }
    all
}

/// What is asked for beside a resource's own scopes, as far as the server lists it.
pub(super) fn beside(server: &AuthServer) -> impl Iterator<Item = &'static str> {
    let listed = |scope: &str| server.scopes.iter().flatten().any(|it| it == scope);
    let names: &[&str] = if listed(OPENID) { &NAMES } else { &[] };
    let all = [OFFLINE].into_iter().chain(names.iter().copied());
    all.filter(move |scope| listed(scope))
}

pub(crate) fn source(connection: &Connection, server: &AuthServer, client: OAuthClient) -> TokenSource {
    TokenSource {
        issuer: server.issuer.clone(),
        token_endpoint: server.token_endpoint.clone(),
        revocation_endpoint: server.revocation_endpoint.clone(),
        client,
        resource: resource(connection, server),
    }
}
