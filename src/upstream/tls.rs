//! TLS towards providers: rustls over ring, the system's roots or a private CA instead of them.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::endpoint::Tls;
use crate::error::{Code, Error};

/// The configuration for one client. Each call makes a new one, so that session tickets and
/// connections of one set of certificates never serve another.
pub(crate) fn config(tls: Option<&Tls>) -> Result<ClientConfig, Error> {
    let roots = match tls.and_then(|tls| tls.ca.as_deref()) {
        Some(pem) => Arc::new(private_roots(pem)?),
        None => system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("protocol versions").because(error))?
        .with_root_certificates(roots);
    let mut config = match tls.and_then(|tls| tls.client.as_ref()) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|error| unusable("`upstream.tls.client_key_file`").because(error))?;
            builder
                .with_client_auth_cert(certificates(chain, "`upstream.tls.client_cert_file`")?, key)
                .map_err(|error| unusable("the client certificate and key").because(error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A configuration that trusts these certificates beside the system's.
pub(crate) fn config_beside(ca: &[u8]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::clone(&system_roots());
    roots.extend(private_roots(ca)?.roots);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("protocol versions").because(error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Read once, when the first https provider is called: it costs milliseconds and memory that a
/// gateway in front of local servers need not spend.
fn system_roots() -> Arc<RootCertStore> {
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

fn private_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "`upstream.tls.ca_file`")? {
        roots
            .add(certificate)
            .map_err(|error| unusable("`upstream.tls.ca_file`").because(error))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(what).because(error))?;
    if read.is_empty() {
        Err(unusable(what))
    } else {
        Ok(read)
    }
}

fn unusable(what: &str) -> Error {
    Error::new(
        Code::UpstreamUnreachable,
        format!("{what} cannot be used; it must be PEM"),
    )
}

/// For plain http: a configuration that trusts nobody and reads no roots.
pub(crate) fn bare() -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("protocol versions").because(error))?;
    Ok(config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}
