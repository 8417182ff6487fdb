//! Which header names and values are legal where.

use http::{HeaderName, HeaderValue};

/// Headers of one connection (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a header may not be sent upstream by a descriptor.
pub fn forbidden_outward(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if HOP_BY_HOP.contains(&name.as_str()) {
        return Some("belongs to one connection");
    }
    match name.as_str() {
        "host" => Some("comes from the URL"),
        "content-length" => Some("comes from the body"),
        name if name.starts_with("mcp-") => Some("belongs to the protocol"),
        _ => None,
    }
}

/// Why a credential may not go out in a header.
pub(crate) fn forbidden_carrier(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let body = (lower.starts_with("content-") || lower == "accept").then_some("describes the body");
    let trail = (lower == "forwarded" || lower.starts_with("x-forwarded-")).then_some("belongs to proxies");
    forbidden_outward(name).or(body).or(trail)
}

/// Why a header may not bring something of the caller's to a provider.
pub(crate) fn forbidden_inward(name: &str) -> Option<&'static str> {
    let access = [
        "authorization",
        "x-api-key",
        "cookie",
        "set-cookie",
        "pleiades-account",
        "origin",
    ];
    if access.contains(&name.to_ascii_lowercase().as_str()) {
        return Some("says who the caller is here and never goes to a provider");
    }
    forbidden_carrier(name)
}

pub(crate) fn is_name(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// Whether a text is a header value: visible ASCII, spaces and tabs.
pub(crate) fn is_value(text: &str) -> bool {
    text.is_ascii() && HeaderValue::from_str(text).is_ok()
}

/// Whether a header usually carries a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "x-api-key"].contains(&name.as_str())
        || ["-token", "-key", "-secret", "-password"]
            .iter()
            .any(|end| name.ends_with(end))
}
