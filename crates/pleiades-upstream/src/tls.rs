//! TLS towards providers: rustls over ring, the system's roots or a private CA instead of them.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
};

use super::endpoint::ClientTls;
use pleiades_core::error::{Code, Error};
use pleiades_core::trust::{certificates, private_roots, system_roots};

/// The configuration for one client. Each call makes a new one, so that session tickets and
/// connections of one set of certificates never serve another.
///
/// # Errors
/// `UpstreamUnreachable` when what it names cannot be used.
pub fn config(tls: Option<&ClientTls>) -> Result<ClientConfig, Error> {
    let roots = match tls.and_then(|tls| tls.ca.as_deref()) {
        Some(pem) => Arc::new(private(pem)?),
        None => system_roots(),
    };
    let builder = builder()?.with_root_certificates(roots);
    let mut config = match tls.and_then(|tls| tls.client.as_ref()) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|error| unusable("`upstream.tls.client_key_file`").because(error))?;
            let chain = certificates(chain)
                .map_err(|error| unusable("`upstream.tls.client_cert_file`").because(error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("the client certificate and key").because(error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A configuration that trusts these certificates beside the system's.
pub(crate) fn config_beside(ca: &[u8]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::clone(&system_roots());
    roots.extend(private(ca)?.roots);
    let mut config = builder()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For plain http: a configuration that trusts nobody and reads no roots.
pub(crate) fn bare() -> Result<ClientConfig, Error> {
    let builder = builder()?.with_root_certificates(RootCertStore::empty());
    Ok(builder.with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("protocol versions").because(error))
}

fn private(pem: &[u8]) -> Result<RootCertStore, Error> {
    private_roots(pem).map_err(|error| unusable("`upstream.tls.ca_file`").because(error))
}
/// Whether a certificate was refused because it is an authority of its own (`CA:TRUE`) and serves itself.
pub fn is_own_authority(fault: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(why) = fault else {
        return false;
    };
    // What webpki says and rustls has no word for comes as text alone.
    format!("{why:?}").contains("CaUsedAsEndEntity")
}

fn unusable(what: &str) -> Error {
    let message = format!("{what} cannot be used; it must be PEM");
    Error::new(Code::UpstreamUnreachable, message)
}
