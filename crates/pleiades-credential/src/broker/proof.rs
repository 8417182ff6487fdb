//! Whether whoever opens a link is the one it was made for.

use std::net::IpAddr;

use http::HeaderMap;

use super::error::OF_SOMEBODY_ELSE;
use super::login::{self, LoginFlow};
use super::{Broker, ConnectError, ConnectErrorKind, LinkPayload};
use crate::access::{Principal, require_local};
use pleiades_core::error::Code;

/// How the opener of a link proves to be its principal: what the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofMethod {
    /// By logging in.
    Login,
    /// By an API key, typed on the page.
    Key,
    /// By the key of the local caller, typed on the page.
    LocalKey,
    /// By being on the machine itself: nobody is named who may call from elsewhere.
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
    /// The head of the form: it may say that a proxy stands between, and then the peer is not the opener.
    pub head: Option<&'a HeaderMap>,
}

impl Broker {
    /// What the page of a link asks for: a login where there is one; nothing where whoever is on this
    /// machine may call without a key; else the key.
    #[must_use]
    pub fn proof_method(&self, opened: &LinkPayload) -> ProofMethod {
        if self.login.is_some() {
            return ProofMethod::Login;
        }
        let access = &self.access;
        let is_local = *access.local() == opened.principal;
        match (access.is_open(), is_local) {
            (true, true) => ProofMethod::Loopback,
            (true, false) => ProofMethod::Nobody,
            (false, true) if access.is_local_keyed() => ProofMethod::LocalKey,
            (false, _) => ProofMethod::Key,
        }
    }

    /// Whether a principal is the local caller under the names that every installation begins with.
    #[must_use]
    pub fn is_local_default(&self, principal: &Principal) -> bool {
        *principal == *self.access.local() && *principal == Principal::new("default", "local")
    }

    /// Whether the opener is the link's principal; `false`: is to log in first.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Unproven`], [`ConnectErrorKind::Throttled`].
    pub fn prove(&self, opened: &LinkPayload, proof: &Proof<'_>) -> Result<bool, ConnectError> {
        match self.proof_method(opened) {
            ProofMethod::Login => {
                let cookie = proof.login.zip(self.login.as_ref());
                Ok(cookie.is_some_and(|(cookie, login)| login.is_proven(&opened.id, cookie)))
            }
            ProofMethod::Key | ProofMethod::LocalKey => {
                self.prove_by_key(proof, &opened.principal).map(|()| true)
            }
            ProofMethod::Loopback
                if proof
                    .head
                    .is_some_and(|head| require_local(head, proof.peer).is_ok()) =>
            {
                Ok(true)
            }
            ProofMethod::Loopback => Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "This link can only be used on the machine that the gateway runs on.",
                "Open it there, or run `pleiades connect` there.",
            )),
            ProofMethod::Nobody => Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "Nobody can prove here that this link is theirs.",
                "Ask whoever runs the gateway to set `access.login` or `access.api_keys`.",
            )),
        }
    }

    /// The login of people who open links.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Unproven`] where there is none.
    pub fn login(&self) -> Result<&LoginFlow, ConnectError> {
        self.login.as_ref().ok_or_else(login::stale)
    }

    /// The typed key counts as the same key on a request does.
    fn prove_by_key(&self, proof: &Proof<'_>, principal: &Principal) -> Result<(), ConnectError> {
        let wrong = || {
            ConnectError::new(
                ConnectErrorKind::Unproven,
                "This is not the key of whoever this link was made for.",
                format!("Type the key that your client uses. {OF_SOMEBODY_ELSE}"),
            )
        };
        let typed = proof.key.map(str::trim).filter(|key| !key.is_empty());
        match self
            .access
            .identify_typed_key(typed.ok_or_else(wrong)?, proof.peer)
        {
            Ok(caller) if caller.principal == *principal => Ok(()),
            Ok(_) => Err(wrong()),
            Err(error) if error.code == Code::RateLimited => Err(ConnectError::new(
                ConnectErrorKind::Throttled,
                "Too many wrong keys came from your address.",
                "Open the link again in some minutes.",
            )),
            Err(_) => Err(wrong()),
        }
    }
}
