//! The gateway's own URLs, as browsers and authorization servers reach them.

use url::{Host, Url};

use super::RedirectTarget;
use crate::Connection;
use crate::oauth::{AuthServer, Redirects};
use pleiades_core::trust;

const CALLBACK: &str = "/oauth/callback";

/// Makes the URLs under `/oauth/`.
#[derive(Debug)]
pub struct Endpoints {
    base: Url,
}

impl Endpoints {
    pub(super) const fn new(base: Url) -> Self {
        Self { base }
    }

    /// `public_url`, or the listener's address without one.
    #[must_use]
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// Whether that is on loopback.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        trust::is_loopback(&self.base)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    pub(super) fn connect_page(&self, link: &str) -> String {
        self.at(&format!("/oauth/connect/{link}"))
    }

    /// The redirect URI of all providers, or one provider's own.
    #[must_use]
    pub fn redirect_uri(&self, provider: Option<&str>) -> String {
        match provider {
            Some(provider) => self.at(&format!("{CALLBACK}/{provider}")),
            None => self.at(CALLBACK),
        }
    }

    /// Where the answer comes, and what else is registered with it. An issuer that does not name
    /// itself in its answers gets a path of the provider's own, so that nobody else's answer is taken
    /// for its (RFC 9700 section 4.4.2).
    pub(super) fn redirects(
        &self,
        connection: &Connection,
        server: &AuthServer,
        target: &RedirectTarget,
    ) -> Redirects {
        if let RedirectTarget::Listener(origin) = target {
            let own = format!("{origin}{CALLBACK}");
            return Redirects {
                used: own.clone(),
                registered: vec![own],
                document: None,
            };
        }
        let mut registered = vec![self.redirect_uri(None)];
        if !server.iss_supported {
            registered.push(self.redirect_uri(Some(&connection.provider)));
        }
        Redirects {
            used: registered.last().cloned().unwrap_or_default(),
            registered,
            document: self.metadata_document(),
        }
    }

    /// Every redirect URI that a sign-in of this connection may use, the one of browsers first: what is to be
    /// registered with a client of one's own.
    #[must_use]
    pub fn redirect_uris(&self, connection: &Connection, server: &AuthServer) -> Vec<String> {
        let mut all = vec![self.redirects(connection, server, &RedirectTarget::Gateway).used];
        if !self.is_on_loopback() {
            // A command takes the answer itself, where it begins the sign-in.
            all.push(format!("http://127.0.0.1:PORT{CALLBACK}"));
        }
        all
    }

    /// Our client metadata document, where authorization servers can reach it.
    #[must_use]
    pub fn metadata_document(&self) -> Option<String> {
        is_public(&self.base).then(|| self.at("/oauth/client-metadata.json"))
    }
}

/// Whether others can reach this URL, and trust what it names.
fn is_public(base: &Url) -> bool {
    let named = match base.host() {
        Some(Host::Domain(name)) => {
            let local = [".local", ".internal", ".localhost", ".test"];
            name.contains('.') && !local.iter().any(|end| name.ends_with(end))
        }
        Some(Host::Ipv4(ip)) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
        Some(Host::Ipv6(ip)) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        None => false,
    };
    base.scheme() == "https" && named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_document_is_named_only_where_others_can_reach_it() {
        let public = |url: &str| is_public(&Url::parse(url).unwrap());
        assert!(public("https://mcp.example.com") && public("https://203.0.113.9:8443/gw"));
        for url in [
            "http://mcp.example.com",
            "https://localhost:8787",
            "https://127.0.0.1",
            "https://10.0.0.1",
            "https://[::1]",
            "https://gateway",
            "https://gateway.internal",
        ] {
            assert!(!public(url), "{url}");
        }
    }
}
