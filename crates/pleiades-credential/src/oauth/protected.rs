//! The protected resource's metadata (RFC 9728): what it is, and who gives tokens for it.

use http::StatusCode;
use serde_json::{Map, Value};
use url::Url;

use super::fetch::{self, FetchFailure, FetchedDocument};
use super::{Challenge, OAuthError, failure, metadata};
use crate::connection::{Connection, ResourceParameter};
use pleiades_core::web::HttpClient;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourceMetadata {
    pub(super) resource: String,
    pub(super) name: Option<String>,
    pub(super) servers: Vec<String>,
    pub(super) scopes: Option<Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct ResourceSearch {
    pub(super) found: Option<ResourceMetadata>,
    /// What was at the places instead, for people.
    pub(super) seen: Vec<String>,
    /// Why one may be there nevertheless: a place failed as one fails that does not exist.
    pub(super) unsure: Option<OAuthError>,
}

/// Looks where the challenge says, else at the endpoint's path, else at the root: the first document decides.
///
/// A place that answers 5xx is asked twice. One that says 500, 501 or 502 then may be a path that a proxy
/// has no way for, and the next is asked; one that is overloaded or away is waited for, since what
/// follows would be a lesser document.
/// Errors: when the document names another resource, or it cannot be known whether there is one.
pub(super) async fn find(
    web: &dyn HttpClient,
    connection: &Connection,
    challenge: Option<&Challenge>,
) -> Result<ResourceSearch, OAuthError> {
    let hinted = challenge
        .and_then(|it| it.resource_metadata.as_deref())
        .and_then(fetch::usable);
    let mut looked = ResourceSearch::default();
    let mut places: Vec<Url> = hinted.iter().cloned().collect();
    let usual = well_known(&connection.upstream);
    places.extend(usual.into_iter().filter(|it| Some(it) != hinted.as_ref()));
    for url in places {
        match fetch_retrying(web, connection, &url).await? {
            FetchedDocument::Document(found) if is_metadata(&found) => {
                looked.found = Some(read(connection, &found, &url)?);
                return Ok(looked);
            }
            FetchedDocument::Document(_) => {
                let location = failure::quoted(url.as_str());
                let what = format!("{location} answered an object that is no metadata");
                looked.seen.push(what);
            }
            FetchedDocument::Nothing(what) => looked.seen.push(what),
            // The server's own word for where it is: the well-known places may have it, a guess may not.
            FetchedDocument::Unknown(unknown) if may_be_absent(&unknown) || Some(&url) == hinted.as_ref() => {
                looked.unsure.get_or_insert(unknown.trouble);
            }
            FetchedDocument::Unknown(unknown) => return Err(unknown.trouble),
        }
    }
    Ok(looked)
}

/// A document of this kind, however broken; `{}` is what some answer for every path.
fn is_metadata(found: &Map<String, Value>) -> bool {
    ["resource", "authorization_servers"]
        .iter()
        .any(|key| found.contains_key(*key))
}

/// What is at a place; asked once more where the server failed.
async fn fetch_retrying(
    web: &dyn HttpClient,
    connection: &Connection,
    url: &Url,
) -> Result<FetchedDocument, OAuthError> {
    let seen = fetch::document(web, connection, (url, None)).await?;
    let failed = |unknown: &FetchFailure| unknown.status.is_some_and(|status| status.is_server_error());
    match seen {
        FetchedDocument::Unknown(unknown) if failed(&unknown) => {
            fetch::document(web, connection, (url, None)).await
        }
        seen => Ok(seen),
    }
}

/// Whether a failure may be that of a path which leads nowhere.
fn may_be_absent(unknown: &FetchFailure) -> bool {
    let nowhere = [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::BAD_GATEWAY,
    ];
    unknown.status.is_some_and(|status| nowhere.contains(&status))
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

fn read(
    connection: &Connection,
    found: &Map<String, Value>,
    location: &Url,
) -> Result<ResourceMetadata, OAuthError> {
    const CURE: &str = "write the provider's `issuer` into the descriptor: this document is not needed then";
    let upstream = &connection.upstream;
    let at = failure::quoted(location.as_str());
    let resource = fetch::text(found, "resource").ok_or_else(|| {
        OAuthError::metadata(format!(
            "{at} names no `resource`, which has to be the endpoint's"
        ))
        .cure(CURE)
    })?;
    // The operator's own word for what the resource is called is as good as the endpoint's.
    let is_declared =
        matches!(&connection.resource, ResourceParameter::Url(url) if metadata::same(url, &resource));
    if !is_declared && !covers(&resource, upstream) {
        let (named, asked) = (failure::quoted(&resource), failure::quoted(upstream.as_str()));
        return Err(OAuthError::metadata(format!(
            "{at} is about the resource {named}, and the endpoint that was asked is {asked}"
        ))
        .cure(format!(
            "check `upstream.url` against it; if the provider misdescribes itself, as behind a proxy, write {named} \
             as `resource` into the descriptor"
        )));
    }
    Ok(ResourceMetadata {
        resource,
        name: fetch::text(found, "resource_name"),
        servers: fetch::list(found, "authorization_servers").unwrap_or_default(),
        scopes: fetch::list(found, "scopes_supported").filter(|all| !all.is_empty()),
    })
}

/// Whether a resource is, or holds, the endpoint: same origin, and its path a prefix by whole segments.
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
