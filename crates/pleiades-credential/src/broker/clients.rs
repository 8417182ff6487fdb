//! Which OAuth client the gateway is at a server: the descriptor's, else our metadata document's, else one that
//! is registered once for an issuer and a set of redirect URIs, and stored.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{ConnectError, Endpoints, RedirectTarget, hashed, now, pending::serialized};
use crate::oauth::{self, AuthServer, ClientCheck, OAuthError, OAuthErrorKind, Redirects};
use crate::vault::{Fault, Path, Vault, Wrote};
use crate::{Connection, manager::CredentialManager, pinned, record::OAuthClient};
use pleiades_core::web::Prober;

/// A client whose secret ends within this many seconds is registered anew: a sign-in takes minutes.
const NEARLY: u64 = 3600;
/// Connections of one issuer that are remembered for its client.
const USERS: usize = 64;
/// The server is asked after so many sign-ins in a row that nobody came back from; where it does not say
/// whether it knows the client, that is made anew. One person who gives up, or two who are at it, are no reason.
const UNANSWERED: u32 = 2;
/// How long a server is looked for whose clients are to be forgotten.
const DISCOVERY: Duration = Duration::from_secs(10);
/// Seconds between renewals of a client that nobody ever came back from: its registration was not at fault.
const SELDOM: u64 = 3600;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredClient {
    /// When it was registered, in unix seconds.
    at: u64,
    /// When its secret ends, in unix seconds.
    #[serde(default)]
    ends: Option<u64>,
    /// Issuer, or token endpoint, of the server that registered it.
    #[serde(default)]
    issuer: Option<String>,
    /// Connections that have used it, as many as [`USERS`].
    #[serde(default)]
    users: Vec<String>,
    /// Sign-ins that have begun since one came back. A server that has lost the client shows an error of its
    /// own, and nobody comes back.
    #[serde(default)]
    begun: u32,
    /// Whether a sign-in ever came back.
    #[serde(default)]
    answered: bool,
    /// Whether the server refused the advertised scopes when it was registered.
    #[serde(default)]
    unscoped: bool,
    client: OAuthClient,
}

#[derive(Debug)]
pub(super) struct FlowClient {
    pub(super) client: OAuthClient,
    /// The name it is stored under, when it was registered.
    pub(super) stored: Option<String>,
    /// Whether its server refused the advertised scopes.
    pub(super) unscoped: bool,
}

/// Which client a sign-in in a browser would use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientChoice {
    /// The descriptor's: its id.
    Declared(String),
    /// Our metadata document: its URL.
    MetadataDocument(String),
    /// Registered before, and stored.
    Registered {
        /// Its id.
        id: String,
        /// Sign-ins that have begun since one came back.
        unanswered: u32,
    },
    /// One that is registered there when somebody connects.
    CanRegister(String),
    /// None, and none can be had.
    None,
}

/// A client that was forgotten here, for who asked for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenClient {
    /// Its id at the server.
    pub client_id: String,
    /// The server, where it is known.
    pub issuer: Option<String>,
}

/// Chooses, registers and stores clients.
#[derive(Debug)]
pub struct Clients {
    manager: Arc<CredentialManager>,
    prober: Arc<dyn Prober>,
    endpoints: Arc<Endpoints>,
}

impl Clients {
    pub(super) fn new(
        manager: Arc<CredentialManager>,
        prober: Arc<dyn Prober>,
        endpoints: Arc<Endpoints>,
    ) -> Self {
        Self {
            manager,
            prober,
            endpoints,
        }
    }

    fn vault(&self) -> &dyn Vault {
        &**self.manager.vault()
    }

    /// The client for a sign-in.
    pub(super) async fn choose(
        &self,
        connection: &Connection,
        server: &AuthServer,
        redirects: &Redirects,
        target: &RedirectTarget,
    ) -> Result<FlowClient, ConnectError> {
        if let Some(client) = oauth::known_client(connection, server, redirects) {
            self.check_secret_issuer(connection, (server.issuer.as_deref(), &server.token_endpoint))
                .await?;
            return Ok(FlowClient {
                client,
                stored: None,
                unscoped: false,
            });
        }
        let declared = self.declared_scopes(connection);
        let web = &**self.manager.web();
        let register = || async {
            let scopes = declared.as_deref();
            let registered = oauth::registration(web, connection, server, redirects, scopes).await;
            registered.map_err(|trouble| ConnectError::of_provider(connection, "cannot begin", &trouble))
        };
        if matches!(target, RedirectTarget::Listener(_)) {
            // The port of a process is its own for one sign-in: its registration is of no use to others.
            let made = register().await?;
            return Ok(FlowClient {
                client: made.client,
                stored: None,
                unscoped: made.unscoped,
            });
        }
        let name = entry_name(server, redirects, declared.as_deref());
        let stored = self.read(&name).await?;
        if let Some((version, stored)) = &stored
            && self.is_usable(connection, server, redirects, stored).await
        {
            self.note_used(&name, *version, stored.clone(), connection).await;
            return Ok(FlowClient {
                client: stored.client.clone(),
                stored: Some(name),
                unscoped: stored.unscoped,
            });
        }
        let made = register().await?;
        let new = StoredClient {
            at: now(),
            ends: made.secret_expires_at,
            issuer: Some(server.issuer.as_ref().unwrap_or(&server.token_endpoint).clone()),
            users: vec![connection.name.to_string()],
            begun: 1,
            answered: false,
            unscoped: made.unscoped,
            client: made.client,
        };
        let version = stored.map_or(0, |(version, _)| version);
        Ok(FlowClient {
            client: self.store(&name, version, new).await?,
            stored: Some(name),
            unscoped: made.unscoped,
        })
    }

    /// The client that a sign-in would use. Nobody is asked, nothing is registered.
    ///
    /// # Errors
    /// [`Fault`] when the store cannot be reached.
    pub async fn choice(&self, connection: &Connection, server: &AuthServer) -> Result<ClientChoice, Fault> {
        let redirects = self
            .endpoints
            .redirects(connection, server, &RedirectTarget::Gateway);
        if let Some(client) = oauth::known_client(connection, server, &redirects) {
            return Ok(match client.declared {
                true => ClientChoice::Declared(client.id),
                false => ClientChoice::MetadataDocument(client.id),
            });
        }
        let declared = self.declared_scopes(connection);
        let name = entry_name(server, &redirects, declared.as_deref());
        if let Some((_, stored)) = self.read(&name).await? {
            return Ok(ClientChoice::Registered {
                id: stored.client.id,
                unanswered: stored.begun,
            });
        }
        let endpoint = server.registration_endpoint.clone();
        Ok(endpoint.map_or(ClientChoice::None, ClientChoice::CanRegister))
    }

    pub(super) fn declared_scopes(&self, connection: &Connection) -> Option<Vec<String>> {
        let loaded = self.manager.loaded();
        let united = loaded.and_then(|loaded| loaded.scopes(&connection.name));
        united.or_else(|| connection.scopes.clone())
    }

    /// Whether a stored client can be used: its secret is good for a while, and the server knows it as far
    /// as one can tell. It is asked only when sign-ins have begun and none came back since.
    async fn is_usable(
        &self,
        connection: &Connection,
        server: &AuthServer,
        redirects: &Redirects,
        stored: &StoredClient,
    ) -> bool {
        let now = now();
        if stored.ends.is_some_and(|ends| ends <= now.saturating_add(NEARLY)) {
            return false;
        }
        if stored.begun < UNANSWERED {
            return true;
        }
        let web = &**self.manager.web();
        let source = oauth::source(connection, server, stored.client.clone());
        let checked = oauth::check_client(web, connection, &source, &redirects.used).await;
        let is_usable = match checked {
            ClientCheck::Yes => true,
            ClientCheck::No => false,
            ClientCheck::Unclear => !stored.answered && stored.at.saturating_add(SELDOM) > now,
        };
        if !is_usable {
            tracing::warn!(
                provider.name = &*connection.provider,
                oauth.client = stored.client.id,
                oauth.unanswered = stored.begun,
                oauth.is_certain = checked == ClientCheck::No,
                "the authorization server seems to have forgotten this gateway's registration: it is made anew"
            );
        }
        is_usable
    }

    /// Counts a sign-in that begins; nothing depends on one that is not counted.
    async fn note_used(&self, name: &str, version: u64, mut stored: StoredClient, connection: &Connection) {
        stored.begun = stored.begun.saturating_add(1);
        let user = &*connection.name;
        if stored.users.len() < USERS && !stored.users.iter().any(|it| it == user) {
            stored.users.push(user.to_owned());
        }
        self.update(name, version, &stored).await;
    }

    /// A sign-in of a stored client came back: its server knows it.
    pub(super) async fn note_answered(&self, name: &str, client: &OAuthClient) {
        if let Ok(Some((version, mut stored))) = self.read(name).await
            && stored.client.id == client.id
            && (stored.begun > 0 || !stored.answered)
        {
            (stored.begun, stored.answered) = (0, true);
            self.update(name, version, &stored).await;
        }
    }

    async fn update(&self, name: &str, version: u64, stored: &StoredClient) {
        let updated = async {
            let value = serialized(stored)?;
            self.vault().write(&path(name), version, &value, None).await
        };
        if let Err(fault) = updated.await {
            tracing::debug!(
                error = &fault as &dyn std::error::Error,
                "how a registered client fares was not noted"
            );
        }
    }

    async fn read(&self, name: &str) -> Result<Option<(u64, StoredClient)>, Fault> {
        let stored = self.vault().read(&path(name)).await?;
        Ok(stored.and_then(|stored| {
            let client = serde_json::from_str(stored.value.expose()).ok()?;
            Some((stored.version, client))
        }))
    }

    /// Stores a client; whoever was faster is right.
    async fn store(&self, name: &str, version: u64, made: StoredClient) -> Result<OAuthClient, Fault> {
        let value = serialized(&made)?;
        let wrote = self.vault().write(&path(name), version, &value, None).await?;
        if wrote == Wrote::Conflict
            && let Some((_, first)) = self.read(name).await?
        {
            return Ok(first.client);
        }
        Ok(made.client)
    }

    /// Forgets a client that its server refused, unless another was made since: the next sign-in registers.
    pub(super) async fn forget_refused(&self, name: &str, client: &OAuthClient) {
        let forgotten = async {
            let stored = self.read(name).await?;
            match stored.filter(|(_, stored)| stored.client.id == client.id) {
                Some(_) => self.vault().remove(&path(name)).await,
                None => Ok(()),
            }
        };
        if let Err(fault) = forgotten.await {
            tracing::warn!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "a refused client could not be forgotten"
            );
        }
    }

    /// Forgets every client that is registered for this connection, and where the secret of its own client
    /// goes: as the operator asks.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn forget(&self, connection: &Connection) -> Result<Vec<ForgottenClient>, Fault> {
        let mut forgotten = Vec::new();
        if let Some(pinned) = pinned::forget(self.vault(), connection).await? {
            forgotten.push(ForgottenClient {
                client_id: pinned.client_id,
                issuer: Some(pinned.issuer),
            });
        }
        let mut all = Vec::new();
        for name in self.vault().list(&Path::gateway(&["clients"])).await? {
            if let Some((_, stored)) = self.read(&name).await? {
                all.push((name, stored));
            }
        }
        // Entries of old releases do not say who uses them.
        let names = match all.iter().any(|(_, stored)| stored.issuer.is_none()) {
            true => self.entry_names(connection).await,
            false => Vec::new(),
        };
        for (name, stored) in all {
            let is_used = stored.users.iter().any(|it| **it == *connection.name);
            if is_used || names.contains(&name) {
                self.vault().remove(&path(&name)).await?;
                forgotten.push(ForgottenClient {
                    client_id: stored.client.id,
                    issuer: stored.issuer,
                });
            }
        }
        Ok(forgotten)
    }

    /// Names of the entries that a sign-in of today would use. A server that is away now has none.
    async fn entry_names(&self, connection: &Connection) -> Vec<String> {
        let web = &**self.manager.web();
        let discovered = async {
            let challenge = self.prober.challenge(&connection.provider).await;
            oauth::discover(web, connection, challenge.as_ref()).await.ok()
        };
        let Ok(Some(server)) = timeout(DISCOVERY, discovered).await else {
            return Vec::new();
        };
        let redirects = self
            .endpoints
            .redirects(connection, &server, &RedirectTarget::Gateway);
        let declared = self.declared_scopes(connection);
        vec![
            entry_name(&server, &redirects, declared.as_deref()),
            entry_name(&server, &redirects, None),
        ]
    }

    /// Whether the descriptor's secret may go to this server.
    /// Errors: [`ConnectError`] when it belongs to another one.
    pub(super) async fn check_secret_issuer(
        &self,
        connection: &Connection,
        server: (Option<&str>, &str),
    ) -> Result<(), ConnectError> {
        let Some(pinned) = pinned::conflict(self.vault(), connection, server).await? else {
            return Ok(());
        };
        let (message, cure) = pinned::refusal(connection, &pinned, server.0.unwrap_or(server.1));
        let trouble = OAuthError {
            cure: Some(cure),
            ..OAuthError::new(OAuthErrorKind::Metadata, message)
        };
        Err(ConnectError::of_provider(connection, "cannot begin", &trouble))
    }
}

fn path(name: &str) -> Path {
    Path::gateway(&["clients", name])
}

/// One client for an issuer, the redirect URIs it may send people to, and the scopes that it was declared
/// with: a server may bind clients to them.
fn entry_name(server: &AuthServer, redirects: &Redirects, declared: Option<&[String]>) -> String {
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
