//! Who is calling: keys of callers and of operators, and who an unauthenticated local caller is.

mod attempts;
pub mod framing;
mod keys;
pub mod names;
pub mod origins;
mod proxied;
pub mod signed;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use std::{fmt, sync::Arc};

use http::HeaderMap;

use attempts::KeyAttempts;
use keys::{KeyTable, Presented, presented_key};
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;
use proxied::proxy_header;

/// The local caller's key in the log.
const LOCAL_KEY: &str = "access.local";

/// A caller, as all that follows knows it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The tenant; two tenants never see each other's anything.
    pub tenant: Arc<str>,
    /// The user within the tenant.
    pub user: Arc<str>,
}

impl Principal {
    /// A principal of a tenant.
    pub fn new(tenant: impl Into<Arc<str>>, user: impl Into<Arc<str>>) -> Self {
        Self {
            tenant: tenant.into(),
            user: user.into(),
        }
    }

    /// The bytes that sealed ids are bound to; unambiguous for every pair of names.
    #[must_use]
    pub fn binding(&self) -> String {
        format!("{}:{}/{}", self.tenant.len(), self.tenant, self.user)
    }
}

/// A caller and how it is known.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant and user that it acts as.
    pub principal: Principal,
    /// Name of the key that it brought, for the log; `None`: it is local.
    pub key: Option<Arc<str>>,
}

/// The callers and operators of the settings, as text that was checked.
#[derive(Debug)]
pub struct Grants<'a> {
    /// The principal of local callers.
    pub local: Principal,
    /// The key of the local caller, where others have keys; `None`: it has none, and is refused there.
    pub local_key: Option<Secret>,
    /// Keys of callers: name, principal, SHA-256 in hexadecimal digits.
    pub callers: Vec<(&'a str, Principal, &'a str)>,
    /// Keys of operators: name, SHA-256 in hexadecimal digits.
    pub operators: Vec<(&'a str, &'a str)>,
    /// Whether the admin listener is on a loopback address: then it needs no key while none exists.
    pub is_admin_local: bool,
}

/// A key in the settings with a malformed digest.
#[derive(Debug, thiserror::Error)]
#[error("the key `{0}` has no SHA-256 of 64 hexadecimal digits")]
pub struct NoDigest(String);

/// Identifies callers and operators.
pub struct Access {
    local: Principal,
    /// No caller is named: whoever is on this machine is the local caller.
    is_open: bool,
    /// The local caller has a key, beside those of others.
    is_local_keyed: bool,
    callers: KeyTable<Caller>,
    operators: KeyTable<Arc<str>>,
    is_admin_local: bool,
    /// Wrong keys, counted apart by where they were tried: guessing at one closes no other.
    attempts: AttemptCounters,
}

#[derive(Default)]
struct AttemptCounters {
    callers: KeyAttempts,
    pages: KeyAttempts,
    operators: KeyAttempts,
}

impl Access {
    /// Builds it from the settings.
    ///
    /// # Errors
    /// [`NoDigest`]; such a key must not be left out, for without any key every local caller is let in.
    pub fn new(grants: Grants<'_>) -> Result<Self, NoDigest> {
        let digest =
            |name: &str, text: &str| keys::parse_digest(text).ok_or_else(|| NoDigest(name.to_owned()));
        let mut callers = KeyTable::default();
        for (name, principal, text) in grants.callers {
            let key = Some(Arc::from(name));
            callers.add(digest(name, text)?, Caller { principal, key });
        }
        let mut operators = KeyTable::default();
        for (name, text) in grants.operators {
            operators.add(digest(name, text)?, Arc::from(name));
        }
        let is_open = callers.is_empty();
        let local_key = grants.local_key.filter(|_| !is_open);
        let local_key = local_key.and_then(|key| keys::digest_key(key.expose()));
        if let Some(digest) = local_key {
            let (principal, key) = (grants.local.clone(), Some(Arc::from(LOCAL_KEY)));
            callers.add(digest, Caller { principal, key });
        }
        Ok(Self {
            local: grants.local,
            is_open,
            is_local_keyed: local_key.is_some(),
            callers,
            operators,
            is_admin_local: grants.is_admin_local,
            attempts: AttemptCounters::default(),
        })
    }

    /// Identifies who sent a request, from its head and the address that it came from.
    ///
    /// Where callers have keys one must be brought, wherever the request comes from, and a right one is
    /// always let in. Where nobody has, only a local caller is let in.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`]; [`Code::RateLimited`] after too many wrong keys of one address;
    /// [`Code::PolicyDenied`] where no key would help.
    pub fn identify(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, Error> {
        if self.is_open {
            require_local(headers, peer)?;
            return Ok(Caller {
                principal: self.local.clone(),
                key: None,
            });
        }
        let missing = if self.is_local_keyed {
            "this gateway wants a key: send it as `x-api-key` or `Authorization: Bearer`; who works on its \
             machine finds one in `local.key` of its data folder, or calls through `pleiades stdio`"
        } else {
            "this gateway wants a key: send it as `x-api-key` or `Authorization: Bearer`"
        };
        let presented = presented_key(headers);
        authenticate(&self.callers, &presented, (&self.attempts.callers, peer), missing).cloned()
    }

    /// Identifies the owner of a key that was typed on a page.
    ///
    /// # Errors
    /// As [`identify`](Self::identify); wrong ones count for pages alone.
    pub(crate) fn identify_typed_key(&self, key: &str, peer: Option<IpAddr>) -> Result<Caller, Error> {
        let presented = Presented::Key(key.as_bytes());
        authenticate(&self.callers, &presented, (&self.attempts.pages, peer), "").cloned()
    }

    /// Identifies an operator at the admin listener: the name of the operator's key, `local` where none exists, the listener is on a loopback address and the request comes from this machine.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`], [`Code::RateLimited`] as for callers; [`Code::PolicyDenied`] where no
    /// key exists and the request may come from elsewhere.
    pub fn identify_operator(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Arc<str>, Error> {
        if self.operators.is_empty() {
            let is_local = self.is_admin_local && require_local(headers, peer).is_ok();
            return is_local.then(|| Arc::from("local")).ok_or_else(admin_closed);
        }
        let missing = "this path is for operators: send a key of `access.admin_keys` as `x-api-key` or \
                       `Authorization: Bearer`";
        let (presented, tried) = (presented_key(headers), (&self.attempts.operators, peer));
        authenticate(&self.operators, &presented, tried, missing).cloned()
    }

    /// The first principal of those who may call that is meant.
    pub(crate) fn find(&self, is_meant: impl Fn(&Principal) -> bool) -> Option<&Principal> {
        let callers = self.callers.owners().map(|caller| &caller.principal);
        std::iter::once(&self.local)
            .chain(callers)
            .find(|it| is_meant(it))
    }

    /// Whether whoever is on this machine is the local caller, without a key.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the local caller has a key, beside those of others.
    #[must_use]
    pub(crate) const fn is_local_keyed(&self) -> bool {
        self.is_local_keyed
    }

    /// The principal of local callers.
    #[must_use]
    pub const fn local(&self) -> &Principal {
        &self.local
    }
}

/// Looks up what a key stands for. A right one is let in whatever else came from its address: keys are random,
/// and waiting is for those who guess.
fn authenticate<'k, T>(
    keys: &'k KeyTable<T>,
    presented: &Presented<'_>,
    (attempts, peer): (&KeyAttempts, Option<IpAddr>),
    missing: &'static str,
) -> Result<&'k T, Error> {
    let why = match presented {
        Presented::Nothing => return Err(Error::new(Code::Unauthenticated, missing)),
        Presented::Unusable(why) => *why,
        Presented::Key(key) => match keys.find(key) {
            Some(owner) => return Ok(owner),
            None => "this key is not known here",
        },
    };
    match peer.map(|peer| attempts.record_failure(peer, Instant::now())) {
        Some(Err(after)) => Err(too_many(after)),
        Some(Ok(())) | None => Err(Error::new(Code::Unauthenticated, why)),
    }
}

/// Lets in what was sent on this machine, as far as can be seen: from `127.0.0.1` or `::1`, and through
/// no proxy that says so.
///
/// # Errors
/// [`Code::PolicyDenied`].
pub(crate) fn require_local(headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Error> {
    if !is_loopback_peer(peer) {
        let message =
            "only `127.0.0.1` and `::1` may call here: the operator names other callers in `access`";
        return Err(Error::new(Code::PolicyDenied, message));
    }
    match proxy_header(headers) {
        None => Ok(()),
        Some(header) => {
            let mut name = header.to_owned();
            name.truncate(64);
            let message = format!(
                "this request came through a proxy (`{name}`), and only callers on the gateway's own machine are \
                 let in without a key: the operator names others in `access`"
            );
            Err(Error::new(Code::PolicyDenied, message))
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// Whether a peer is `127.0.0.1` or `::1`, however that is written. Other addresses of 127.0.0.0/8 are
/// given to those who pass on for others, such as sidecars.
fn is_loopback_peer(peer: Option<IpAddr>) -> bool {
    let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    peer.is_some_and(|peer| here.contains(&peer.to_canonical()))
}

fn admin_closed() -> Error {
    Error::new(
        Code::PolicyDenied,
        "only a request from the gateway's own machine needs no admin key here, and `access.admin_keys` \
         names none",
    )
}

fn too_many(after: Duration) -> Error {
    let message = "too many wrong keys came from this address; try again later";
    Error::new(Code::RateLimited, message).retry_after(after)
}
