//! Which `Host` and `Origin` are ours: the guard against DNS rebinding and
//! against pages of other sites.

use std::net::{IpAddr, SocketAddr};

use url::Url;

/// The hosts and origins that the listener answers to.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    hosts: Vec<String>,
    origins: Vec<String>,
    scheme: &'static str,
    public_url: Option<Url>,
}

impl OriginPolicy {
    /// The policy of one listener. `hosts` and `origins` are the operator's additions; `public_url`
    /// adds its host and origin, the listener its own loopback origins.
    #[must_use]
    pub fn new(
        listen: SocketAddr,
        tls: bool,
        public_url: Option<&Url>,
        hosts: &[String],
        origins: &[String],
    ) -> Self {
        let scheme = if tls { "https" } else { "http" };
        let mut names: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        names.push("localhost".to_owned());
        let mut allowed: Vec<String> = ["127.0.0.1", "[::1]", "localhost"]
            .iter()
            .filter_map(|host| Url::parse(&format!("{scheme}://{host}:{}", listen.port())).ok())
            .map(|url| url.origin().ascii_serialization())
            .collect();
        if let Some(url) = public_url {
            names.extend(url.host_str().map(str::to_ascii_lowercase));
            allowed.push(url.origin().ascii_serialization());
        }
        allowed.extend(origins.iter().map(|origin| normal_origin(origin)));
        Self {
            hosts: names,
            origins: allowed,
            scheme,
            public_url: public_url.cloned(),
        }
    }

    /// Whether a `Host` value (with or without a port) names us: an IP literal or a known name.
    #[must_use]
    pub fn host_allowed(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else { return false };
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        literal.parse::<IpAddr>().is_ok() || self.hosts.iter().any(|known| name.eq_ignore_ascii_case(known))
    }

    /// The URL of a path of ours, as whoever named this `Host` reaches it: `public_url` says it where that names
    /// the host, the listener elsewhere.
    #[must_use]
    pub fn url(&self, host: &str, path: &str) -> String {
        let name = host_name(host).unwrap_or(host);
        let public = self.public_url.as_ref();
        match public.filter(|url| url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(name))) {
            Some(url) => format!("{}{path}", url.as_str().trim_end_matches('/')),
            None => format!("{}://{host}{path}", self.scheme),
        }
    }

    /// Whether an `Origin` value is one of ours, compared exactly.
    #[must_use]
    pub fn origin_allowed(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }
}

/// The name part of `host[:port]`; `None` when it is not of that form.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (literal, after) = rest.split_once(']')?;
            (host.get(..literal.len() + 2)?, after)
        }
        None => match host.split_once(':') {
            Some((name, _)) => (name, host.get(name.len()..)?),
            None => (host, ""),
        },
    };
    let port_ok = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.parse::<u16>().is_ok());
    (port_ok && !name.is_empty()).then_some(name)
}

/// An operator's origin in the form browsers send: no default port, no trailing slash.
fn normal_origin(origin: &str) -> String {
    Url::parse(origin).map_or_else(|_| origin.to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> OriginPolicy {
        let listen = "127.0.0.1:8787".parse().unwrap();
        let public = Url::parse("https://mcp.example.com").unwrap();
        OriginPolicy::new(
            listen,
            false,
            Some(&public),
            &["inside.example".to_owned()],
            &["https://app.example/".to_owned()],
        )
    }

    #[test]
    fn literals_loopback_public_and_listed_hosts_are_ours() {
        for host in [
            "127.0.0.1:8787",
            "10.1.2.3",
            "[::1]:8787",
            "localhost",
            "LOCALHOST:1",
            "mcp.example.com",
            "inside.example:443",
        ] {
            assert!(policy().host_allowed(host), "{host}");
        }
    }

    #[test]
    fn other_and_malformed_hosts_are_not_ours() {
        for host in [
            "evil.example.com",
            "",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:x",
            "[::1",
            "a:1:2",
            "localhost:99999",
        ] {
            assert!(!policy().host_allowed(host), "{host}");
        }
    }

    #[test]
    fn a_url_of_ours_is_public_where_the_host_is_and_the_listeners_elsewhere() {
        assert_eq!(
            policy().url("mcp.example.com", "/mcp"),
            "https://mcp.example.com/mcp"
        );
        assert_eq!(
            policy().url("MCP.example.com:443", "/mcp"),
            "https://mcp.example.com/mcp"
        );
        assert_eq!(
            policy().url("localhost:8787", "/tools/a"),
            "http://localhost:8787/tools/a"
        );
        assert_eq!(policy().url("[::1]:8787", "/mcp"), "http://[::1]:8787/mcp");
        let listen = "127.0.0.1:1".parse().unwrap();
        let below = Url::parse("https://gw.example/team/").unwrap();
        let policy = OriginPolicy::new(listen, true, Some(&below), &[], &[]);
        assert_eq!(policy.url("gw.example", "/mcp"), "https://gw.example/team/mcp");
        assert_eq!(policy.url("127.0.0.1:1", "/mcp"), "https://127.0.0.1:1/mcp");
    }

    #[test]
    fn origins_are_compared_with_scheme_and_port() {
        for origin in [
            "http://127.0.0.1:8787",
            "http://localhost:8787",
            "http://[::1]:8787",
            "https://mcp.example.com",
            "https://app.example",
        ] {
            assert!(policy().origin_allowed(origin), "{origin}");
        }
        for origin in [
            "http://127.0.0.1:9",
            "https://127.0.0.1:8787",
            "http://localhost",
            "null",
            "http://evil.example",
            "https://app.example:444",
        ] {
            assert!(!policy().origin_allowed(origin), "{origin}");
        }
    }
}
