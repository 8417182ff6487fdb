//! Servers that one caller connected and no descriptor names: in memory, for that caller alone,
//! bounded, and gone after a while (`docs/ACCOUNTS.md`, "The connect stream").

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use std::{path::PathBuf, sync::Arc};

use http::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use ring::digest::{SHA256, digest};
use url::Url;

use super::{
    FacadeConfig, Live, Provider, RelayAccess, Snapshot, ToolRules, endpoint_digest::endpoint_digest,
};
use pleiades_core::limit::{Gate, Rules};
use pleiades_credential::{AddressPolicy, Connection, ProviderAuth};
use pleiades_upstream::{Endpoint, SessionSharing, Transport};

/// How long one stays after it was connected last.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How many one caller has, and how many there are; the one connected longest ago goes first.
const PER_CALLER: usize = 16;
const MOST: usize = 1_024;
/// Timeouts, as descriptors have them by default.
const CONNECT: Duration = Duration::from_secs(3);
const CALL: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(300);

/// A server that a caller connects.
#[derive(Debug, Clone)]
pub struct Guest {
    /// What it is called in paths, of the form of a provider id.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// Its own credentials, marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Only the transport of 2024-11-05.
    pub sse: bool,
    /// Whether loopback addresses may be connected to.
    pub loopback: bool,
    /// Whether it wants an account of its caller.
    pub oauth: bool,
}

impl Guest {
    /// The server as a provider, not yet anybody's.
    #[must_use]
    pub fn provider(&self) -> Arc<Provider> {
        Arc::new(provider(self.clone()))
    }
}

/// Tenant and user.
pub(super) type GuestOwner = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Guests(RwLock<HashMap<GuestOwner, BTreeMap<Arc<str>, GuestEntry>>>);

#[derive(Debug)]
struct GuestEntry {
    provider: Arc<Provider>,
    since: Instant,
}

impl GuestEntry {
    fn is_here(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < LIFE
    }
}

impl Guests {
    /// Everything that a caller finds loaded: what descriptors name, and beside it the caller's own.
    pub(super) fn beside(&self, snapshot: Arc<Snapshot>, owner: &GuestOwner) -> Arc<Snapshot> {
        let own = self.of(owner, Instant::now());
        if own.is_empty() {
            return snapshot;
        }
        let mut providers = snapshot.providers.clone();
        for (name, provider) in own {
            // A descriptor of the same name came later: it is everybody's.
            providers.entry(name).or_insert(provider);
        }
        Arc::new(Snapshot {
            generation: snapshot.generation,
            providers,
            entries: BTreeMap::new(),
        })
    }

    /// Adds one, or puts it in the place of one of the same name; gives those that are gone for it.
    pub(super) fn add(&self, owner: GuestOwner, provider: Arc<Provider>) -> Vec<Arc<Provider>> {
        self.add_at(owner, provider, Instant::now())
    }

    fn of(&self, owner: &GuestOwner, now: Instant) -> Vec<(Arc<str>, Arc<Provider>)> {
        let all = self.0.read();
        let own = all.get(owner).into_iter().flatten();
        own.filter(|(_, entry)| entry.is_here(now))
            .map(|(name, entry)| (Arc::clone(name), Arc::clone(&entry.provider)))
            .collect()
    }

    fn add_at(&self, owner: GuestOwner, provider: Arc<Provider>, now: Instant) -> Vec<Arc<Provider>> {
        let mut all = self.0.write();
        let mut gone = Vec::new();
        for own in all.values_mut() {
            own.retain(|_, entry| {
                let stays = entry.is_here(now);
                if !stays {
                    gone.push(Arc::clone(&entry.provider));
                }
                stays
            });
        }
        all.retain(|_, own| !own.is_empty());
        let own = all.entry(owner).or_default();
        let name = Arc::clone(&provider.id);
        let before = own.insert(name, GuestEntry { provider, since: now });
        gone.extend(before.map(|entry| entry.provider));
        if own.len() > PER_CALLER {
            gone.extend(oldest(own));
        }
        if all.values().map(BTreeMap::len).sum::<usize>() > MOST {
            let first = |own: &BTreeMap<Arc<str>, GuestEntry>| own.values().map(|entry| entry.since).min();
            let longest = all
                .iter()
                .min_by_key(|(_, own)| first(own))
                .map(|(owner, _)| owner.clone());
            gone.extend(longest.and_then(|owner| oldest(all.get_mut(&owner)?)));
        }
        gone
    }

    /// The connections of those that want accounts. A connection's name is made of its URL alone, so
    /// that one found at any caller is the same.
    fn connections_at(&self, now: Instant) -> Vec<Arc<Connection>> {
        let all = self.0.read();
        let mut found: Vec<Arc<Connection>> = Vec::new();
        for entry in all
            .values()
            .flat_map(BTreeMap::values)
            .filter(|entry| entry.is_here(now))
        {
            if let ProviderAuth::OAuth(connection) = &entry.provider.need
                && !found.iter().any(|other| other.name == connection.name)
            {
                found.push(Arc::clone(connection));
            }
        }
        found
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections_at(Instant::now())
    }

    /// Where one that wants accounts is, by the name of its connection.
    pub(super) fn endpoint(&self, provider: &str) -> Option<Arc<Endpoint>> {
        let all = self.0.read();
        let mut entries = all.values().flat_map(BTreeMap::values);
        entries.find_map(|entry| match &entry.provider.need {
            ProviderAuth::OAuth(connection) if *connection.provider == *provider => {
                Some(Arc::clone(&entry.provider.endpoint))
            }
            _ => None,
        })
    }
}

fn oldest(own: &mut BTreeMap<Arc<str>, GuestEntry>) -> Option<Arc<Provider>> {
    let name = own
        .iter()
        .min_by_key(|(_, entry)| entry.since)
        .map(|(name, _)| Arc::clone(name))?;
    own.remove(&name).map(|entry| entry.provider)
}

fn provider(guest: Guest) -> Provider {
    let id: Arc<str> = guest.name.into();
    let need = if guest.oauth {
        ProviderAuth::OAuth(Arc::new(connection(&guest.url, guest.loopback)))
    } else {
        ProviderAuth::None
    };
    let mut endpoint = Endpoint {
        provider: Arc::clone(&id),
        digest: [0; 32],
        target: Transport::Http {
            url: guest.url,
            headers: guest.headers,
            tls: None,
            allow_private: false,
            allow_loopback: guest.loopback,
            sse: guest.sse,
        },
        revision: None,
        share: SessionSharing::User,
        connect: CONNECT,
        call: CALL,
        idle: IDLE,
    };
    endpoint.digest = endpoint_digest(&endpoint, &need);
    Provider {
        title: id.to_string(),
        id,
        about: None,
        endpoint: Arc::new(endpoint),
        need,
        rules: ToolRules::default(),
        relay: RelayAccess::Closed,
        facade: FacadeConfig::default(),
        cache: None,
        gate: Arc::new(Gate::new(&Rules::default())),
        file: PathBuf::new(),
        live: Arc::new(Live::of_guest()),
    }
}

/// Everything about it is discovered; nothing in it is the caller's, so that two who connect the same
/// URL mean the same, and nobody's tokens go anywhere but there.
fn connection(url: &Url, loopback: bool) -> Connection {
    let hash = digest(&SHA256, url.as_str().as_bytes());
    let hex: String = hash
        .as_ref()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name: Arc<str> = format!("guest-{hex}").into();
    let reach = AddressPolicy {
        private: false,
        loopback,
        ca: None,
    };
    let title = url.host_str().unwrap_or_default().to_owned();
    Connection::discovering(name, title, url.clone(), reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str, url: &str) -> Arc<Provider> {
        Guest {
            name: name.to_owned(),
            url: Url::parse(url).unwrap(),
            headers: Vec::new(),
            sse: false,
            loopback: false,
            oauth: true,
        }
        .provider()
    }

    fn owner(user: &str) -> GuestOwner {
        ("t".into(), user.into())
    }

    fn names(guests: &Guests, user: &str, now: Instant) -> Vec<String> {
        guests
            .of(&owner(user), now)
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    #[test]
    fn a_guest_is_its_own_callers_alone_and_goes_after_a_day() {
        let (guests, now) = (Guests::default(), Instant::now());
        guests.add_at(owner("ann"), guest("a", "https://x/"), now);
        assert_eq!(names(&guests, "ann", now), ["a"]);
        assert_eq!(names(&guests, "bob", now), Vec::<String>::new());
        assert!(names(&guests, "ann", now + LIFE).is_empty());
        assert!(guests.connections_at(now + LIFE).is_empty());
    }

    #[test]
    fn the_one_connected_longest_ago_makes_room() {
        let (guests, now) = (Guests::default(), Instant::now());
        let at = |number: usize| now + Duration::from_secs(number as u64);
        for number in 0..=PER_CALLER {
            let gone = guests.add_at(
                owner("ann"),
                guest(&format!("n{number}"), "https://x/"),
                at(number),
            );
            assert_eq!(gone.len(), usize::from(number == PER_CALLER));
        }
        let left = names(&guests, "ann", at(PER_CALLER));
        assert_eq!(left.len(), PER_CALLER);
        assert!(!left.contains(&"n0".to_owned()));
        for number in 0..MOST {
            guests.add_at(
                owner(&format!("u{number}")),
                guest("x", "https://x/"),
                at(100 + number),
            );
        }
        let all: usize = guests.0.read().values().map(BTreeMap::len).sum();
        assert_eq!(all, MOST);
        assert!(names(&guests, "ann", at(100)).is_empty());
    }

    #[test]
    fn one_url_is_one_connection_whoever_connects_it_and_under_whatever_name() {
        let (guests, now) = (Guests::default(), Instant::now());
        guests.add_at(owner("ann"), guest("a", "https://x/mcp"), now);
        guests.add_at(owner("bob"), guest("b", "https://x/mcp"), now);
        guests.add_at(owner("bob"), guest("c", "https://y/mcp"), now);
        assert_eq!(guests.connections_at(now).len(), 2);
    }
}
