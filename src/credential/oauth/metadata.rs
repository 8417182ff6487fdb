//! An authorization server's metadata (RFC 8414, OpenID Connect Discovery): where it is, and whether
//! it may be believed.

use serde_json::{Map, Value};
use url::Url;

use super::fetch::{self, host};
use super::{Server, Trouble};
use crate::credential::connection::Connection;
use crate::credential::web::Web;

/// The metadata of an issuer; `None` when it publishes none.
///
/// # Errors
/// When what it publishes is another issuer's or lacks an endpoint, or it cannot be known.
pub(super) async fn of_issuer(
    web: &dyn Web,
    connection: &Connection,
    issuer: &str,
) -> Result<Option<Server>, Trouble> {
    let Some(url) = fetch::usable(issuer) else {
        return Err(
            Trouble::metadata("the issuer that the metadata names is no https URL")
                .cure("the provider has to mend its metadata"),
        );
    };
    first(web, connection, &places(&url), |said| said == issuer).await
}

/// The metadata at the origin of an endpoint that describes no resource (2025-03-26, "Authorization
/// Base URL"): its issuer is the origin, with or without the slash that a URL of no path may have.
pub(super) async fn of_origin(
    web: &dyn Web,
    connection: &Connection,
    origin: &Url,
) -> Result<Option<Server>, Trouble> {
    let ours = origin.as_str().trim_end_matches('/');
    first(web, connection, &places(origin), |said| {
        said == ours || said.strip_suffix('/') == Some(ours)
    })
    .await
}

/// The first document of these places that its issuer vouches for.
async fn first(
    web: &dyn Web,
    connection: &Connection,
    places: &[Url],
    is_issuer: impl Fn(&str) -> bool,
) -> Result<Option<Server>, Trouble> {
    let mut refused = None;
    for place in places {
        let Some(found) = fetch::document(web, connection, place).await? else {
            continue;
        };
        match fetch::text(&found, "issuer") {
            Some(issuer) if is_issuer(&issuer) => return read(&found, issuer, place).map(Some),
            // Written by another issuer, or by nobody: nothing in it is used.
            Some(_) | None => {
                refused.get_or_insert_with(|| other_issuer(place));
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

fn other_issuer(place: &Url) -> Trouble {
    let message = format!("the metadata at `{}` is another issuer's", host(place));
    Trouble::metadata(message).cure("its `issuer` has to be the one it is published under, to the letter")
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

fn read(found: &Map<String, Value>, issuer: String, place: &Url) -> Result<Server, Trouble> {
    // An endpoint that nobody may be sent to is as good as none.
    let endpoint = |key: &str| fetch::text(found, key).filter(|it| fetch::usable(it).is_some());
    let token_endpoint = endpoint("token_endpoint").ok_or_else(|| {
        let message = format!(
            "the metadata at `{}` names no usable `token_endpoint`",
            host(place)
        );
        Trouble::metadata(message).cure("endpoints have to be https URLs")
    })?;
    Ok(Server {
        issuer: Some(issuer),
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
        resource_scopes: None,
    })
}
