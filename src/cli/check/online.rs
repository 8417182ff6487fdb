//! `check --online`: whether the hosts of enabled providers, and those of the settings, can be resolved and
//! connected to.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::Path,
    sync::mpsc,
    time::Duration,
};

use url::Url;

use pleiades_descriptor::{
    DescriptorFile, Fault, ReadContext, Severity, UpstreamTarget,
    reader::{Kind, LocalAddress, Node, local_ip, resolved_tree},
    settings::{self, Settings, VaultSettings},
};

/// Longest wait for DNS; the connection has the provider's own deadline.
const RESOLVE: Duration = Duration::from_secs(5);
/// Longest wait for a connection to a server of the settings.
const CONNECT: Duration = Duration::from_secs(3);
/// Port of a Redis whose URL names none.
const REDIS_PORT: u16 = 6379;

/// Adds what the network says to sound, enabled descriptors.
pub(super) fn check(reads: &mut [DescriptorFile], world: &ReadContext) {
    for read in reads {
        let Some(descriptor) = read.descriptor.as_ref().filter(|descriptor| descriptor.enabled) else {
            continue;
        };
        let Some(UpstreamTarget::Url(url)) = descriptor.upstream.target() else {
            continue;
        };
        let within = descriptor.upstream.timeouts.connect.get();
        let allowed = descriptor.upstream.allow_private;
        let permit = (allowed, allowed || world.loopback);
        if let Err((message, cure)) = reach((url, 443), within, permit) {
            let (line, column) = read.url_at;
            read.faults.push(Fault {
                file: read.file.clone(),
                line,
                column,
                field: "upstream.url".to_owned(),
                message,
                cure: Some(cure.to_owned()),
                severity: Severity::Fault,
            });
            read.faults.sort_by_key(|fault| (fault.line, fault.column));
        }
    }
}

/// Why the servers that the settings name cannot be reached: the Redis of the shared state, and Vault.
pub(super) fn settings(settings: &Settings, file: &Path) -> Vec<Fault> {
    let redis = settings.shared_state.as_ref();
    let redis = redis.and_then(|shared| Url::parse(shared.redis.expose()).ok());
    let vault = match &settings.vault {
        VaultSettings::Hashicorp(vault) => Url::parse(&vault.address).ok(),
        VaultSettings::File(_) => None,
    };
    let servers = [
        (["shared_state", "redis"].as_slice(), redis, REDIS_PORT),
        (&["vault", "hashicorp", "address"], vault, 443),
    ];
    let asked = servers
        .into_iter()
        .filter_map(|(path, url, port)| Some((path, url?, port)));
    let unreached = asked.filter_map(|(path, url, port)| {
        let (message, cure) = reach((&url, port), CONNECT, (true, true)).err()?;
        let (line, column) = place(file, settings, path);
        Some(Fault {
            file: file.to_owned(),
            line,
            column,
            field: path.join("."),
            message,
            cure: Some(cure.to_owned()),
            severity: Severity::Fault,
        })
    });
    unreached.collect()
}

/// Where a value stands in the settings.
fn place(file: &Path, settings: &Settings, path: &[&str]) -> (usize, usize) {
    let below = |node: &Node, key: &str| match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|it| it.value.clone()),
        _ => None,
    };
    let root = resolved_tree(file, &settings::read_context(settings));
    let found = root.and_then(|root| path.iter().try_fold(root, |node, key| below(&node, key)));
    found.map_or((1, 1), |node| (node.at.line, node.at.column))
}

/// Whether a host can be connected to, where private addresses and those of this machine are permitted or not.
fn reach(
    (url, usual): (&Url, u16),
    within: Duration,
    (private, loopback): (bool, bool),
) -> Result<(), (String, &'static str)> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(usual);
    let target = (host.trim_matches(['[', ']']).to_owned(), port);
    let addresses = resolve(target).map_err(|error| {
        (
            format!("the host `{host}` cannot be resolved: {error}"),
            "check the name and this machine's DNS",
        )
    })?;
    let permitted: Vec<SocketAddr> = addresses
        .into_iter()
        .filter(|address| match local_ip(address.ip()) {
            None => true,
            Some(LocalAddress::Loopback) => loopback,
            Some(LocalAddress::Private(_)) => private,
            Some(LocalAddress::Unusable(_)) => false,
        })
        .collect();
    if permitted.is_empty() {
        let message = format!("the host `{host}` resolves to addresses that need permission");
        return Err((message, "write `allow_private: true` beside it if that is meant"));
    }
    let mut why = String::new();
    for address in &permitted {
        match TcpStream::connect_timeout(address, within) {
            Ok(_) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err((
        format!("`{host}` port {port} cannot be connected to: {why}"),
        "start the server, or check address and network",
    ))
}

/// The system's resolver knows no deadline; a thread that is still asking is left behind.
fn resolve(target: (String, u16)) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let answer = target.to_socket_addrs().map(Iterator::collect);
            // Nobody listens any more when the deadline passed.
            sender.send(answer).ok();
        })?;
    receiver
        .recv_timeout(RESOLVE)
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}
