//! Which addresses may be connected to: the table behind every outbound connection.
//!
//! Judged on the address that is connected to, never on a name, so that a name which changes its
//! answer between check and use gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an endpoint may connect to beside public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Permit {
    /// Private, link-local, shared, unique-local, metadata and documentation addresses; loopback too.
    pub private: bool,
    /// Loopback addresses.
    pub loopback: bool,
}

/// The class of an address, by the IANA special-purpose registries (RFC 6890 and its updates).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressClass {
    Public,
    Loopback,
    Private,
    /// Unspecified, multicast, broadcast, reserved: never the address of a server.
    Unusable,
}

impl Permit {
    /// Whether this address may be connected to.
    #[must_use]
    pub fn admits(self, ip: IpAddr) -> bool {
        match classify(ip) {
            AddressClass::Public => true,
            AddressClass::Loopback => self.loopback || self.private,
            AddressClass::Private => self.private,
            AddressClass::Unusable => false,
        }
    }
}

pub(crate) fn classify(ip: IpAddr) -> AddressClass {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    match ip.octets() {
        [127, ..] => AddressClass::Loopback,
        [0, ..] | [224..=255, ..] => AddressClass::Unusable,
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [169, 254, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    if let Some(inner) = embedded(ip) {
        return classify_v4(inner);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        [0, 0, 0, 0, 0, 0, ..] | [0xff00..=0xffff, ..] => AddressClass::Unusable,
        [0xfc00..=0xfeff, ..]
        | [0x0064, 0xff9b, 1, ..]
        | [0x0100, 0, 0, 0, ..]
        | [0x2001, 0x0000..=0x01ff, ..]
        | [0x2001, 0x0db8, ..]
        | [0x3fff, 0x0000..=0x0fff, ..]
        | [0x5f00, ..] => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

/// The IPv4 address that a mapped, translated (RFC 6052) or 6to4 address leads to.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = ip.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x0064, 0xff9b, 0, 0, 0, 0] => {
            Some(join(high, low))
        }
        [0x2002, ..] => Some(join(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> AddressClass {
        classify(text.parse().unwrap())
    }

    #[test]
    fn private_ranges_are_private_in_every_spelling() {
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:0001::",
            "64:ff9b:1::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert_eq!(class(text), AddressClass::Private, "{text}");
        }
    }

    #[test]
    fn loopback_is_loopback_in_every_spelling() {
        for text in [
            "127.0.0.1",
            "127.255.0.3",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
        ] {
            assert_eq!(class(text), AddressClass::Loopback, "{text}");
        }
    }

    #[test]
    fn addresses_of_no_server_are_unusable() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
            "::7f00:1",
        ] {
            assert_eq!(class(text), AddressClass::Unusable, "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
            "192.1.0.1",
        ] {
            assert_eq!(class(text), AddressClass::Public, "{text}");
        }
    }

    #[test]
    fn loopback_needs_its_own_permit_or_the_private_one() {
        let loopback = "127.0.0.1".parse().unwrap();
        assert!(!Permit::default().admits(loopback));
        assert!(
            Permit {
                private: false,
                loopback: true
            }
            .admits(loopback)
        );
        assert!(
            Permit {
                private: true,
                loopback: false
            }
            .admits(loopback)
        );
        assert!(
            !Permit {
                private: false,
                loopback: true
            }
            .admits("10.0.0.1".parse().unwrap())
        );
    }
}
