//! Requests to the token endpoint: a code, a refresh token or nothing but ourselves for tokens.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::token_response::TokenRequestInfo;
use super::{
    AuthServer, OAuthError, TokenResponse, assertion, authorize, client, failure, fetch, token_response,
};
use crate::connection::Connection;
use crate::record::{ClientAuth, OAuthClient, TokenSource};
use pleiades_core::{secret::Secret, web::HttpClient};

#[expect(
    clippy::too_many_arguments,
    reason = "each is another part of the one request, and used once"
)]
pub(crate) async fn exchange(
    web: &dyn HttpClient,
    connection: &Connection,
    source: &TokenSource,
    code: &Secret,
    verifier: Option<&Secret>,
    redirect: &str,
) -> Result<TokenResponse, OAuthError> {
    let mut form = TokenForm::new("authorization_code", source);
    form.secret("code", code);
    form.put("redirect_uri", redirect);
    if let Some(verifier) = verifier {
        form.secret("code_verifier", verifier);
    }
    form.redeem(web, connection, (source, Some(redirect))).await
}

/// Redeems a refresh token; `scopes` are sent where given, for servers that give less without them.
/// Errors: [`OAuthError`]; only [`super::OAuthErrorKind::Grant`] is final.
pub(crate) async fn refresh(
    web: &dyn HttpClient,
    connection: &Connection,
    source: &TokenSource,
    token: &Secret,
    scopes: Option<&[String]>,
) -> Result<TokenResponse, OAuthError> {
    let mut form = TokenForm::new("refresh_token", source);
    form.secret("refresh_token", token);
    form.scopes(scopes);
    form.redeem(web, connection, (source, None)).await
}

/// A token for the gateway itself (RFC 6749 section 4.4).
/// Errors: [`OAuthError`]; [`super::OAuthErrorKind::Client`] when the descriptor names no client.
pub(crate) async fn client_credentials(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    scopes: Option<&[String]>,
) -> Result<TokenResponse, OAuthError> {
    let id = connection.client_id.clone().ok_or_else(|| {
        OAuthError::client("client credentials need a client")
            .cure("put `client_id` and `client_secret` or `private_key` into the descriptor")
    })?;
    let ours = OAuthClient {
        id,
        auth: client::declared_auth(connection, server),
        secret: None,
        declared: true,
    };
    let source = authorize::source(connection, server, ours);
    let mut form = TokenForm::new("client_credentials", &source);
    form.scopes(scopes);
    if let Some(audience) = &connection.audience {
        form.put("audience", audience);
    }
    form.redeem(web, connection, (&source, None)).await
}

/// A form in the making, and what of it no message may repeat.
#[derive(Debug)]
pub(super) struct TokenForm<'a> {
    fields: Vec<(&'static str, Zeroizing<String>)>,
    secrets: Vec<&'a Secret>,
}

impl<'a> TokenForm<'a> {
    fn new(grant: &str, source: &TokenSource) -> Self {
        let mut form = Self::empty();
        form.put("grant_type", grant);
        if let Some(resource) = &source.resource {
            form.put("resource", resource);
        }
        form
    }

    pub(super) const fn empty() -> Self {
        Self {
            fields: Vec::new(),
            secrets: Vec::new(),
        }
    }

    fn put(&mut self, name: &'static str, value: &str) {
        self.fields.push((name, Zeroizing::new(value.to_owned())));
    }

    pub(super) fn secret(&mut self, name: &'static str, value: &'a Secret) {
        self.put(name, value.expose());
        self.secrets.push(value);
    }

    fn scopes(&mut self, scopes: Option<&[String]>) {
        if let Some(scopes) = scopes.filter(|all| !all.is_empty()) {
            self.put("scope", &scopes.join(" "));
        }
    }

    async fn redeem(
        self,
        web: &dyn HttpClient,
        connection: &Connection,
        (source, redirect): (&TokenSource, Option<&str>),
    ) -> Result<TokenResponse, OAuthError> {
        let asked = TokenRequestInfo {
            endpoint: &source.token_endpoint,
            redirect,
            resource: (source.resource.as_deref(), &connection.resource),
        };
        let mut secrets: Vec<Secret> = self.secrets.iter().copied().cloned().collect();
        secrets.extend(proof_of(connection, &source.client).ok().flatten().cloned());
        let response = self.send(web, connection, source, &source.token_endpoint).await?;
        token_response::tokens(&response, asked, &secrets.iter().collect::<Vec<_>>())
    }

    /// Posts the form to an endpoint of the source's server, with the client's proof.
    pub(super) async fn send(
        mut self,
        web: &dyn HttpClient,
        connection: &Connection,
        source: &TokenSource,
        endpoint: &str,
    ) -> Result<Response<Bytes>, OAuthError> {
        let Some(endpoint) = fetch::usable(endpoint) else {
            return Err(
                OAuthError::metadata("an endpoint is no https URL, so nothing secret is sent there")
                    .cure("only on loopback may it be http"),
            );
        };
        let proof = self.prove(connection, source)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(endpoint.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        if let Some(proof) = proof {
            request = request.header(header::AUTHORIZATION, proof);
        }
        let request = request
            .body(self.encoded())
            .map_err(|_error| OAuthError::metadata("the token endpoint is no address to ask"))?;
        let what = match source.revocation_endpoint.as_deref() == Some(endpoint.as_str()) {
            true => "revocation",
            false => "token",
        };
        let who = format!("the {what} endpoint {}", failure::quoted(endpoint.as_str()));
        let sent = web.send(&fetch::reach(connection, &endpoint), request).await;
        sent.map_err(|unreached| OAuthError::unreached(unreached, &endpoint, &who))
    }

    /// Adds the client's proof (RFC 6749 section 2.3, RFC 7523): to the form, or as a header.
    fn prove(
        &mut self,
        connection: &Connection,
        source: &TokenSource,
    ) -> Result<Option<HeaderValue>, OAuthError> {
        let client = &source.client;
        let proof = proof_of(connection, client)?;
        match (client.auth, proof) {
            (ClientAuth::Basic, Some(secret)) => return basic(&client.id, secret).map(Some),
            (ClientAuth::Post, Some(secret)) => {
                self.put("client_id", &client.id);
                self.put("client_secret", secret.expose());
            }
            (ClientAuth::PrivateKeyJwt, Some(key)) => {
                let audience = source.issuer.as_deref().unwrap_or(&source.token_endpoint);
                let assertion = assertion::assertion(&client.id, audience, key)?;
                self.put("client_id", &client.id);
                self.put("client_assertion_type", assertion::TYPE);
                self.put("client_assertion", assertion.expose());
            }
            (ClientAuth::None, _) | (_, None) => self.put("client_id", &client.id),
        }
        Ok(None)
    }

    fn encoded(&self) -> Vec<u8> {
        let mut form = Serializer::new(String::new());
        for (name, value) in &self.fields {
            form.append_pair(name, value);
        }
        form.finish().into_bytes()
    }
}

/// What a client proves itself with: the descriptor's of today, or the registered one.
fn proof_of<'a>(
    connection: &'a Connection,
    client: &'a OAuthClient,
) -> Result<Option<&'a Secret>, OAuthError> {
    let (secret, what) = match client.auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::PrivateKeyJwt => (connection.private_key.as_ref(), "private_key"),
        ClientAuth::Basic | ClientAuth::Post if client.declared => {
            (connection.client_secret.as_ref(), "client_secret")
        }
        ClientAuth::Basic | ClientAuth::Post => (client.secret.as_ref(), "client_secret"),
    };
    secret.map(Some).ok_or_else(|| {
        OAuthError::client(format!("the client has no `{what}` to prove itself with"))
            .cure(format!("put `{what}` into the descriptor, or `token_auth: none`"))
    })
}

/// Basic authentication as OAuth has it: both halves form-encoded first (RFC 6749 section 2.3.1).
fn basic(id: &str, secret: &Secret) -> Result<HeaderValue, OAuthError> {
    let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
    let pair = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret.expose())));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_error| OAuthError::client("the client's secret cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
