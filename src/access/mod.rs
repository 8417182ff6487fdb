//! Who is calling: keys of callers and of operators, and who an unauthenticated local caller is.

mod attempts;
pub mod doors;
pub mod framing;
mod keys;
pub mod names;
pub mod signed;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::error::{Code, Error};
use attempts::Attempts;
use keys::{Keys, Presented, presented};

/// A caller as the rest of the way knows it. Cheap to clone.
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
    /// Who.
    pub principal: Principal,
    /// Name of the key that it brought, for the log; `None`: it is local.
    pub key: Option<Arc<str>>,
}

/// What the settings say of who may call, as text that was checked.
#[derive(Debug)]
pub struct Grants<'a> {
    /// Who an unauthenticated local caller is.
    pub local: Principal,
    /// Whether that is written out: then local callers need no key beside those of others.
    pub is_local_named: bool,
    /// Keys of callers: name, whose, SHA-256 in hexadecimal digits.
    pub callers: Vec<(&'a str, Principal, &'a str)>,
    /// Keys of operators: name, SHA-256 in hexadecimal digits.
    pub operators: Vec<(&'a str, &'a str)>,
    /// Whether the admin listener is on a loopback address: then it needs no key while none exists.
    pub is_admin_local: bool,
}

/// A digest in the settings that is none.
#[derive(Debug, thiserror::Error)]
#[error("the key `{0}` has no SHA-256 of 64 hexadecimal digits")]
pub struct NoDigest(String);

/// Who may call.
pub struct Access {
    local: Principal,
    is_local_named: bool,
    callers: Keys<Caller>,
    operators: Keys<Arc<str>>,
    is_admin_local: bool,
    attempts: Attempts,
}

impl Access {
    /// What the settings say.
    ///
    /// # Errors
    /// [`NoDigest`]; such a key must not be left out, for without any key every local caller is let in.
    pub fn new(grants: Grants<'_>) -> Result<Self, NoDigest> {
        let digest = |name: &str, text: &str| keys::digest(text).ok_or_else(|| NoDigest(name.to_owned()));
        let mut callers = Keys::default();
        for (name, principal, text) in grants.callers {
            let key = Some(Arc::from(name));
            callers.add(digest(name, text)?, Caller { principal, key });
        }
        let mut operators = Keys::default();
        for (name, text) in grants.operators {
            operators.add(digest(name, text)?, Arc::from(name));
        }
        Ok(Self {
            local: grants.local,
            is_local_named: grants.is_local_named,
            callers,
            operators,
            is_admin_local: grants.is_admin_local,
            attempts: Attempts::default(),
        })
    }

    /// Who sent a request, from its head and the address that it came from.
    ///
    /// A key that is presented must be known, wherever it comes from. Without one only a local caller is
    /// let in, and once callers have keys only where `access.local` is written out.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`]; [`Code::RateLimited`] after too many wrong keys of one address.
    pub fn identify(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, Error> {
        if self.callers.is_empty() {
            return if is_loopback(peer) {
                Ok(self.as_local())
            } else {
                Err(no_key())
            };
        }
        match presented(headers) {
            Presented::Key(key) => self.proved(&self.callers, key, peer).cloned(),
            Presented::Unusable(why) => Err(self.failed(peer, why)),
            // A proxy on this machine is no local caller: it speaks for others.
            Presented::Nothing if self.is_local_named && is_loopback(peer) && !is_forwarded(headers) => {
                Ok(self.as_local())
            }
            Presented::Nothing => Err(no_key()),
        }
    }

    /// Who asks the admin listener for what is not everybody's: the name of the operator's key, `local`
    /// where none exists and the listener is on a loopback address.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`], [`Code::RateLimited`] as for callers; [`Code::PolicyDenied`] where no
    /// key exists and the listener can be reached from elsewhere.
    pub fn admin(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Arc<str>, Error> {
        if self.operators.is_empty() {
            return if self.is_admin_local {
                Ok(Arc::from("local"))
            } else {
                Err(closed())
            };
        }
        match presented(headers) {
            Presented::Key(key) => self.proved(&self.operators, key, peer).cloned(),
            Presented::Unusable(why) => Err(self.failed(peer, why)),
            Presented::Nothing => Err(Error::new(
                Code::Unauthenticated,
                "this path is for operators: send a key of `access.admin_keys` as `x-api-key` or \
                 `Authorization: Bearer`",
            )),
        }
    }

    /// Whose a key is. Whoever asks bounds how often.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<Principal> {
        let found = self.callers.find(key.as_bytes())?;
        Some(found.whose.principal.clone())
    }

    /// Whether a loopback peer is let in without a key.
    #[must_use]
    pub fn open_to_loopback(&self) -> bool {
        self.callers.is_empty() || self.is_local_named
    }

    /// Whether callers have keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Who an unauthenticated local caller is.
    #[must_use]
    pub const fn local(&self) -> &Principal {
        &self.local
    }

    fn as_local(&self) -> Caller {
        Caller {
            principal: self.local.clone(),
            key: None,
        }
    }

    /// What a key stands for. While its address is over the limit of wrong ones, only a key that was
    /// last used from there counts: whoever shares the address of a guesser keeps working.
    fn proved<'k, T>(&self, keys: &'k Keys<T>, key: &[u8], peer: Option<IpAddr>) -> Result<&'k T, Error> {
        let Some(found) = keys.find(key) else {
            return Err(self.failed(peer, "this key is not known here"));
        };
        let place = peer.map_or(0, |peer| self.attempts.place(peer));
        if let Some(after) = peer.and_then(|peer| self.attempts.held_back(peer, Instant::now()))
            && !found.was_at(place)
        {
            return Err(too_many(after));
        }
        found.is_at(place);
        Ok(&found.whose)
    }

    fn failed(&self, peer: Option<IpAddr>, why: &'static str) -> Error {
        match peer.map(|peer| self.attempts.failed(peer, Instant::now())) {
            Some(Err(after)) => too_many(after),
            Some(Ok(())) | None => Error::new(Code::Unauthenticated, why),
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

/// Whether a peer is on this machine, however its address is written.
#[must_use]
pub fn is_loopback(peer: Option<IpAddr>) -> bool {
    peer.is_some_and(|peer| peer.to_canonical().is_loopback())
}

/// Whether a request came through a proxy, which speaks for others.
#[must_use]
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

fn no_key() -> Error {
    Error::new(
        Code::Unauthenticated,
        "this gateway wants a key: send it as `x-api-key` or `Authorization: Bearer`",
    )
}

fn closed() -> Error {
    Error::new(
        Code::PolicyDenied,
        "off loopback this path needs an admin key, and `access.admin_keys` names none",
    )
}

fn too_many(after: Duration) -> Error {
    Error::new(
        Code::RateLimited,
        "too many wrong keys came from this address; try again later",
    )
    .retry_after(after)
}
