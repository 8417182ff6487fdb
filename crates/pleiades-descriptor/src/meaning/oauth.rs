//! `auth.oauth` and `auth.client_credentials`: what cannot stand together, and what needs another.

use url::Url;

use crate::{
    report::{Report, say},
    yaml::Node,
};
use pleiades_core::trust;

pub(super) fn check(node: &Node, path: &str, report: &mut Report) {
    in_clear(node, path, report);
    if let (Some(_), Some(key)) = (node.entry("client_secret"), node.entry("private_key")) {
        let finding = say("`private_key` stands beside `client_secret`; one proves who the client is");
        let cure = "keep one of them";
        report.fault(key.at, &format!("{path}.private_key"), finding.cure(cure));
    }
    let needed = match node.text_at(&["token_auth"]) {
        Some("private_key_jwt") => "private_key",
        Some("basic" | "post") => "client_secret",
        _ => return,
    };
    if node.entry(needed).is_none() {
        let finding = say(format!("`{needed}` is missing, which `token_auth` needs"));
        let cure = format!("add `{needed}:`, or leave `token_auth` out");
        report.fault(node.first_key(), &format!("{path}.{needed}"), finding.cure(cure));
    }
}

/// Whatever of a flow is asked over the network is asked over https, or on loopback.
fn in_clear(node: &Node, path: &str, report: &mut Report) {
    for key in [
        "issuer",
        "authorization_server_metadata",
        "authorization_endpoint",
        "token_endpoint",
        "revocation_endpoint",
        "connect_url",
    ] {
        let Some(found) = node.at_path(&[key]) else {
            continue;
        };
        let url = found.text().and_then(|text| Url::parse(text).ok());
        if url.is_some_and(|url| trust::is_cleartext(&url)) {
            let finding =
                say("what signs people in is reached over `https`, and over `http` on loopback only");
            report.fault(found.at, &format!("{path}.{key}"), finding.cure("write `https`"));
        }
    }
}
