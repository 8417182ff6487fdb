//! Whether what well-shaped settings say can be.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use url::{Host, Url};

use super::{Overrides, Settings, data_folder};
use crate::{
    pem,
    reference::join,
    report::{Report, say},
    yaml::{Node, Pos},
};
use pleiades_core::secret::{KEY_CURE, SHORT_KEY, is_short_key};
use pleiades_core::trust;

pub(super) fn check(root: &Node, folder: &Path, report: &mut Report) {
    certificate(root, folder, report);
    public_url(root, report);
    each(root, &["hosts"], report, wrong_host);
    each(root, &["origins"], report, wrong_origin);
    each(root, &["references", "env"], report, wrong_env_glob);
    each(root, &["references", "files"], report, wrong_file_glob);
    each(root, &["trusted_proxies"], report, wrong_network);
    each(root, &["connect_api", "allow"], report, wrong_url_glob);
    wide_globs(root, report);
    vault(root, folder, report);
    in_clear(root, report);
    redis(root, report);
    keys(root, report);
    key_lengths(root, folder, report);
    login(root, report);
}

/// A login speaks for one tenant, or its tokens say which.
fn login(root: &Node, report: &mut Report) {
    let Some(login) = root.at_path(&["access", "login"]) else {
        return;
    };
    if let (Some(_), Some(claim)) = (login.entry("tenant"), login.entry("tenant_claim")) {
        let finding = say("`tenant_claim` stands beside `tenant`; one says whose people log in");
        let cure = "keep one of them";
        report.fault(claim.at, "access.login.tenant_claim", finding.cure(cure));
    }
}

/// What the listeners' addresses demand, once the command line was heard, and whoever they let in.
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
    let listen = place("listen", overrides.listen.is_some());
    let (listen_at, listen_bad) = listen;
    let (admin_at, admin_bad) = place("admin", overrides.admin.is_some());
    callers(settings, root, listen, report);
    if !listen_bad && !settings.is_loopback() && settings.tls.is_none() && !has(root, &["tls"]) {
        let finding = say(format!(
            "keys and answers travel unencrypted to `{}`, for anybody on the way to read and use",
            settings.listen
        ));
        let cure = "name a certificate in `tls`, or listen on `127.0.0.1` behind a proxy that has one";
        report.warning(listen_at, "listen", finding.cure(cure));
    }
    let given = [
        ("listen", settings.listen, listen_at, listen_bad),
        ("admin", settings.admin, admin_at, admin_bad),
    ];
    for (field, _, at, _) in given.iter().filter(|(_, it, _, bad)| !bad && it.port() == 0) {
        let finding = say("port 0 is none that clients could be given");
        report.fault(*at, field, finding.cure("name a port"));
    }
    if !listen_bad && !admin_bad && collide(settings.listen, settings.admin) {
        // `listen` alone may have taken the port that `admin` has by default.
        let is_admin_given = overrides.admin.is_some() || admin_at != Pos::START;
        let (at, field, other) = if is_admin_given {
            (admin_at, "admin", "public")
        } else {
            (listen_at, "listen", "admin")
        };
        let finding = say(format!("`{}` is the {other} listener's address", settings.admin));
        report.fault(at, field, finding.cure("use another port"));
    }
}

fn has(root: Option<&Node>, path: &[&str]) -> bool {
    root.is_some_and(|root| root.at_path(path).is_some())
}

/// Whoever may be called by others names them: where a request comes from says who sent it on the
/// machine's own loopback alone, and there only as long as nothing passes on for others.
fn callers(settings: &Settings, root: Option<&Node>, listen: (Pos, bool), report: &mut Report) {
    let access = root.and_then(|root| root.at_path(&["access"]));
    // An empty list names nobody; one that is no list is refused as such.
    let names = |key: &str| {
        let entry = access.and_then(|access| access.entry(key));
        entry.is_some_and(|entry| entry.value.is_bad || !entry.value.items().is_empty())
    };
    let is_hosted = root.is_some_and(|root| root.entry("hosted").is_some());
    if names("api_keys") || names("jwt") || is_hosted {
        if names("api_keys") && !names("admin_keys") {
            unguarded_admin(access, report);
        }
        return;
    }
    let (listen_at, is_listen_bad) = listen;
    let mut elsewhere = Vec::new();
    if !is_listen_bad && !settings.is_loopback() {
        let why = format!("`{}` is not a loopback address", settings.listen);
        elsewhere.push((listen_at, "listen", why));
    }
    elsewhere.extend(root.into_iter().flat_map(others_call));
    for (at, field, why) in &elsewhere {
        let finding = say(format!("{why}, and `access` names nobody who may call"));
        let cure = if *field == "listen" {
            "listen on `127.0.0.1`, or say in `access.api_keys` who may call"
        } else {
            "remove it, or say in `access.api_keys` who may call"
        };
        report.fault(*at, field, finding.cure(cure));
    }
    if elsewhere.is_empty() && !is_listen_bad {
        let entry = root.and_then(|root| root.entry("access"));
        let at = entry.map_or(listen_at, |entry| entry.at);
        let finding = say(super::OPEN)
            .cure("name callers in `access.api_keys` before anything passes requests on to it");
        report.private(at, "access", finding);
    }
}

/// What says that callers come from elsewhere than this machine: place, field and why.
fn others_call(root: &Node) -> Vec<(Pos, &'static str, String)> {
    let mut found = Vec::new();
    if let Some(node) = root.at_path(&["public_url"])
        && node
            .text()
            .and_then(|text| Url::parse(text).ok())
            .is_some_and(|url| !trust::is_loopback(&url))
    {
        let why = "callers come from elsewhere to this URL".to_owned();
        found.push((node.at, "public_url", why));
    }
    if let Some(node) = root.at_path(&["hosts"]) {
        let is_elsewhere = |host: &&str| {
            let url = Url::parse(&format!("http://{host}/"));
            url.is_ok_and(|url| !trust::is_loopback(&url))
        };
        if let Some(host) = node.items().iter().filter_map(Node::text).find(is_elsewhere) {
            let why = format!("callers come from elsewhere to `{host}`");
            found.push((node.at, "hosts", why));
        }
    }
    if let Some(node) = root.at_path(&["trusted_proxies"])
        && !node.items().is_empty()
    {
        let why = "a proxy passes requests of others on".to_owned();
        found.push((node.at, "trusted_proxies", why));
    }
    found
}

/// Where callers have keys, there is more than one person behind the admin listener's loopback.
fn unguarded_admin(access: Option<&Node>, report: &mut Report) {
    let Some(entry) = access.and_then(|access| access.entry("api_keys")) else {
        return;
    };
    let finding = say(
        "callers need keys, but the admin listener needs none: every program on this machine, a provider's process \
         too, can read, replace and revoke everybody's accounts",
    );
    let cure = "name a key in `access.admin_keys`; `/providers` and `/v1/accounts` then need one";
    report.warning(entry.at, "access.admin_keys", finding.cure(cure));
}

/// Whether two listeners cannot both have their address.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let is_same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && is_same_host
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
    let Some(url) = node.text().and_then(|text| Url::parse(text).ok()) else {
        return;
    };
    if url.query().is_some() {
        let finding = say("the URL has a query").cure("remove `?` and what follows");
        report.fault(node.at, "public_url", finding);
    }
    if trust::is_cleartext(&url) {
        let finding = say(
            "people and clients send keys to this URL unencrypted, and cookies are not kept to encrypted \
             connections",
        );
        report.warning(node.at, "public_url", finding.cure("write `https`"));
    }
}

/// What is secret does not travel in the clear: not to Vault, the login, the scheduler or the issuers of
/// tokens.
fn in_clear(root: &Node, report: &mut Report) {
    let mut check = |node: Option<&Node>, field: &str, what: &str| {
        let Some(node) = node else { return };
        let url = node.text().and_then(|text| Url::parse(text).ok());
        if url.is_some_and(|url| trust::is_cleartext(&url)) {
            let finding = say(format!("`http` to {what} is allowed on loopback only")).cure("write `https`");
            report.fault(node.at, field, finding);
        }
    };
    let vault = "vault.hashicorp.address";
    check(root.at_path(&["vault", "hashicorp", "address"]), vault, "Vault");
    let webhook = "scheduler.webhook";
    check(root.at_path(&["scheduler", "webhook"]), webhook, "a scheduler");
    let login = "access.login.issuer";
    check(root.at_path(&["access", "login", "issuer"]), login, "an issuer");
    let issuers = root.at_path(&["access", "jwt"]).map(Node::items);
    for (index, issuer) in issuers.unwrap_or_default().iter().enumerate() {
        for key in ["issuer", "jwks_url"] {
            let field = join(&join("access.jwt", &index.to_string()), key);
            check(issuer.at_path(&[key]), &field, "an issuer");
        }
    }
}

/// Vault's certificates are there.
fn vault(root: &Node, folder: &Path, report: &mut Report) {
    if let Some(file) = root.at_path(&["vault", "hashicorp", "ca_file"]) {
        pem::certificates(file, "vault.hashicorp.ca_file", folder, report);
    }
}

/// Every key of ours is long enough. One that a vault was made with while shorter ones were taken opens
/// it still, so that what it holds is not lost.
fn key_lengths(root: &Node, folder: &Path, report: &mut Report) {
    let wrong: TextCheck = |text| is_short_key(text).then_some((SHORT_KEY, KEY_CURE));
    each(root, &["seal", "keys"], report, wrong);
    each(root, &["signing", "inbound_keys"], report, wrong);
    for path in [["scheduler", "key"].as_slice(), &["vault", "file", "key"]] {
        let is_short = |node: &&Node| node.text().is_some_and(is_short_key);
        let Some(node) = root.at_path(path).filter(is_short) else {
            continue;
        };
        if path.first() == Some(&"vault") && is_made(root, folder) {
            let finding = say("a key that others can find: it is shorter than 32 bytes");
            let cure = format!("{KEY_CURE}, and put the vault under it with `pleiades vault rekey`");
            report.warning(node.at, &path.join("."), finding.cure(cure));
        } else {
            report.fault(node.at, &path.join("."), say(SHORT_KEY).cure(KEY_CURE));
        }
    }
}

/// Whether the embedded vault is there already.
fn is_made(root: &Node, folder: &Path) -> bool {
    let path = match root.at_path(&["vault", "file", "path"]) {
        Some(node) => node.text().map(|path| folder.join(path)),
        None => data_folder().map(|data| data.join("vault")),
    };
    path.and_then(|path| std::fs::metadata(path).ok())
        .is_some_and(|found| found.is_file() && found.len() > 0)
}

/// A key stands for one caller or operator, under a name of its own.
fn keys(root: &Node, report: &mut Report) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for list in ["api_keys", "admin_keys"] {
        let nodes = root.at_path(&["access", list]).map(Node::items);
        for (index, node) in nodes.unwrap_or_default().iter().enumerate() {
            for key in ["name", "sha256"] {
                let Some((field, text)) = node.at_path(&[key]).and_then(|it| Some((it, it.text()?))) else {
                    continue;
                };
                if seen.contains(&(key, text)) {
                    // The digest is not shown: short keys can be found from theirs.
                    let (what, cure) = match key {
                        "name" => ("another key has this name", "choose another name"),
                        _ => (
                            "another entry is of the same key",
                            "make a key for each, or remove one",
                        ),
                    };
                    let path = join(&join("access", list), &join(&index.to_string(), key));
                    report.fault(field.at, &path, say(what).cure(cure));
                }
                seen.push((key, text));
            }
        }
    }
}

/// Where replicas meet, and that what one seals another opens.
fn redis(root: &Node, report: &mut Report) {
    let field = "shared_state.redis";
    let Some(node) = root.at_path(&["shared_state", "redis"]) else {
        return;
    };
    if let Some((message, cure)) = node.text().and_then(wrong_redis) {
        report.fault(node.at, field, say(message).cure(cure));
    }
    let url = node.text().and_then(|text| Url::parse(text).ok());
    if url.is_some_and(|url| url.password().is_some() && trust::is_cleartext(&url)) {
        let finding = say("the password travels unencrypted, for anybody on the way to read and use");
        let cure = "write `rediss://` if the server has TLS";
        report.warning(node.at, field, finding.cure(cure));
    }
    let has = |path: &[&str]| root.at_path(path).is_some();
    if !has(&["seal", "keys"]) && !has(&["vault", "file", "key"]) && !has(&["vault", "hashicorp"]) {
        let finding = say("replicas with different keys cannot read what the others say");
        let cure = "give all replicas the same `seal.keys`, or one key file";
        report.warning(node.at, field, finding.cure(cure));
    }
}

fn wrong_redis(text: &str) -> Option<(&'static str, &'static str)> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| ["redis", "rediss"].contains(&url.scheme()));
    let Some((url, host)) = url.as_ref().and_then(|url| Some((url, url.host_str()?))) else {
        return Some((
            "must be the URL of a Redis",
            "write it like `rediss://redis:6379`",
        ));
    };
    let database = url.path().trim_start_matches('/');
    if ["", "0.0.0.0", "[::]"].contains(&host) {
        Some(("the URL names no host", "write it like `rediss://redis:6379`"))
    } else if url.query().is_some() || url.fragment().is_some() {
        Some((
            "the URL has a query or a fragment",
            "remove `?` or `#` and what follows",
        ))
    } else if !database.is_empty() && database.parse::<u16>().is_err() {
        Some((
            "the path is not the number of a database",
            "write it like `rediss://redis:6379/0`",
        ))
    } else {
        None
    }
}

type TextCheck = fn(&str) -> Option<(&'static str, &'static str)>;

/// Reports the wrong ones of a list of texts.
fn each(root: &Node, path: &[&str], report: &mut Report, wrong: TextCheck) {
    let dotted = path.join(".");
    let nodes = root.at_path(path).map(Node::items);
    for (index, node) in nodes.unwrap_or_default().iter().enumerate() {
        if let Some((message, cure)) = node.text().and_then(wrong) {
            let finding = say(message).cure(cure);
            report.fault(node.at, &join(&dotted, &index.to_string()), finding);
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

fn wrong_network(text: &str) -> Option<(&'static str, &'static str)> {
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => Some(32),
        Ok(IpAddr::V6(_)) => Some(128),
        Err(_) => None,
    };
    let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = address.len() == text.len();
    let is_sound =
        most.is_some_and(|most| is_whole || (is_number && bits.parse::<u8>().is_ok_and(|bits| bits <= most)));
    (!is_sound).then_some(("not a network", "write it like `10.0.0.0/8` or `fd00::/8`"))
}

fn wrong_url_glob(text: &str) -> Option<(&'static str, &'static str)> {
    if text.is_empty() {
        return Some(("is empty", "write a glob like `https://*`"));
    }
    let is_open = text.strip_prefix("http://").is_some_and(|rest| {
        let host = rest.split(['/', '*', '?']).next().unwrap_or_default();
        let url = Url::parse(&format!("http://{host}/")).ok();
        url.is_none_or(|url| !trust::is_loopback(&url))
    });
    is_open.then_some(("`http` is allowed on loopback only", "write `https`"))
}

/// Warns of globs whose host begins or ends with a wildcard within a name: it can be read as more than
/// it admits, or admits more than one domain.
fn wide_globs(root: &Node, report: &mut Report) {
    let globs = root.at_path(&["connect_api", "allow"]).map(Node::items);
    for (index, node) in globs.unwrap_or_default().iter().enumerate() {
        let Some(text) = node.text() else { continue };
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, _)) if !authority.ends_with(']') => host,
            _ => authority,
        };
        let field = join("connect_api.allow", &index.to_string());
        let is_any = host == "*";
        if !is_any && host.ends_with(['*', '?']) {
            let finding =
                say("a wildcard at the end of a host does not reach over it, into domains of others");
            let cure = "end the host with `/`, like `https://api.example.com/*`";
            report.warning(node.at, &field, finding.cure(cure));
        } else if !is_any && host.starts_with('*') && !host.starts_with("*.") {
            let finding =
                say("a wildcard before a host without a dot admits domains of others that end alike");
            let cure = "write it like `https://*.example.com/*`";
            report.warning(node.at, &field, finding.cure(cure));
        }
    }
}
