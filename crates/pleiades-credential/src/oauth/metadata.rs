//! An authorization server's metadata (RFC 8414, OpenID Connect Discovery): where it is, and whether
//! it may be believed.
//!
//! Issuers are compared as text, but for the slash behind an empty path: RFC 8414 section 3.1 takes it
//! off before the place is made, RFC 3986 section 6.2.3 has both for one resource, and servers write
//! the one here and the other there. A document that the operator vouches for in the descriptor needs
//! no issuer to do so. The `iss` of an answer is another matter: see [`super::check_iss`].

use serde_json::{Map, Value};
use url::Url;

use super::fetch::{self, FetchedDocument};
use super::{AuthServer, OAuthError, failure};
use crate::connection::Connection;
use pleiades_core::web::HttpClient;

#[derive(Debug, Default)]
pub(super) struct MetadataSearch {
    /// Why a document that is there must not be used.
    refused: Option<OAuthError>,
    /// Why it cannot be known whether one is there.
    unknown: Option<OAuthError>,
    /// What was there instead, for people.
    pub(super) seen: Vec<String>,
}

impl MetadataSearch {
    /// The error to report when nothing was found: a document that is there and wrong comes first, then
    /// that it cannot be known just now; `None` when there is none.
    pub(super) fn trouble(&mut self) -> Option<OAuthError> {
        self.refused.take().or_else(|| self.unknown.take())
    }

    /// That an authorization server has no metadata where it should be, and what was there.
    pub(super) fn without(&self, subject: &str) -> OAuthError {
        let seen = list_seen(&self.seen);
        if has_moved(&self.seen) {
            return OAuthError::metadata(format!("the metadata of {subject} has moved: {seen}")).cure(
                "if what it redirects to is the provider's document, write `authorization_server_metadata` with that URL into \
                 the descriptor; else `authorization_endpoint`, `token_endpoint` and `client_id`",
            );
        }
        OAuthError::metadata(format!("{subject} publishes no metadata: {seen}")).cure(NO_METADATA)
    }
}

const NO_METADATA: &str = "write `authorization_server_metadata` with the URL of the document into the descriptor, or \
                           `authorization_endpoint`, `token_endpoint` and `client_id` if there is none";

/// Whether one of these places says where else to look.
pub(super) fn has_moved(seen: &[String]) -> bool {
    seen.iter().any(|it| it.contains(fetch::MOVED))
}

/// A list of places and what was there, as a part of a sentence.
pub(super) fn list_seen(seen: &[String]) -> String {
    /// More than these help nobody.
    const SHOWN: usize = 4;
    match seen.len() {
        0 => "nothing was found".to_owned(),
        count if count <= SHOWN => seen.join(", "),
        count => {
            let shown: Vec<&str> = seen.iter().take(SHOWN).map(String::as_str).collect();
            format!("{} and {} more", shown.join(", "), count - SHOWN)
        }
    }
}

/// The metadata of an issuer, at its own places; `Err` holds what was there instead.
/// Errors: when a place must not be asked at all.
pub(super) async fn of_issuer(
    web: &dyn HttpClient,
    connection: &Connection,
    issuer: &str,
) -> Result<Result<AuthServer, MetadataSearch>, OAuthError> {
    of_issuer_at(web, connection, issuer, &usable(issuer)?).await
}

/// The metadata of an issuer at the places of a URL: its own, that of the resource, or the origin of an endpoint that
/// describes no resource (2025-03-26, "Authorization Base URL").
pub(super) async fn of_issuer_at(
    web: &dyn HttpClient,
    connection: &Connection,
    issuer: &str,
    url: &Url,
) -> Result<Result<AuthServer, MetadataSearch>, OAuthError> {
    let vouched = |stated: Option<&str>| stated.filter(|stated| same(stated, issuer)).map(str::to_owned);
    first(web, connection, &places(url), (issuer, &vouched)).await
}

/// The metadata that the operator says is this issuer's, whatever issuer a document at its places names.
pub(super) async fn of_declared(
    web: &dyn HttpClient,
    connection: &Connection,
    issuer: &str,
) -> Result<Result<AuthServer, MetadataSearch>, OAuthError> {
    let url = usable(issuer)?;
    let vouched = |stated: Option<&str>| {
        let stated = stated.filter(|stated| same(stated, issuer));
        Some(stated.unwrap_or(issuer).to_owned())
    };
    first(web, connection, &places(&url), (issuer, &vouched)).await
}

/// The document that the descriptor names: its issuer is taken as it stands, or as the descriptor says.
/// Errors: when there is none, or it cannot be known.
pub(super) async fn named(
    web: &dyn HttpClient,
    connection: &Connection,
    location: &Url,
) -> Result<AuthServer, OAuthError> {
    let declared = connection.issuer.as_deref();
    let whatever = |stated: Option<&str>| {
        let stated = stated.filter(|stated| declared.is_none_or(|declared| same(stated, declared)));
        stated.or(declared).map(str::to_owned)
    };
    let cure = "correct `authorization_server_metadata` in the descriptor, or leave it out to look where the rules say";
    match fetch::document(web, connection, (location, None)).await? {
        FetchedDocument::Document(found) => {
            let issuer = whatever(fetch::text(&found, "issuer").as_deref());
            read(&found, issuer, location)
        }
        FetchedDocument::Nothing(what) => Err(OAuthError::metadata(format!(
            "there is no metadata where the descriptor's `authorization_server_metadata` says: {what}"
        ))
        .cure(cure)),
        FetchedDocument::Unknown(unknown) => Err(unknown.trouble),
    }
}

fn usable(issuer: &str) -> Result<Url, OAuthError> {
    fetch::usable(issuer).ok_or_else(|| {
        let message = format!(
            "the issuer {} is no https URL, so nothing is asked there",
            failure::quoted(issuer)
        );
        OAuthError::metadata(message).cure(
            "write the provider's right one as `issuer` into the descriptor; only on loopback may it be http",
        )
    })
}

/// Whether two issuers are the same to the letter, but for the slash behind an empty path.
pub(super) fn same(one: &str, other: &str) -> bool {
    let bare = |text: &str| {
        let is_empty = Url::parse(text).is_ok_and(|url| url.path() == "/" && url.query().is_none());
        let cut = text.strip_suffix('/').filter(|_| is_empty);
        cut.unwrap_or(text).to_owned()
    };
    one == other || bare(one) == bare(other)
}

/// Which issuer a document is of, by what it says itself; `None` for a document that must not be used.
type IssuerCheck<'a> = &'a (dyn Fn(Option<&str>) -> Option<String> + Sync);

/// The first document of these places that is vouched for.
async fn first(
    web: &dyn HttpClient,
    connection: &Connection,
    places: &[Url],
    (issuer, vouched): (&str, IssuerCheck<'_>),
) -> Result<Result<AuthServer, MetadataSearch>, OAuthError> {
    let mut search = MetadataSearch::default();
    let who = format!("the authorization server {}", failure::quoted(issuer));
    for location in places {
        let found = match fetch::document(web, connection, (location, Some(&who))).await? {
            FetchedDocument::Document(found) => found,
            FetchedDocument::Nothing(what) => {
                search.seen.push(what);
                continue;
            }
            FetchedDocument::Unknown(unknown) => {
                // All places are of one host: what cannot be connected to is not asked again.
                let is_away = !unknown.trouble.sent;
                search.unknown.get_or_insert(unknown.trouble);
                if is_away {
                    break;
                }
                continue;
            }
        };
        let stated = fetch::text(&found, "issuer");
        if stated.is_none() && fetch::text(&found, "token_endpoint").is_none() {
            // Some answer `{}` for whatever they do not know.
            let location = failure::quoted(location.as_str());
            search
                .seen
                .push(format!("{location} answered an object that is no metadata"));
            continue;
        }
        let judged = match vouched(stated.as_deref()) {
            Some(issuer) => read(&found, Some(issuer), location),
            // Written by another issuer, or by nobody: nothing in it is used.
            None => Err(other_issuer(location, issuer, stated.as_deref())),
        };
        match judged {
            Ok(server) => return Ok(Ok(server)),
            Err(trouble) => drop(search.refused.get_or_insert(trouble)),
        }
    }
    Ok(Err(search))
}

fn other_issuer(location: &Url, issuer: &str, stated: Option<&str>) -> OAuthError {
    let (location, expected) = (failure::quoted(location.as_str()), failure::quoted(issuer));
    let Some(stated) = stated else {
        return OAuthError::metadata(format!("{location} names no `issuer`, where {expected} was expected")).cure(format!(
            "if that document is the right one, write `authorization_server_metadata` with its URL, {location}, into \
             the descriptor"
        ));
    };
    let is_template = stated.contains('{');
    let stated = failure::quoted(stated);
    let message = format!("{location} says that its issuer is {stated}, where {expected} was expected");
    let cure = if is_template {
        format!(
            "that document is for every tenant: write the issuer of your own tenant as `issuer` into the descriptor, \
             or `authorization_server_metadata` with the URL {location} to take the document as it stands"
        )
    } else {
        format!(
            "if it is the right one, write {stated} as `issuer` into the descriptor, or `authorization_server_metadata` \
             with the URL {location}; else the provider has to mend its metadata"
        )
    };
    OAuthError::metadata(message).cure(cure)
}

/// Where an issuer's metadata may be, in the order of the specification: RFC 8414, then OpenID, with
/// the issuer's path inserted; then OpenID's own form, with its path in front.
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        url
    };
    let mut places = vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("/.well-known/openid-configuration{path}")),
    ];
    if !path.is_empty() {
        places.push(at(format!("{path}/.well-known/openid-configuration")));
    }
    places
}

fn read(
    found: &Map<String, Value>,
    issuer: Option<String>,
    location: &Url,
) -> Result<AuthServer, OAuthError> {
    let endpoint = |key: &str| fetch::text(found, key).filter(|it| fetch::usable(it).is_some());
    let token_endpoint = endpoint("token_endpoint").ok_or_else(|| {
        let location = failure::quoted(location.as_str());
        let message = match fetch::text(found, "token_endpoint") {
            Some(url) => {
                let url = failure::quoted(&url);
                format!("{location} names {url} as `token_endpoint`, which is no https URL")
            }
            None => format!("{location} names no `token_endpoint`"),
        };
        OAuthError::metadata(message).cure(
            "write `authorization_endpoint`, `token_endpoint` and `client_id` into the descriptor, as the provider \
             documents them",
        )
    })?;
    Ok(AuthServer {
        issuer,
        // Absent where only machines are served.
        authorization_endpoint: endpoint("authorization_endpoint").unwrap_or_default(),
        token_endpoint,
        registration_endpoint: endpoint("registration_endpoint"),
        revocation_endpoint: endpoint("revocation_endpoint"),
        userinfo_endpoint: endpoint("userinfo_endpoint"),
        challenge_methods: fetch::list(found, "code_challenge_methods_supported"),
        auth_methods: fetch::list(found, "token_endpoint_auth_methods_supported"),
        scopes: fetch::list(found, "scopes_supported"),
        iss_supported: fetch::flag(found, "authorization_response_iss_parameter_supported"),
        metadata_documents: fetch::flag(found, "client_id_metadata_document_supported"),
        resource: None,
        resource_name: None,
        resource_scopes: None,
        unpublished: None,
    })
}
