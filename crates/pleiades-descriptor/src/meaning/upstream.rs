//! `upstream:`: addresses, commands, headers, certificates.

use std::path::Path;

use url::Url;

use super::headers::{name, same_name, value};
use crate::{
    ReadContext,
    address::{self, ClearText, LocalAddress},
    header, pem,
    reference::{is_variable, join},
    report::{Report, say},
    yaml::Node,
};

pub(super) fn check(node: &Node, folder: &Path, world: &ReadContext, report: &mut Report) {
    url(node, world, report);
    command(node, world, report);
    protocol(node, report);
    env(node, report);
    headers(node, report);
    certificates(node, folder, report);
    idle_fields(node, report);
}

/// Private addresses need permission.
fn url(node: &Node, world: &ReadContext, report: &mut Report) {
    let Some(found) = node.at_path(&["url"]) else {
        return;
    };
    let Some(url) = found.text().and_then(|text| Url::parse(text).ok()) else {
        return;
    };
    let is_allowed = node
        .at_path(&["allow_private"])
        .and_then(Node::boolean)
        .unwrap_or(false);
    let what = match address::local(&url) {
        Some(LocalAddress::Unusable(what)) => {
            let finding = say(format!("the URL names {what}, which is no server's"));
            let cure = "write the server's own address";
            return report.fault(found.at, "upstream.url", finding.cure(cure));
        }
        _ if is_allowed => return,
        None => return,
        Some(LocalAddress::Loopback) if world.loopback => return,
        Some(LocalAddress::Loopback) => "a loopback address",
        Some(LocalAddress::Private(what)) => what,
    };
    let finding = say(format!("the URL names {what}, which needs permission"));
    let cure = "write `allow_private: true` beside it if that is meant";
    report.fault(found.at, "upstream.url", finding.cure(cure));
}

/// What proves who we are travels encrypted, or within this machine; within a network of the operator's
/// own where that is said.
pub(super) fn credential_in_clear(upstream: &Node, auth: Option<&Node>, report: &mut Report) {
    let Some(found) = upstream.at_path(&["url"]) else {
        return;
    };
    let Some(url) = found.text().and_then(|text| Url::parse(text).ok()) else {
        return;
    };
    let Some((what, clear)) = credential(upstream, &url, auth).zip(address::clear(&url)) else {
        return;
    };
    let finding = say(format!(
        "{what} would travel unencrypted, for anybody on the way to read and use"
    ));
    let is_allowed = upstream.at_path(&["allow_private"]).and_then(Node::boolean) == Some(true);
    let needs_permission = matches!(
        address::local(&url),
        Some(LocalAddress::Private(_) | LocalAddress::Unusable(_))
    );
    match clear {
        ClearText::Inside if is_allowed => {
            let cure = "write `https` if the server has it";
            report.warning(found.at, "upstream.url", finding.cure(cure));
        }
        // A fault says already that it may not be reached at all.
        ClearText::Inside if needs_permission => {}
        ClearText::Inside => {
            let cure = "write `https`; or, in a network of your own, `allow_private: true` beside it";
            report.fault(found.at, "upstream.url", finding.cure(cure));
        }
        ClearText::Outside => report.fault(found.at, "upstream.url", finding.cure("write `https`")),
    }
}

/// What of a descriptor is secret on the way to its provider.
fn credential(upstream: &Node, url: &Url, auth: Option<&Node>) -> Option<String> {
    let mut kinds = auth.map(Node::entries).unwrap_or_default().iter();
    if let Some(kind) = kinds.find(|entry| entry.is_named() && entry.key != "none") {
        return Some(format!("the credential of `auth.{}`", kind.key));
    }
    let headers = upstream
        .at_path(&["headers"])
        .map(Node::entries)
        .unwrap_or_default();
    let is_secret =
        |entry: &&crate::yaml::Entry| header::is_secret(&entry.key) || entry.value.has_references();
    if let Some(entry) = headers.iter().find(is_secret) {
        return Some(format!("the header `{}`", entry.key));
    }
    let mut query = url
        .query_pairs()
        .map(|(name, _)| name.replace('_', "-").to_ascii_lowercase());
    let is_secret = |name: &String| {
        ["key", "apikey", "token", "secret", "password", "code", "sig"].contains(&name.as_str())
            || header::is_secret(name)
    };
    query
        .find(is_secret)
        .map(|_| "what the URL's query holds".to_owned())
}

fn command(node: &Node, world: &ReadContext, report: &mut Report) {
    let Some(entry) = node.entry("command").filter(|entry| !entry.value.is_bad) else {
        return;
    };
    if !world.commands {
        let finding = say("descriptors may not start processes here");
        let cure = "write `commands: true` in `pleiades.yaml` if that is meant";
        report.lenient(entry.at, "upstream.command", finding.cure(cure));
    }
    for (index, word) in entry.value.items().iter().enumerate() {
        let Some(text) = word.text() else { continue };
        let path = format!("upstream.command.{index}");
        if index == 0 && text.trim().is_empty() {
            report.fault(word.at, &path, say("the program has no name").cure("name it"));
        } else if text.contains('\0') {
            let finding = say("a word of a command holds no NUL").cure("remove it");
            report.fault(word.at, &path, finding);
        }
    }
}

/// The transport of 2024-11-05 begins with a GET.
fn protocol(node: &Node, report: &mut Report) {
    let found = node.at_path(&["protocol"]);
    let Some(found) = found.filter(|found| found.text() == Some("sse")) else {
        return;
    };
    if node.entry("command").is_some() && node.entry("url").is_none() {
        let finding = say("`sse` is a transport over HTTP, and a `command` has none");
        report.fault(found.at, "upstream.protocol", finding.cure("remove it"));
    }
}

fn env(node: &Node, report: &mut Report) {
    for entry in node.at_path(&["env"]).map(Node::entries).unwrap_or_default() {
        let path = join("upstream.env", &entry.key);
        if entry.is_named() && !is_variable(&entry.key) {
            let finding = say("not a name of an environment variable").cure("use letters, digits and `_`");
            report.fault(entry.at, &path, finding);
        }
        if entry.value.text().is_some_and(|text| text.contains('\0')) {
            let finding = say("a variable holds no NUL").cure("remove it");
            report.fault(entry.value.at, &path, finding);
        }
    }
}

fn headers(node: &Node, report: &mut Report) {
    let entries = node.at_path(&["headers"]).map(Node::entries).unwrap_or_default();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_named()) {
        let path = join("upstream.headers", &entry.key);
        if !same_name(entries, index, entry, &path, report) {
            name(entry.at, &entry.key, &path, header::forbidden_outward, report);
        }
        value(&entry.value, &path, report);
        if entry.value.text().is_some() && header::is_secret(&entry.key) && !entry.value.has_references() {
            let finding = say("a secret in plain text; whoever reads the file has it");
            let cure = "keep it elsewhere and write `${NAME}` or `${file:/run/secrets/name}`";
            report.warning(entry.value.at, &path, finding.cure(cure));
        }
    }
}

fn certificates(node: &Node, folder: &Path, report: &mut Report) {
    let Some(tls) = node.at_path(&["tls"]) else {
        return;
    };
    if let Some(file) = tls.at_path(&["ca_file"]) {
        pem::certificates(file, "upstream.tls.ca_file", folder, report);
    }
    let certificate = tls.at_path(&["client_cert_file"]).map(|file| {
        (
            file,
            pem::certificates(file, "upstream.tls.client_cert_file", folder, report),
        )
    });
    let key = tls.at_path(&["client_key_file"]).map(|file| {
        (
            file,
            pem::private_key(file, "upstream.tls.client_key_file", folder, report),
        )
    });
    let alone = |missing: &str| say(format!("`{missing}` is missing")).cure(format!("add `{missing}:`"));
    match (certificate, key) {
        (Some((_, Some(certificates))), Some((file, Some(key)))) => {
            pem::pair(certificates, key, (file, "upstream.tls.client_key_file"), report);
        }
        (Some(_), None) if tls.entry("client_key_file").is_none() => {
            let finding = alone("client_key_file");
            report.fault(tls.first_key(), "upstream.tls.client_key_file", finding);
        }
        (None, Some(_)) if tls.entry("client_cert_file").is_none() => {
            let finding = alone("client_cert_file");
            report.fault(tls.first_key(), "upstream.tls.client_cert_file", finding);
        }
        _ => {}
    }
}

/// Fields that have no effect beside the kind that is given.
fn idle_fields(node: &Node, report: &mut Report) {
    let (kind, idle): (&str, &[&str]) = match (node.entry("url"), node.entry("command")) {
        (Some(_), None) => ("url", &["env"]),
        (None, Some(_)) => ("command", &["headers", "tls", "allow_private"]),
        _ => return,
    };
    for key in idle {
        let given = node.entry(key).filter(|entry| !entry.value.is_bad);
        let is_given = |value: &Node| !value.entries().is_empty() || value.boolean() == Some(true);
        if let Some(entry) = given.filter(|entry| is_given(&entry.value)) {
            let finding = say(format!("`{key}` has no effect beside `{kind}`")).cure("remove it");
            report.warning(entry.at, &join("upstream", key), finding);
        }
    }
    let plain = node.text_at(&["url"]).is_some_and(|url| url.starts_with("http:"));
    if let Some(entry) = node
        .entry("tls")
        .filter(|entry| plain && !entry.value.entries().is_empty())
    {
        let finding = say("`tls` has no effect on an `http` URL").cure("write `https`");
        report.warning(entry.at, "upstream.tls", finding);
    }
}
