//! URLs and addresses: which are legal, which need permission.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::report::{Finding, say};
use pleiades_core::trust;

/// What is wrong with a URL wherever it stands. Never quotes it: it may hold a credential.
pub(crate) fn wrong_url(found: &str) -> Option<Finding> {
    if found
        .chars()
        .any(|character| character.is_whitespace() || character.is_control() || character == '\\')
    {
        return Some(
            say("a URL holds no spaces, control characters and backslashes")
                .cure("encode them, such as `%20`"),
        );
    }
    let Some((scheme, rest)) = found.split_once("://") else {
        return Some(say("must be a URL").cure("write it like `https://mcp.example.com/mcp`"));
    };
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return Some(
            say("must be a URL of `http` or `https`").cure("write it like `https://mcp.example.com/mcp`"),
        );
    }
    if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
        return Some(say("the URL has no host").cure("write it like `https://mcp.example.com/mcp`"));
    }
    let error = Url::parse(found).err()?;
    let finding = say(format!("not a URL: {}", error.to_string().to_lowercase()));
    Some(finding.cure("write it like `https://mcp.example.com/mcp`"))
}

/// Whether a text is the URL of a Redis without a password: no secret, where one could stand.
pub(crate) fn is_open_redis(found: &str) -> bool {
    Url::parse(found).is_ok_and(|url| {
        ["redis", "rediss"].contains(&url.scheme())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    })
}

pub(crate) fn misused_url(found: &str) -> Vec<Finding> {
    let Ok(url) = Url::parse(found) else {
        return Vec::new();
    };
    let mut finding = Vec::new();
    let rest = found.split_once("://").map_or("", |(_, rest)| rest);
    if !url.username().is_empty() || url.password().is_some() || authority(rest).contains('@') {
        finding.push(
            say("the URL holds credentials; they would end in logs").cure("take them out and use `auth`"),
        );
    }
    if url.fragment().is_some() {
        finding.push(say("the URL has a fragment, which is never sent").cure("remove `#` and what follows"));
    }
    if url.port() == Some(0) {
        finding.push(say("port 0 cannot be connected to").cure("use a port from 1 to 65535"));
    }
    finding
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Kind of an address outside of the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAddress {
    /// This machine.
    Loopback,
    /// Anything else that needs `allow_private`, by its name.
    Private(&'static str),
    /// What is no server's, permitted or not, by its name.
    Unusable(&'static str),
}

/// Kind of a URL's host, as far as it is known without DNS.
pub(crate) fn local(url: &Url) -> Option<LocalAddress> {
    match url.host()? {
        Host::Ipv4(address) => local_v4(address),
        Host::Ipv6(address) => local_ip(IpAddr::V6(address)),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if name == "localhost" || name.ends_with(".localhost") {
                return Some(LocalAddress::Loopback);
            }
            (name == "metadata.google.internal").then_some(LocalAddress::Private("a metadata service"))
        }
    }
}

/// Who can read unencrypted traffic to a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClearText {
    /// In a network of the operator's own.
    Inside,
    /// Anywhere on the way.
    Outside,
}

/// Who can read what is sent to a URL; `None`: nobody.
pub(crate) fn clear(url: &Url) -> Option<ClearText> {
    let is_inside = || match url.host() {
        Some(Host::Domain(name)) => is_inner_name(name),
        _ => matches!(local(url), Some(LocalAddress::Private(_))),
    };
    trust::is_cleartext(url).then(|| {
        if is_inside() {
            ClearText::Inside
        } else {
            ClearText::Outside
        }
    })
}

/// Whether a name is of no public domain: a single word, or one that ends as names within networks do
/// (RFC 6762 and 8375, the top-level names that ICANN keeps for it, those of Kubernetes and Docker).
fn is_inner_name(name: &str) -> bool {
    const ENDS: [&str; 11] = [
        ".local",
        ".internal",
        ".lan",
        ".home",
        ".corp",
        ".private",
        ".intranet",
        ".localdomain",
        ".home.arpa",
        ".svc",
        ".test",
    ];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.') || ENDS.iter().any(|end| name.ends_with(end))
}

/// What an address is, when it is not a public one; embedded IPv4 addresses count as themselves.
pub fn local_ip(address: IpAddr) -> Option<LocalAddress> {
    let address = match address {
        IpAddr::V4(address) => return local_v4(address),
        IpAddr::V6(address) => address,
    };
    if address == Ipv6Addr::LOCALHOST {
        return Some(LocalAddress::Loopback);
    }
    if address.is_unspecified() {
        return Some(LocalAddress::Unusable("the unspecified address"));
    }
    if let Some(inner) = embedded(address) {
        return local_v4(inner);
    }
    match address.segments() {
        [0xfd00, 0xec2, ..] => Some(LocalAddress::Private("a metadata service")),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some(LocalAddress::Private("a private address")),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some(LocalAddress::Private("a link-local address")),
        [first, ..] if first & 0xffc0 == 0xfec0 => Some(LocalAddress::Private("a site-local address")),
        [0xff00..=0xffff, ..] => Some(LocalAddress::Unusable("a multicast address")),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => {
            Some(LocalAddress::Private("a documentation address"))
        }
        [0xfe00..=0xfeff, ..]
        | [0x64, 0xff9b, 1, ..]
        | [0x0100, 0, 0, 0, ..]
        | [0x2001, 0..=0x01ff, ..]
        | [0x5f00, ..] => Some(LocalAddress::Private("a reserved address")),
        _ => None,
    }
}

/// The IPv4 address within an IPv6 one: mapped, compatible, NAT64 or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let four = |start: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = octets.get(start..start + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            four(12)
        }
        [0x2002, ..] => four(2),
        _ => None,
    }
}

fn local_v4(address: Ipv4Addr) -> Option<LocalAddress> {
    let private = match address.octets() {
        [127, ..] => return Some(LocalAddress::Loopback),
        [169, 254, 169, 254] | [100, 100, 100, 200] => "a metadata service",
        [0, ..] => return Some(LocalAddress::Unusable("the unspecified address")),
        [10, ..] | [192, 168, ..] => "a private address",
        [172, second, ..] if second & 0xf0 == 16 => "a private address",
        [169, 254, ..] => "a link-local address",
        [100, second, ..] if second & 0xc0 == 64 => "a shared address",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "a documentation address",
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => "a reserved address",
        [224..=239, ..] => return Some(LocalAddress::Unusable("a multicast address")),
        [240..=255, ..] => return Some(LocalAddress::Unusable("a reserved address")),
        _ => return None,
    };
    Some(LocalAddress::Private(private))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Option<LocalAddress> {
        local(&Url::parse(url).expect("a url"))
    }

    #[test]
    fn every_spelling_of_a_local_address_is_recognised() {
        for url in [
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost./",
        ] {
            assert_eq!(of(url), Some(LocalAddress::Loopback), "{url}");
        }
        for url in [
            "http://10.0.0.1/",
            "http://[::ffff:10.0.0.1]/",
            "http://[fd00::1]/",
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://[64:ff9b::a00:1]/",
            "http://192.0.2.2/",
            "http://[2001:db8::1]/",
        ] {
            assert!(matches!(of(url), Some(LocalAddress::Private(_))), "{url}");
        }
        for url in [
            "http://0.0.0.0/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://[ff02::1]/",
        ] {
            assert!(matches!(of(url), Some(LocalAddress::Unusable(_))), "{url}");
        }
        assert_eq!(of("https://1.1.1.1/"), None);
        assert_eq!(of("https://example.com/"), None);
    }

    #[test]
    fn plain_http_is_read_by_others_outside_of_this_machine() {
        let of = |url: &str| clear(&Url::parse(url).unwrap());
        for url in [
            "http://127.0.0.1/",
            "http://localhost/",
            "https://example.com/",
            "https://10.0.0.1/",
        ] {
            assert_eq!(of(url), None, "{url}");
        }
        for url in [
            "http://10.0.0.1/",
            "http://[fd00::1]/",
            "http://notes:8080/",
            "http://notes.default.svc/",
            "http://notes.default.svc.cluster.local/",
            "http://host.docker.internal/",
        ] {
            assert_eq!(of(url), Some(ClearText::Inside), "{url}");
        }
        for url in [
            "http://example.com/",
            "http://1.1.1.1/",
            "http://local.example.com/",
            "http://10.0.0.1.nip.io/",
            "http://localhost.example.com/",
        ] {
            assert_eq!(of(url), Some(ClearText::Outside), "{url}");
        }
    }
}
