//! The way to authorization servers: the same resolver, the same checks, no redirects.
//!
//! No connection is kept: a request here is rare, may redeem what can be redeemed once, and comes from
//! either runtime. So whether it was sent is always known: what was never connected was not.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use ring::digest::{SHA256, digest};
use tokio::time::timeout;
use url::{Host, Url};

use super::{
    Resolver,
    address::Permit,
    client::{self, DnsResolver, cause},
    endpoint::literal_ip,
    incoming, resolve, tls,
};
use pleiades_core::web::{AddressPolicy, HttpClient, SendError};
use pleiades_core::{bounded::Bounded, error::Error, trust};

/// One request, from its first look-up to the last byte of its answer.
const WHOLE: Duration = Duration::from_secs(15);
/// Name, connection and TLS; what takes longer was not sent.
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const LARGEST: usize = 1024 * 1024;
/// Clients remembered; there are as many as certificates and permissions.
const CLIENTS: usize = 64;

/// Sends requests of the credential broker.
pub struct Outbound {
    resolver: Arc<Resolver>,
    clients: Bounded<Key, reqwest::Client>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    permit: Permit,
    encryption: Encryption,
}

/// Plain connections go to loopback and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Encryption {
    Plain,
    /// With the digest of a private CA.
    Encrypted(Option<[u8; 32]>),
}

impl Outbound {
    /// Through this resolver.
    #[must_use]
    pub fn new(resolver: Arc<Resolver>) -> Self {
        Self {
            resolver,
            clients: Bounded::new(CLIENTS),
        }
    }

    fn build_client(&self, key: Key, ca: Option<&[u8]>) -> Result<reqwest::Client, Error> {
        let names = DnsResolver {
            resolver: Arc::clone(&self.resolver),
            permit: key.permit,
            within: CONNECT,
        };
        let builder = match key.encryption {
            Encryption::Plain => {
                client::builder(tls::bare()?, CONNECT).dns_resolver(Arc::new(LoopbackDns(names)))
            }
            Encryption::Encrypted(_) => {
                let config = ca.map_or_else(|| tls::config(None), tls::config_beside)?;
                client::builder(config, CONNECT)
                    .dns_resolver(Arc::new(names))
                    .https_only(true)
            }
        };
        client::finish(builder.pool_max_idle_per_host(0))
    }

    async fn fetch(
        client: reqwest::Client,
        request: reqwest::Request,
    ) -> Result<Response<Bytes>, FetchError> {
        let mut response = client.execute(request).await.map_err(FetchError::Http)?;
        if let Some(coding) = incoming::content_coding(response.headers()) {
            return Err(FetchError::Coded(coding));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(FetchError::Http)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut whole = Response::new(body.freeze());
        *whole.status_mut() = response.status();
        *whole.headers_mut() = std::mem::take(response.headers_mut());
        Ok(whole)
    }
}

enum FetchError {
    Http(reqwest::Error),
    TooLarge,
    /// In a coding that was not asked for.
    Coded(String),
}

#[async_trait]
impl HttpClient for Outbound {
    async fn send(
        &self,
        reach: &AddressPolicy,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Bytes>, SendError> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string())
            .map_err(|_error| refused("an address of the authorization server is none".to_owned()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let key = key(&url, reach)?;
        let ca = reach.ca.as_deref().map(Vec::as_slice);
        let client = self
            .clients
            .get_or_try_insert_with(key, || self.build_client(key, ca))
            .map_err(|error| SendError {
                source: Some(Box::new(error)),
                ..refused(format!(
                    "`{host}` cannot be asked with the certificates of `tls.ca_file`"
                ))
            })?;
        let mut asked = reqwest::Request::new(head.method, url);
        *asked.headers_mut() = head.headers;
        // Without it any coding would do (RFC 9110, 12.5.3), and nothing here is decoded.
        let identity = HeaderValue::from_static("identity");
        asked.headers_mut().insert(header::ACCEPT_ENCODING, identity);
        *asked.body_mut() = Some(body.into());
        match timeout(WHOLE, Self::fetch(client, asked)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(failed)) => Err(describe(failed, &host)),
            // A connection that was not there by then has failed already.
            Err(elapsed) => Err(SendError {
                message: format!("`{host}` did not answer within {} s", WHOLE.as_secs()),
                sent: true,
                transient: true,
                cure: None,
                source: Some(Box::new(elapsed)),
            }),
        }
    }
}

fn key(url: &Url, reach: &AddressPolicy) -> Result<Key, SendError> {
    let host = url.host_str().unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(format!("the address of `{host}` carries a password")));
    }
    let mut permit = Permit {
        private: reach.private,
        loopback: reach.loopback,
    };
    let encryption = match url.scheme() {
        "https" => Encryption::Encrypted(reach.ca.as_deref().map(|ca| sha256(ca))),
        "http" => Encryption::Plain,
        _ => return Err(refused(format!("`{host}` is not reached over https"))),
    };
    if encryption == Encryption::Plain {
        permit.loopback |= permit.private;
        permit.private = false;
        if literal_ip(url).is_some_and(|ip| !trust::is_loopback_address(ip)) {
            return Err(unencrypted(host));
        }
    }
    if let Some(ip) = literal_ip(url) {
        // The HTTP stack connects to literals without asking any resolver.
        resolve::literal(ip, 0, permit).map_err(|_error| forbidden(host))?;
    }
    Ok(Key { permit, encryption })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

/// Says what went wrong below HTTP, naming the host and nothing else.
fn describe(failed: FetchError, host: &str) -> SendError {
    let unusable = |message| SendError {
        sent: true,
        ..refused(message)
    };
    let error = match failed {
        FetchError::Http(error) => error.without_url(),
        FetchError::TooLarge => return unusable(format!("the answer of `{host}` is larger than 1 MiB")),
        FetchError::Coded(coding) => {
            let what = format!("is compressed (`{coding}`), although none was asked for");
            return unusable(format!("the answer of `{host}` {what}"));
        }
    };
    if let Some(ours) = cause::<AddressRefused>(&error) {
        return match ours {
            AddressRefused::Unencrypted => unencrypted(host),
            AddressRefused::Forbidden => forbidden(host),
        };
    }
    let connecting = error.is_connect();
    let mut cure = None;
    let message = if let Some(fault) = cause::<rustls::Error>(&error) {
        let (what, remedy) = tls_fault(fault);
        cure = Some(remedy.to_owned());
        match fault {
            rustls::Error::InvalidMessage(_) => format!("`{host}` does not speak TLS there: is it `http`?"),
            rustls::Error::InvalidCertificate(_) => {
                format!("the certificate of `{host}` was not accepted: {what}")
            }
            _ => format!("the TLS handshake with `{host}` failed"),
        }
    } else if let Some(ours) = cause::<Error>(&error) {
        if ours.retry_after.is_none() && resolve::is_private_address(ours) {
            return forbidden(host);
        }
        format!("the name `{host}` was not resolved")
    } else if error.is_timeout() {
        format!("`{host}` took no connection within {} s", CONNECT.as_secs())
    } else if connecting {
        format!("`{host}` cannot be connected to")
    } else {
        format!("the connection to `{host}` broke before its answer was complete")
    };
    SendError {
        message,
        sent: !connecting,
        transient: true,
        cure,
        source: Some(Box::new(error)),
    }
}

fn tls_fault(fault: &rustls::Error) -> (&'static str, &'static str) {
    use rustls::{CertificateError as Bad, Error};
    match fault {
        Error::InvalidCertificate(_) if tls::is_own_authority(fault) => (
            "it is self-signed as an authority (CA:TRUE)",
            "give the server a certificate signed by one, and name that one in `upstream.tls.ca_file`",
        ),
        Error::InvalidMessage(_) => (
            "no TLS is spoken",
            "correct scheme and port of that URL; only on loopback may it be http",
        ),
        Error::InvalidCertificate(Bad::UnknownIssuer) => (
            "nobody who is trusted here has signed it",
            "if its authority is a private one, name that authority's certificate in `upstream.tls.ca_file`",
        ),
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => (
            "it has expired",
            "its operator has to renew it; look at this machine's clock too",
        ),
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            ("it is not valid yet", "look at this machine's clock")
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => (
            "it is another host's",
            "ask for the server by the name that its certificate has",
        ),
        _ => (
            "it cannot be checked",
            "if its certificate is of a private authority, name that in `upstream.tls.ca_file`",
        ),
    }
}

fn refused(message: String) -> SendError {
    SendError {
        message,
        sent: false,
        transient: false,
        cure: None,
        source: None,
    }
}

fn unencrypted(host: &str) -> SendError {
    let message = format!("`{host}` is not reached over https, which only loopback may be");
    refused(message)
}

fn forbidden(host: &str) -> SendError {
    let cure = "a private address is reached with `upstream.allow_private: true`, and only where it is the upstream's \
                own or the descriptor names it (`issuer`, `authorization_server_metadata`, `token_endpoint`)";
    SendError {
        cure: Some(cure.to_owned()),
        ..refused(format!("the address of `{host}` is a private one"))
    }
}

/// Why an address is not connected to, as the HTTP stack hands it through.
#[derive(Debug, thiserror::Error)]
enum AddressRefused {
    #[error("not encrypted, and not loopback")]
    Unencrypted,
    #[error("not permitted")]
    Forbidden,
}

/// Resolves to loopback or to nothing.
struct LoopbackDns(DnsResolver);

impl Resolve for LoopbackDns {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, permit) = (Arc::clone(&self.0.resolver), self.0.permit);
        Box::pin(async move {
            let host = Host::Domain(name.as_str());
            let found = resolver.resolve(&host, 0, permit, CONNECT).await;
            let found = found.map_err(|error| -> Box<dyn std::error::Error + Send + Sync> {
                if resolve::is_private_address(&error) {
                    Box::new(AddressRefused::Forbidden)
                } else {
                    Box::new(error)
                }
            })?;
            let home: Vec<_> = found
                .iter()
                .copied()
                .filter(|it| trust::is_loopback_address(it.ip()))
                .collect();
            if home.is_empty() {
                return Err(Box::new(AddressRefused::Unencrypted) as _);
            }
            Ok(Box::new(home.into_iter()) as Addrs)
        })
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}
