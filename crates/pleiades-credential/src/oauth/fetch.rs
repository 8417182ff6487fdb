//! Reading documents of servers: what is there, what is not, and what cannot be known just now.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::{OAuthError, failure};
use crate::connection::Connection;
use pleiades_core::trust;
use pleiades_core::web::{AddressPolicy, HttpClient};

/// How long one document may take: there are several places to look at, and a person waits.
const TIMEOUT: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) enum FetchedDocument {
    /// A JSON object. Its type is not looked at: what is an object is a document, and a page that
    /// answers for every path is none.
    Document(Map<String, Value>),
    /// No document, and what was there instead: for people.
    Nothing(String),
    Unknown(FetchFailure),
}

#[derive(Debug)]
pub(super) struct FetchFailure {
    pub(super) trouble: OAuthError,
    pub(super) status: Option<StatusCode>,
}

/// Looks whether there is a document at a place; `who` names its owner for people, where that is known.
/// Errors: when the place must not be asked at all.
pub(super) async fn document(
    web: &dyn HttpClient,
    connection: &Connection,
    (url, who): (&Url, Option<&str>),
) -> Result<FetchedDocument, OAuthError> {
    let location = failure::quoted(url.as_str());
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|_error| OAuthError::metadata(format!("{location} is no address to ask")))?;
    let unknown = |trouble, status| FetchedDocument::Unknown(FetchFailure { trouble, status });
    let response = match timeout(TIMEOUT, web.send(&reach(connection, url), request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(mut unreached)) => {
            unreached.message = failure::named(&unreached.message, url, who.unwrap_or(&location));
            let is_transient = unreached.transient;
            let trouble = OAuthError::placed(unreached, url);
            return match is_transient {
                true => Ok(unknown(trouble, None)),
                false => Err(trouble),
            };
        }
        Err(_elapsed) => {
            let message = format!("{location} did not answer within {} s", TIMEOUT.as_secs());
            return Ok(unknown(OAuthError::transient(message).sent(), None));
        }
    };
    let status = response.status();
    if failing(status) {
        let message = format!("{location} answered {}, where metadata may be", status.as_u16());
        let trouble = OAuthError::transient(message)
            .after(retry_after(&response))
            .sent();
        return Ok(unknown(trouble, Some(status)));
    }
    Ok(match read(&response) {
        Some(document) => FetchedDocument::Document(document),
        None => FetchedDocument::Nothing(absent(&location, &response)),
    })
}

/// The object in an answer of 2xx, behind the mark of byte order that some files begin with.
fn read(response: &Response<Bytes>) -> Option<Map<String, Value>> {
    let body = response.body();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_success = response.status().is_success();
    is_success.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Marks, in the text about a place, that the place redirects elsewhere.
pub(super) const MOVED: &str = " redirects (";

fn absent(location: &str, response: &Response<Bytes>) -> String {
    let status = response.status();
    let number = status.as_u16();
    if status.is_redirection() {
        let target = response.headers().get(header::LOCATION);
        let target = target.and_then(|it| it.to_str().ok()).map(failure::quoted);
        let target = target.unwrap_or_else(|| "nowhere".to_owned());
        return format!("{location}{MOVED}{number}) to {target}, and redirects are not followed");
    }
    if status.is_success() {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|it| it.to_str().ok()).map(failure::quoted);
        let kind = kind.map_or_else(String::new, |kind| format!(" ({kind})"));
        return format!("{location} answered {number} with what is no JSON object{kind}");
    }
    format!("{location} answered {number}")
}

/// Whether a status says nothing about what was asked.
pub(super) fn failing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
        )
}

/// `Retry-After` in seconds, a day at most; the form with a date is not read.
pub(super) fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(86_400)))
}

/// What may be connected to for this address. `allow_private` and loopback are for the upstream's own
/// origin and for what the descriptor names: a server elsewhere must not send us to what listens inside
/// or here. Only who lives on loopback itself may name other ports of it.
pub(super) fn reach(connection: &Connection, url: &Url) -> AddressPolicy {
    let mut reach = connection.reach.clone();
    let declared = [
        connection.authorization_endpoint.as_ref(),
        connection.token_endpoint.as_ref(),
        connection.revocation_endpoint.as_ref(),
        connection.metadata.as_ref(),
    ];
    let issuer = connection.issuer.as_deref().and_then(|it| Url::parse(it).ok());
    let is_named = declared
        .into_iter()
        .flatten()
        .chain(issuer.as_ref())
        .chain([&connection.upstream])
        .any(|is_named| is_named.origin() == url.origin());
    reach.private &= is_named;
    reach.loopback &= is_named || trust::is_loopback(&connection.upstream);
    reach
}

/// A URL that people and we may be sent to: https, or http on loopback, and nobody's name in it.
pub(super) fn usable(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let sane = url.username().is_empty() && url.password().is_none() && url.has_host();
    let is_web = matches!(url.scheme(), "https" | "http");
    (sane && is_web && !trust::is_cleartext(&url)).then_some(url)
}

pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("an address without a host")
}

/// A text member; an empty one is none.
pub(super) fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    let text = map.get(key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// A list of texts; a single text is a list of one.
pub(super) fn list(map: &Map<String, Value>, key: &str) -> Option<Vec<String>> {
    match map.get(key)? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// A switch; what is no boolean is off.
pub(super) fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}
