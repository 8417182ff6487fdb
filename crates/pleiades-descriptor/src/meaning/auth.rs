//! `auth:`: headers that carry a key, and headers that bring one.

use super::headers::{name, same_name, value};
use crate::{
    header,
    reference::{is_variable, join},
    report::{Report, say},
    yaml::Node,
};

pub(super) fn check(auth: &Node, report: &mut Report) {
    if let Some(node) = auth.at_path(&["api_key"]) {
        carrier(node, "auth.api_key", "header", report);
        signed(node, "auth.api_key", "value", report);
    }
    if let Some(node) = auth.at_path(&["client_key"]) {
        carrier(node, "auth.client_key", "forward_as", report);
        signed(node, "auth.client_key", "fallback", report);
        brought(node, report);
        companions(node, report);
    }
}

/// The header that a key goes out in.
fn carrier(node: &Node, path: &str, key: &str, report: &mut Report) {
    if let Some(header) = node.at_path(&[key])
        && let Some(text) = header.text()
    {
        name(
            header.at,
            text,
            &join(path, key),
            header::forbidden_carrier,
            report,
        );
    }
}

/// What goes out in it.
fn signed(node: &Node, path: &str, key: &str, report: &mut Report) {
    for key in ["prefix", key] {
        if let Some(part) = node.at_path(&[key]) {
            value(part, &join(path, key), report);
        }
    }
}

/// Where the caller brings a key.
fn brought(node: &Node, report: &mut Report) {
    let headers = node.at_path(&["headers"]).map(Node::items).unwrap_or_default();
    for (index, header) in headers.iter().enumerate() {
        let path = format!("auth.client_key.headers.{index}");
        let Some(text) = header.text() else { continue };
        let mut earlier = headers.iter().take(index).filter_map(Node::text);
        if name(header.at, text, &path, header::forbidden_inward, report)
            && earlier.any(|other| other.eq_ignore_ascii_case(text))
        {
            let finding = say(format!("`{text}` is named twice")).cure("keep one of them");
            report.fault(header.at, &path, finding);
        }
    }
    let Some(env) = node.at_path(&["env"]) else {
        return;
    };
    match env.text() {
        Some(text) if !is_variable(text) => {
            let finding = say("not a name of an environment variable").cure("use letters, digits and `_`");
            report.fault(env.at, "auth.client_key.env", finding);
        }
        Some(text) if text.starts_with("PLEIADES_") => {
            let finding = say("`PLEIADES_*` is the gateway's own").cure("use another name");
            report.fault(env.at, "auth.client_key.env", finding);
        }
        _ => {}
    }
}

/// Further headers of the caller's, and the names they go out under.
fn companions(node: &Node, report: &mut Report) {
    let entries = node
        .at_path(&["companions"])
        .map(Node::entries)
        .unwrap_or_default();
    let carrier = node.text_at(&["forward_as"]).unwrap_or("Authorization");
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_named()) {
        let path = format!("auth.client_key.companions.{}", entry.key);
        if !same_name(entries, index, entry, &path, report) {
            name(entry.at, &entry.key, &path, header::forbidden_inward, report);
        }
        let Some(target) = entry.value.text() else {
            continue;
        };
        let at = entry.value.at;
        if !name(at, target, &path, header::forbidden_carrier, report) {
            continue;
        }
        let mut earlier = entries.iter().take(index).filter_map(|other| other.value.text());
        if target.eq_ignore_ascii_case(carrier) {
            let finding = say(format!("`{target}` carries the key")).cure("use another header");
            report.fault(at, &path, finding);
        } else if ["authorization", "cookie"].contains(&target.to_ascii_lowercase().as_str()) {
            let finding = say(format!("`{target}` carries credentials only")).cure("use another header");
            report.fault(at, &path, finding);
        } else if earlier.any(|other| other.eq_ignore_ascii_case(target)) {
            let finding = say(format!("`{target}` is set twice")).cure("keep one of them");
            report.fault(at, &path, finding);
        }
    }
}
