//! Links and ids of connections: sealed, so that making one needs no store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Broker, ConnectError, ConnectErrorKind, ConnectLink, ConnectionRequest, LinkPayload, now, start,
};
use crate::Connection;
use crate::access::Principal;

const LINK: &str = "connect link";
const CONNECTION: &str = "connection";
/// How long an id answers `expired` after its link is over, in seconds; then it is unknown.
const REMEMBERED: u64 = 24 * 3600;

/// Longest handle of a connection, in characters: 96 bits that nobody can guess.
const HANDLE: usize = 16;

/// What a link says: tenant, user, provider, account, scopes, until when, handle. Without names, and without
/// the reason, which nobody asks a link for: every byte makes it longer, and an agent has to repeat it.
type SealedLink = (String, String, String, Option<String>, Vec<String>, u64, String);

/// What an id of a connection says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConnectionRef {
    pub(super) wish: ConnectionRequest,
    pub(super) until: u64,
    /// Under what its standing is kept.
    pub(super) handle: String,
}

impl Broker {
    /// A link for a caller that is not connected. No I/O: nothing is stored before it is used.
    #[must_use]
    pub fn link(&self, principal: &Principal, wish: &ConnectionRequest) -> ConnectLink {
        let opened = self.link_payload(principal, wish);
        let elsewhere = self
            .connection(&wish.provider)
            .and_then(|it| it.connect_url.clone());
        let url = match elsewhere {
            Some(url) => url.into(),
            None => self.at(&format!("/oauth/connect/{}", self.seal_link(&opened))),
        };
        ConnectLink {
            url,
            id: self.connection_id(&opened),
            scopes: self.requested_scopes(wish),
        }
    }

    /// What a link of this caller would say: for a flow that needs no page (`pleiades connect`).
    #[must_use]
    pub fn link_payload(&self, principal: &Principal, wish: &ConnectionRequest) -> LinkPayload {
        LinkPayload {
            principal: principal.clone(),
            request: wish.clone(),
            id: self.config.sealer.ticket().chars().take(HANDLE).collect(),
            until: now().saturating_add(self.config.link_ttl.as_secs()),
        }
    }

    /// The id under which its caller, and nobody else, asks how a connection fares.
    #[must_use]
    pub fn connection_id(&self, opened: &LinkPayload) -> String {
        let known = ConnectionRef {
            wish: opened.request.clone(),
            until: opened.until,
            handle: opened.id.clone(),
        };
        let payload = serde_json::to_vec(&known).unwrap_or_default();
        let expires = opened.until.saturating_add(REMEMBERED);
        let binding = opened.principal.binding();
        self.config.sealer.seal(CONNECTION, &binding, expires, &payload)
    }

    fn seal_link(&self, opened: &LinkPayload) -> String {
        let (principal, wish) = (&opened.principal, opened.request.clone());
        let sealed: SealedLink = (
            principal.tenant.to_string(),
            principal.user.to_string(),
            wish.provider,
            wish.account,
            wish.scopes,
            opened.until,
            opened.id.clone(),
        );
        let payload = serde_json::to_vec(&sealed).unwrap_or_default();
        // The seal outlives the link, so that a late opener is told that it is too late.
        let until = opened.until.saturating_add(REMEMBERED);
        self.config.sealer.seal(LINK, "", until, &payload)
    }

    /// Opens a link. Nothing is stored, read or consumed.
    ///
    /// # Errors
    /// [`Ground::Unknown`] for what is no link of ours, [`Ground::Gone`] for one that is over,
    /// [`Ground::Store`] while the keys that open links are still on their way.
    pub fn open_link(&self, link: &str) -> Result<LinkPayload, ConnectError> {
        if !self.config.sealer.is_ready() {
            return Err(ConnectError::new(
                ConnectErrorKind::Store,
                "The gateway has only just started and cannot open links yet.",
                "Try the link again in a minute.",
            ));
        }
        let opened = self.unseal_link(link).ok_or_else(|| {
            ConnectError::new(
                ConnectErrorKind::Unknown,
                "This is no connect link of this gateway, or it was cut off or changed on its way.",
                "Copy the whole link, or make the call again: its answer carries a new one.",
            )
        })?;
        if opened.until <= now() {
            return Err(ConnectError::new(
                ConnectErrorKind::Gone,
                "This connect link has expired.",
                "Make the call again: its answer carries a new one.",
            ));
        }
        Ok(opened)
    }

    fn unseal_link(&self, link: &str) -> Option<LinkPayload> {
        let bytes = self.config.sealer.open(LINK, "", now(), link)?;
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

    /// What an id says to the caller whose it is; `None` to everybody else.
    pub(super) fn open_connection_id(&self, principal: &Principal, id: &str) -> Option<ConnectionRef> {
        let sealer = &self.config.sealer;
        let bytes = sealer.open(CONNECTION, &principal.binding(), now(), id)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Scopes that will be asked for, as far as that is known without asking anybody.
    #[must_use]
    pub fn requested_scopes(&self, wish: &ConnectionRequest) -> Option<Vec<String>> {
        let declared = self.connection(&wish.provider).and_then(|connection| {
            let loaded = self.config.manager.loaded()?;
            loaded.scopes(&connection.name)
        });
        let wanted = start::united(&declared.unwrap_or_default(), &wish.scopes);
        (!wanted.is_empty()).then_some(wanted)
    }

    /// A provider's part of its connection, while it is loaded.
    pub(super) fn connection(&self, provider: &str) -> Option<Arc<Connection>> {
        self.config.manager.loaded()?.provider(provider)
    }

    /// The provider's title for people.
    #[must_use]
    pub fn title(&self, provider: &str) -> String {
        self.connection(provider)
            .map_or_else(|| provider.to_owned(), |it| it.title.clone())
    }

    /// The host that a person will be sent to, where the descriptor names it.
    #[must_use]
    pub fn sign_in_host(&self, provider: &str) -> Option<String> {
        let connection = self.connection(provider)?;
        let named = connection
            .connect_url
            .clone()
            .or_else(|| connection.authorization_endpoint.clone())
            .or_else(|| Url::parse(connection.issuer.as_deref()?).ok());
        named?.host_str().map(str::to_owned)
    }
}
