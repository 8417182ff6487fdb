//! Which client we are where none has to be registered, and how a client proves who it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use url::Url;

use super::{AuthServer, Redirects};
use crate::connection::Connection;
use crate::record::{ClientAuth, OAuthClient};

/// The client that needs no registration: the descriptor's, else our metadata document's where the
/// server takes such; `None` when one has to be registered.
///
/// A descriptor's own metadata document (an https URL with `token_auth: none`) counts where the
/// server takes such, or registers nobody.
pub(crate) fn known_client(
    connection: &Connection,
    server: &AuthServer,
    redirects: &Redirects,
) -> Option<OAuthClient> {
    if let Some(id) = &connection.client_id {
        let document = is_document(id) && connection.token_auth == Some(ClientAuth::None);
        let registers = server.registration_endpoint.is_some();
        if !document || server.metadata_documents || !registers {
            return Some(OAuthClient {
                id: id.clone(),
                auth: declared_auth(connection, server),
                secret: None,
                declared: true,
            });
        }
    }
    let document = redirects.document.as_ref().filter(|it| is_document(it))?;
    server.metadata_documents.then(|| OAuthClient {
        id: document.clone(),
        auth: ClientAuth::None,
        secret: None,
        declared: false,
    })
}

/// An https URL with a path, as Client ID Metadata Documents are named.
fn is_document(id: &str) -> bool {
    Url::parse(id).is_ok_and(|url| url.scheme() == "https" && url.path() != "/")
}

/// How the descriptor's client proves itself: as that says, else by what it has and the server takes.
pub(super) fn declared_auth(connection: &Connection, server: &AuthServer) -> ClientAuth {
    if let Some(auth) = connection.token_auth {
        return auth;
    }
    if connection.private_key.is_some() {
        return ClientAuth::PrivateKeyJwt;
    }
    if connection.client_secret.is_none() {
        return ClientAuth::None;
    }
    // What is named first is what most of its clients do, and works where the other may not.
    let mut named = server.auth_methods.iter().flatten();
    let first = named
        .find_map(|it| ClientAuth::parse(it).filter(|it| matches!(it, ClientAuth::Basic | ClientAuth::Post)));
    // Basic is what a server takes that says nothing (RFC 8414 section 2).
    first.unwrap_or(ClientAuth::Basic)
}

impl ClientAuth {
    /// The registered name of the method.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::None => "none",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// The method of a registered name, where it is one we speak.
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Basic, Self::Post, Self::None, Self::PrivateKeyJwt]
            .into_iter()
            .find(|it| it.as_str() == name)
    }
}

/// The document at `/oauth/client-metadata.json`: `document` is its own URL and our client id.
#[must_use]
pub fn client_document(document: &str, name: &str, redirects: &[String]) -> BTreeMap<String, Value> {
    let members = [
        ("client_id", json!(document)),
        ("client_name", json!(name)),
        ("redirect_uris", json!(redirects)),
        ("grant_types", json!(["authorization_code", "refresh_token"])),
        ("response_types", json!(["code"])),
        ("token_endpoint_auth_method", json!(ClientAuth::None.as_str())),
        ("application_type", json!("web")),
    ];
    members
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
