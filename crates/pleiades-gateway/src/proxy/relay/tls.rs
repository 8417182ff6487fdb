//! TLS material of the relay's upstreams, parsed once.

use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use pleiades_core::bounded::Bounded;
use pleiades_upstream::ClientTls;

/// Providers with TLS material of their own whose parsed form is kept.
const MAX_TLS: usize = 1_024;

/// Parsed TLS material by the digest of its endpoint.
#[derive(Debug)]
pub(in crate::proxy) struct TlsCache(Bounded<[u8; 32], TlsMaterial>);

#[derive(Debug, Clone)]
pub(super) struct TlsMaterial {
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) client: Option<Arc<CertKey>>,
}

impl Default for TlsCache {
    fn default() -> Self {
        Self(Bounded::new(MAX_TLS))
    }
}

impl TlsCache {
    pub(super) fn material(&self, digest: &[u8; 32], tls: &ClientTls) -> TlsMaterial {
        self.0.get_or_insert_with(*digest, || TlsMaterial::parse(tls))
    }
}

impl TlsMaterial {
    /// PEM was checked at load, so what does not parse here is only left out of the trust.
    fn parse(tls: &ClientTls) -> Self {
        let ders = |pem: &[u8]| -> Vec<Vec<u8>> {
            CertificateDer::pem_slice_iter(pem)
                .filter_map(|der| der.ok().map(|der| der.to_vec()))
                .collect()
        };
        let ca = tls.ca.as_deref().map(|pem| {
            let certificates: Vec<WrappedX509> = ders(pem)
                .into_iter()
                .map(|der| WrappedX509::new(der, parse_x509))
                .collect();
            Arc::from(certificates.into_boxed_slice())
        });
        let client = tls.client.as_ref().and_then(|(pem, key)| {
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).ok()?;
            let chain = ders(pem);
            (!chain.is_empty()).then(|| Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
        });
        Self { ca, client }
    }
}
