//! Servers that no descriptor names: which may be connected, and with which headers of their own.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use url::Url;
use wildmatch::WildMatch;

use super::request::WantedServer;
use crate::catalog::{Catalog, Guest, Provider};
use crate::proxy::api::route::is_id;
use pleiades_core::{error::Code, secret::Secret, trust};
use pleiades_credential::access::Principal;
use pleiades_upstream::Identity;

/// Headers that one server has, and the longest value of one, in bytes.
const MAX_HEADERS: usize = 16;
const MAX_VALUE: usize = 8 * 1_024;

/// The servers that may be connected beside the loaded ones.
#[derive(Debug, Default)]
pub struct ConnectAllowlist(Vec<UrlPattern>);

impl ConnectAllowlist {
    /// `connect_api.allow`, globs over whole URLs.
    #[must_use]
    pub fn new(globs: &[String]) -> Self {
        Self(globs.iter().map(|glob| UrlPattern::new(glob)).collect())
    }

    /// Whether a URL may be connected to: never with a user in it, and over `http` on loopback only.
    fn admits(&self, url: &Url) -> bool {
        matches!(url.scheme(), "https" | "http")
            && !trust::is_cleartext(url)
            && url.username().is_empty()
            && url.password().is_none()
            && self.0.iter().any(|pattern| pattern.admits(url))
    }
}

/// A glob in the parts of a URL, each of which is matched for itself: a wildcard of the host reaches
/// neither into the path nor over the end of the host.
#[derive(Debug)]
struct UrlPattern {
    scheme: WildMatch,
    host: String,
    /// `None`: the scheme's own.
    port: Option<WildMatch>,
    /// Path and query.
    rest: WildMatch,
}

impl UrlPattern {
    fn new(glob: &str) -> Self {
        let (scheme, rest) = glob.split_once("://").unwrap_or(("*", glob));
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let is_bare = |host: &str| !host.contains(':') || host.ends_with(']');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if is_bare(host) && !authority.ends_with(']') => (host, Some(port)),
            _ if authority == "*" => (authority, Some("*")),
            _ => (authority, None),
        };
        // A glob that ends with the host is open to all paths by the wildcard it ends with.
        let rest = match path {
            "" if authority.ends_with('*') => "*",
            "" => "/",
            path => path,
        };
        let end = if host == "*" {
            host
        } else {
            host.trim_end_matches('*')
        };
        Self {
            scheme: WildMatch::new(scheme),
            host: end.to_ascii_lowercase(),
            port: port.map(WildMatch::new),
            rest: WildMatch::new(rest),
        }
    }

    fn admits(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let is_port = match (&self.port, url.port()) {
            (None, port) => port.is_none(),
            (Some(glob), _) => {
                let port = url.port_or_known_default().unwrap_or_default();
                glob.matches(&port.to_string())
            }
        };
        // What listens on the gateway's own machine is there for whoever is named it by the operator.
        let is_named = !self.host.contains(['*', '?']) || self.host.ends_with(".localhost");
        is_port
            && self.scheme.matches(url.scheme())
            && self.is_host(host)
            && self.rest.matches(&url[url::Position::BeforePath..])
            && (is_named || !trust::is_loopback(url))
    }

    /// Label by label: a first `*` is any number of them, another one stays within its own.
    fn is_host(&self, host: &str) -> bool {
        let mut labels = host.rsplit('.');
        let mut globs = self.host.rsplit('.').peekable();
        while let Some(glob) = globs.next() {
            let Some(label) = labels.next() else { return false };
            if glob == "*" && globs.peek().is_none() {
                return !label.is_empty();
            }
            if !WildMatch::new(glob).matches(label) {
                return false;
            }
        }
        labels.next().is_none()
    }
}

/// The server as a provider of this caller's alone. Errors: a sentence for the person who connects.
pub(super) async fn guest_provider(
    catalog: &Catalog,
    principal: &Principal,
    wanted: &WantedServer,
    allowed: &ConnectAllowlist,
) -> Result<Arc<Provider>, String> {
    if !allowed.admits(&wanted.url) {
        return Err(
            "this URL may not be connected here: the operator allows some with `connect_api.allow`, \
                    or names the server in a descriptor"
                .to_owned(),
        );
    }
    let sse = wanted
        .sse
        .ok_or("only servers of `type` `sse` or `streamable_http` are connected here")?;
    check_name(&wanted.server_name, |name| {
        catalog.snapshot().providers.contains_key(name)
    })?;
    let guest = Guest {
        name: wanted.server_name.clone(),
        url: wanted.url.clone(),
        headers: parse_headers(&wanted.headers)?,
        sse,
        loopback: trust::is_loopback(&wanted.url),
        oauth: false,
    };
    let (tenant, user) = (&principal.tenant, &principal.user);
    let identity = Identity {
        tenant: Arc::clone(tenant),
        user: Arc::clone(user),
        signature: Arc::default(),
        session: None,
    };
    let provider = guest.provider();
    let provider = match catalog.lists(&provider, &identity).await {
        Ok(_) => provider,
        Err(error) if error.code == Code::UpstreamAuth && guest.headers.is_empty() => {
            Guest { oauth: true, ..guest }.provider()
        }
        Err(error) if error.code == Code::UpstreamAuth => {
            return Err("the server refused the credential that came with the request".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    };
    catalog.add_guest(tenant, user, Arc::clone(&provider));
    Ok(provider)
}

/// A name that `/mcp/{server_name}` can carry and no descriptor has.
fn check_name(name: &str, is_loaded: impl Fn(&str) -> bool) -> Result<(), String> {
    if !is_id(name) || name.starts_with("s_") {
        return Err(
            "`server_name` becomes part of a path here: 1 to 63 of a-z, 0-9, `_` and `-`, not \
                    beginning with `s_`"
                .to_owned(),
        );
    }
    if is_loaded(name) {
        return Err(format!(
            "`{name}` is a provider of this gateway with another URL: choose another `server_name`"
        ));
    }
    Ok(())
}

/// The server's own credentials, as they are put on each request to it and on none to another.
fn parse_headers(given: &[(String, Secret)]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    if given.len() > MAX_HEADERS {
        return Err(format!("a server has at most {MAX_HEADERS} headers of its own"));
    }
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        let shown = pleiades_core::text::printable(name, 64);
        let parsed: HeaderName = name
            .parse()
            .map_err(|_invalid| format!("`{shown}` is not the name of a header"))?;
        if !is_credential(&parsed) {
            return Err(format!("the header `{shown}` is the gateway's own to set"));
        }
        let value = value.expose();
        let mut value = HeaderValue::from_str(value)
            .ok()
            .filter(|value| value.len() <= MAX_VALUE)
            .ok_or_else(|| format!("the value of `{shown}` cannot stand in a header"))?;
        value.set_sensitive(true);
        headers.retain(|(known, _)| *known != parsed);
        headers.push((parsed, value));
    }
    Ok(headers)
}

/// Whether a header may carry a server's credential: `Authorization` and private headers may;
/// none that HTTP, MCP or a proxy gives a meaning.
fn is_credential(name: &HeaderName) -> bool {
    const TAKEN: [&str; 24] = [
        "accept",
        "accept-encoding",
        "age",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "last-event-id",
        "origin",
        "referer",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-accel-buffering",
        "x-real-ip",
    ];
    const FAMILIES: [&str; 8] = [
        "mcp-",
        "proxy-",
        "sec-",
        "access-control-",
        "x-forwarded-",
        "if-",
        "pleiades-",
        "trace",
    ];
    let name = name.as_str();
    !TAKEN.contains(&name) && !FAMILIES.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(globs: &[&str], url: &str) -> bool {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        ConnectAllowlist::new(&globs).admits(&Url::parse(url).unwrap())
    }

    #[test]
    fn without_globs_nothing_is_admitted() {
        assert!(!admits(&[], "https://x.example/mcp"));
        assert!(!ConnectAllowlist::default().admits(&Url::parse("https://x.example/").unwrap()));
    }

    #[test]
    fn a_glob_covers_the_whole_url() {
        assert!(admits(&["https://*"], "https://x.example/mcp?a=b"));
        assert!(admits(&["https://x.example/*"], "https://x.example/mcp"));
        assert!(!admits(&["https://x.example/mcp"], "https://x.example/mcp2"));
        assert!(!admits(&["https://x.example/*"], "https://x.example:8443/mcp"));
        assert!(admits(&["https://*.example/*"], "https://a.b.example/mcp"));
    }

    #[test]
    fn a_star_in_the_host_does_not_reach_into_the_path() {
        assert!(!admits(
            &["https://*.example/*"],
            "https://evil.test/a.example/mcp"
        ));
        assert!(!admits(
            &["https://x.example*/mcp"],
            "https://x.example.evil.test/other"
        ));
        assert!(!admits(&["https://*.example/*"], "https://evil.test?a.example/"));
    }

    #[test]
    fn a_wildcard_does_not_reach_over_the_end_of_the_host() {
        for glob in [
            "https://api.example.com*",
            "https://api.example.com*/mcp",
            "https://api.example.com**",
            "https://api.example.c*m/*",
            "https://api.example.co?/*",
            "https://api.example.*/*",
            "https://api*",
        ] {
            for host in [
                "api.example.com.evil.test",
                "api.example.com-evil.test",
                "api.example.comevil.test",
                "api.example.c.evil.com",
                "api.example.evil",
                "api.evil.test",
            ] {
                for port in ["", ":8443"] {
                    let url = format!("https://{host}{port}/mcp");
                    assert!(!admits(&[glob], &url), "{glob} admits {url}");
                }
            }
        }
        assert!(admits(
            &["https://api.example.com*"],
            "https://api.example.com/mcp?a=b"
        ));
        assert!(admits(
            &["https://api.example.com/*"],
            "https://API.example.com/mcp"
        ));
        assert!(admits(
            &["https://api.*.example.com/*"],
            "https://api.eu.example.com/mcp"
        ));
        assert!(!admits(
            &["https://api.*.example.com/*"],
            "https://api.evil.test/.example.com/"
        ));
        assert!(admits(&["https://x.example:*/mcp"], "https://x.example:8443/mcp"));
        assert!(admits(&["https://*"], "https://x.example:8443/mcp"));
        assert!(!admits(&["https://*.example.com/*"], "https://example.com/mcp"));
        assert!(!admits(
            &["https://*.example.com/*"],
            "https://evilexample.com/mcp"
        ));
    }

    #[test]
    fn loopback_is_admitted_where_a_glob_names_it() {
        let home = [
            "https://127.0.0.1:8443/",
            "https://127.1.2.3/",
            "https://[::1]:8443/",
            "https://[::ffff:127.0.0.1]/",
            "https://localhost:8443/",
            "https://a.localhost/",
            "http://127.0.0.1:9000/mcp",
        ];
        for url in home {
            for glob in [
                "*",
                "https://*",
                "https://*/*",
                "https://*:*/*",
                "http*://*",
                "https://*.0.0.1:*/*",
                "https://1*",
            ] {
                assert!(!admits(&[glob], url), "{glob} admits {url}");
            }
        }
        assert!(admits(
            &["https://127.0.0.1:8443/*"],
            "https://127.0.0.1:8443/mcp"
        ));
        assert!(admits(&["https://[::1]:*"], "https://[::1]:8443/mcp"));
        assert!(admits(&["https://localhost:*/*"], "https://localhost:8443/mcp"));
        assert!(admits(&["https://*.localhost/*"], "https://a.localhost/mcp"));
        assert!(!admits(
            &["https://localhost:*/*"],
            "https://localhost.evil.test:8443/mcp"
        ));
    }

    #[test]
    fn plain_http_is_for_loopback_and_nobody_stands_in_a_url() {
        assert!(admits(&["http://127.0.0.1:*"], "http://127.0.0.1:9000/mcp"));
        assert!(!admits(&["*"], "http://x.example/mcp"));
        assert!(!admits(&["*"], "file:///etc/passwd"));
        assert!(!admits(&["https://*"], "https://me:pw@x.example/"));
    }

    #[test]
    fn names_are_those_of_paths_and_not_taken() {
        let named = |name: &str| check_name(name, |name| name == "taken").is_ok();
        assert!(named("my-server_2"));
        for name in ["", "My Server", "s_x", "a/b", "taken", "..", &"a".repeat(64)] {
            assert!(!named(name), "{name}");
        }
    }

    #[test]
    fn credentials_come_in_headers_of_their_own() {
        let one = |name: &str, value: &str| parse_headers(&[(name.to_owned(), Secret::new(value))]);
        let kept = one("Authorization", "Bearer s3cret").unwrap();
        assert!(kept.iter().all(|(_, value)| value.is_sensitive()));
        assert!(one("CONTEXT7_API_KEY", "k").is_ok());
        assert!(one("X-Org", "acme").is_ok());
        for name in [
            "Host",
            "Mcp-Session-Id",
            "Content-Length",
            "Connection",
            "Cookie",
            "X-Forwarded-For",
            "a b",
        ] {
            let error = one(name, "s3cret").unwrap_err();
            assert!(!error.contains("s3cret"), "{name}");
        }
        assert!(!one("X-Key", "s3cret\r\nX: y").unwrap_err().contains("s3cret"));
    }
}
