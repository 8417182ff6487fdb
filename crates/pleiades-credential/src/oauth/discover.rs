//! Which authorization server a connection's tokens come from.

use url::Url;

use super::fetch::{self, host};
use super::protected::{ResourceMetadata, ResourceSearch};
use super::{AuthServer, Challenge, OAuthError, OAuthErrorKind, failure, metadata, protected};
use crate::connection::{Connection, GrantType};
use pleiades_core::web::HttpClient;

/// The one challenge method that is spoken.
pub(super) const S256: &str = "S256";

/// Finds the server of a connection.
///
/// Descriptor's endpoints, else the protected resource's metadata (of the challenge, at its path, at
/// the root), else the upstream's own origin; then RFC 8414 and OpenID documents in the specification's
/// order; 2025-03-26's fixed paths last.
///
/// The descriptor's word comes first: `authorization_server_metadata` is the one document that is asked;
/// what is found of its `issuer` is taken for that one's, and no other issuer's is used. The resource's
/// metadata then says what the resource is called and which scopes it knows, and where the issuer's
/// document lies if not at its own places.
///
/// # Errors
/// [`OAuthError`]: [`OAuthErrorKind::Metadata`] when what was found must not be used,
/// [`OAuthErrorKind::Transient`] when it could not be found out.
pub async fn discover(
    web: &dyn HttpClient,
    connection: &Connection,
    challenge: Option<&Challenge>,
) -> Result<AuthServer, OAuthError> {
    if let Some(server) = described(connection) {
        return Ok(server);
    }
    let looked = protected::find(web, connection, challenge).await;
    let (mut server, resource) = match (&connection.metadata, &connection.issuer) {
        (Some(url), _) => {
            let server = metadata::named(web, connection, url).await?;
            (server, looked.ok().and_then(|it| it.found))
        }
        (None, Some(issuer)) => {
            let resource = looked.ok().and_then(|it| it.found);
            let server = of_declared(web, connection, issuer, resource.as_ref()).await?;
            (server, resource)
        }
        (None, None) => undeclared(web, connection, looked?).await?,
    };
    if let Some(resource) = resource {
        server.resource = Some(resource.resource);
        server.resource_name = resource.name;
        server.resource_scopes = resource.scopes;
    }
    Ok(amended(server, connection))
}

/// The server that the resource names, else its origin's.
async fn undeclared(
    web: &dyn HttpClient,
    connection: &Connection,
    looked: ResourceSearch,
) -> Result<(AuthServer, Option<ResourceMetadata>), OAuthError> {
    match looked.found {
        Some(resource) if !resource.servers.is_empty() => {
            let server = of_first(web, connection, &resource.servers).await?;
            Ok((server, Some(resource)))
        }
        resource => {
            let server = of_origin(web, connection, looked.seen, looked.unsure).await?;
            Ok((server, resource))
        }
    }
}

/// The server that the descriptor describes whole: nothing is asked.
fn described(connection: &Connection) -> Option<AuthServer> {
    if connection.metadata.is_some() {
        return None;
    }
    let token = connection.token_endpoint.as_ref()?;
    let authorization = match (&connection.authorization_endpoint, connection.grant) {
        (Some(url), _) => url.to_string(),
        (None, GrantType::ClientCredentials) => String::new(),
        (None, GrantType::AuthorizationCode) => return None,
    };
    Some(AuthServer {
        issuer: connection.issuer.clone(),
        authorization_endpoint: authorization,
        token_endpoint: token.to_string(),
        revocation_endpoint: connection.revocation_endpoint.as_ref().map(Url::to_string),
        challenge_methods: Some(vec![S256.to_owned()]),
        ..AuthServer::default()
    })
}

/// The server of the descriptor's `issuer`: at its own places, else where the resource or its origin has it.
async fn of_declared(
    web: &dyn HttpClient,
    connection: &Connection,
    issuer: &str,
    resource: Option<&ResourceMetadata>,
) -> Result<AuthServer, OAuthError> {
    let mut search = match metadata::of_declared(web, connection, issuer).await? {
        Ok(server) => return Ok(server),
        Err(search) => search,
    };
    let servers = resource.map(|it| it.servers.as_slice()).unwrap_or_default();
    let elsewhere = servers
        .iter()
        .take(TRIED)
        .filter_map(|server| fetch::usable(server));
    for elsewhere in elsewhere.chain([origin_of(connection)]) {
        match metadata::of_issuer_at(web, connection, issuer, &elsewhere).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(more)) => search.seen.extend(more.seen),
            // It is not the operator's: that it must not be asked decides nothing.
            Err(trouble) => search.seen.push(trouble.message),
        }
    }
    Err(search
        .trouble()
        .unwrap_or_else(|| search.without(&format!("the descriptor's `issuer` {}", failure::quoted(issuer)))))
}

/// More servers of a resource than these are no choice but a waste of time.
const TRIED: usize = 4;

/// The first server that can be used. One that cannot be reached is passed over too: which of them is
/// asked does not matter to the resource, and each grant remembers its own.
async fn of_first(
    web: &dyn HttpClient,
    connection: &Connection,
    servers: &[String],
) -> Result<AuthServer, OAuthError> {
    let mut why: Option<OAuthError> = None;
    for issuer in servers.iter().take(TRIED) {
        let trouble = match metadata::of_issuer(web, connection, issuer).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(mut search)) => search.trouble().unwrap_or_else(|| {
                search.without(&format!("the authorization server {}", failure::quoted(issuer)))
            }),
            Err(trouble) => trouble,
        };
        // That it may work later matters more than why another one never will.
        let better = why.as_ref().is_none_or(|it| {
            it.kind != OAuthErrorKind::Transient && trouble.kind == OAuthErrorKind::Transient
        });
        if better {
            why = Some(trouble);
        }
    }
    Err(why.unwrap_or_else(|| OAuthError::metadata("the resource's metadata names no authorization server")))
}

/// Scheme, host and port of the upstream.
fn origin_of(connection: &Connection) -> Url {
    let mut origin = connection.upstream.clone();
    origin.set_path("");
    origin.set_query(None);
    origin.set_fragment(None);
    origin
}

/// The server of an endpoint that describes none: its own origin (2025-03-26, section 2.3). `seen` is
/// what was at the resource's places, `unsure` why one of them may have a document nevertheless: then
/// nothing is guessed.
async fn of_origin(
    web: &dyn HttpClient,
    connection: &Connection,
    mut seen: Vec<String>,
    unsure: Option<OAuthError>,
) -> Result<AuthServer, OAuthError> {
    let origin = origin_of(connection);
    match metadata::of_issuer_at(web, connection, origin.as_str(), &origin).await? {
        Ok(server) => return Ok(server),
        Err(mut search) => {
            if let Some(trouble) = search.trouble().or(unsure) {
                return Err(trouble);
            }
            seen.extend(search.seen);
        }
    }
    if fetch::usable(origin.as_str()).is_none() {
        return Err(OAuthError::metadata(format!(
            "`{}` is not reached over https, so nothing secret is sent there",
            host(&origin)
        ))
        .cure("write `upstream.url` with https; only on loopback may it be http"));
    }
    let at = |path: &str| {
        let mut url = origin.clone();
        url.set_path(path);
        url.to_string()
    };
    Ok(AuthServer {
        authorization_endpoint: at("/authorize"),
        token_endpoint: at("/token"),
        registration_endpoint: Some(at("/register")),
        // That revision demands it of every server and has no place to say so.
        challenge_methods: Some(vec![S256.to_owned()]),
        unpublished: Some(MissingMetadata { seen }),
        ..AuthServer::default()
    })
}

impl AuthServer {
    /// Trouble at an endpoint that was guessed, since nothing is published: the cure is another then.
    pub(super) fn guessed(&self, mut trouble: OAuthError) -> OAuthError {
        if let Some(unpublished) = &self.unpublished {
            trouble.message = format!("{}; at the usual places {trouble}", unpublished.describe());
            trouble.full = None;
            trouble.cure = Some(unpublished.cure().to_owned());
        }
        trouble
    }
}

/// What was at the places of a provider that publishes no metadata, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingMetadata {
    /// A sentence's part for each place.
    pub seen: Vec<String>,
}

impl MissingMetadata {
    /// Whether a place says where else to look: nobody is followed there, and what is guessed is likely wrong.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        metadata::has_moved(&self.seen)
    }

    /// What is wrong, in few words.
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self.has_moved() {
            true => "its OAuth metadata has moved",
            false => "it publishes no OAuth metadata",
        }
    }

    /// What is wrong, with what was seen.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}: {}", self.title(), metadata::list_seen(&self.seen))
    }

    /// What an operator can do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self.has_moved() {
            true => MOVED,
            false => UNPUBLISHED,
        }
    }
}

/// What an operator can do about metadata that is elsewhere.
const MOVED: &str = "have the provider serve its metadata where it belongs, or write `issuer`, or \
                     `authorization_server_metadata` with the URL of the server's document, into the descriptor";

/// What an operator can do about a server that publishes nothing.
const UNPUBLISHED: &str = "perhaps it wants a key and no OAuth: then write `api_key` or `client_key` as `auth`; else \
                               write `authorization_server_metadata`, or `authorization_endpoint`, `token_endpoint` and \
                               `client_id`, from the provider's documentation";

/// Single endpoints of the descriptor win over those of the metadata.
fn amended(mut server: AuthServer, connection: &Connection) -> AuthServer {
    if let Some(url) = &connection.authorization_endpoint {
        server.authorization_endpoint = url.to_string();
    }
    if let Some(url) = &connection.token_endpoint {
        server.token_endpoint = url.to_string();
    }
    if let Some(url) = &connection.revocation_endpoint {
        server.revocation_endpoint = Some(url.to_string());
    }
    server
}
