//! Dynamic client registration (RFC 7591).

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use url::Url;

use super::{AuthServer, OAuthError, OAuthErrorKind, Redirects, authorize::beside, failure, fetch};
use crate::connection::Connection;
use crate::record::{ClientAuth, OAuthClient};
use pleiades_core::{secret::Secret, trust, web::HttpClient};

/// The name that people read on consent pages where the caller gives none.
const NAME: &str = "Pleiades";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub client: OAuthClient,
    /// When its secret ends, in unix seconds: register again before that. `None`: never.
    pub secret_expires_at: Option<u64>,
    /// Whether the server refused the scopes that were advertised, and took the client without: it would
    /// refuse those in an authorization request too, as far as it does not list them itself.
    pub unscoped: bool,
}

/// Registers a client (RFC 7591) with all callbacks of ours, and says when its secret ends.
///
/// It names the scopes that the descriptors `declared`, else those that are advertised. They are optional
/// (section 2), and some servers refuse every registration that names any, or one of these: a refusal is
/// followed by one try without.
/// Errors: [`OAuthErrorKind::Client`] when the server registers nobody, or not us;
/// [`OAuthErrorKind::Transient`] when it could not be asked.
pub(crate) async fn registration(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    redirects: &Redirects,
    declared: Option<&[String]>,
) -> Result<Registration, OAuthError> {
    let registrar = Registrar {
        web,
        connection,
        server,
        redirects,
    };
    let endpoint = server.registration_endpoint.as_deref().and_then(fetch::usable);
    let endpoint = endpoint.ok_or_else(|| {
        let issuer = failure::quoted(server.issuer.as_deref().unwrap_or(&server.token_endpoint));
        OAuthError::client(format!(
            "the metadata of {issuer} names no `registration_endpoint`, so the gateway cannot register itself, and the \
             descriptor names no `client_id`"
        ))
        .cure(by_hand(redirects))
    })?;
    let scopes = named(server, declared);
    let registered = match registrar.register(&endpoint, scopes.as_deref()).await {
        Err(RegistrationError::Refused(status, _)) if scopes.is_some() && may_be_about_scopes(status) => {
            registrar.register(&endpoint, None).await.map(|mut made| {
                made.unscoped = true;
                made
            })
        }
        first => first,
    };
    registered.map_err(|refused| match refused {
        RegistrationError::Refused(_, trouble) | RegistrationError::Other(trouble) => server.guessed(trouble),
    })
}

fn by_hand(redirects: &Redirects) -> String {
    format!(
        "register an application at the provider with the redirect URI `{}` and write its `client_id`, and \
         `client_secret` if it has one, into the descriptor",
        redirects.used
    )
}

enum RegistrationError {
    Refused(StatusCode, OAuthError),
    Other(OAuthError),
}

impl From<OAuthError> for RegistrationError {
    fn from(trouble: OAuthError) -> Self {
        Self::Other(trouble)
    }
}

/// Refusals that scopes may be the reason of (RFC 7591 section 3.2.2; Keycloak's policies say 403).
fn may_be_about_scopes(status: StatusCode) -> bool {
    let refusals = [
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    refusals.contains(&status) || status.is_success()
}

struct Registrar<'a> {
    web: &'a dyn HttpClient,
    connection: &'a Connection,
    server: &'a AuthServer,
    redirects: &'a Redirects,
}

impl Registrar<'_> {
    async fn register(
        &self,
        endpoint: &Url,
        scopes: Option<&str>,
    ) -> Result<Registration, RegistrationError> {
        let (connection, redirects) = (self.connection, self.redirects);
        let auth = method(connection, self.server)?;
        let body = serde_json::to_vec(&request(redirects, auth, scopes)).unwrap_or_default();
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoint.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(body)
            .map_err(|_error| OAuthError::metadata("the registration endpoint is no address to ask"))?;
        let at = failure::quoted(endpoint.as_str());
        let response = self
            .web
            .send(&fetch::reach(connection, endpoint), request)
            .await
            .map_err(|it| OAuthError::unreached(it, endpoint, &format!("the registration endpoint {at}")))?;
        let status = response.status();
        if fetch::failing(status) {
            let trouble = OAuthError::failing(&format!("the registration at {at}"), &response);
            return Err(trouble.into());
        }
        let answer: Option<Map<String, Value>> = serde_json::from_slice(response.body()).ok();
        let answer = answer.unwrap_or_default();
        // Some servers answer 200 where the specification has 201.
        if !status.is_success() || answer.contains_key("error") {
            let trouble = refused(&answer, &at, &response).cure(by_hand(redirects));
            return Err(RegistrationError::Refused(status, trouble));
        }
        accepted(&answer, auth).ok_or_else(|| {
            let message = format!(
                "the registration at {at} answered {} without a client that can be used",
                status.as_u16()
            );
            RegistrationError::Other(OAuthError::client(message).cure(by_hand(redirects)))
        })
    }
}

/// The method to be registered with: the descriptor's, else the best that the server takes. A secret in
/// the form comes before one in a header: what is registered is ours to choose, and the servers built on
/// the Python SDK want `client_id` in the form in any case.
fn method(connection: &Connection, server: &AuthServer) -> Result<ClientAuth, OAuthError> {
    let takes = |auth: ClientAuth| match &server.auth_methods {
        Some(all) => all.iter().any(|it| it == auth.as_str()),
        // What is not said is basic (RFC 8414 section 2).
        None => auth == ClientAuth::Basic,
    };
    let wanted = connection
        .token_auth
        .filter(|it| *it != ClientAuth::PrivateKeyJwt);
    let known = [ClientAuth::Post, ClientAuth::Basic, ClientAuth::None];
    let best = known.into_iter().find(|auth| takes(*auth));
    wanted.filter(|it| takes(*it)).or(best).ok_or_else(|| {
        let named = server.auth_methods.iter().flatten().map(String::as_str);
        let named = failure::quoted(&named.collect::<Vec<_>>().join(" "));
        OAuthError::client(format!(
            "the authorization server names {named} as `token_endpoint_auth_methods_supported`, none of which a \
             registration can be made for"
        ))
        .cure("register a client by hand and write its `client_id` and `private_key` into the descriptor")
    })
}

/// The scopes to register with: the descriptors', else the advertised with what is asked for beside
/// them, as a server that binds clients to scopes would refuse those later; `None`: none.
fn named(server: &AuthServer, declared: Option<&[String]>) -> Option<String> {
    let mut scopes = match declared.or(server.resource_scopes.as_deref()) {
        None | Some([]) => return None,
        Some(scopes) => scopes.to_vec(),
    };
    if declared.is_none() {
        for scope in beside(server) {
            if !scopes.iter().any(|it| it == scope) {
                scopes.push(scope.to_owned());
            }
        }
    }
    Some(scopes.join(" "))
}

fn request(redirects: &Redirects, auth: ClientAuth, scopes: Option<&str>) -> Value {
    let native =
        Url::parse(&redirects.used).is_ok_and(|url| url.scheme() == "http" && trust::is_loopback(&url));
    let mut uris = redirects.registered.clone();
    if !uris.contains(&redirects.used) {
        uris.insert(0, redirects.used.clone());
    }
    let mut asked = json!({
        "client_name": NAME,
        "application_type": if native { "native" } else { "web" },
        "redirect_uris": uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": auth.as_str(),
    });
    if let (Some(asked), Some(scopes)) = (asked.as_object_mut(), scopes) {
        asked.insert("scope".to_owned(), json!(scopes));
    }
    asked
}

fn accepted(answer: &Map<String, Value>, asked: ClientAuth) -> Option<Registration> {
    let id = fetch::text(answer, "client_id")?;
    let secret = fetch::text(answer, "client_secret").map(Secret::new);
    let auth = match fetch::text(answer, "token_endpoint_auth_method") {
        Some(name) => ClientAuth::parse(&name)?,
        None => asked,
    };
    let auth = match (auth, &secret) {
        // There is nothing to prove it with.
        (ClientAuth::Basic | ClientAuth::Post, None) => ClientAuth::None,
        (auth, _) => auth,
    };
    let ends = answer.get("client_secret_expires_at").and_then(Value::as_u64);
    let secret = secret.filter(|_| matches!(auth, ClientAuth::Basic | ClientAuth::Post));
    Some(Registration {
        secret_expires_at: ends.filter(|at| *at > 0 && secret.is_some()),
        unscoped: false,
        client: OAuthClient {
            id,
            auth,
            secret,
            declared: false,
        },
    })
}

fn refused(answer: &Map<String, Value>, at: &str, response: &Response<Bytes>) -> OAuthError {
    let status = response.status();
    if status.is_redirection() {
        let target = response
            .headers()
            .get(header::LOCATION)
            .and_then(|it| it.to_str().ok());
        let target = failure::quoted(target.unwrap_or("nowhere"));
        let number = status.as_u16();
        let message =
            format!("the registration at {at} redirects ({number}) to {target}, and is not sent on");
        return OAuthError::client(message).sent();
    }
    let code = fetch::text(answer, "error").and_then(|it| failure::code(&it, &[]));
    let why = fetch::text(answer, "error_description").and_then(|it| failure::shown(&it, &[]));
    let mut message = format!(
        "the registration at {at} was refused: {}",
        code.clone()
            .unwrap_or_else(|| format!("status {}", status.as_u16()))
    );
    if let Some(why) = why {
        message = format!("{message} ({why})");
    }
    let mut trouble = OAuthError::new(OAuthErrorKind::Client, message).sent();
    trouble.error = code.and_then(|it| failure::registered(&it));
    trouble
}
