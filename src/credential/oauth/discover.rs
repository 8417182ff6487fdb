//! Which authorization server a connection's tokens come from.

use url::Url;

use super::fetch::{self, host};
use super::{Challenge, Server, Trouble, TroubleKind, metadata, protected};
use crate::credential::connection::{Connection, Grant};
use crate::credential::web::Web;

/// The one challenge method that is spoken.
pub(super) const S256: &str = "S256";

/// Finds the server of a connection.
///
/// Descriptor's endpoints, else the protected resource's metadata (of the challenge, at its path, at
/// the root), else the upstream's own origin; then RFC 8414 and OpenID documents in the specification's
/// order; 2025-03-26's fixed paths last.
///
/// An `issuer` of the descriptor is the only one that is asked; the resource's metadata then says
/// what the resource is called and which scopes it knows, and nothing more.
///
/// # Errors
/// [`Trouble`]: [`TroubleKind::Metadata`] when what was found must not be used,
/// [`TroubleKind::Transient`] when it could not be found out.
pub async fn discover(
    web: &dyn Web,
    connection: &Connection,
    challenge: Option<&Challenge>,
) -> Result<Server, Trouble> {
    if let Some(server) = described(connection) {
        return Ok(server);
    }
    let resource = protected::find(web, connection, challenge).await;
    let (mut server, resource) = match &connection.issuer {
        Some(issuer) => (
            of_declared(web, connection, issuer).await?,
            resource.ok().flatten(),
        ),
        None => match resource? {
            Some(resource) if !resource.servers.is_empty() => {
                let server = of_first(web, connection, &resource.servers).await?;
                (server, Some(resource))
            }
            resource => (of_origin(web, connection).await?, resource),
        },
    };
    if let Some(resource) = resource {
        server.resource = Some(resource.resource);
        server.resource_scopes = resource.scopes;
    }
    Ok(amended(server, connection))
}

/// The server that the descriptor describes whole: nothing is asked.
fn described(connection: &Connection) -> Option<Server> {
    let token = connection.token_endpoint.as_ref()?;
    let authorization = match (&connection.authorization_endpoint, connection.grant) {
        (Some(url), _) => url.to_string(),
        (None, Grant::ClientCredentials) => String::new(),
        (None, Grant::AuthorizationCode) => return None,
    };
    Some(Server {
        issuer: connection.issuer.clone(),
        authorization_endpoint: authorization,
        token_endpoint: token.to_string(),
        revocation_endpoint: connection.revocation_endpoint.as_ref().map(Url::to_string),
        challenge_methods: Some(vec![S256.to_owned()]),
        ..Server::default()
    })
}

async fn of_declared(web: &dyn Web, connection: &Connection, issuer: &str) -> Result<Server, Trouble> {
    metadata::of_issuer(web, connection, issuer)
        .await?
        .ok_or_else(|| {
            Trouble::metadata("the descriptor's `issuer` publishes no metadata")
                .cure("name `authorization_endpoint` and `token_endpoint` in the descriptor")
        })
}

/// The first server that can be used. One that cannot be reached is passed over too: which of them is
/// asked does not matter to the resource, and each grant remembers its own.
async fn of_first(web: &dyn Web, connection: &Connection, servers: &[String]) -> Result<Server, Trouble> {
    /// More than these are no choice but a waste of time.
    const TRIED: usize = 4;
    let mut why: Option<Trouble> = None;
    for issuer in servers.iter().take(TRIED) {
        let trouble = match metadata::of_issuer(web, connection, issuer).await {
            Ok(Some(server)) => return Ok(server),
            Ok(None) => Trouble::metadata("the authorization server publishes no metadata")
                .cure("name `authorization_endpoint` and `token_endpoint` in the descriptor"),
            Err(trouble) => trouble,
        };
        // That it may work later matters more than why another one never will.
        let better = why
            .as_ref()
            .is_none_or(|it| it.kind != TroubleKind::Transient && trouble.kind == TroubleKind::Transient);
        if better {
            why = Some(trouble);
        }
    }
    Err(why.unwrap_or_else(|| Trouble::metadata("the resource's metadata names no authorization server")))
}

/// The server of an endpoint that describes none: its own origin (2025-03-26, section 2.3).
async fn of_origin(web: &dyn Web, connection: &Connection) -> Result<Server, Trouble> {
    let mut origin = connection.upstream.clone();
    origin.set_path("");
    origin.set_query(None);
    origin.set_fragment(None);
    if let Some(server) = metadata::of_origin(web, connection, &origin).await? {
        return Ok(server);
    }
    if fetch::usable(origin.as_str()).is_none() {
        return Err(Trouble::metadata(format!(
            "`{}` is not reached over https, so nothing secret is sent there",
            host(&origin)
        )));
    }
    let at = |path: &str| {
        let mut url = origin.clone();
        url.set_path(path);
        url.to_string()
    };
    Ok(Server {
        authorization_endpoint: at("/authorize"),
        token_endpoint: at("/token"),
        registration_endpoint: Some(at("/register")),
        // That revision demands it of every server and has no place to say so.
        challenge_methods: Some(vec![S256.to_owned()]),
        ..Server::default()
    })
}

/// Single endpoints of the descriptor win over those of the metadata.
fn amended(mut server: Server, connection: &Connection) -> Server {
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
