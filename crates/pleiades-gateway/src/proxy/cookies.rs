//! Cookies of the connect pages: none is read by script, none is sent along by forms of other sites.

use std::time::Duration;

use http::{HeaderMap, header};
use pleiades_core::random;

/// The name as it is sent. Under https no other host, and nothing without TLS, can set it (RFC 6265bis
/// section 4.1.3.2).
pub(super) fn name(name: &str, secure: bool) -> String {
    if secure {
        format!("__Host-{name}")
    } else {
        name.to_owned()
    }
}

/// The value that a request brings; `None` when it brings none, or two.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.trim_matches('"').to_owned());
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// `Set-Cookie`; one that lasts no time is removed.
pub(super) fn set(cookie: &str, value: &str, lasts: Duration, secure: bool) -> String {
    let end = if secure { "; Secure" } else { "" };
    format!(
        "{}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{end}",
        name(cookie, secure),
        lasts.as_secs()
    )
}

/// 128 bits that nobody can guess, to know a browser by; empty without randomness, and then no form is taken.
pub(super) fn browser_token() -> String {
    random::token::<16>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_two_different_ones_are_none() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=1; b=2;c=\"3\"; a=1".parse().unwrap());
        assert_eq!(read(&headers, "a").as_deref(), Some("1"));
        assert_eq!(read(&headers, "c").as_deref(), Some("3"));
        assert_eq!(read(&headers, "d"), None);
        headers.append(header::COOKIE, "b=4".parse().unwrap());
        assert_eq!(read(&headers, "b"), None);
    }

    #[test]
    fn under_https_no_other_host_can_set_one() {
        let lasts = Duration::from_secs(60);
        assert_eq!(
            set("x", "v", lasts, true),
            "__Host-x=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            set("x", "v", lasts, false),
            "x=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
    }
}
