//! The one resolver of everything that connects outward: cached, bounded, and blind to no address.
//!
//! Names are looked up by the system on blocking threads, at most [`LOOKUPS`] at once, and never
//! by the caller itself: a caller waits for a shared look-up and gives up on its own clock. What
//! it gets back is what it connects to, so a check here holds at connect time.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use url::Host;

use pleiades_core::bounded::Bounded;
use pleiades_core::error::{Code, Error};

use super::address::Permit;

/// An answer younger than this is used as it is.
const FRESH: Duration = Duration::from_secs(30);
/// An answer younger than this is used while a newer one is fetched; an older one only when that fails.
const STALE: Duration = Duration::from_secs(300);
/// A failure is remembered this long, so that a dead name is not asked for at request rate.
const FAILED: Duration = Duration::from_secs(2);
/// Look-ups under way at once; each may hold a blocking thread.
const LOOKUPS: usize = 16;
/// One look-up, queueing included, after which it counts as failed.
const LOOKUP: Duration = Duration::from_secs(10);
const NAMES: usize = 8192;

/// The addresses, or why there are none: the words of the resolver.
type LookupResult = Result<Arc<[SocketAddr]>, Arc<str>>;
type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type LookupFn = dyn Fn(Box<str>) -> LookupFuture + Send + Sync;

/// Resolves names for every outbound connection of the process.
pub struct Resolver {
    inner: Arc<Inner>,
}

struct Inner {
    control: Handle,
    lookup: Box<LookupFn>,
    running: Arc<Semaphore>,
    names: Bounded<(Box<str>, u16), CachedName>,
}

#[derive(Default)]
struct CachedName {
    good: Option<(Arc<[SocketAddr]>, Instant)>,
    failed: Option<(Arc<str>, Instant)>,
    /// A look-up under way; `Some` once it has ended.
    pending: Option<watch::Receiver<Option<LookupResult>>>,
}

enum CacheState {
    Use(Arc<[SocketAddr]>),
    Wait(watch::Receiver<Option<LookupResult>>, Option<Arc<[SocketAddr]>>),
    Dead(Arc<str>),
}

impl Resolver {
    pub(crate) fn new(control: Handle) -> Self {
        Self::with_lookup(control, |host| {
            Box::pin(async move {
                Ok(tokio::net::lookup_host((&*host, 0))
                    .await?
                    .map(|address| address.ip())
                    .collect())
            })
        })
    }

    pub(crate) fn with_lookup(
        control: Handle,
        lookup: impl Fn(Box<str>) -> LookupFuture + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                control,
                lookup: Box::new(lookup),
                running: Arc::new(Semaphore::new(LOOKUPS)),
                names: Bounded::new(NAMES),
            }),
        }
    }

    /// Addresses of host and port that may be connected to; the caller waits at most `within`.
    ///
    /// # Errors
    /// `UpstreamUnreachable` when the name has no address or none that `permit` admits,
    /// `UpstreamTimeout` when DNS did not answer in time.
    pub async fn resolve(
        &self,
        host: &Host<&str>,
        port: u16,
        permit: Permit,
        within: Duration,
    ) -> Result<Arc<[SocketAddr]>, Error> {
        self.resolve_at((host, port), permit, within, Instant::now())
            .await
    }

    async fn resolve_at(
        &self,
        (host, port): (&Host<&str>, u16),
        permit: Permit,
        within: Duration,
        now: Instant,
    ) -> Result<Arc<[SocketAddr]>, Error> {
        let name = match *host {
            Host::Ipv4(ip) => return literal(ip.into(), port, permit),
            Host::Ipv6(ip) => return literal(ip.into(), port, permit),
            Host::Domain(name) => name,
        };
        match self.inner.cached(name, port, now) {
            CacheState::Use(addresses) => admitted(addresses, permit),
            CacheState::Dead(why) => Err(no_address(name, &why)),
            CacheState::Wait(mut pending, old) => {
                let answer = timeout(within, pending.wait_for(Option::is_some)).await;
                let answer = match answer {
                    Ok(Ok(answer)) => (*answer).clone(),
                    Err(_elapsed) if old.is_none() => {
                        let message = "the name of the provider's host was not resolved in time";
                        let cause =
                            format!("{name}: no answer of the resolver within `upstream.timeouts.connect`");
                        return Err(Error::new(Code::UpstreamTimeout, message).because(cause));
                    }
                    Ok(Err(_)) | Err(_) => None,
                };
                let answer = answer.unwrap_or_else(|| Err(Arc::from(NO_ANSWER)));
                match (answer, old) {
                    (Ok(addresses), _) | (Err(_), Some(addresses)) => admitted(addresses, permit),
                    (Err(why), None) => Err(no_address(name, &why)),
                }
            }
        }
    }
}

impl Inner {
    fn cached(self: &Arc<Self>, host: &str, port: u16, now: Instant) -> CacheState {
        let mut names = self.names.lock();
        let name = names.get_or_insert_mut((Box::from(host), port), CachedName::default);
        let old = name.good.clone();
        if let Some((addresses, at)) = &old
            && now.duration_since(*at) < FRESH
        {
            return CacheState::Use(Arc::clone(addresses));
        }
        if let Some((why, at)) = &name.failed
            && now.duration_since(*at) < FAILED
        {
            return match old {
                Some((addresses, _)) => CacheState::Use(addresses),
                None => CacheState::Dead(Arc::clone(why)),
            };
        }
        let pending = name
            .pending
            .get_or_insert_with(|| self.look_up(host, port, now))
            .clone();
        match old {
            Some((addresses, at)) if now.duration_since(at) < STALE => CacheState::Use(addresses),
            old => CacheState::Wait(pending, old.map(|(addresses, _)| addresses)),
        }
    }

    fn look_up(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        now: Instant,
    ) -> watch::Receiver<Option<LookupResult>> {
        let (done, pending) = watch::channel(None);
        let shared = Arc::clone(self);
        let host: Box<str> = host.into();
        self.control.spawn(async move {
            let found = shared.ask(&host).await;
            let address = |ip| SocketAddr::new(ip, port);
            let answer: LookupResult = found.map(|found| found.into_iter().map(address).collect());
            shared.store(&host, port, answer.clone(), now);
            done.send_replace(Some(answer));
        });
        pending
    }

    /// Errors: in the words of the resolver.
    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, Arc<str>> {
        let asked = timeout(LOOKUP, Arc::clone(&self.running).acquire_owned()).await;
        let Ok(Ok(permit)) = asked else {
            return Err("too many names are being resolved".into());
        };
        // The permit is given back when the look-up has really ended: a name server that hangs
        // holds a thread for longer than anybody waits for it.
        let looking = (self.lookup)(host.into());
        let mut looking = self.control.spawn(async move {
            let found = looking.await;
            drop(permit);
            found
        });
        match timeout(LOOKUP, &mut looking).await {
            Ok(Ok(Ok(found))) if !found.is_empty() => Ok(found),
            Ok(Ok(Ok(_))) => Err("the name has no address".into()),
            Ok(Ok(Err(error))) => Err(error.to_string().into()),
            Ok(Err(_)) | Err(_) => Err(NO_ANSWER.into()),
        }
    }

    fn store(&self, host: &str, port: u16, answer: LookupResult, now: Instant) {
        let mut names = self.names.lock();
        let Some(name) = names.get_mut(&(Box::from(host), port)) else {
            return;
        };
        name.pending = None;
        match answer {
            Ok(addresses) => (name.good, name.failed) = (Some((addresses, now)), None),
            Err(why) => name.failed = Some((why, now)),
        }
    }
}

pub(crate) fn literal(ip: IpAddr, port: u16, permit: Permit) -> Result<Arc<[SocketAddr]>, Error> {
    admitted(Arc::from([SocketAddr::new(ip, port)]), permit)
}

fn admitted(addresses: Arc<[SocketAddr]>, permit: Permit) -> Result<Arc<[SocketAddr]>, Error> {
    let admits = |address: &SocketAddr| permit.admits(address.ip());
    if addresses.iter().all(admits) {
        return Ok(addresses);
    }
    let some: Arc<[_]> = addresses.iter().copied().filter(admits).collect();
    match addresses.first() {
        Some(first) if some.is_empty() => Err(private_address(first.ip())),
        _ => Ok(some),
    }
}

const REFUSED: &str = "the provider's address is a private one; \
                                  set `upstream.allow_private: true` in its descriptor to allow it";

const NO_ANSWER: &str = "the resolver did not answer";

/// Whether it is refused because the provider's address is a private one: until its descriptor is changed it
/// fails alike.
#[must_use]
pub fn is_private_address(error: &Error) -> bool {
    error.message == REFUSED
}

/// The error for a provider whose address is a private one.
#[must_use]
pub fn private_address(ip: IpAddr) -> Error {
    Error::new(Code::UpstreamUnreachable, REFUSED).because(format!("{ip} is a private address"))
}

fn no_address(name: &str, why: &str) -> Error {
    let message = "the name of the provider's host has no address; check `upstream.url` and DNS";
    Error::new(Code::UpstreamUnreachable, message).because(format!("{name}: {why}"))
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("names", &self.inner.names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
