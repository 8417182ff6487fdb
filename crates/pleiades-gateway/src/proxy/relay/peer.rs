//! The peer of a relayed request: an address that may be connected to, verified as the descriptor
//! says.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora_core::{Error as ProxyError, ErrorType, Result, protocols::ALPN};
use url::Url;

use super::{state::RelayState, tls::TlsCache};
use pleiades_upstream::{Endpoint, Permit, Resolver, Transport};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The peer of the next attempt.
/// Errors: when the host has no address that may be connected to; `relay.failure` says why.
pub(in crate::proxy) async fn choose(
    relay: &mut RelayState,
    resolver: &Resolver,
    cache: &TlsCache,
) -> Result<Box<HttpPeer>> {
    let endpoint = &relay.provider.endpoint;
    let Transport::Http {
        url,
        tls,
        allow_private,
        allow_loopback,
        ..
    } = &endpoint.target
    else {
        return Err(internal_error("the relay needs an HTTP provider"));
    };
    let permit = Permit {
        private: *allow_private,
        loopback: *allow_loopback,
    };
    let host = url.host().ok_or_else(|| internal_error("the URL has no host"))?;
    let port = url.port_or_known_default().unwrap_or(443);
    let resolved = resolver.resolve(&host, port, permit, endpoint.connect).await;
    let addresses = match resolved {
        Ok(addresses) => addresses,
        Err(error) => {
            relay.failure = Some(error);
            return Err(ProxyError::new_up(ErrorType::ConnectError));
        }
    };
    let address = addresses.get(relay.attempts % addresses.len().max(1)).copied();
    let address = address.ok_or_else(|| internal_error("no address"))?;
    relay.attempts += 1;
    #[expect(
        clippy::disallowed_methods,
        reason = "a SocketAddr needs no name to be resolved"
    )]
    let mut peer = HttpPeer::new(address, url.scheme() == "https", server_name(url));
    peer.group_key = BuildHasherDefault::<DefaultHasher>::default().hash_one(endpoint.digest);
    set_timeouts(&mut peer.options, endpoint, relay.stream_slot.is_some());
    if let Some(tls) = tls {
        let material = cache.material(&endpoint.digest, tls);
        peer.options.ca = material.ca;
        peer.client_cert_key = material.client;
    }
    relay.sent = Some(Instant::now());
    Ok(Box::new(peer))
}

/// Bounds every wait for an upstream; Pingora's own defaults are none.
fn set_timeouts(options: &mut PeerOptions, endpoint: &Endpoint, is_stream: bool) {
    let silence = if is_stream {
        endpoint.idle.max(endpoint.call)
    } else {
        endpoint.call
    };
    options.connection_timeout = Some(endpoint.connect);
    options.total_connection_timeout = Some(endpoint.connect);
    options.read_timeout = Some(silence);
    options.write_timeout = Some(WRITE_TIMEOUT);
    options.idle_timeout = Some(Duration::from_secs(30));
    options.alpn = ALPN::H1;
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
}

pub(in crate::proxy) fn internal_error(what: &'static str) -> Box<ProxyError> {
    ProxyError::explain(ErrorType::InternalError, what)
}

/// The name that certificates are verified against: never empty, IP literals included.
fn server_name(url: &Url) -> String {
    url.host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_verified_against_the_host_without_brackets() {
        let name = |url: &str| server_name(&Url::parse(url).unwrap());
        assert_eq!(name("https://x.example:8443/mcp"), "x.example");
        assert_eq!(name("https://[::1]:8443/"), "::1");
        assert_eq!(name("https://127.0.0.1/"), "127.0.0.1");
    }
}
