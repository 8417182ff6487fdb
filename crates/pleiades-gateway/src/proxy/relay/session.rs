//! Sessions that upstreams open on the relay. Clients know them by a sealed id, which holds the
//! upstream's own one and the account that it was opened for.

use std::sync::Arc;

use http::HeaderMap;

use crate::catalog::Provider;
use crate::exchange;
use crate::proxy::respond::SESSION;
use pleiades_core::error::{Code, Error};
use pleiades_core::time::unix_now;
use pleiades_credential::access::Principal;
use pleiades_mcp::seal::Sealer;

/// A day, as for sessions of ours; the upstream decides earlier.
const SESSION_SECS: u64 = 24 * 60 * 60;

/// An upstream's session, and the account that it was opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelaySession {
    /// The upstream's own id.
    pub(super) id: String,
    pub(super) fingerprint: Option<[u8; 32]>,
    pub(super) account: Option<Arc<str>>,
}

impl RelaySession {
    /// Opens the session that a head names.
    /// Errors: [`Code::UnknownSession`]; [`Code::CredentialStore`] while no seal can be opened.
    pub(super) fn open(
        sealer: &Sealer,
        provider: &Provider,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Option<Self>, Error> {
        let Some(value) = headers.get(SESSION) else {
            return Ok(None);
        };
        if !sealer.is_ready() {
            return Err(exchange::unsealed());
        }
        let opened = value
            .to_str()
            .ok()
            .and_then(|token| sealer.open(&purpose(provider), &principal.binding(), unix_now(), token));
        let session = opened.and_then(|bytes| Self::decode(&bytes));
        session.map(Some).ok_or_else(unknown_session)
    }

    /// The id that a client gets, for this caller and account alone.
    pub(super) fn seal(&self, sealer: &Sealer, provider: &Provider, principal: &Principal) -> String {
        let expires = unix_now() + SESSION_SECS;
        sealer.seal(&purpose(provider), &principal.binding(), expires, &self.encode())
    }

    /// Lengths stand before what they count; the upstream's id is the rest.
    fn encode(&self) -> Vec<u8> {
        let print: &[u8] = self.fingerprint.as_ref().map_or(&[], |it| it.as_slice());
        let account = self.account.as_deref().unwrap_or_default().as_bytes();
        let mut bytes = Vec::with_capacity(3 + print.len() + account.len() + self.id.len());
        bytes.push(u8::from(!print.is_empty()));
        bytes.extend_from_slice(print);
        bytes.extend_from_slice(&u16::try_from(account.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(account);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (has_print, rest) = bytes.split_first()?;
        let (fingerprint, rest) = match has_print {
            0 => (None, rest),
            1 => rest
                .split_first_chunk()
                .map(|(print, rest)| (Some(*print), rest))?,
            _ => return None,
        };
        let (length, rest) = rest.split_first_chunk()?;
        let (account, id) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let account = std::str::from_utf8(account).ok()?;
        Some(Self {
            id: String::from_utf8(id.to_vec()).ok()?,
            fingerprint,
            account: (!account.is_empty()).then(|| Arc::from(account)),
        })
    }
}

/// The refusal of a session that is not this caller's with this account.
pub(super) fn unknown_session() -> Error {
    Error::new(
        Code::UnknownSession,
        "unknown or expired session, or one of another account: initialize again",
    )
}

fn purpose(provider: &Provider) -> String {
    format!("relay/{}", provider.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_carried_with_its_account() {
        for fingerprint in [None, Some([7; 32])] {
            for account in [None, Some(Arc::from("ännchen@example.com"))] {
                let session = RelaySession {
                    id: "an-upstream's id".to_owned(),
                    fingerprint,
                    account,
                };
                assert_eq!(RelaySession::decode(&session.encode()), Some(session));
            }
        }
    }

    #[test]
    fn what_was_not_written_here_is_no_session() {
        for bytes in [
            &b""[..],
            b"a-bare-id",
            &[0],
            &[0, 0],
            &[0, 0, 9, b'x'],
            &[1, 0, 0],
            &[2, 0, 0],
            &[0, 0, 1, 0xff],
        ] {
            assert_eq!(RelaySession::decode(bytes), None, "{bytes:?}");
        }
    }
}
