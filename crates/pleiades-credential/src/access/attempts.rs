//! Wrong keys by the address they come from: a guesser has to wait. Nobody else has: a right key is
//! let in wherever it comes from, for an address is mostly a proxy's, and many people's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Wrong keys that one address may send at once, and how long until it may send another.
const BURST: u32 = 100;
const EVERY: Duration = Duration::from_secs(1);
/// Addresses remembered; whoever waits the shortest is forgotten first.
const MOST: usize = 4096;

#[derive(Default)]
pub(super) struct KeyAttempts {
    /// When each will have waited for all it tried.
    until: Mutex<HashMap<IpAddr, Instant>>,
}

impl KeyAttempts {
    /// Notes a wrong key. Errors: how long its address has to wait, when it sent too many.
    pub(super) fn record_failure(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let peer = network(peer);
        let mut until = self.until.lock();
        let due = until.get(&peer).copied().filter(|due| *due > now).unwrap_or(now);
        let next = due + EVERY;
        if let Some(over) = next.duration_since(now).checked_sub(EVERY * BURST)
            && !over.is_zero()
        {
            return Err(over);
        }
        if until.len() >= MOST && !until.contains_key(&peer) {
            evict(&mut until, now);
        }
        until.insert(peer, next);
        Ok(())
    }
}

/// The unit that is counted: a network of IPv6, whose owner has as many addresses as it likes.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        short @ IpAddr::V4(_) => short,
    }
}

fn evict(until: &mut HashMap<IpAddr, Instant>, now: Instant) {
    until.retain(|_, due| *due > now);
    let soonest = until.iter().min_by_key(|(_, due)| **due).map(|(peer, _)| *peer);
    if let Some(peer) = soonest.filter(|_| until.len() >= MOST) {
        until.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

    #[test]
    fn an_address_waits_once_it_sent_too_many() {
        let (attempts, now) = (KeyAttempts::default(), Instant::now());
        for _ in 0..BURST {
            attempts.record_failure(PEER, now).unwrap();
        }
        assert_eq!(attempts.record_failure(PEER, now), Err(EVERY));
        attempts.record_failure(PEER, now + EVERY).unwrap();
        assert!(attempts.record_failure(PEER, now + EVERY).is_err());
    }

    #[test]
    fn networks_of_ipv6_count_as_one_address() {
        let (attempts, now) = (KeyAttempts::default(), Instant::now());
        let one = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for last in 0..u16::try_from(BURST).unwrap() {
            attempts.record_failure(one(last), now).unwrap();
        }
        assert!(attempts.record_failure(one(9999), now).is_err());
        attempts
            .record_failure(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]), now)
            .unwrap();
    }

    #[test]
    fn memory_of_addresses_is_bounded_and_keeps_the_worst() {
        let (attempts, now) = (KeyAttempts::default(), Instant::now());
        for _ in 0..BURST {
            attempts.record_failure(PEER, now).unwrap();
        }
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            attempts
                .record_failure(IpAddr::from(number.to_be_bytes()), now)
                .unwrap();
        }
        assert_eq!(attempts.until.lock().len(), MOST);
        assert!(attempts.record_failure(PEER, now).is_err());
    }
}
