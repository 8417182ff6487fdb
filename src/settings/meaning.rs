//! Whether what well-shaped settings say can be.

use std::path::Path;

use url::{Host, Url};

use super::{Overrides, Settings};
use crate::descriptor::reader::{Local, Node, Pos, Report, join, local, pem, say};

/// Checks the meaning of all that is sound in a tree.
pub(super) fn check(root: &Node, folder: &Path, report: &mut Report) {
    certificate(root, folder, report);
    public_url(root, report);
    each(root, &["hosts"], report, wrong_host);
    each(root, &["origins"], report, wrong_origin);
    each(root, &["references", "env"], report, wrong_env_glob);
    each(root, &["references", "files"], report, wrong_file_glob);
    vault_address(root, report);
}

/// What the listeners' addresses demand, once the command line was heard.
pub(super) fn check_listeners(
    settings: &Settings,
    root: Option<&Node>,
    overrides: &Overrides,
    report: &mut Report,
) {
    let place = |key: &str, overridden: bool| {
        let node = root.filter(|_| !overridden).and_then(|root| root.entry(key));
        node.map(|entry| (entry.value.at, entry.value.is_bad))
            .unwrap_or((Pos::START, false))
    };
    let (listen_at, listen_bad) = place("listen", overrides.listen.is_some());
    let (admin_at, admin_bad) = place("admin", overrides.admin.is_some());
    let guards = ["api_keys", "jwt"];
    let access = root.and_then(|root| root.at_path(&["access"]));
    let is_guarded = access.is_some_and(|access| guards.iter().any(|key| access.entry(key).is_some()));
    if !listen_bad && !settings.is_loopback() && !is_guarded {
        let said = say(format!(
            "`{}` is not a loopback address, and `access` names nobody who may call",
            settings.listen
        ));
        report.fault(
            listen_at,
            "listen",
            said.cure("listen on `127.0.0.1`, or say in `access` who may call"),
        );
    }
    if !listen_bad && !admin_bad && settings.listen == settings.admin && settings.listen.port() != 0 {
        let said = say(format!("`{}` is the public listener's address", settings.admin));
        report.fault(admin_at.max(listen_at), "admin", said.cure("use another port"));
    }
}

fn certificate(root: &Node, folder: &Path, report: &mut Report) {
    let Some(tls) = root.at_path(&["tls"]) else {
        return;
    };
    let certificates = tls
        .at_path(&["cert_file"])
        .and_then(|file| pem::certificates(file, "tls.cert_file", folder, report));
    let Some(file) = tls.at_path(&["key_file"]) else {
        return;
    };
    let key = pem::private_key(file, "tls.key_file", folder, report);
    if let (Some(certificates), Some(key)) = (certificates, key) {
        pem::pair(certificates, key, (file, "tls.key_file"), report);
    }
}

fn public_url(root: &Node, report: &mut Report) {
    let Some(node) = root.at_path(&["public_url"]) else {
        return;
    };
    let url = node.text().and_then(|text| Url::parse(text).ok());
    if url.is_some_and(|url| url.query().is_some()) {
        report.fault(
            node.at,
            "public_url",
            say("the URL has a query").cure("remove `?` and what follows"),
        );
    }
}

/// Vault's tokens do not travel in the clear.
fn vault_address(root: &Node, report: &mut Report) {
    let Some(node) = root.at_path(&["vault", "hashicorp", "address"]) else {
        return;
    };
    let Some(url) = node.text().and_then(|text| Url::parse(text).ok()) else {
        return;
    };
    if url.scheme() == "http" && local(&url) != Some(Local::Loopback) {
        let said = say("`http` to Vault is allowed on loopback only").cure("write `https`");
        report.fault(node.at, "vault.hashicorp.address", said);
    }
}

type Wrong = fn(&str) -> Option<(&'static str, &'static str)>;

/// Reports the wrong ones of a list of texts.
fn each(root: &Node, path: &[&str], report: &mut Report, wrong: Wrong) {
    let dotted = path.join(".");
    for (index, node) in root
        .at_path(path)
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        if let Some((message, cure)) = node.text().and_then(wrong) {
            report.fault(
                node.at,
                &join(&dotted, &index.to_string()),
                say(message).cure(cure),
            );
        }
    }
}

fn wrong_host(text: &str) -> Option<(&'static str, &'static str)> {
    let is_name = Host::parse(text).is_ok() && !text.contains([' ', '/', '@', '*', '_']);
    (!is_name).then_some((
        "not a host name",
        "write it like `mcp.example.com`, without scheme and port",
    ))
}

fn wrong_origin(text: &str) -> Option<(&'static str, &'static str)> {
    let cure = "write scheme, host and port, like `https://app.example.com`";
    let Ok(url) = Url::parse(text) else {
        return Some(("not an origin", cure));
    };
    let rest = text.split_once("://").map(|(_, rest)| rest);
    let is_bare = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*']));
    (!is_bare || !url.has_host()).then_some(("not an origin", cure))
}

fn wrong_env_glob(text: &str) -> Option<(&'static str, &'static str)> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'*' | b'?');
    let is_sound = !text.is_empty() && text.bytes().all(is_legal);
    (!is_sound).then_some((
        "not a glob over names of variables",
        "use letters, digits, `_` and the wildcards `*` and `?`",
    ))
}

fn wrong_file_glob(text: &str) -> Option<(&'static str, &'static str)> {
    let is_sound = text.starts_with('/') && !text.split('/').any(|part| part == "..");
    (!is_sound).then_some((
        "not a glob over absolute paths",
        "begin with `/` and do not use `..`",
    ))
}
