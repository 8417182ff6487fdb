//! Whether whoever opens a link is the one it was made for.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};

use super::{Broker, Ground, Opened, Refusal};
use crate::access::{Principal, is_loopback};
use crate::error::Code;

/// How the opener of a link proves to be its principal: what the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By logging in.
    Login,
    /// By an API key, typed on the page.
    Key,
    /// By being on the machine itself.
    Loopback,
    /// Not at all: nobody can.
    Nobody,
}

/// What the opener gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proof<'a> {
    /// The typed key.
    pub key: Option<&'a str>,
    /// The cookie that a login left for this link.
    pub login: Option<&'a str>,
    /// Where the opener is.
    pub peer: Option<IpAddr>,
    /// Whether a proxy stands between: the peer is not the opener then.
    pub is_forwarded: bool,
}

impl Broker {
    /// What the page of a link asks for: a login where there is one; nothing of whoever may call
    /// without a key; else the key.
    #[must_use]
    pub fn way(&self, opened: &Opened) -> Way {
        let access = &self.parts.access;
        if self.parts.login.is_some() {
            return Way::Login;
        }
        if access.open_to_loopback() && *access.local() == opened.principal {
            return Way::Loopback;
        }
        if access.has_keys() {
            return Way::Key;
        }
        Way::Nobody
    }

    /// Whether the opener is the link's principal; `false`: is to log in first.
    ///
    /// # Errors
    /// [`Ground::Unproven`], [`Ground::Throttled`].
    pub fn prove(&self, link: &str, opened: &Opened, proof: &Proof<'_>) -> Result<bool, Refusal> {
        match self.way(opened) {
            Way::Login => Ok(proof.login.is_some_and(|cookie| self.logged_in(link, cookie))),
            Way::Key => self.by_key(proof, &opened.principal).map(|()| true),
            Way::Loopback if is_loopback(proof.peer) && !proof.is_forwarded => Ok(true),
            Way::Loopback => Err(Refusal::new(
                Ground::Unproven,
                "This link can only be used on the machine that the gateway runs on.",
                "Open it there, or run `pleiades connect` there.",
            )),
            Way::Nobody => Err(Refusal::new(
                Ground::Unproven,
                "Nobody can prove here that this link is theirs.",
                "Ask whoever runs the gateway to set `access.login` or `access.api_keys`.",
            )),
        }
    }

    /// The typed key counts as the same key on a request does, wrong ones included.
    fn by_key(&self, proof: &Proof<'_>, principal: &Principal) -> Result<(), Refusal> {
        let wrong = || {
            Refusal::new(
                Ground::Unproven,
                "This is not the API key of whoever this link was made for.",
                "Go back and type the key that your client uses. If somebody sent you this link, do not \
                 use it: make the call yourself to get one of your own.",
            )
        };
        let typed = proof.key.map(str::trim).filter(|key| !key.is_empty());
        let typed = typed.and_then(|key| HeaderValue::from_str(key).ok());
        let mut head = HeaderMap::new();
        head.insert("x-api-key", typed.ok_or_else(wrong)?);
        match self.parts.access.identify(&head, proof.peer) {
            Ok(caller) if caller.key.is_some() && caller.principal == *principal => Ok(()),
            Ok(_) => Err(wrong()),
            Err(error) if error.code == Code::RateLimited => Err(Refusal::new(
                Ground::Throttled,
                "Too many wrong keys came from your address.",
                "Try again in a few minutes.",
            )),
            Err(_) => Err(wrong()),
        }
    }
}
