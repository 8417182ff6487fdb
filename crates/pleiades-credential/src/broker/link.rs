//! Links and ids of connections: sealed, so that making one needs no store.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::sealed_fields::{NameDigest, SealedConnection, SealedLink, SealedName, SealedPrincipal};
use super::{ConnectError, ConnectErrorKind, ConnectionRequest, error::ASK_AGAIN, failures::Attempted, now};
use crate::access::{Access, Principal};
use pleiades_core::bounded::Bounded;
use pleiades_mcp::seal::Sealer;

const LINK: &str = "connect link";
const CONNECTION: &str = "connection";
/// How long an id answers `expired` after its link has expired, in seconds; then it is unknown.
const REMEMBERED: u64 = 24 * 3600;
/// Handle of a connection, in characters: 72 bits, so that no two are alike.
const HANDLE: usize = 12;
/// Longest address of a page, in characters, as far as names are concerned: an agent has to repeat it. One that
/// asks for more rights names them, and is longer where these are.
const LONGEST: usize = 240;
/// Bytes that sealing adds: nonce, end, tag.
const SEAL: usize = 36;
/// Names of accounts that links had no room for; each is at most 512 bytes.
const NAMES: usize = 1_024;

/// A link to connect, as a caller gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectLink {
    /// `connect_url`: carries no rights.
    pub url: String,
    /// `connection_id`, for `/v1/connections/{id}`.
    pub id: String,
    /// Scopes that will be asked for, as far as the descriptor and the request say.
    pub scopes: Option<Vec<String>>,
}

/// What a link says, once opened.
#[derive(Debug, Clone)]
pub struct LinkPayload {
    /// Who is to connect.
    pub principal: Principal,
    /// What.
    pub request: ConnectionRequest,
    /// Digest of the account's name, where the link had no room for the name and nobody here remembers it.
    pub(super) account_digest: Option<String>,
    /// Handle of the connection: what its outcome is stored under.
    pub id: String,
    /// When the link expires, in unix seconds.
    pub until: u64,
}

impl LinkPayload {
    pub(super) fn attempted(&self) -> Attempted {
        Attempted::of(
            &self.principal,
            &self.request.provider,
            self.request.account.as_deref(),
        )
    }

    fn account(&self) -> SealedName {
        let digest = self.account_digest.as_deref().and_then(NameDigest::parse);
        match digest {
            Some(digest) => SealedName::Digest(digest),
            None => SealedName::of(self.request.account.as_deref()),
        }
    }
}

/// What the id of a connection says.
#[derive(Debug)]
pub(super) struct ConnectionRef {
    pub(super) provider: String,
    account: SealedName,
    pub(super) until: u64,
    /// What the outcome is stored under.
    pub(super) handle: String,
}

impl ConnectionRef {
    /// Whether the connection may become this account.
    pub(super) fn may_be(&self, account: &str) -> bool {
        match &self.account {
            SealedName::Usual => true,
            SealedName::Named(name) => name == account,
            SealedName::Digest(digest) => *digest == NameDigest::of(account),
        }
    }
}

/// Makes and opens links and ids of connections.
#[derive(Debug)]
pub struct Links {
    sealer: Arc<Sealer>,
    access: Arc<Access>,
    /// How long a link opens.
    pub(super) ttl: Duration,
    /// Bytes that a link may take before it is sealed.
    room: usize,
    /// Names of accounts that links of this process had no room for, by handle.
    names: Bounded<Box<str>, Arc<str>>,
}

impl Links {
    /// `before` is the address of a page without its link.
    pub(super) fn new(sealer: Arc<Sealer>, access: Arc<Access>, ttl: Duration, before: &str) -> Self {
        Self {
            sealer,
            access,
            ttl,
            room: (LONGEST.saturating_sub(before.len()) * 3 / 4).saturating_sub(SEAL),
            names: Bounded::new(NAMES),
        }
    }

    /// What a link of this caller says: for a sign-in that needs no page (`pleiades connect`).
    #[must_use]
    pub fn payload(&self, principal: &Principal, request: &ConnectionRequest) -> LinkPayload {
        LinkPayload {
            principal: principal.clone(),
            request: request.clone(),
            account_digest: None,
            id: self.sealer.ticket().chars().take(HANDLE).collect(),
            until: now().saturating_add(self.ttl.as_secs()),
        }
    }

    pub(super) fn seal(&self, payload: &LinkPayload) -> String {
        let link = SealedLink {
            handle: to_bytes(&payload.id),
            principal: SealedPrincipal::Named(payload.principal.clone()),
            provider: payload.request.provider.clone(),
            account: payload.account(),
            scopes: payload.request.scopes.clone(),
        };
        let link = link.within(self.room);
        if let (SealedName::Digest(_), Some(name)) = (&link.account, &payload.request.account) {
            self.names
                .insert(payload.id.as_str().into(), name.as_str().into());
        }
        // The seal outlives the link, so that a late opener is told that it is too late.
        let expires = payload.until.saturating_add(REMEMBERED);
        self.sealer.seal(LINK, "", expires, &link.write())
    }

    /// Opens a link. Nothing is stored, read or consumed.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Unknown`] for what is no link of ours, [`ConnectErrorKind::Gone`] for one that has expired,
    /// [`ConnectErrorKind::Store`] while the keys that open links are still on their way.
    pub fn open(&self, link: &str) -> Result<LinkPayload, ConnectError> {
        if !self.sealer.is_ready() {
            return Err(ConnectError::new(
                ConnectErrorKind::Store,
                "The gateway has only just started and cannot open links yet.",
                "Open the link again in a minute.",
            ));
        }
        let payload = self.unseal(link).ok_or_else(|| {
            ConnectError::new(
                ConnectErrorKind::Unknown,
                "This is no link of this gateway, or it was cut off or changed on its way.",
                "Copy the whole link, or ask your agent again: it gets a new one.",
            )
        })?;
        if payload.until <= now() {
            return Err(ConnectError::new(
                ConnectErrorKind::Gone,
                "This link has expired.",
                ASK_AGAIN,
            ));
        }
        Ok(payload)
    }

    fn unseal(&self, link: &str) -> Option<LinkPayload> {
        let bytes = self.sealer.open(LINK, "", now(), link)?;
        let expires = Sealer::expiry(link)?;
        let sealed = SealedLink::read(&bytes)?;
        let id = URL_SAFE_NO_PAD.encode(&sealed.handle);
        let (account, account_digest) = match sealed.account {
            SealedName::Usual => (None, None),
            SealedName::Named(name) => (Some(name), None),
            SealedName::Digest(digest) => {
                let known = self.names.get(id.as_str()).map(|name| name.to_string());
                let unknown = known.is_none().then(|| digest.to_text());
                (known, unknown)
            }
        };
        let principal = match sealed.principal {
            SealedPrincipal::Named(named) => named,
            // Whoever can make a call is known to every replica.
            digest @ SealedPrincipal::Digest(_) => self.access.find(|known| digest.is(known))?.clone(),
        };
        Some(LinkPayload {
            principal,
            request: ConnectionRequest {
                provider: sealed.provider,
                account,
                scopes: sealed.scopes,
                reason: String::new(),
            },
            account_digest,
            id,
            until: expires.saturating_sub(REMEMBERED),
        })
    }

    /// The id under which its caller, and nobody else, asks for the status of a connection.
    #[must_use]
    pub fn connection_id(&self, payload: &LinkPayload) -> String {
        let connection = SealedConnection {
            handle: to_bytes(&payload.id),
            provider: payload.request.provider.clone(),
            account: payload.account().shortened(),
        };
        let expires = payload.until.saturating_add(REMEMBERED);
        let binding = payload.principal.binding();
        self.sealer
            .seal(CONNECTION, &binding, expires, &connection.write())
    }

    /// What an id says to the caller that it was made for; `None` to everybody else.
    pub(super) fn open_id(&self, principal: &Principal, id: &str) -> Option<ConnectionRef> {
        let bytes = self.sealer.open(CONNECTION, &principal.binding(), now(), id)?;
        let sealed = SealedConnection::read(&bytes)?;
        Some(ConnectionRef {
            provider: sealed.provider,
            account: sealed.account,
            until: Sealer::expiry(id)?.saturating_sub(REMEMBERED),
            handle: URL_SAFE_NO_PAD.encode(&sealed.handle),
        })
    }
}

/// A handle as its bytes, which are fewer.
fn to_bytes(handle: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(handle).unwrap_or_default()
}
