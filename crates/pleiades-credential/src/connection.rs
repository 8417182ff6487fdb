//! What a descriptor says of OAuth, compiled.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use url::Url;

use pleiades_core::{secret::Secret, web::AddressPolicy};

/// One provider's part of a connection. Providers that name the same connection share its accounts.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The name in the vault: `oauth.connection`, by default the provider's id.
    pub name: Arc<str>,
    /// Provider id.
    pub provider: Arc<str>,
    /// Provider's title, for people.
    pub title: String,
    /// Authorization code, or client credentials.
    pub grant: GrantType,
    /// The provider's endpoint, where discovery begins.
    pub upstream: Url,
    /// What may be connected to on the way.
    pub reach: AddressPolicy,
    /// `client_id`.
    pub client_id: Option<String>,
    /// `client_secret`.
    pub client_secret: Option<Secret>,
    /// `private_key`, PEM.
    pub private_key: Option<Secret>,
    /// `scopes`; when set they win over what servers advertise.
    pub scopes: Option<Vec<String>>,
    /// `authorization_endpoint`.
    pub authorization_endpoint: Option<Url>,
    /// `token_endpoint`.
    pub token_endpoint: Option<Url>,
    /// `revocation_endpoint`.
    pub revocation_endpoint: Option<Url>,
    /// `issuer`, as written: issuers are compared as text.
    pub issuer: Option<String>,
    /// `authorization_server_metadata`.
    pub metadata: Option<Url>,
    /// `token_auth`; `None` is `auto`.
    pub token_auth: Option<super::record::ClientAuth>,
    /// `pkce`.
    pub pkce: Pkce,
    /// `audience`.
    pub audience: Option<String>,
    /// `resource`.
    pub resource: ResourceParameter,
    /// `parameters` of the authorization request.
    pub parameters: BTreeMap<String, String>,
    /// `connect_url`: people connect elsewhere.
    pub connect_url: Option<Url>,
    /// `refresh.lead`.
    pub lead: Duration,
    /// `refresh.attempts`.
    pub attempts: u32,
}

impl Connection {
    /// What `oauth: {}` says of an endpoint: everything is discovered.
    #[must_use]
    pub fn discovering(name: Arc<str>, title: String, upstream: Url, reach: AddressPolicy) -> Self {
        Self {
            provider: Arc::clone(&name),
            name,
            title,
            grant: GrantType::AuthorizationCode,
            upstream,
            reach,
            client_id: None,
            client_secret: None,
            private_key: None,
            scopes: None,
            authorization_endpoint: None,
            token_endpoint: None,
            revocation_endpoint: None,
            issuer: None,
            metadata: None,
            token_auth: None,
            pkce: Pkce::Auto,
            audience: None,
            resource: ResourceParameter::Auto,
            parameters: BTreeMap::new(),
            connect_url: None,
            lead: Duration::from_secs(600),
            attempts: 3,
        }
    }
}

/// How tokens are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantType {
    /// A person connects (RFC 6749 section 4.1).
    AuthorizationCode,
    /// Machine to machine (section 4.4).
    ClientCredentials,
}

/// Proof key for code exchange (RFC 7636).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pkce {
    /// S256, where the metadata lists it; else the sign-in is refused.
    Auto,
    /// S256, whatever the metadata lists: the descriptor says so.
    S256,
    /// None.
    Off,
}

/// `resource` of authorization and token requests (RFC 8707).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceParameter {
    /// What the protected resource's metadata names, else the upstream's canonical URL.
    Auto,
    /// Not sent.
    Off,
    /// This.
    Url(String),
}

/// What is loaded: looked up by those who work beside requests.
pub trait Connections: Send + Sync + std::fmt::Debug {
    /// Every running provider's part of a connection, ordered by provider id.
    fn of(&self, connection: &str) -> Vec<Arc<Connection>>;

    /// One provider's.
    fn provider(&self, provider: &str) -> Option<Arc<Connection>>;

    /// The scopes to ask for: those of all descriptors of a connection united, in order, each once;
    /// `None` when none names any.
    fn scopes(&self, connection: &str) -> Option<Vec<String>> {
        let parts = self.of(connection);
        let named: Vec<&Vec<String>> = parts.iter().filter_map(|part| part.scopes.as_ref()).collect();
        if named.is_empty() {
            return None;
        }
        Some(unite(named.into_iter().flatten()))
    }
}

/// Scopes in order, each once.
pub(crate) fn unite<'a>(scopes: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut united: Vec<String> = Vec::new();
    for scope in scopes {
        if !scope.is_empty() && !united.contains(scope) {
            united.push(scope.clone());
        }
    }
    united
}
