//! Links and ids of connections: sealed, so that making one needs no store.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ConnectError, ConnectErrorKind, ConnectionRequest, error::ASK_AGAIN, now};
use crate::access::Principal;
use pleiades_mcp::seal::Sealer;

const LINK: &str = "connect link";
const CONNECTION: &str = "connection";
/// How long an id answers `expired` after its link has expired, in seconds; then it is unknown.
const REMEMBERED: u64 = 24 * 3600;
/// Longest handle of a connection, in characters: 96 bits that nobody can guess.
const HANDLE: usize = 16;

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
    /// Handle of the connection: what its outcome is stored under.
    pub id: String,
    /// When the link expires, in unix seconds.
    pub until: u64,
}

/// What a link says: tenant, user, provider, account, scopes, until when, handle. Without names, and without
/// the reason, which nobody asks a link for: every byte makes it longer, and an agent has to repeat it.
type SealedLink = (String, String, String, Option<String>, Vec<String>, u64, String);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConnectionRef {
    #[serde(rename = "wish")]
    pub(super) request: ConnectionRequest,
    pub(super) until: u64,
    /// What the outcome is stored under.
    pub(super) handle: String,
}

/// Makes and opens links and ids of connections.
#[derive(Debug)]
pub struct Links {
    sealer: Arc<Sealer>,
    /// How long a link opens.
    pub(super) ttl: Duration,
}

impl Links {
    pub(super) const fn new(sealer: Arc<Sealer>, ttl: Duration) -> Self {
        Self { sealer, ttl }
    }

    /// What a link of this caller says: for a sign-in that needs no page (`pleiades connect`).
    #[must_use]
    pub fn payload(&self, principal: &Principal, request: &ConnectionRequest) -> LinkPayload {
        LinkPayload {
            principal: principal.clone(),
            request: request.clone(),
            id: self.sealer.ticket().chars().take(HANDLE).collect(),
            until: now().saturating_add(self.ttl.as_secs()),
        }
    }

    pub(super) fn seal(&self, payload: &LinkPayload) -> String {
        let (principal, request) = (&payload.principal, payload.request.clone());
        let sealed: SealedLink = (
            principal.tenant.to_string(),
            principal.user.to_string(),
            request.provider,
            request.account,
            request.scopes,
            payload.until,
            payload.id.clone(),
        );
        let json = serde_json::to_vec(&sealed).unwrap_or_default();
        // The seal outlives the link, so that a late opener is told that it is too late.
        let until = payload.until.saturating_add(REMEMBERED);
        self.sealer.seal(LINK, "", until, &json)
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
        let sealed: SealedLink = serde_json::from_slice(&bytes).ok()?;
        let (tenant, user, provider, account, scopes, until, id) = sealed;
        Some(LinkPayload {
            principal: Principal::new(tenant, user),
            request: ConnectionRequest {
                provider,
                account,
                scopes,
                reason: String::new(),
            },
            id,
            until,
        })
    }

    /// The id under which its caller, and nobody else, asks for the status of a connection.
    #[must_use]
    pub fn connection_id(&self, payload: &LinkPayload) -> String {
        let connection = ConnectionRef {
            request: payload.request.clone(),
            until: payload.until,
            handle: payload.id.clone(),
        };
        let json = serde_json::to_vec(&connection).unwrap_or_default();
        let expires = payload.until.saturating_add(REMEMBERED);
        let binding = payload.principal.binding();
        self.sealer.seal(CONNECTION, &binding, expires, &json)
    }

    /// What an id says to the caller that it was made for; `None` to everybody else.
    pub(super) fn open_id(&self, principal: &Principal, id: &str) -> Option<ConnectionRef> {
        let bytes = self.sealer.open(CONNECTION, &principal.binding(), now(), id)?;
        serde_json::from_slice(&bytes).ok()
    }
}
