//! `auth.oauth` and `auth.client_credentials`: what cannot stand together, and what needs another.

use crate::descriptor::{
    report::{Report, say},
    yaml::Node,
};

pub(super) fn check(node: &Node, path: &str, report: &mut Report) {
    if let (Some(_), Some(key)) = (node.entry("client_secret"), node.entry("private_key")) {
        let said = say("`private_key` stands beside `client_secret`; one proves who the client is");
        report.fault(
            key.at,
            &format!("{path}.private_key"),
            said.cure("keep one of them"),
        );
    }
    let needed = match node.text_at(&["token_auth"]) {
        Some("private_key_jwt") => "private_key",
        Some("basic" | "post") => "client_secret",
        _ => return,
    };
    if node.entry(needed).is_none() {
        let said = say(format!("`{needed}` is missing, which `token_auth` needs"));
        let cure = format!("add `{needed}:`, or leave `token_auth` out");
        report.fault(node.first_key(), &format!("{path}.{needed}"), said.cure(cure));
    }
}
