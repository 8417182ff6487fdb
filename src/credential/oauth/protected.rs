//! The protected resource's metadata (RFC 9728): what it is, and who gives tokens for it.

use serde_json::{Map, Value};
use url::Url;

use super::fetch::{self, host};
use super::{Challenge, Trouble};
use crate::credential::connection::Connection;
use crate::credential::web::Web;

/// What a resource says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protected {
    /// `resource`, as written.
    pub(super) resource: String,
    /// `authorization_servers`.
    pub(super) servers: Vec<String>,
    /// `scopes_supported`.
    pub(super) scopes: Option<Vec<String>>,
}

/// Looks where the challenge says, else at the path of the endpoint, else at the root: the first
/// document that is there decides.
///
/// # Errors
/// When the document names another resource, or it cannot be known whether there is one.
pub(super) async fn find(
    web: &dyn Web,
    connection: &Connection,
    challenge: Option<&Challenge>,
) -> Result<Option<Protected>, Trouble> {
    let told = challenge
        .and_then(|it| it.resource_metadata.as_deref())
        .and_then(fetch::usable);
    for url in told.into_iter().chain(well_known(&connection.upstream)) {
        if let Some(found) = fetch::document(web, connection, &url).await? {
            return read(connection, &found).map(Some);
        }
    }
    Ok(None)
}

/// The well-known places of an endpoint: with its path, then without.
fn well_known(upstream: &Url) -> Vec<Url> {
    let path = upstream.path().trim_end_matches('/');
    let mut paths = vec![path];
    if !path.is_empty() {
        paths.push("");
    }
    let places = paths.into_iter().map(|path| {
        let mut url = upstream.clone();
        url.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
        // Only a resource whose identifier has a query keeps it (RFC 9728 section 3.1).
        if path.is_empty() {
            url.set_query(None);
        }
        url.set_fragment(None);
        url
    });
    places.collect()
}

fn read(connection: &Connection, found: &Map<String, Value>) -> Result<Protected, Trouble> {
    let upstream = &connection.upstream;
    let resource = fetch::text(found, "resource").ok_or_else(|| {
        Trouble::metadata(format!(
            "the metadata of `{}` names no `resource`",
            host(upstream)
        ))
        .cure("the provider has to publish it (RFC 9728); until then name the `issuer` in the descriptor")
    })?;
    if !covers(&resource, upstream) {
        let message = format!(
            "the metadata of `{}` is about another resource than the endpoint that was asked",
            host(upstream)
        );
        return Err(Trouble::metadata(message)
            .cure("check `upstream.url`; tokens for another resource are never asked for"));
    }
    Ok(Protected {
        resource,
        servers: fetch::list(found, "authorization_servers").unwrap_or_default(),
        scopes: fetch::list(found, "scopes_supported").filter(|all| !all.is_empty()),
    })
}

/// Whether a resource is the endpoint, or what the endpoint is a part of: same origin, and its path a
/// prefix by whole segments.
fn covers(resource: &str, upstream: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else {
        return false;
    };
    if resource.origin() != upstream.origin() || resource.fragment().is_some() {
        return false;
    }
    let whole = resource.path().trim_end_matches('/');
    let path = upstream.path().trim_end_matches('/');
    let query = resource.query().is_none() || resource.query() == upstream.query();
    query
        && path
            .strip_prefix(whole)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
