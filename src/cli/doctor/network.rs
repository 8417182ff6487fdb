//! From a URL to an HTTP server: DNS, TCP, TLS, HTTP, each bounded by `timeouts.connect`.

use std::{ffi::OsString, net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use rustls::{CertificateError, ClientConnection, pki_types::ServerName};
use tokio::time::timeout;
use url::{Host, Url};

use super::protocol::{ENCRYPTED, PLAIN, is_of_tls_port, trouble};
use super::step::{StepDetail, StepFailure};
use pleiades_core::error::Code;
use pleiades_upstream::{
    ClientTls, Endpoint, HttpProbe, Identity, Permit, Upstreams, is_own_authority, tls_config,
};

/// Addresses that are named.
const SHOWN: usize = 4;

/// Addresses that may be connected to, and whether a name led to them.
pub(super) async fn dns(
    upstreams: &Upstreams,
    url: &Url,
    permit: Permit,
    within: Duration,
) -> Result<(Arc<[SocketAddr]>, Option<String>), StepFailure> {
    let port = url.port_or_known_default().unwrap_or(443);
    let host = url.host().ok_or_else(|| {
        StepFailure::new(
            Code::UpstreamUnreachable,
            "the URL has no host",
            "correct `upstream.url`",
        )
    })?;
    let name = url.host_str().unwrap_or_default();
    let (host, is_name) = match host {
        Host::Domain(domain) => (Host::Domain(domain), true),
        Host::Ipv4(ip) => (Host::Ipv4(ip), false),
        Host::Ipv6(ip) => (Host::Ipv6(ip), false),
    };
    let found = upstreams.resolver().resolve(&host, port, permit, within).await;
    let addresses = found.map_err(|error| {
        let cure = if error.message.contains("allow_private") {
            "write `allow_private: true` below `upstream` if that is meant"
        } else {
            "check the name in `upstream.url`, and this machine's DNS"
        };
        StepFailure::new(error.code, format!("`{name}`: {}", error.in_full()), cure)
    })?;
    let listed: Vec<String> = addresses
        .iter()
        .take(SHOWN)
        .map(|address| address.ip().to_string())
        .collect();
    let more = if addresses.len() > SHOWN { ", …" } else { "" };
    let text = is_name.then(|| format!("`{name}` is {}{more}", listed.join(", ")));
    Ok((addresses, text))
}

/// Variables that name proxies, of those that are set: nothing here uses them, which is reported where a server
/// cannot be reached.
pub(super) fn proxies(variables: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let mut set: Vec<String> = variables
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| {
            let upper = name.to_ascii_uppercase();
            ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].contains(&upper.as_str())
        })
        .map(|name| format!("`{name}` is set and ignored: connections to providers are always made directly"))
        .collect();
    set.sort();
    set
}

/// The first address that accepts.
pub(super) async fn tcp(addresses: &[SocketAddr], within: Duration) -> Result<SocketAddr, StepFailure> {
    let mut last = (Code::UpstreamUnreachable, "no address".to_owned());
    for address in addresses {
        match timeout(within, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(*address),
            Ok(Err(error)) => last = (Code::UpstreamUnreachable, format!("{address}: {error}")),
            Err(_) => {
                let passed =
                    format!("{address}: no connection within `upstream.timeouts.connect` ({within:?})");
                last = (Code::UpstreamTimeout, passed);
            }
        }
    }
    let (code, last) = last;
    Err(StepFailure::new(
        code,
        last,
        "start the server, or correct host and port in `upstream.url`; look at firewalls between",
    ))
}

/// A handshake of our own, which shows what is wrong with a certificate.
pub(super) async fn tls(
    address: SocketAddr,
    url: &Url,
    material: Option<Arc<ClientTls>>,
    within: Duration,
) -> Result<StepDetail, StepFailure> {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let has_ca = material.as_ref().is_some_and(|tls| tls.ca.is_some());
    let shaking = tokio::task::spawn_blocking(move || handshake(address, host, material.as_deref(), within));
    match timeout(within, shaking).await {
        Ok(Ok(Ok(text))) => Ok(text.into()),
        Ok(Ok(Err(error))) => Err(refused(&error, has_ca)),
        Ok(Err(error)) => Err(StepFailure::new(
            Code::Internal,
            error.to_string(),
            "this is a bug: report it",
        )),
        Err(_) => Err(StepFailure::new(
            Code::UpstreamTimeout,
            format!("no handshake within {within:?}"),
            "raise `upstream.timeouts.connect`, or look at the server",
        )),
    }
}

fn handshake(
    address: SocketAddr,
    host: String,
    tls: Option<&ClientTls>,
    within: Duration,
) -> std::io::Result<String> {
    let config = tls_config(tls).map_err(std::io::Error::other)?;
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    let mut stream = std::net::TcpStream::connect_timeout(&address, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    let protocol = connection
        .alpn_protocol()
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    let parts = connection.peer_certificates().map_or(0, <[_]>::len);
    let separator = if protocol.is_empty() { "" } else { ", " };
    Ok(format!(
        "{version}{separator}{protocol}, its certificate (chain of {parts}) is accepted"
    ))
}

fn refused(error: &std::io::Error, has_ca: bool) -> StepFailure {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        return StepFailure::new(
            Code::UpstreamUnreachable,
            format!("no handshake: {error}"),
            "look at the server: it closes the connection, or speaks no TLS",
        );
    };
    let cure = match inner {
        rustls::Error::InvalidCertificate(why) => match why {
            _ if is_own_authority(inner) => {
                "it is self-signed as an authority (CA:TRUE): give the server a certificate signed by one, and name that \
                 one in `upstream.tls.ca_file`"
            }
            CertificateError::UnknownIssuer if has_ca => {
                "put the authority that signed it into `upstream.tls.ca_file`: that file replaces the system's \
                 certificates, so it has to hold every one that is needed"
            }
            CertificateError::UnknownIssuer => {
                "if it is a private authority, name its PEM file in `upstream.tls.ca_file`"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "check this machine's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "use the name that the certificate was made for in `upstream.url`"
            }
            _ => "have the server's certificate corrected",
        },
        rustls::Error::InvalidMessage(_) => PLAIN,
        rustls::Error::AlertReceived(_) => {
            "the server refused: it may want `upstream.tls.client_cert_file` and `client_key_file`"
        }
        _ => "look at the server's TLS",
    };
    StepFailure::new(Code::UpstreamUnreachable, inner.to_string(), cure)
}

/// Any HTTP answer that does not say that this is the wrong place.
pub(super) async fn http(
    upstreams: &Upstreams,
    endpoint: &Arc<Endpoint>,
    identity: &Identity,
    get: bool,
) -> Result<StepDetail, StepFailure> {
    let probe = upstreams.probe_http(endpoint, identity, get).await;
    let HttpProbe {
        status,
        version,
        content_type,
        words,
        location,
    } = probe.map_err(|error| trouble(&error))?;
    let kind = match content_type.as_str() {
        "" => "no body",
        kind => kind,
    };
    let mut text = format!("{version:?}, {status}, {kind}");
    if !words.is_empty() {
        text = format!("{text}: {words}");
    }
    if let Some(location) = location {
        text = format!("{text}, to {location}");
    }
    let is_json = content_type == "application/json" || content_type == "text/event-stream";
    let (code, cure) = match status {
        StatusCode::BAD_REQUEST if is_of_tls_port(&words) => (Code::UpstreamProtocol, ENCRYPTED),
        _ if status.is_redirection() => (
            Code::UpstreamProtocol,
            "redirects are not followed: put the final address into `upstream.url`",
        ),
        // Unknown methods are 404 for 2026-07-28, but with a JSON-RPC error.
        StatusCode::NOT_FOUND | StatusCode::GONE if !is_json => (
            Code::UpstreamProtocol,
            "nothing is at this path: `upstream.url` must be the MCP endpoint itself, often `/mcp`",
        ),
        StatusCode::FORBIDDEN if content_type == "text/html" => (
            Code::UpstreamProtocol,
            "a page of a firewall or proxy: have whoever guards the way to the server let this machine through",
        ),
        _ if status.is_server_error() && !is_json => (
            Code::UpstreamUnreachable,
            "the server fails: look at its log, or try again later",
        ),
        _ => return Ok(answering(status, version, (text, words))),
    };
    Err(StepFailure::new(code, text, cure))
}

/// What an answer to a question that begins nothing says of a server: that it is there.
fn answering(status: StatusCode, version: http::Version, (text, words): (String, String)) -> StepDetail {
    let meaning = match status {
        _ if status.is_success() => return text.into(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "it wants a credential, or refuses this one",
        StatusCode::TOO_MANY_REQUESTS => "it limits our requests",
        _ => "a request that begins no session is refused by many MCP servers",
    };
    StepDetail {
        detail: format!("it answers {version:?}; {}: {meaning}", status.as_u16()),
        lines: (!words.is_empty())
            .then(|| format!("in its words: {words}"))
            .into_iter()
            .collect(),
    }
}
