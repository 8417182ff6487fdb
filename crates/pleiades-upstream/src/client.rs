//! HTTP clients, few for many providers: everything that may share connections shares one.
//!
//! Never shared: connections across TLS material, permits, connect timeouts or runtimes. Pools
//! that ignore the CA hand a connection verified by one CA to a provider that trusts another.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use ring::digest::{Context, SHA256};
use tokio::runtime::Handle;
use url::{Host, Url};

use super::{
    address::Permit,
    endpoint::{ClientTls, Endpoint, Transport, literal_ip},
    resolve::{self, Resolver},
    tls,
};
use pleiades_core::bounded::Bounded;
use pleiades_core::error::{Code, Error};

/// Routes and clients remembered; more than that many certificates is no installation we know.
const ROUTES: usize = 16_384;
const CLIENTS: usize = 1024;
/// An unused connection is closed then, before the usual servers and load balancers close it.
const IDLE_CONNECTION: Duration = Duration::from_secs(50);
const IDLE_PER_HOST: usize = 64;
const KEEPALIVE: Duration = Duration::from_secs(30);

pub(crate) struct HttpRoute {
    pub(crate) client: reqwest::Client,
    pub(crate) url: Url,
    /// The descriptor's own headers, cleaned, with ours that never change.
    pub(crate) headers: HeaderMap,
}

pub(crate) struct HttpClients {
    resolver: Arc<Resolver>,
    control: tokio::runtime::Id,
    routes: Bounded<([u8; 32], RuntimeRole), Arc<HttpRoute>>,
    clients: Bounded<Key, reqwest::Client>,
}

/// A pooled connection is driven by the runtime that opened it and dies with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RuntimeRole {
    Gateway,
    Control,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Digest of CA, client certificate and key.
    tls: Option<[u8; 32]>,
    encrypted: bool,
    connect: Duration,
    permit: Permit,
    role: RuntimeRole,
}

impl HttpClients {
    pub(crate) fn new(resolver: Arc<Resolver>, control: &Handle) -> Self {
        Self {
            resolver,
            control: control.id(),
            routes: Bounded::new(ROUTES),
            clients: Bounded::new(CLIENTS),
        }
    }

    /// The way to an endpoint; only the first call of an endpoint builds anything.
    /// Errors: `UpstreamUnreachable` when the address in its URL may not be connected to or its certificates
    /// cannot be used; `Internal` when it is a process.
    pub(crate) fn route(&self, endpoint: &Endpoint) -> Result<Arc<HttpRoute>, Error> {
        let key = (endpoint.digest, self.role());
        if let Some(route) = self.routes.get(&key) {
            return Ok(route);
        }
        let route = Arc::new(self.build_route(endpoint, key.1)?);
        self.routes.insert(key, Arc::clone(&route));
        Ok(route)
    }

    pub(crate) fn forget(&self, digest: &[u8; 32]) {
        for role in [RuntimeRole::Gateway, RuntimeRole::Control] {
            self.routes.remove(&(*digest, role));
        }
    }

    fn role(&self) -> RuntimeRole {
        let current = Handle::try_current().map(|handle| handle.id());
        if current.is_ok_and(|id| id == self.control) {
            RuntimeRole::Control
        } else {
            RuntimeRole::Gateway
        }
    }

    fn build_route(&self, endpoint: &Endpoint, role: RuntimeRole) -> Result<HttpRoute, Error> {
        let Transport::Http {
            url, headers, tls, ..
        } = &endpoint.target
        else {
            return Err(Error::new(Code::Internal, "a process has no URL"));
        };
        let permit = endpoint.target.permit();
        // The HTTP stack connects to literals without asking any resolver.
        if let Some(ip) = literal_ip(url) {
            resolve::literal(ip, url.port_or_known_default().unwrap_or_default(), permit)?;
        }
        let key = Key {
            tls: tls.as_deref().map(digest),
            encrypted: url.scheme() == "https",
            connect: endpoint.connect,
            permit,
            role,
        };
        let client = self
            .clients
            .get_or_try_insert_with(key.clone(), || self.build_client(&key, tls.as_deref()))?;
        Ok(HttpRoute {
            client,
            url: url.clone(),
            headers: base_headers(headers),
        })
    }

    fn build_client(&self, key: &Key, tls: Option<&ClientTls>) -> Result<reqwest::Client, Error> {
        let names = DnsResolver {
            resolver: Arc::clone(&self.resolver),
            permit: key.permit,
            within: key.connect,
        };
        let config = if key.encrypted {
            tls::config(tls)?
        } else {
            tls::bare()?
        };
        finish(
            builder(config, key.connect)
                .dns_resolver(Arc::new(names))
                .pool_idle_timeout(IDLE_CONNECTION)
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .tcp_keepalive(KEEPALIVE)
                .http2_keep_alive_interval(KEEPALIVE)
                .http2_keep_alive_timeout(KEEPALIVE),
        )
    }
}

/// What all our clients have in common: no redirects, no proxies, an own resolver still to be given.
pub(crate) fn builder(tls: rustls::ClientConfig, connect: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("pleiades/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .connect_timeout(connect)
        .tcp_nodelay(true)
}

pub(crate) fn finish(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Error> {
    builder
        .build()
        .map_err(|error| Error::new(Code::Internal, "no HTTP client could be built").because(error))
}

/// The descriptor's headers, then ours that are the same for every request.
fn base_headers(own: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(own.len() + 12);
    for (name, value) in own.iter().filter(|(name, _)| may_be_set(name)) {
        headers.append(name.clone(), value.clone());
    }
    let accept = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::ACCEPT, accept);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Without it any coding would do (RFC 9110, 12.5.3), and nothing here is decoded.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// Framing, hop-by-hop and protocol headers are ours whatever a descriptor or credential says.
pub(crate) fn may_be_set(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 12] = [
        header::ACCEPT,
        header::ACCEPT_ENCODING,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    !OURS.contains(name)
        && !["mcp-", "proxy-", "keep-alive"]
            .iter()
            .any(|head| name.as_str().starts_with(head))
}

fn digest(tls: &ClientTls) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let (chain, key) = match &tls.client {
        Some((chain, key)) => (Some(chain.as_slice()), Some(key.expose().as_bytes())),
        None => (None, None),
    };
    for part in [tls.ca.as_deref(), chain, key] {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        context.update(&length.to_le_bytes());
        context.update(part.unwrap_or_default());
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Our resolver in the shape of the HTTP stack.
pub(crate) struct DnsResolver {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) permit: Permit,
    pub(crate) within: Duration,
}

impl Resolve for DnsResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, permit, within) = (Arc::clone(&self.resolver), self.permit, self.within);
        Box::pin(async move {
            // Port 0: the HTTP stack puts in the URL's own.
            let host = Host::Domain(name.as_str());
            let found = resolver.resolve(&host, 0, permit, within).await?;
            let found = found.to_vec();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// How a connection failed: where to, and the innermost words. It is the cause of an error, for the
/// operator alone, and the mark of an error after which another connection may do.
#[derive(Debug)]
pub(crate) struct ConnectionFault {
    /// Host and port, where they are known.
    place: Option<String>,
    error: reqwest::Error,
}

impl ConnectionFault {
    fn new(error: reqwest::Error) -> Self {
        let place = error.url().and_then(place);
        let error = error.without_url();
        Self { place, error }
    }
}

impl fmt::Display for ConnectionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if self.error.is_timeout() {
            return f.write_str(if self.error.is_connect() {
                CONNECT_PASSED
            } else {
                CALL_PASSED
            });
        }
        let mut inner: &(dyn StdError + 'static) = &self.error;
        while let Some(deeper) = inner.source() {
            inner = deeper;
        }
        fmt::Display::fmt(inner, f)
    }
}

// No source: what is innermost stands in its own words, after the place.
impl StdError for ConnectionFault {}

/// Which timeout passed.
const CONNECT_PASSED: &str = "no connection within `upstream.timeouts.connect`";
pub(crate) const CALL_PASSED: &str = "no answer within `upstream.timeouts.call`";

/// Host and port of a URL.
#[must_use]
pub fn place(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// An error below HTTP, without any address in its message.
pub(crate) fn connection_error(error: reqwest::Error) -> Error {
    if let Some(ours) = cause::<Error>(&error) {
        return Error::new(ours.code, ours.message.clone()).because(ours.cause());
    }
    if error.is_connect() {
        let (code, message) = if error.is_timeout() {
            let message = "the provider could not be connected to in time";
            (Code::UpstreamTimeout, message)
        } else if let Some(rustls::Error::InvalidMessage(_)) = cause(&error) {
            let message = "the provider does not speak TLS on its port";
            (Code::UpstreamUnreachable, message)
        } else if cause::<rustls::Error>(&error).is_some() {
            let message = "the provider's certificate was not accepted, or it did not accept ours";
            (Code::UpstreamUnreachable, message)
        } else {
            (Code::UpstreamUnreachable, "the provider cannot be connected to")
        };
        return Error::new(code, message).because(ConnectionFault::new(error));
    }
    if error.is_timeout() {
        return timed_out().because(ConnectionFault::new(error));
    }
    let message = "the connection to the provider broke before its answer was complete";
    Error::new(Code::UpstreamUnreachable, message)
        .because(ConnectionFault::new(error))
        .sent()
}

/// The deadline passed after the request may have gone out.
pub(crate) fn timed_out() -> Error {
    Error::new(Code::UpstreamTimeout, "the provider did not answer in time")
        .because(CALL_PASSED)
        .sent()
}

/// The first cause of a type, also where I/O errors wrap it: what such a one says is its cause is the
/// cause of what it wraps.
pub(crate) fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static));
        next = wrapped.or_else(|| error.source());
    }
    None
}
