//! The page for a browser at the address of a view: what to write into a client's configuration.
//!
//! It is the same for every provider, loaded or not, so that nobody learns from it which there are.

use std::net::IpAddr;

use http::{HeaderMap, Method, header};
use serde_json::json;

use super::respond::{self, Response};
use super::{intake, pages, route};
use pleiades_credential::access::{Access, origins::OriginPolicy};

/// What a request at the address of a view says about who sent it.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) peer: Option<IpAddr>,
}

/// The page, where a browser asks at `/` or at a view and brings nothing that a client would. Where nobody needs
/// a key it is for callers alone, as the view is: others are refused there.
pub(super) fn page(
    visit: &Visit<'_>,
    gateway: &str,
    access: &Access,
    origins: &OriginPolicy,
) -> Option<Response> {
    let reads = *visit.method == Method::GET || *visit.method == Method::HEAD;
    let of_client = [
        header::AUTHORIZATION.as_str(),
        "x-api-key",
        "mcp-session-id",
        "mcp-protocol-version",
    ];
    let is_bare = !of_client.iter().any(|name| visit.headers.contains_key(*name));
    if !reads || !is_bare || !wants_page(visit.headers) {
        return None;
    }
    let path = route::view_path(visit.path)?;
    if access.is_open() && access.identify(visit.headers, visit.peer).is_err() {
        return None;
    }
    let page = pages::WelcomePage {
        gateway,
        url: &origins.url(visit.host, &path),
        name: path.splitn(3, '/').nth(2).unwrap_or(gateway),
        needs_key: !access.is_open(),
    };
    let response = respond::page(http::StatusCode::OK, pages::welcome(&page));
    Some(response.header(header::VARY, "Accept"))
}

/// Whether HTML is what the sender would rather have. Clients of the protocol name its types, and one that
/// names them as gladly is taken for a client.
fn wants_page(headers: &HeaderMap) -> bool {
    let weight = |kind| intake::weight(headers, kind);
    let html = weight("text/html");
    html > 0.0 && html > weight("application/json") && html > weight("text/event-stream")
}

/// What a client's configuration needs, as most clients write it.
pub(super) fn configuration(name: &str, url: &str, needs_key: bool) -> String {
    let mut server = json!({ "type": "http", "url": url });
    if needs_key && let Some(server) = server.as_object_mut() {
        server.insert("headers".to_owned(), json!({ "x-api-key": pages::KEY }));
    }
    let whole = json!({ "mcpServers": { name: server } });
    serde_json::to_string_pretty(&whole).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        wants_page(&headers)
    }

    #[test]
    fn browsers_get_a_page_and_clients_of_the_protocol_never() {
        for browser in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "text/html, application/xhtml+xml, image/jxr, */*",
            "TEXT/HTML;q=0.9, application/json;q=0.5",
        ] {
            assert!(accepts(browser), "{browser}");
        }
        for client in [
            "",
            "*/*",
            "application/json, text/event-stream",
            "text/event-stream",
            "text/*",
            "text/html;q=0, */*",
            "application/json, text/html;q=0.9",
            "text/html, application/json, text/event-stream",
            "application/json, text/plain, */*",
        ] {
            assert!(!accepts(client), "{client}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }

    #[test]
    fn a_configuration_is_json_whatever_the_names() {
        let text = configuration("a\"b", "http://[::1]:8787/mcp", true);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let server = &value["mcpServers"]["a\"b"];
        assert_eq!(server["url"], "http://[::1]:8787/mcp");
        assert_eq!(server["headers"]["x-api-key"], pages::KEY);
        assert!(!configuration("a", "b", false).contains("headers"));
    }
}
