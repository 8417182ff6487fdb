//! A credential manager, a store whose answers can be spoilt, and an authorization server that rotates.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use url::Url;

use super::super::{Account, AccountQuery, CredentialManager, ManagerParts};
use crate::connection::{Connection, Connections, GrantType, Pkce, ResourceParameter};
use crate::key::{AccountKey, AccountOwner};
use crate::record::{AccountRecord, ClientAuth, OAuthClient, TokenSet, TokenSource};
use crate::vault::tests::memory::MemoryVault;
use crate::vault::{Fault, Hint, Kind, Path, Stored, Vault, Wrote};
use pleiades_core::secret::Secret;
use pleiades_core::signature::SignedHeaders;
use pleiades_core::telemetry::Metrics;
use pleiades_core::web::{AddressPolicy, HttpClient, SendError};

pub(super) const WITHIN: Duration = Duration::from_secs(20);
/// How long access tokens live, in seconds.
pub(super) const LIFE: u64 = 3_600;

pub(super) struct ManagerWorld {
    pub(super) manager: Arc<CredentialManager>,
    pub(super) store: Arc<FlakyStore>,
    pub(super) server: Arc<RotatingServer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connection: Arc<Connection>,
    pub(super) tenant: Arc<str>,
    pub(super) user: Arc<str>,
}

impl ManagerWorld {
    pub(super) fn new() -> Self {
        Self::over(Arc::default(), Arc::default())
    }

    fn over(store: Arc<FlakyStore>, server: Arc<RotatingServer>) -> Self {
        let metrics = Metrics::new();
        let vault: Arc<FlakyStore> = Arc::clone(&store);
        let web: Arc<RotatingServer> = Arc::clone(&server);
        let manager = CredentialManager::new(ManagerParts {
            vault,
            web,
            metrics: Arc::clone(&metrics),
            control: tokio::runtime::Handle::current(),
        });
        let connection = Arc::new(connection());
        manager
            .loaded
            .set(Arc::new(LoadedMail(Arc::clone(&connection))))
            .unwrap();
        Self {
            manager,
            store,
            server,
            metrics,
            connection,
            tenant: "acme".into(),
            user: "someone".into(),
        }
    }

    /// Another replica over the same store and server.
    pub(super) fn beside(&self) -> Self {
        Self::over(Arc::clone(&self.store), Arc::clone(&self.server))
    }

    /// Also starts the work beside requests.
    pub(super) fn begun(self) -> Self {
        crate::manager::background::begin(&self.manager);
        crate::manager::sweep::begin(&self.manager);
        self
    }

    pub(super) fn ask<'a>(&'a self, account: Option<&'a str>) -> AccountQuery<'a> {
        AccountQuery {
            tenant: &self.tenant,
            user: &self.user,
            connection: &self.connection,
            account,
            remembered: None,
        }
    }

    pub(super) fn key(&self, account: &str) -> AccountKey {
        AccountKey {
            owner: AccountOwner {
                tenant: Arc::clone(&self.tenant),
                user: Arc::clone(&self.user),
                connection: Arc::clone(&self.connection.name),
            },
            account: account.into(),
        }
    }

    pub(super) async fn connect(&self, account: &str) {
        let now = self.manager.clock.unix();
        let token = self.server.grant(account);
        self.manager
            .connect(&self.key(account), record(account, &token, now))
            .await
            .unwrap();
    }

    pub(super) async fn granted(&self, account: Option<&str>) -> String {
        self.manager
            .grant(&self.ask(account), WITHIN)
            .await
            .unwrap()
            .account
            .to_string()
    }

    pub(super) async fn stored(&self, account: &str) -> AccountRecord {
        self.manager.record(&self.key(account)).await.unwrap().unwrap()
    }
}

pub(crate) fn record(account: &str, refresh: &str, now: u64) -> AccountRecord {
    AccountRecord {
        grant_id: String::new(),
        seq: 1,
        account: account.to_owned(),
        label: Some(format!("{account}@example.com")),
        subject: Some(format!("sub-{account}")),
        provider: "mail".to_owned(),
        source: TokenSource {
            issuer: Some("https://as.example".to_owned()),
            token_endpoint: "https://as.example/token".to_owned(),
            revocation_endpoint: Some("https://as.example/revoke".to_owned()),
            client: OAuthClient {
                id: "us".to_owned(),
                auth: ClientAuth::None,
                secret: None,
                declared: false,
            },
            resource: None,
        },
        requested: vec!["read".to_owned()],
        granted: Some(vec!["read".to_owned()]),
        tokens: TokenSet {
            access: Secret::new(format!("access-{account}-1")),
            refresh: Some(Secret::new(refresh)),
            expires_at: Some(now + LIFE),
            obtained_at: now,
        },
        lease: None,
        failures: 0,
        ended: None,
        chosen: 0,
        none_chosen: 0,
        since: 0,
        connected_at: now,
        unanswered: false,
        refusal: None,
        missed: None,
    }
}

pub(super) fn bearer(signed: &SignedHeaders) -> String {
    let value = signed
        .headers
        .first()
        .map(|(_, value)| value.to_str().unwrap().to_owned());
    value.unwrap_or_default()
}

pub(super) fn named(accounts: &[Account]) -> Vec<&str> {
    accounts.iter().map(|account| &*account.id).collect()
}

fn connection() -> Connection {
    Connection {
        name: "mail".into(),
        provider: "mail".into(),
        title: "Mail".to_owned(),
        grant: GrantType::AuthorizationCode,
        upstream: Url::parse("https://mail.example/mcp").unwrap(),
        reach: AddressPolicy::default(),
        client_id: None,
        client_secret: None,
        private_key: None,
        scopes: None,
        authorization_endpoint: None,
        token_endpoint: None,
        revocation_endpoint: None,
        issuer: None,
        metadata: None,
        token_auth: None,
        pkce: Pkce::Auto,
        audience: None,
        resource: ResourceParameter::Off,
        parameters: BTreeMap::new(),
        connect_url: None,
        lead: Duration::from_secs(600),
        attempts: 3,
    }
}

#[derive(Debug)]
struct LoadedMail(Arc<Connection>);

impl Connections for LoadedMail {
    fn of(&self, connection: &str) -> Vec<Arc<Connection>> {
        Some(&self.0)
            .filter(|it| *it.name == *connection)
            .cloned()
            .into_iter()
            .collect()
    }

    fn provider(&self, provider: &str) -> Option<Arc<Connection>> {
        Some(&self.0).filter(|it| *it.provider == *provider).cloned()
    }
}

/// A store that can be away, and that counts.
#[derive(Debug, Default)]
pub(super) struct FlakyStore {
    memory: MemoryVault,
    /// How many further requests fail.
    pub(super) reads_fail: AtomicU32,
    pub(super) writes_fail: AtomicU32,
    pub(super) asked: AtomicU64,
}

impl FlakyStore {
    fn fail(&self, left: &AtomicU32) -> Result<(), Fault> {
        self.asked.fetch_add(1, Relaxed);
        let fails = left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok();
        if fails {
            return Err(Fault::new(Kind::Unreachable, "away"));
        }
        Ok(())
    }
}

#[async_trait]
impl Vault for FlakyStore {
    async fn read(&self, path: &Path) -> Result<Option<Stored>, Fault> {
        self.fail(&self.reads_fail)?;
        self.memory.read(path).await
    }
    async fn write(
        &self,
        path: &Path,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        self.fail(&self.writes_fail)?;
        self.memory.write(path, expected, value, hint).await
    }
    async fn remove(&self, path: &Path) -> Result<(), Fault> {
        self.fail(&self.writes_fail)?;
        self.memory.remove(path).await
    }
    async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        self.fail(&self.reads_fail)?;
        self.memory.list(folder).await
    }
    async fn hint(&self, path: &Path) -> Result<Option<Hint>, Fault> {
        self.fail(&self.reads_fail)?;
        self.memory.hint(path).await
    }
}

/// An authorization server with rotation and without grace.
#[derive(Debug, Default)]
pub(super) struct RotatingServer {
    state: Mutex<State>,
    /// How it answers the next requests, before it looks at them.
    pub(super) next: Mutex<Vec<BadAnswer>>,
    client_tokens: AtomicU32,
    /// Requests to renew, in order.
    pub(super) forms: Mutex<Vec<BTreeMap<String, String>>>,
    /// How long it takes to answer.
    pub(super) takes: Mutex<Duration>,
}

#[derive(Debug, Default)]
struct State {
    valid: BTreeSet<String>,
    seen: Vec<String>,
    revoked: HashSet<String>,
    made: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadAnswer {
    /// 503.
    Unavailable,
    /// Rotated, and the answer is lost.
    Lost,
    /// Not reached.
    Unreached,
    /// 400 with this error, having done nothing.
    Refuses(&'static str),
    /// This status and body, having done nothing.
    Says(u16, &'static str),
    /// 400 `invalid_request` when this parameter comes with it.
    Without(&'static str),
}

impl RotatingServer {
    /// A refresh token for a new grant.
    pub(super) fn grant(&self, account: &str) -> String {
        let mut state = self.state.lock();
        state.made += 1;
        let token = format!("refresh-{account}-{}", state.made);
        state.valid.insert(token.clone());
        token
    }

    /// The refresh tokens that were brought, in order.
    pub(super) fn brought(&self) -> Vec<String> {
        self.state.lock().seen.clone()
    }

    pub(super) fn is_revoked(&self, token: &str) -> bool {
        self.state.lock().revoked.contains(token)
    }

    pub(super) fn withdraw(&self) {
        self.state.lock().valid.clear();
    }

    fn redeem(&self, token: &str) -> (u16, String) {
        let mut state = self.state.lock();
        state.seen.push(token.to_owned());
        if !state.valid.remove(token) {
            return (400, r#"{"error":"invalid_grant"}"#.to_owned());
        }
        state.made += 1;
        let made = state.made;
        let next = format!("refresh-{made}");
        state.valid.insert(next.clone());
        let body = format!(
            r#"{{"access_token":"access-{made}","token_type":"Bearer","expires_in":{LIFE},"refresh_token":"{next}"}}"#
        );
        (200, body)
    }
}

#[async_trait]
impl HttpClient for RotatingServer {
    async fn send(
        &self,
        _reach: &AddressPolicy,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Bytes>, SendError> {
        let takes = *self.takes.lock();
        tokio::time::sleep(takes).await;
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.body()).into_owned().collect();
        if form.get("grant_type").is_some_and(|it| it == "refresh_token") {
            self.forms.lock().push(form.clone());
        }
        let next = self.next.lock().pop();
        let lost = |sent| SendError {
            message: "gone".to_owned(),
            sent,
            transient: true,
            cure: None,
            source: None,
        };
        let (status, body) = match (request.uri().path(), next) {
            ("/revoke", _) => {
                self.state.lock().revoked.insert(form["token"].clone());
                (200, String::new())
            }
            (_, Some(BadAnswer::Unreached)) => return Err(lost(false)),
            (_, Some(BadAnswer::Lost)) => {
                self.redeem(&form["refresh_token"]);
                return Err(lost(true));
            }
            (_, Some(BadAnswer::Unavailable)) => (503, "{}".to_owned()),
            (_, Some(BadAnswer::Refuses(error))) => (400, format!(r#"{{"error":"{error}"}}"#)),
            (_, Some(BadAnswer::Says(status, body))) => (status, body.to_owned()),
            (_, Some(BadAnswer::Without(name))) if form.contains_key(name) => {
                (400, r#"{"error":"invalid_request"}"#.to_owned())
            }
            (_, None) if form["grant_type"] == "client_credentials" => {
                let made = self.client_tokens.fetch_add(1, Relaxed) + 1;
                let body = format!(
                    r#"{{"access_token":"machine-{made}","token_type":"Bearer","expires_in":{LIFE}}}"#
                );
                (200, body)
            }
            (_, Some(BadAnswer::Without(_)) | None) => self.redeem(&form["refresh_token"]),
        };
        let response = http::Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(Bytes::from(body))
            .unwrap();
        Ok(response)
    }
}
