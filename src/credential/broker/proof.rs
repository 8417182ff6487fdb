//! Whether whoever opens a link is the one it was made for.

use super::{Broker, Ground, Opened, Refusal};

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
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// The typed key.
    pub key: Option<&'a str>,
    /// The cookie that a login left for this link.
    pub login: Option<&'a str>,
    /// Whether the peer is on the machine itself, with no proxy between.
    pub loopback: bool,
}

impl Broker {
    /// What the page of a link asks for: a login where there is one, else nothing of those who may
    /// call without a key, else the key.
    #[must_use]
    pub fn way(&self, opened: &Opened) -> Way {
        let proves = &self.parts.proves;
        if proves.login().is_some() {
            return Way::Login;
        }
        if proves.on_loopback().as_ref() == Some(&opened.principal) {
            return Way::Loopback;
        }
        if proves.has_keys() {
            return Way::Key;
        }
        Way::Nobody
    }

    /// Whether the opener is the link's principal; `false`: is to log in first.
    ///
    /// # Errors
    /// [`Ground::Unproven`].
    pub fn prove(&self, link: &str, opened: &Opened, proof: &Proof<'_>) -> Result<bool, Refusal> {
        match self.way(opened) {
            Way::Login => Ok(proof.login.is_some_and(|cookie| self.logged_in(link, cookie))),
            Way::Key => {
                let key = proof.key.map(str::trim).filter(|key| !key.is_empty());
                let whose = key.and_then(|key| self.parts.proves.by_key(key));
                if whose.as_ref() == Some(&opened.principal) {
                    return Ok(true);
                }
                Err(Refusal::new(
                    Ground::Unproven,
                    "This is not the API key of whoever this link was made for.",
                    "Go back and type the key that your client uses. If somebody sent you this link, do \
                     not use it: make the call yourself to get one of your own.",
                ))
            }
            Way::Loopback if proof.loopback => Ok(true),
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
}
