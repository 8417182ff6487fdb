//! `check --online`: whether the hosts of enabled providers can be resolved and connected to.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::mpsc,
    time::Duration,
};

use url::Url;

use pleiades_descriptor::{
    DescriptorFile, Fault, ReadContext, Severity, UpstreamTarget,
    reader::{LocalAddress, local_ip},
};

/// Longest wait for DNS; the connection has the provider's own deadline.
const RESOLVE: Duration = Duration::from_secs(5);

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
        if let Err((message, cure)) = reach(url, within, allowed, world.loopback) {
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

fn reach(url: &Url, within: Duration, allowed: bool, loopback: bool) -> Result<(), (String, &'static str)> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let target = (host.trim_matches(['[', ']']).to_owned(), port);
    let addresses = resolve(target).map_err(|_error| {
        (
            format!("the host `{host}` cannot be resolved"),
            "check the name and this machine's DNS",
        )
    })?;
    let permitted: Vec<SocketAddr> = addresses
        .into_iter()
        .filter(|address| match local_ip(address.ip()) {
            None => true,
            Some(LocalAddress::Loopback) => allowed || loopback,
            Some(LocalAddress::Private(_)) => allowed,
        })
        .collect();
    if permitted.is_empty() {
        let message = format!("the host `{host}` resolves to addresses that need permission");
        return Err((message, "write `allow_private: true` beside it if that is meant"));
    }
    let connected = permitted
        .iter()
        .any(|address| TcpStream::connect_timeout(address, within).is_ok());
    if connected {
        Ok(())
    } else {
        Err((
            format!("`{host}` port {port} cannot be connected to"),
            "check address and network",
        ))
    }
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
