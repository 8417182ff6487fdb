//! Servers that no descriptor names: who may connect them, and with which headers of their own.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use url::Url;
use wildmatch::WildMatch;

use super::Caller;
use super::wanted::Wanted;
use crate::catalog::{Guest, Provider};
use crate::error::Code;
use crate::secret::Secret;
use crate::upstream::Behalf;

/// Headers that one server has, and the longest value of one, in bytes.
const MAX_HEADERS: usize = 16;
const MAX_VALUE: usize = 8 * 1_024;

/// Which servers may be connected beside the loaded ones.
#[derive(Debug, Default)]
pub struct Allowed {
    urls: Vec<(Option<WildMatch>, WildMatch)>,
    loopback: bool,
}

impl Allowed {
    /// `connect_api.allow`, globs over whole URLs, and whether the gateway itself listens on loopback,
    /// where loopback servers need no permission.
    #[must_use]
    pub fn new(globs: &[String], loopback: bool) -> Self {
        Self {
            urls: globs.iter().map(|glob| parted(glob)).collect(),
            loopback,
        }
    }

    /// Whether a URL may be connected to: `http` on loopback only, and never with a user in it.
    fn admits(&self, url: &Url) -> bool {
        let is_loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let is_sound = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        if !is_sound || !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        let whole = url.as_str();
        let host = &url[..url::Position::BeforePath];
        self.urls
            .iter()
            .any(|(front, glob)| glob.matches(whole) && front.as_ref().is_none_or(|it| it.matches(host)))
    }
}

/// A glob over the whole URL and, where it says where the path begins, over what stands before: else
/// `https://*.example.com/*` would admit `https://elsewhere/.example.com/`.
fn parted(glob: &str) -> (Option<WildMatch>, WildMatch) {
    let host = glob.find("://").map_or(0, |at| at + 3);
    let path = glob.get(host..).and_then(|rest| rest.find('/'));
    let front = path.and_then(|path| glob.get(..host + path)).map(WildMatch::new);
    (front, WildMatch::new(glob))
}

/// The server as a provider of this caller's alone.
///
/// # Errors
/// A sentence for the person who connects.
pub(super) async fn invited(
    caller: &Caller<'_>,
    wanted: &Wanted,
    allowed: &Allowed,
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
    let catalog = &caller.exchange.catalog;
    named(&wanted.server_name, |name| {
        catalog.snapshot().providers.contains_key(name)
    })?;
    let guest = Guest {
        name: wanted.server_name.clone(),
        url: wanted.url.clone(),
        headers: headers(&wanted.headers)?,
        sse,
        loopback: allowed.loopback,
        oauth: false,
    };
    let (tenant, user) = (&caller.principal.tenant, &caller.principal.user);
    let behalf = Behalf {
        tenant: Arc::clone(tenant),
        user: Arc::clone(user),
        signature: Arc::default(),
        lane: None,
    };
    let provider = guest.provider();
    let provider = match catalog.lists(&provider, &behalf).await {
        Ok(_) => provider,
        Err(error) if error.code == Code::UpstreamAuth && guest.headers.is_empty() => {
            Guest { oauth: true, ..guest }.provider()
        }
        Err(error) if error.code == Code::UpstreamAuth => {
            return Err("the server refused the credential that came with the request".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    };
    catalog.invite(tenant, user, Arc::clone(&provider));
    Ok(provider)
}

/// A name that `/mcp/{server_name}` can carry and no descriptor has.
fn named(name: &str, is_loaded: impl Fn(&str) -> bool) -> Result<(), String> {
    if !crate::proxy::api::is_word(name) || name.starts_with("s_") {
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
fn headers(given: &[(String, Secret)]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    if given.len() > MAX_HEADERS {
        return Err(format!("a server has at most {MAX_HEADERS} headers of its own"));
    }
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        let shown: String = name.chars().filter(|char| !char.is_control()).take(64).collect();
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

/// Whether a header may carry a server's credential: `Authorization` and headers of somebody's own;
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
        Allowed::new(&globs, true).admits(&Url::parse(url).unwrap())
    }

    #[test]
    fn without_globs_nothing_is_admitted() {
        assert!(!admits(&[], "https://x.example/mcp"));
        assert!(!Allowed::default().admits(&Url::parse("https://x.example/").unwrap()));
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
    fn plain_http_is_for_loopback_and_nobody_stands_in_a_url() {
        assert!(admits(&["http://127.0.0.1:*"], "http://127.0.0.1:9000/mcp"));
        assert!(!admits(&["*"], "http://x.example/mcp"));
        assert!(!admits(&["*"], "file:///etc/passwd"));
        assert!(!admits(&["https://*"], "https://me:pw@x.example/"));
    }

    #[test]
    fn names_are_those_of_paths_and_not_taken() {
        let named = |name: &str| named(name, |name| name == "taken").is_ok();
        assert!(named("my-server_2"));
        for name in ["", "My Server", "s_x", "a/b", "taken", "..", &"a".repeat(64)] {
            assert!(!named(name), "{name}");
        }
    }

    #[test]
    fn credentials_come_in_headers_of_their_own() {
        let one = |name: &str, value: &str| headers(&[(name.to_owned(), Secret::new(value))]);
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
