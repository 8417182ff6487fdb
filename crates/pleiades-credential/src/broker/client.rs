//! Which client we are at a server: the descriptor's, else our metadata document's, else one that
//! is registered once for an issuer and a set of redirect URIs, and kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use url::{Host, Url};

use super::pending::serialized;
use super::start::provider_error;
use super::{Broker, ConnectError, RedirectTarget, hashed, now};
use crate::oauth::{self, AuthServer, ClientCheck, OAuthError, OAuthErrorKind, Redirects};
use crate::record::OAuthClient;
use crate::vault::{Fault, Path, Wrote};
use crate::{Connection, pinned};

/// A registered client as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredClient {
    /// When it was registered, in unix seconds.
    at: u64,
    /// When its secret ends, in unix seconds.
    #[serde(default)]
    ends: Option<u64>,
    /// Issuer, or token endpoint, of the server that registered it.
    #[serde(default)]
    pub(super) issuer: Option<String>,
    /// Connections that have used it, as many as [`USERS`].
    #[serde(default)]
    users: Vec<String>,
    /// Flows of it that have begun since one came back. What is known of a third party may be over: a
    /// server that has lost the client shows an error of its own, and nobody comes back.
    #[serde(default)]
    pub(super) begun: u32,
    /// Whether a flow of it ever came back.
    #[serde(default)]
    answered: bool,
    /// Whether the server refused the advertised scopes when it was registered.
    #[serde(default)]
    unscoped: bool,
    pub(super) client: OAuthClient,
}

/// A client whose secret ends within this many seconds is registered anew: a flow takes minutes.
const NEARLY: u64 = 3600;
/// Connections of one issuer that are remembered for its client.
const USERS: usize = 64;
/// The server is asked after so many flows in a row that nobody came back from; where it does not say
/// whether it knows the client, that is made anew. One person who gives up, or two who are at it, are no reason.
const SILENT: u32 = 2;
/// How long a server is looked for whose clients are to be forgotten.
const DISCOVERED: Duration = Duration::from_secs(10);
/// One that nobody ever came back from is not made anew more often than that, in seconds: then it was
/// not the registration that was wrong.
const SELDOM: u64 = 3600;

fn path(name: &str) -> Path {
    Path::gateway(&["clients", name])
}

/// The client of a flow.
#[derive(Debug)]
pub(super) struct FlowClient {
    pub(super) client: OAuthClient,
    /// The name it is kept under, when it was registered.
    pub(super) kept: Option<String>,
    /// Whether its server refused the advertised scopes.
    pub(super) unscoped: bool,
}

/// A client that was forgotten here, for who asked for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenClient {
    /// Its id at the server.
    pub client_id: String,
    /// The server, where it is known.
    pub issuer: Option<String>,
}

impl Broker {
    /// The client for a flow.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) async fn choose_client(
        &self,
        connection: &Connection,
        server: &AuthServer,
        redirects: &Redirects,
        back: &RedirectTarget,
    ) -> Result<FlowClient, ConnectError> {
        if let Some(client) = oauth::known_client(connection, server, redirects) {
            self.check_secret_issuer(connection, (server.issuer.as_deref(), &server.token_endpoint))
                .await?;
            return Ok(FlowClient {
                client,
                kept: None,
                unscoped: false,
            });
        }
        let declared = self.declared_scopes(connection);
        let web = &**self.config.manager.web();
        let register = || async {
            let scopes = declared.as_deref();
            let registered = oauth::registration(web, connection, server, redirects, scopes).await;
            registered.map_err(|trouble| provider_error(connection, "cannot begin", &trouble))
        };
        if matches!(back, RedirectTarget::Listener(_)) {
            // The port of a process is its own for one flow: its registration is of no use to others.
            let made = register().await?;
            return Ok(FlowClient {
                client: made.client,
                kept: None,
                unscoped: made.unscoped,
            });
        }
        let name = entry_name(server, redirects, declared.as_deref());
        let kept = self.stored_client(&name).await;
        let kept = kept.map_err(|fault| ConnectError::store(&fault))?;
        if let Some((version, registered)) = &kept
            && self.is_good(connection, server, redirects, registered).await
        {
            self.note_used(&name, *version, registered.clone(), connection)
                .await;
            return Ok(FlowClient {
                client: registered.client.clone(),
                kept: Some(name),
                unscoped: registered.unscoped,
            });
        }
        let made = register().await?;
        let registered = StoredClient {
            at: now(),
            ends: made.secret_expires_at,
            issuer: Some(server.issuer.as_ref().unwrap_or(&server.token_endpoint).clone()),
            users: vec![connection.name.to_string()],
            begun: 1,
            answered: false,
            unscoped: made.unscoped,
            client: made.client,
        };
        let version = kept.map_or(0, |(version, _)| version);
        let client = self.keep_client(&name, version, registered).await;
        Ok(FlowClient {
            client: client.map_err(|fault| ConnectError::store(&fault))?,
            kept: Some(name),
            unscoped: made.unscoped,
        })
    }

    /// Scopes that the descriptors of a connection name.
    pub(super) fn declared_scopes(&self, connection: &Connection) -> Option<Vec<String>> {
        let loaded = self.config.manager.loaded();
        let united = loaded.and_then(|loaded| loaded.scopes(&connection.name));
        united.or_else(|| connection.scopes.clone())
    }

    /// Whether a kept client can be used: its secret is good for a while, and the server knows it as far
    /// as one can tell. It is asked only when flows have begun and none came back since.
    async fn is_good(
        &self,
        connection: &Connection,
        server: &AuthServer,
        redirects: &Redirects,
        registered: &StoredClient,
    ) -> bool {
        let now = now();
        if registered
            .ends
            .is_some_and(|ends| ends <= now.saturating_add(NEARLY))
        {
            return false;
        }
        if registered.begun < SILENT {
            return true;
        }
        let web = &**self.config.manager.web();
        let source = oauth::source(connection, server, registered.client.clone());
        let known = oauth::check_client(web, connection, &source, &redirects.used).await;
        let is_good = match known {
            ClientCheck::Yes => true,
            ClientCheck::No => false,
            ClientCheck::Unclear => !registered.answered && registered.at.saturating_add(SELDOM) > now,
        };
        if !is_good {
            tracing::warn!(
                provider = &*connection.provider,
                client = registered.client.id,
                unanswered = registered.begun,
                certain = known == ClientCheck::No,
                "the authorization server seems to have forgotten this gateway's registration: it is made anew"
            );
        }
        is_good
    }

    /// Counts a flow that begins; nothing depends on one that is not counted.
    async fn note_used(
        &self,
        name: &str,
        version: u64,
        mut registered: StoredClient,
        connection: &Connection,
    ) {
        registered.begun = registered.begun.saturating_add(1);
        let user = &*connection.name;
        if registered.users.len() < USERS && !registered.users.iter().any(|it| it == user) {
            registered.users.push(user.to_owned());
        }
        self.write_client(name, version, &registered).await;
    }

    /// A flow of a kept client came back: its server knows it.
    pub(super) async fn note_answered(&self, name: &str, client: &OAuthClient) {
        if let Ok(Some((version, mut registered))) = self.stored_client(name).await
            && registered.client.id == client.id
            && (registered.begun > 0 || !registered.answered)
        {
            (registered.begun, registered.answered) = (0, true);
            self.write_client(name, version, &registered).await;
        }
    }

    async fn write_client(&self, name: &str, version: u64, registered: &StoredClient) {
        let noted = async {
            let value = serialized(registered)?;
            self.vault().write(&path(name), version, &value, None).await
        };
        if let Err(fault) = noted.await {
            tracing::debug!(%fault, "how a registered client fares was not noted");
        }
    }

    pub(super) async fn stored_client(&self, name: &str) -> Result<Option<(u64, StoredClient)>, Fault> {
        let stored = self.vault().read(&path(name)).await?;
        Ok(stored.and_then(|stored| {
            let registered = serde_json::from_str(stored.value.expose()).ok()?;
            Some((stored.version, registered))
        }))
    }

    /// Keeps a client; whoever was faster is right.
    async fn keep_client(&self, name: &str, version: u64, made: StoredClient) -> Result<OAuthClient, Fault> {
        let value = serialized(&made)?;
        let wrote = self.vault().write(&path(name), version, &value, None).await?;
        if wrote == Wrote::Conflict
            && let Some((_, first)) = self.stored_client(name).await?
        {
            return Ok(first.client);
        }
        Ok(made.client)
    }

    /// Forgets a client that its server refused: the next flow registers anew. One that was made since
    /// stays.
    pub(super) async fn drop_client(&self, name: &str, client: &OAuthClient) {
        let dropped = async {
            let kept = self.stored_client(name).await?;
            match kept.filter(|(_, kept)| kept.client.id == client.id) {
                Some(_) => self.vault().remove(&path(name)).await,
                None => Ok(()),
            }
        };
        if let Err(fault) = dropped.await {
            tracing::warn!(%fault, "a refused client could not be forgotten");
        }
    }

    /// Forgets every client that is registered for this connection, and where the secret of its own client
    /// goes: as the operator asks.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn forget_clients(&self, connection: &Connection) -> Result<Vec<ForgottenClient>, Fault> {
        let mut forgotten = Vec::new();
        if let Some(pinned) = pinned::forget(self.vault(), connection).await? {
            forgotten.push(ForgottenClient {
                client_id: pinned.client_id,
                issuer: Some(pinned.issuer),
            });
        }
        let mut kept = Vec::new();
        for name in self.vault().list(&Path::gateway(&["clients"])).await? {
            if let Some((_, registered)) = self.stored_client(&name).await? {
                kept.push((name, registered));
            }
        }
        // Entries said not always who uses them.
        let old = kept.iter().any(|(_, kept)| kept.issuer.is_none());
        let names = if old {
            self.entry_names(connection).await
        } else {
            Vec::new()
        };
        for (name, kept) in kept {
            let is_used = kept.users.iter().any(|it| **it == *connection.name);
            if is_used || names.contains(&name) {
                self.vault().remove(&path(&name)).await?;
                forgotten.push(ForgottenClient {
                    client_id: kept.client.id,
                    issuer: kept.issuer,
                });
            }
        }
        Ok(forgotten)
    }

    /// Names of the entries that a flow of today would use: for those that were kept before entries said
    /// who uses them. A server that is away now has none.
    async fn entry_names(&self, connection: &Connection) -> Vec<String> {
        let web = &**self.config.manager.web();
        let discovered = async {
            let challenge = self.config.prober.challenge(&connection.provider).await;
            oauth::discover(web, connection, challenge.as_ref()).await.ok()
        };
        let discovered = timeout(DISCOVERED, discovered).await;
        let Ok(Some(server)) = discovered else {
            return Vec::new();
        };
        let redirects = self.redirects(connection, &server, &RedirectTarget::Gateway);
        let declared = self.declared_scopes(connection);
        vec![
            entry_name(&server, &redirects, declared.as_deref()),
            entry_name(&server, &redirects, None),
        ]
    }

    /// Whether the descriptor's secret may go to this server.
    ///
    /// # Errors
    /// [`Refusal`] when it belongs to another one.
    pub(super) async fn check_secret_issuer(
        &self,
        connection: &Connection,
        server: (Option<&str>, &str),
    ) -> Result<(), ConnectError> {
        let conflict = pinned::conflict(self.vault(), connection, server).await;
        match conflict.map_err(|fault| ConnectError::store(&fault))? {
            None => Ok(()),
            Some(pinned) => {
                let (message, cure) = pinned::refusal(connection, &pinned, server.0.unwrap_or(server.1));
                let trouble = OAuthError {
                    cure: Some(cure),
                    ..OAuthError::new(OAuthErrorKind::Metadata, message)
                };
                Err(provider_error(connection, "cannot begin", &trouble))
            }
        }
    }

    /// Our client metadata document, where authorization servers can reach it.
    #[must_use]
    pub fn metadata_document(&self) -> Option<String> {
        is_public(&self.config.base).then(|| self.at("/oauth/client-metadata.json"))
    }
}

/// One client for an issuer, the redirect URIs it may send people to, and the scopes that it was declared
/// with: a server may bind clients to them.
pub(super) fn entry_name(server: &AuthServer, redirects: &Redirects, declared: Option<&[String]>) -> String {
    let issuer = server.issuer.as_deref().unwrap_or(&server.token_endpoint);
    let mut text = format!("{issuer}\n");
    for redirect in &redirects.registered {
        text.push_str(redirect);
        text.push('\n');
    }
    if let Some(scopes) = declared.filter(|all| !all.is_empty()) {
        text.push_str("scopes ");
        text.push_str(&scopes.join(" "));
    }
    hashed(&text)
}

/// Whether others can reach this URL, and trust what it names.
fn is_public(base: &Url) -> bool {
    let named = match base.host() {
        Some(Host::Domain(name)) => {
            let local = [".local", ".internal", ".localhost", ".test"];
            name.contains('.') && !local.iter().any(|end| name.ends_with(end))
        }
        Some(Host::Ipv4(ip)) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
        Some(Host::Ipv6(ip)) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        None => false,
    };
    base.scheme() == "https" && named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_document_is_named_only_where_others_can_reach_it() {
        let public = |url: &str| is_public(&Url::parse(url).unwrap());
        assert!(public("https://mcp.example.com") && public("https://203.0.113.9:8443/gw"));
        for url in [
            "http://mcp.example.com",
            "https://localhost:8787",
            "https://127.0.0.1",
            "https://10.0.0.1",
            "https://[::1]",
            "https://gateway",
            "https://gateway.internal",
        ] {
            assert!(!public(url), "{url}");
        }
    }
}
