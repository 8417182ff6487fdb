//! Where a provider is, and for whom it is asked.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use url::{Host, Url};

use super::address::Permit;
use pleiades_core::{mask::SecretMask, secret::Secret, signature::Signature};
use pleiades_mcp::Revision;

/// Where a provider is and how to speak to it. Immutable; a changed descriptor makes a new one.
#[derive(Debug)]
pub struct Endpoint {
    /// Provider id, for logs and metrics.
    pub provider: Arc<str>,
    /// Digest of everything below: part of each pool key, so that nothing is reused across a
    /// change of address, CA, client certificate or headers.
    pub digest: [u8; 32],
    /// HTTP or a child process.
    pub target: Transport,
    /// Pinned revision; `None` detects.
    pub revision: Option<Revision>,
    /// Who may share a session or process.
    pub share: SessionSharing,
    /// Connecting (DNS, TCP, TLS together).
    pub connect: Duration,
    /// One call, from its first byte to its last.
    pub call: Duration,
    /// An idle session, stream or process.
    pub idle: Duration,
}

/// What is at the other end.
#[derive(Debug)]
pub enum Transport {
    /// Streamable HTTP, or the event stream of 2024-11-05.
    Http {
        /// The endpoint.
        url: Url,
        /// The descriptor's own headers.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// Private CA and client certificate.
        tls: Option<Arc<ClientTls>>,
        /// Whether private and link-local addresses may be connected to.
        allow_private: bool,
        /// Whether loopback addresses may (the gateway itself listens on loopback, or `allow_private`).
        allow_loopback: bool,
        /// Only the transport of 2024-11-05; else it is looked for when `revision` is `None` and
        /// the provider takes no streamable HTTP.
        sse: bool,
    },
    /// A child process.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its environment beside the minimal one (PATH, HOME, LANG, TMPDIR, …).
        env: Vec<(String, Secret)>,
        /// Working folder: the descriptor's.
        folder: PathBuf,
    },
}

/// PEM material, already checked at load.
#[derive(Debug)]
pub struct ClientTls {
    /// Replaces the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Client certificate chain and key.
    pub client: Option<(Vec<u8>, Secret)>,
}

/// Who may share an upstream session or child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionSharing {
    /// One per user.
    User,
    /// One per tenant.
    Tenant,
    /// One for all.
    All,
}

/// For whom a request is made: with the endpoint's `share`, the key of the session pool.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Tenant.
    pub tenant: Arc<str>,
    /// User.
    pub user: Arc<str>,
    /// Credential headers and account fingerprint.
    pub signature: Arc<Signature>,
    /// The client's own session, where it has one; part of no key. What a provider says outside of
    /// answers goes to the client it is meant for.
    pub session: Option<Arc<str>>,
}

impl Endpoint {
    /// Hides what requests of an identity carry, and the credentials among the descriptor's own headers or the
    /// variables of its program: for what the provider says of a failure.
    #[must_use]
    pub fn mask(&self, identity: &Identity) -> SecretMask {
        let mut mask = identity.signature.mask();
        match &self.target {
            Transport::Http { headers, .. } => {
                for (name, value) in headers {
                    mask.hide_named(name.as_str(), value.to_str().unwrap_or_default());
                }
            }
            Transport::Stdio { env, .. } => {
                for (name, value) in env {
                    mask.hide_named(name, value.expose());
                }
            }
        }
        mask
    }

    /// The most that starting a provider may take: the bound of a list that waits for it.
    pub(crate) fn start_timeout(&self) -> Duration {
        self.connect.saturating_add(self.call)
    }
}

impl Transport {
    /// What an HTTP target may connect to; nothing for a process.
    #[must_use]
    pub const fn permit(&self) -> Permit {
        let (private, loopback) = match self {
            Self::Http {
                allow_private,
                allow_loopback,
                ..
            } => (*allow_private, *allow_loopback),
            Self::Stdio { .. } => (false, false),
        };
        Permit { private, loopback }
    }
}

/// The address that stands in a URL instead of a name; no resolver ever sees it.
pub(crate) fn literal_ip(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}
