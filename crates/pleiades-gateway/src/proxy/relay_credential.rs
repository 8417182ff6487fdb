//! Whose account a relayed request uses, and the session that the upstream has with it.

use std::sync::Arc;

use http::HeaderMap;
use pingora_http::RequestHeader;
use tokio::time::timeout;

use super::gateway::Gateway;
use super::relay::{now, seal_purpose};
use super::respond::SESSION;
use crate::catalog::Provider;
use crate::exchange::{self, ACCOUNT_HEADER, Keys, Used};
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_credential::manager::AccountQuery;
use pleiades_credential::{Connection, ProviderAuth, Signature, SignedHeaders};
use pleiades_upstream::Identity;

/// A day, as for sessions of ours; the upstream decides earlier.
const SESSION_SECS: u64 = 24 * 60 * 60;
/// Longest name of an account that is looked for, in bytes.
const MAX_NAME: usize = 512;

/// How a request is signed.
#[derive(Debug, Clone)]
pub(super) struct RelayCredential {
    pub(super) signature: Arc<Signature>,
    /// What was valid when it was let in, or is since a 401.
    pub(super) signed: Arc<SignedHeaders>,
    /// The account used; `None` where the provider keeps none.
    pub(super) account: Option<Arc<str>>,
}

/// An upstream's session, as the sealed id carries it: with the account that it was opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelaySession {
    /// The upstream's own id.
    pub(super) session: String,
    fingerprint: Option<[u8; 32]>,
    account: Option<Arc<str>>,
}

impl RelayCredential {
    /// On whose behalf an upstream is asked before the request itself is let through.
    pub(super) fn identity(&self, principal: &Principal) -> Identity {
        Identity {
            session: None,
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            signature: Arc::clone(&self.signature),
        }
    }
}

impl Gateway {
    /// How a request is signed, within the provider's `connect` and `call` together.
    ///
    /// # Errors
    /// Why it is not, with a way to connect where one would help.
    pub(super) async fn relay_credential(
        &self,
        provider: &Provider,
        head: &RequestHeader,
        principal: &Principal,
        relay_session: Option<&RelaySession>,
    ) -> Result<RelayCredential, Error> {
        let (signature, account) = match &provider.need {
            ProviderAuth::OAuth(connection) => {
                self.grant_account(provider, connection, (head, principal), relay_session)
                    .await?
            }
            need => {
                let keys = Keys::Headers(head.headers.clone());
                let signed = need.sign(&keys.brought(need));
                let signature = signed.map_err(|missing| exchange::needs_auth(provider, &missing))?;
                (signature, None)
            }
        };
        if relay_session.is_some_and(|relay_session| relay_session.fingerprint != signature.account) {
            return Err(unknown_session());
        }
        let signed = self
            .await_signed(provider, principal, (&signature, account.as_ref()))
            .await?;
        Ok(RelayCredential {
            signature,
            signed,
            account,
        })
    }

    async fn grant_account(
        &self,
        provider: &Provider,
        connection: &Arc<Connection>,
        (head, principal): (&RequestHeader, &Principal),
        relay_session: Option<&RelaySession>,
    ) -> Result<(Arc<Signature>, Option<Arc<str>>), Error> {
        let wanted = account_header(&head.headers)?;
        let ask = AccountQuery {
            tenant: &principal.tenant,
            user: &principal.user,
            connection,
            account: wanted,
            remembered: relay_session.and_then(|relay_session| relay_session.account.as_deref()),
        };
        let manager = &self.exchange.accounts.manager;
        if let Some(granted) = manager.grant_cached(&ask) {
            return Ok((granted.signature, Some(granted.account)));
        }
        let within = provider.endpoint.connect.saturating_add(provider.endpoint.call);
        match manager.grant(&ask, within).await {
            Ok(granted) => Ok((granted.signature, Some(granted.account))),
            Err(refused) => {
                Err(self
                    .exchange
                    .unconnected(principal, connection, &refused, (wanted, RELAYED)))
            }
        }
    }

    /// What may be sent now.
    async fn await_signed(
        &self,
        provider: &Provider,
        principal: &Principal,
        (signature, account): (&Signature, Option<&Arc<str>>),
    ) -> Result<Arc<SignedHeaders>, Error> {
        if let Some(signed) = signature.settled() {
            return Ok(Arc::clone(signed));
        }
        let within = provider.endpoint.connect.saturating_add(provider.endpoint.call);
        let ready = timeout(within, signature.ready()).await;
        match ready.unwrap_or_else(|_elapsed| Err(renewal_timeout())) {
            Ok(signed) => Ok(signed),
            Err(error) => {
                let used = account.map(|account| account_use(account, signature, RELAYED));
                Err(self.judge_refusal(provider, principal, (used, error)).await)
            }
        }
    }

    /// What an upstream's refusal of the account means, or a renewal that failed.
    pub(super) async fn judge_refusal(
        &self,
        provider: &Provider,
        principal: &Principal,
        (used, error): (Option<Used<'_>>, Error),
    ) -> Error {
        match used {
            Some(used) => self.exchange.judged(principal, provider, used, error).await,
            None => error,
        }
    }

    /// The upstream's own session behind the sealed one.
    ///
    /// # Errors
    /// [`Code::UnknownSession`].
    pub(super) fn relay_session(
        &self,
        provider: &Provider,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Option<RelaySession>, Error> {
        let Some(value) = headers.get(SESSION) else {
            return Ok(None);
        };
        if !self.sealer.is_ready() {
            return Err(exchange::unsealed());
        }
        let opened = value.to_str().ok().and_then(|token| {
            self.sealer
                .open(&seal_purpose(provider), &principal.binding(), now(), token)
        });
        match opened.and_then(|bytes| RelaySession::decode(&bytes)) {
            Some(relay_session) => Ok(Some(relay_session)),
            None => Err(unknown_session()),
        }
    }

    /// The id under which a caller knows an upstream's session, for this caller and account alone.
    pub(super) fn seal_session(
        &self,
        provider: &Provider,
        principal: &Principal,
        way: &RelayCredential,
        id: &str,
    ) -> String {
        let relay_session = RelaySession {
            session: id.to_owned(),
            fingerprint: way.signature.account,
            account: way.account.clone(),
        };
        let expires = now() + SESSION_SECS;
        self.sealer.seal(
            &seal_purpose(provider),
            &principal.binding(),
            expires,
            &relay_session.encode(),
        )
    }
}

/// What was done, where the head does not say it.
const RELAYED: &str = "relay";

/// An account as it was used for a request.
pub(super) fn account_use<'a>(account: &'a Arc<str>, signature: &Signature, method: &'a str) -> Used<'a> {
    Used {
        account,
        fingerprint: signature.account,
        operation: if method.is_empty() { RELAYED } else { method },
    }
}

impl RelaySession {
    /// Lengths stand before what they count; the session is the rest.
    fn encode(&self) -> Vec<u8> {
        let print: &[u8] = self.fingerprint.as_ref().map_or(&[], |it| it.as_slice());
        let account = self.account.as_deref().unwrap_or_default().as_bytes();
        let mut bytes = Vec::with_capacity(3 + print.len() + account.len() + self.session.len());
        bytes.push(u8::from(!print.is_empty()));
        bytes.extend_from_slice(print);
        bytes.extend_from_slice(&u16::try_from(account.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(account);
        bytes.extend_from_slice(self.session.as_bytes());
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
        let (account, session) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let account = std::str::from_utf8(account).ok()?;
        Some(Self {
            session: String::from_utf8(session.to_vec()).ok()?,
            fingerprint,
            account: (!account.is_empty()).then(|| Arc::from(account)),
        })
    }
}

/// The account that a head names.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is no name, or there are two.
fn account_header(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut given = headers.get_all(ACCOUNT_HEADER).iter();
    let Some(first) = given.next() else {
        return Ok(None);
    };
    let name = std::str::from_utf8(first.as_bytes()).ok().map(str::trim);
    match name.filter(|name| name.len() <= MAX_NAME && !name.contains(char::is_control)) {
        Some(name) if given.next().is_none() => Ok(Some(name).filter(|name| !name.is_empty())),
        _ => Err(Error::new(
            Code::InvalidRequest,
            "`Pleiades-Account` names one account, in UTF-8",
        )),
    }
}

fn unknown_session() -> Error {
    Error::new(
        Code::UnknownSession,
        "unknown or expired session, or one of another account: initialize again",
    )
}

/// A renewal took too long.
pub(super) fn renewal_timeout() -> Error {
    Error::new(
        Code::CredentialTimeout,
        "the credential was not renewed in time; nothing was run",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_carried_with_its_account() {
        for fingerprint in [None, Some([7; 32])] {
            for account in [None, Some(Arc::from("ännchen@example.com"))] {
                let relay_session = RelaySession {
                    session: "an-upstream's id".to_owned(),
                    fingerprint,
                    account,
                };
                assert_eq!(RelaySession::decode(&relay_session.encode()), Some(relay_session));
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

    #[test]
    fn one_account_is_named_at_most() {
        let head = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    ACCOUNT_HEADER,
                    http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            account_header(&headers)
                .map(|name| name.map(str::to_owned))
                .map_err(|error| error.code)
        };
        assert_eq!(head(&[]), Ok(None));
        assert_eq!(head(&[""]), Ok(None));
        assert_eq!(head(&["ann"]), Ok(Some("ann".to_owned())));
        assert_eq!(head(&["ännchen"]), Ok(Some("ännchen".to_owned())));
        assert_eq!(head(&["ann", "bob"]), Err(Code::InvalidRequest));
        assert_eq!(head(&[&"x".repeat(600)]), Err(Code::InvalidRequest));
    }
}
