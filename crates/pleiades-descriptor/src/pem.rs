//! Certificates and keys in PEM files, as far as a file alone can be wrong.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    reference::reason,
    report::{Finding, Report, say},
    yaml::Node,
};

const MAX_FILE: u64 = 1 << 20;

/// The certificates of a file named at `key`; reports why there are none.
pub(crate) fn certificates(
    node: &Node,
    path: &str,
    folder: &Path,
    report: &mut Report,
) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = contents(node, path, folder, report)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let wrong =
        || say("the file holds no PEM certificate").cure("name a file with `-----BEGIN CERTIFICATE-----`");
    let certificates = match found {
        Ok(certificates) if !certificates.is_empty() => certificates,
        _ => return refuse(report, node, path, wrong()),
    };
    let mut store = RootCertStore::empty();
    if certificates
        .iter()
        .any(|certificate| store.add(certificate.clone()).is_err())
    {
        return refuse(
            report,
            node,
            path,
            say("the file holds a certificate that cannot be read")
                .cure("name a file with X.509 certificates"),
        );
    }
    Some(certificates)
}

/// The private key of a file named at `key`; reports why there is none.
pub(crate) fn private_key(
    node: &Node,
    path: &str,
    folder: &Path,
    report: &mut Report,
) -> Option<PrivateKeyDer<'static>> {
    let bytes = contents(node, path, folder, report)?;
    let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) else {
        let finding =
            say("the file holds no PEM private key").cure("name a file with `-----BEGIN PRIVATE KEY-----`");
        return refuse(report, node, path, finding);
    };
    if rustls::crypto::ring::sign::any_supported_type(&key).is_err() {
        let finding =
            say("the file holds a private key that cannot be used").cure("use an RSA, ECDSA or Ed25519 key");
        return refuse(report, node, path, finding);
    }
    Some(key)
}

/// Reports a key that is not the certificate's.
pub(crate) fn pair(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    (node, path): (&Node, &str),
    report: &mut Report,
) {
    let provider = rustls::crypto::ring::default_provider();
    if rustls::sign::CertifiedKey::from_der(certificates, key, &provider).is_err() {
        report.lenient(
            node.at,
            path,
            say("the private key is not the certificate's")
                .cure("name the key that the certificate was made for"),
        );
    }
}

fn contents(node: &Node, path: &str, folder: &Path, report: &mut Report) -> Option<Vec<u8>> {
    let text = node.text()?;
    if text.contains("-----BEGIN") {
        let finding =
            say("must be a path, found the PEM text itself").cure("write the text to a file and name that");
        return refuse(report, node, path, finding);
    }
    // A resolved reference is never printed.
    let shown = if node.has_references() {
        "the file".to_owned()
    } else {
        format!("the file `{text}`")
    };
    let file = folder.join(text);
    let absent =
        |why: &str| say(format!("{shown} {why}")).cure("paths are relative to the file they stand in");
    let facts = match std::fs::metadata(&file) {
        Ok(facts) => facts,
        Err(error) => return refuse(report, node, path, absent(reason(&error))),
    };
    if !facts.is_file() {
        return refuse(report, node, path, absent("is not a regular file"));
    }
    if facts.len() > MAX_FILE {
        return refuse(report, node, path, absent("is larger than 1 MiB"));
    }
    match std::fs::read(&file) {
        Ok(bytes) => Some(bytes),
        Err(error) => refuse(report, node, path, absent(reason(&error))),
    }
}

fn refuse<T>(report: &mut Report, node: &Node, path: &str, finding: Finding) -> Option<T> {
    report.lenient(node.at, path, finding);
    None
}
