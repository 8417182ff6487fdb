//! Whom TLS trusts: the system's roots, or certificates of a file instead of them.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why certificates cannot be trusted.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The system's roots. Read once, when the first https peer is called: it costs milliseconds and
/// memory that a gateway in front of local servers need not spend.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's root certificates could not be read");
        }
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(usable, "the system's root certificates were read");
        Arc::new(roots)
    });
    Arc::clone(roots)
}

/// The roots of a PEM text.
///
/// # Errors
/// When it holds no certificate, or one that cannot be used.
pub(crate) fn private_roots(pem: &[u8]) -> Result<RootCertStore, Cause> {
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
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if read.is_empty() {
        Err("no certificate in it".into())
    } else {
        Ok(read)
    }
}
