//! Which certificates TLS trusts: the system's roots, or those of a file instead; and that secrets travel
//! without TLS within this machine alone.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use url::{Host, Url};

/// Why certificates cannot be trusted.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Whether what is sent to a URL can be read on the way: no TLS, and not within this machine (RFC 6750
/// section 5.3, RFC 9700 section 2.6). The one rule of all parts that send or take something secret.
pub fn is_cleartext(url: &Url) -> bool {
    !matches!(url.scheme(), "https" | "rediss") && !is_loopback(url)
}

/// Whether a URL names this machine: by address, or by the name that always does (RFC 6761 section 6.3).
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => is_loopback_address(IpAddr::V6(ip)),
        // Hosts of schemes that are not the web's are not parsed as addresses.
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost") || name.parse().is_ok_and(is_loopback_address)
        }
        None => false,
    }
}

/// Whether an address is one of this machine's loopback.
pub fn is_loopback_address(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The system's roots. Read once, when the first https peer is called: it costs milliseconds and
/// memory that a gateway in front of local servers need not spend.
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's root certificates could not be read");
        }
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(tls.roots = usable, "the system's root certificates were read");
        Arc::new(roots)
    });
    Arc::clone(roots)
}

/// The roots of a PEM text.
///
/// # Errors
/// When it holds no certificate, or one that cannot be used.
pub fn private_roots(pem: &[u8]) -> Result<RootCertStore, Cause> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The certificates of a PEM text, in order.
///
/// # Errors
/// When it holds none, or is no PEM.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if read.is_empty() {
        Err("no certificate in it".into())
    } else {
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_nothing_secret_leaves_this_machine() {
        let is_clear = |url: &str| super::is_cleartext(&Url::parse(url).unwrap());
        for url in [
            "http://example.com/",
            "HTTP://EXAMPLE.COM/",
            "http://10.0.0.1/",
            "http://notes/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://[::2]/",
            "http://[64:ff9b::7f00:1]/",
            "http://0.0.0.0/",
            "redis://redis:6379",
            "redis://10.0.0.1:6379",
        ] {
            assert!(is_clear(url), "{url}");
        }
        for url in [
            "https://example.com/",
            "http://127.0.0.1:9/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "redis://127.0.0.1:6379",
            "rediss://redis:6379",
        ] {
            assert!(!is_clear(url), "{url}");
        }
    }
}
