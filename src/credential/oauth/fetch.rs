//! Reading documents of servers: what is there, what is not, and what cannot be known just now.

use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Map, Value};
use url::{Host, Url};

use super::Trouble;
use crate::credential::connection::Connection;
use crate::credential::web::{Reach, Web};

/// A document that is a JSON object; `None` when there is none. Its type is not looked at: what
/// is an object is a document, and a page that answers for every path is none.
///
/// # Errors
/// When it cannot be known whether there is one.
pub(super) async fn document(
    web: &dyn Web,
    connection: &Connection,
    url: &Url,
) -> Result<Option<Map<String, Value>>, Trouble> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|_error| Trouble::metadata(format!("`{}` is no address to ask", host(url))))?;
    let response = web.send(&reach(connection, url), request).await?;
    let status = response.status();
    if failing(status) {
        return Err(Trouble::transient(format!(
            "`{}` answered {} where its metadata may be",
            host(url),
            status.as_u16()
        ))
        .after(retry_after(&response))
        .sent());
    }
    if !status.is_success() {
        return Ok(None);
    }
    Ok(serde_json::from_slice(response.body()).ok())
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
pub(super) fn retry_after<B>(response: &Response<B>) -> Option<std::time::Duration> {
    let said = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = said.trim().parse().ok()?;
    Some(std::time::Duration::from_secs(seconds.min(86_400)))
}

/// What may be connected to for this address. Loopback is for those who are told of it by the
/// operator or live there themselves: a server elsewhere must not send us to what listens here.
pub(super) fn reach(connection: &Connection, url: &Url) -> Reach {
    let mut reach = connection.reach.clone();
    let declared = [
        connection.authorization_endpoint.as_ref(),
        connection.token_endpoint.as_ref(),
        connection.revocation_endpoint.as_ref(),
    ];
    let issuer = connection.issuer.as_deref().and_then(|it| Url::parse(it).ok());
    let told = declared
        .into_iter()
        .flatten()
        .chain(issuer.as_ref())
        .chain([&connection.upstream])
        .any(|told| told.origin() == url.origin());
    reach.loopback &= told || is_loopback(&connection.upstream);
    reach
}

/// A URL that people and we may be sent to: https, or http on loopback, and nobody's name in it.
pub(super) fn usable(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let sane = url.username().is_empty() && url.password().is_none() && url.has_host();
    let plain = url.scheme() == "http" && is_loopback(&url);
    (sane && (url.scheme() == "https" || plain)).then_some(url)
}

/// Whether a URL names loopback: by address, or by the name that always is (RFC 6761).
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The host of a URL, for people.
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
