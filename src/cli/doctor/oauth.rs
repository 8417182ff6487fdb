//! The steps of OAuth: the authorization server, our client there, scopes, the store, the account, its
//! renewal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::step::{StepDetail, StepFailure, Steps};
use crate::app::{App, Services};
use pleiades_core::error::Code;
use pleiades_core::secret::Secret;
use pleiades_core::text::shell_word;
use pleiades_core::time::{rfc3339, unix_now};
use pleiades_core::web::{Prober, SendError};
use pleiades_credential::broker::ClientChoice;
use pleiades_credential::connection::{GrantType, Pkce};
use pleiades_credential::manager::{
    Account, AccountQuery, CredentialManager, GrantError, Reason, RefreshOutcome,
};
use pleiades_credential::oauth::{self, AuthServer, Challenge, OAuthErrorKind};
use pleiades_credential::record::{AccountRecord, AccountState, EndReason, TokenRefusal};
use pleiades_credential::vault::{self, Fault, Path, Wrote};
use pleiades_credential::{AccountKey, Connection, Signature, pinned, user_accounts};

/// Timeout for a credential.
const CREDENTIAL: Duration = Duration::from_secs(30);
/// Timeout for the store.
const STORE: Duration = Duration::from_secs(20);
/// What the redirect URI of a client of one's own is called.
const REGISTER: &str = "redirect URI to register";
/// Accounts that are listed.
const SHOWN: usize = 12;

/// What the command line says of the account.
#[derive(Debug, Clone)]
pub(super) struct LoginOptions {
    /// The account that is looked at; `None`: the one that calls use.
    pub(super) account: Option<String>,
    /// Whether its token is really renewed.
    pub(super) refresh: bool,
    /// The beginning of commands that a person is told to run.
    pub(super) program: String,
}

pub(super) struct LoginCheck<'a> {
    pub(super) app: &'a App,
    pub(super) connection: &'a Arc<Connection>,
    /// Whether the provider is loaded: a disabled one can be asked, and has no accounts in use.
    pub(super) loaded: bool,
    pub(super) options: LoginOptions,
    /// The `resource` that was sent for the account's token, once that is known.
    pub(super) sent: Mutex<Option<String>>,
}

/// The redirect URIs of which one is used: which one says the authorization server.
pub(super) fn possible_callbacks(app: &App, connection: &Connection) -> Vec<String> {
    if connection.grant != GrantType::AuthorizationCode {
        return Vec::new();
    }
    let services = app.services();
    let endpoints = &services.exchange.accounts.broker.endpoints;
    let (all, own) = (
        endpoints.redirect_uri(None),
        endpoints.redirect_uri(Some(&connection.provider)),
    );
    vec![format!(
        "redirect URI: {all} or {own}, which one is known once the authorization server answers"
    )]
}

/// The cure where an authorization server did not renew a token.
const REACHED: &str = "see that the authorization server is reached from here: it is asked again by itself";

impl LoginCheck<'_> {
    /// Runs all steps; answers with the signature of the account in use.
    pub(super) async fn examine(&self, steps: &mut Steps) -> Option<Arc<Signature>> {
        let services = self.app.services();
        let began = Instant::now();
        let challenge = services.catalog.challenge(&self.connection.provider).await;
        let web = &**services.exchange.accounts.manager.web();
        match oauth::discover(web, self.connection, challenge.as_ref()).await {
            Ok(server) => {
                let found = match self.answers(&server).await {
                    Ok(is_there) => self.discovered(&server, challenge.as_ref(), is_there),
                    Err(why) => Err(self.unanswered(&server, &why)),
                };
                steps.end("discovery", began, found);
                self.registration(steps, &services, &server).await;
                self.scopes(steps, &services, &server, challenge.as_ref());
            }
            Err(trouble) => {
                let code = self.undiscovered(trouble.kind);
                let mut detail = trouble.to_string();
                let cure = trouble.cure.unwrap_or_else(|| cure(trouble.kind).to_owned());
                if let Some(cause) = trouble.cause.filter(|cause| !detail.contains(cause)) {
                    detail = format!("{detail} ({cause})");
                }
                let mut failure = StepFailure::new(code, detail, cure);
                failure.lines = possible_callbacks(self.app, self.connection);
                steps.end("discovery", began, Err(failure));
                steps.skip_all(&["registration", "scopes"], "discovery");
            }
        }
        let began = Instant::now();
        if !steps.end("vault", began, self.vault(&services).await) {
            steps.skip_all(&["credential", "refresh"], "vault");
            return None;
        }
        if self.connection.grant == GrantType::ClientCredentials {
            return self.machine(steps, &services).await;
        }
        if !self.loaded {
            steps.skip("credential", "the provider is disabled: nobody's account is used");
            steps.skip("refresh", "the provider is disabled: nothing is renewed");
            return None;
        }
        self.account(steps, &services).await
    }

    /// What callers without a token are answered while the authorization server cannot be worked with.
    fn undiscovered(&self, kind: OAuthErrorKind) -> Code {
        match (self.connection.grant, kind) {
            (GrantType::AuthorizationCode, _) => Code::NeedsAuth,
            (GrantType::ClientCredentials, OAuthErrorKind::Transient) => Code::CredentialTimeout,
            (GrantType::ClientCredentials, _) => Code::UpstreamAuth,
        }
    }

    /// Whether the authorization endpoint is there, where no document of the server's has said so just now: it is
    /// guessed, or the descriptor's. Errors: why nobody answers there.
    async fn answers(&self, server: &AuthServer) -> Result<bool, SendError> {
        let is_read = server.unpublished.is_none() && self.connection.token_endpoint.is_none();
        let people = self.connection.grant == GrantType::AuthorizationCode;
        let asked = if people {
            &server.authorization_endpoint
        } else {
            &server.token_endpoint
        };
        let request = http::Request::builder().uri(asked);
        let (Ok(request), false) = (request.body(Vec::new()), is_read) else {
            return Ok(true);
        };
        let services = self.app.services();
        let web = services.exchange.accounts.manager.web();
        let answer = web.send(&self.connection.reach, request).await;
        match answer {
            Ok(answer) => {
                let is_nowhere = [404, 405, 410].contains(&answer.status().as_u16());
                Ok(server.unpublished.is_none() || !is_nowhere)
            }
            Err(_) if server.unpublished.is_some() => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Nobody answers where the descriptor says that the authorization server is.
    fn unanswered(&self, server: &AuthServer, why: &SendError) -> StepFailure {
        let place = url::Url::parse(&server.authorization_endpoint)
            .ok()
            .and_then(|url| pleiades_upstream::place(&url))
            .unwrap_or_default();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(why);
        let mut text = why.message.clone();
        while let Some(deeper) = cause.and_then(std::error::Error::source) {
            text = deeper.to_string();
            cause = Some(deeper);
        }
        StepFailure::new(
            self.undiscovered(OAuthErrorKind::Transient),
            format!("the authorization server that the descriptor names does not answer at {place}: {text}"),
            "start it, or correct the endpoints in `auth`; look at firewalls between",
        )
    }

    fn discovered(
        &self,
        server: &AuthServer,
        challenge: Option<&Challenge>,
        is_there: bool,
    ) -> Result<StepDetail, StepFailure> {
        let issuer = match (&server.issuer, &server.unpublished) {
            (Some(issuer), _) => issuer.as_str(),
            (None, Some(it)) if it.has_moved() => "its metadata has moved: the endpoints are guesses",
            (None, Some(_)) => "no metadata is published: its endpoints are guesses",
            (None, None) => "a server whose metadata is not read",
        };
        let pkce = match &server.challenge_methods {
            Some(methods) if methods.iter().any(|method| method == "S256") => "PKCE S256",
            Some(_) => "no PKCE S256",
            None => "PKCE is not mentioned",
        };
        let named = challenge.and_then(|it| it.resource_metadata.as_deref());
        let mut lines = match (&server.unpublished, &self.connection.metadata, named) {
            (Some(unpublished), ..) => unpublished.seen.clone(),
            (None, Some(url), _) => vec![format!("the document that the descriptor names: {url}")],
            (None, None, Some(url)) => vec![format!("named by the server's challenge: {url}")],
            (None, None, None) if self.connection.token_endpoint.is_some() => {
                vec!["named by the descriptor".to_owned()]
            }
            (None, None, None) => vec!["found at well-known paths".to_owned()],
        };
        let endpoints = [
            ("authorization", Some(&server.authorization_endpoint)),
            ("token", Some(&server.token_endpoint)),
            ("registration", server.registration_endpoint.as_ref()),
            ("revocation", server.revocation_endpoint.as_ref()),
            ("resource", server.resource.as_ref()),
        ];
        let named = endpoints.into_iter().filter_map(|(what, url)| Some((what, url?)));
        lines.extend(
            named
                .filter(|(_, url)| !url.is_empty())
                .map(|(what, url)| format!("{what}: {url}")),
        );
        let detail = format!("{issuer}, {pkce}");
        let doubtful = server.unpublished.as_ref();
        if let Some(unpublished) = doubtful.filter(|it| !is_there || it.has_moved()) {
            let cure = unpublished.cure().to_owned();
            let code = self.undiscovered(OAuthErrorKind::Metadata);
            return Err(StepFailure {
                code: Some(code),
                detail,
                cure,
                lines,
            });
        }
        let people = self.connection.grant == GrantType::AuthorizationCode;
        if people && self.connection.pkce == Pkce::Auto && pkce != "PKCE S256" {
            return Err(StepFailure {
                code: Some(Code::NeedsAuth),
                detail,
                cure: oauth::without_s256(server.challenge_methods.as_deref()).to_owned(),
                lines,
            });
        }
        Ok(StepDetail { detail, lines })
    }

    async fn registration(&self, steps: &mut Steps, services: &Services, server: &AuthServer) {
        let began = Instant::now();
        let broker = &services.exchange.accounts.broker;
        let people = self.connection.grant == GrantType::AuthorizationCode;
        let callbacks = broker.endpoints.redirect_uris(self.connection, server);
        let callback = callbacks.first().cloned().unwrap_or_default();
        let uris = |what: &str| match people {
            true => callback_lines(&callbacks, what),
            false => Vec::new(),
        };
        let found = match broker.clients.choice(self.connection, server).await {
            Ok(ClientChoice::Declared(id)) => {
                let mut lines = uris(REGISTER);
                let detail = format!("the descriptor's client `{id}`");
                let secret = self.secret(services, server, &mut lines).await;
                secret.map(|()| StepDetail { detail, lines })
            }
            Ok(ClientChoice::MetadataDocument(url)) => {
                let detail = format!("our client metadata document {url}");
                let lines = uris("redirect URI");
                Ok(StepDetail { detail, lines })
            }
            Ok(ClientChoice::Registered { id, unanswered }) => {
                let mut found = StepDetail::from(format!("registered as `{id}`, and kept"));
                found.lines = uris("redirect URI");
                if unanswered > 0 {
                    found.lines.push(format!(
                        "{unanswered} flows have begun since one came back: the next one asks whether the server still \
                         knows it; `pleiades accounts forget-client {}` drops it at once",
                        self.connection.provider
                    ));
                }
                Ok(found)
            }
            Ok(ClientChoice::CanRegister(url)) => {
                let detail = format!("none yet: one is registered at {url} when somebody connects");
                let lines = uris("redirect URI");
                Ok(StepDetail { detail, lines })
            }
            Ok(ClientChoice::None) => Err(StepFailure {
                code: Some(self.undiscovered(OAuthErrorKind::Client)),
                detail: "the server lets no client register, and the descriptor names none".to_owned(),
                cure: format!(
                    "make an application at the provider with the redirect URI {callback}, and write its `client_id`"
                ),
                lines: uris(REGISTER),
            }),
            Err(fault) => Err(stored(fault)),
        };
        match found {
            Err(failure) if failure.code == Some(Code::CredentialStore) => {
                steps.skip(
                    "registration",
                    "the credential store does not serve: `vault` says why",
                );
            }
            found => drop(steps.end("registration", began, found)),
        }
    }

    /// The issuer that the secret of the descriptor's client is pinned to.
    async fn secret(
        &self,
        services: &Services,
        server: &AuthServer,
        lines: &mut Vec<String>,
    ) -> Result<(), StepFailure> {
        if !pinned::is_needed(self.connection) {
            return Ok(());
        }
        let vault = &**services.exchange.accounts.manager.vault();
        let pinned = pinned::read(vault, self.connection).await;
        let issuer = server.issuer.as_deref().unwrap_or(&server.token_endpoint);
        match pinned.map_err(stored)? {
            Some(pinned) if pinned.issuer != issuer => {
                let (detail, cure) = pinned::refusal(self.connection, &pinned, issuer);
                let code = self.undiscovered(OAuthErrorKind::Metadata);
                return Err(StepFailure::new(code, detail, cure));
            }
            Some(pinned) => lines.push(format!(
                "its secret goes to {} alone, where it was first used",
                pinned.issuer
            )),
            None => lines.push(format!(
                "its secret has gone nowhere yet: the first connection keeps {issuer}; `issuer` in the descriptor says \
                 it beforehand"
            )),
        }
        Ok(())
    }

    fn scopes(
        &self,
        steps: &mut Steps,
        services: &Services,
        server: &AuthServer,
        challenge: Option<&Challenge>,
    ) {
        let began = Instant::now();
        let loaded = services.exchange.accounts.manager.loaded();
        let declared = loaded
            .and_then(|loaded| loaded.scopes(&self.connection.name))
            .or_else(|| self.connection.scopes.clone());
        let (asked, source) = match &declared {
            Some(scopes) => (scopes.clone(), "the descriptors name"),
            None => {
                let challenged = challenge.and_then(|it| it.scopes.clone());
                let advertised = challenged.or_else(|| server.resource_scopes.clone());
                (advertised.unwrap_or_default(), "the server advertises")
            }
        };
        if asked.is_empty() {
            let none = "none are asked for: the server decides".to_owned();
            steps.end("scopes", began, Ok(none.into()));
            return;
        }
        let supported: Vec<&String> = [&server.scopes, &server.resource_scopes]
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let unknown = asked
            .iter()
            .filter(|scope| !supported.is_empty() && !supported.contains(scope));
        let lines =
            unknown.map(|scope| format!("`{scope}` is not advertised by the server: it may refuse it"));
        let found = StepDetail {
            detail: format!("{source} {}", asked.join(" ")),
            lines: lines.collect(),
        };
        steps.end("scopes", began, Ok(found));
    }

    /// Reads, writes and removes an entry of our own, as a connection does.
    async fn vault(&self, services: &Services) -> Result<StepDetail, StepFailure> {
        let vault = services.exchange.accounts.manager.vault();
        let path = Path::gateway(&["pending", &format!("d-{}-{}", std::process::id(), unix_now())]);
        let work = async {
            let mark = Secret::new(format!("{{\"until\":{}}}", unix_now()));
            if vault.write(&path, 0, &mark, None).await? == Wrote::Conflict {
                let why = "an entry that nobody wrote is there";
                return Err(Fault::new(vault::Kind::Refused, why));
            }
            let read = vault.read(&path).await?;
            vault.remove(&path).await?;
            vault.list(&Path::gateway(&["clients"])).await?;
            Ok(read.is_some())
        };
        match tokio::time::timeout(STORE, work).await {
            Ok(Ok(true)) => {
                Ok(String::from("it is reached, and lets us read, write, list and remove").into())
            }
            Ok(Ok(false)) => Err(StepFailure::new(
                Code::CredentialStore,
                "what was written is not read back",
                "a standby that lags may answer: look at the store's cluster",
            )),
            Ok(Err(fault)) => Err(stored(fault)),
            Err(_elapsed) => Err(StepFailure::new(
                Code::CredentialStore,
                format!("no answer within {STORE:?}"),
                "look whether the store is reachable from here, and how busy it is",
            )),
        }
    }

    async fn machine(&self, steps: &mut Steps, services: &Services) -> Option<Arc<Signature>> {
        use pleiades_credential::ClientCredentialsTokens as _;
        let began = Instant::now();
        let signature = services.exchange.accounts.manager.signature(self.connection);
        let found = match signature.ready().await {
            Ok(_) => Ok("a token of the gateway's own was had".to_owned().into()),
            Err(error) => Err(StepFailure::new(
                error.code,
                super::protocol::trouble(&error).detail,
                "check `client_id`, its secret or key and `token_auth` in `auth.client_credentials`",
            )),
        };
        let well = steps.end("credential", began, found);
        let why = "tokens of client credentials are had anew, not renewed";
        steps.skip("refresh", why);
        well.then_some(signature)
    }

    async fn account(&self, steps: &mut Steps, services: &Services) -> Option<Arc<Signature>> {
        let manager = &services.exchange.accounts.manager;
        let principal = &services.principal;
        let owner = user_accounts::owner(manager, principal, &self.connection.provider);
        let began = Instant::now();
        let accounts = match manager.accounts(&owner).await {
            Ok(accounts) => accounts,
            Err(fault) => {
                steps.end("credential", began, Err(stored(fault)));
                steps.skip_all(&["refresh"], "credential");
                return None;
            }
        };
        let ask = AccountQuery {
            tenant: &principal.tenant,
            user: &principal.user,
            connection: self.connection,
            account: self.options.account.as_deref(),
            remembered: None,
        };
        let lines: Vec<String> = accounts.iter().take(SHOWN).map(line).collect();
        let who = format!("{}/{}", principal.tenant, principal.user);
        let (account, signature, found) = match manager.grant(&ask, CREDENTIAL).await {
            Ok(granted) => {
                let detail = format!("`{}` of {who} is used", granted.account);
                (
                    Some(granted.account),
                    Some(granted.signature),
                    Ok(StepDetail { detail, lines }),
                )
            }
            Err(refused) => {
                let named = self.options.account.as_deref();
                let mut accounts = accounts
                    .iter()
                    .filter(|it| named.is_none_or(|name| *it.id == *name));
                let first = accounts.next().map(|account| Arc::clone(&account.id));
                let mut failure = self.ungranted(&who, &refused, lines);
                if let (GrantError::Waiting { .. }, Some(account)) = (&refused, &first) {
                    let account = Arc::clone(account);
                    let owner = owner.clone();
                    self.add_missed(manager, &AccountKey { owner, account }, &mut failure)
                        .await;
                }
                (first, None, Err(failure))
            }
        };
        steps.end("credential", began, found);
        match account {
            Some(account) => {
                let key = AccountKey { owner, account };
                let began = Instant::now();
                let found = self.renewal(services, &key).await;
                steps.end("refresh", began, found);
            }
            None => steps.skip("refresh", "there is no account"),
        }
        signature
    }

    /// The command that connects an account.
    fn connect(&self, account: Option<&str>) -> String {
        let (id, program) = (&self.connection.provider, &self.options.program);
        match account {
            Some(account) => format!("`{program} connect {id} --account {}`", shell_word(account)),
            None => format!("`{program} connect {id}`"),
        }
    }

    /// Why no account is used.
    fn ungranted(&self, who: &str, refused: &GrantError, lines: Vec<String>) -> StepFailure {
        let (id, program) = (&self.connection.provider, &self.options.program);
        let cure = match refused {
            GrantError::NotConnected { wanted, .. } => format!("run {}", self.connect(wanted.as_deref())),
            GrantError::Expired { account, .. } => format!("run {}", self.connect(Some(account))),
            GrantError::Ambiguous { .. } => {
                format!("run `{program} accounts default {id} ACCOUNT` with one of these")
            }
            GrantError::Unavailable { .. } => "look at the store".to_owned(),
            GrantError::Waiting { .. } if !self.options.refresh => {
                format!(
                    "a gateway that runs renews it by itself; `{program} doctor {id} --refresh` does so now"
                )
            }
            GrantError::Waiting { .. } => REACHED.to_owned(),
        };
        let error = refused.error(self.connection, "as `accountId`");
        let detail = match refused {
            GrantError::Waiting { cause: None, .. } if !self.options.refresh => {
                format!("{who}: the access token has ended, and nothing is renewed here")
            }
            _ => format!("{who}: {error}"),
        };
        StepFailure {
            code: Some(error.code),
            detail,
            cure,
            lines,
        }
    }

    /// Says of an account whose token has ended why a gateway could not renew it, where one has tried.
    async fn add_missed(&self, manager: &CredentialManager, key: &AccountKey, failure: &mut StepFailure) {
        let record = manager.record(key).await.ok().flatten();
        let missed = record.as_ref().map(missed_lines).unwrap_or_default();
        if missed.is_empty() {
            return;
        }
        failure.lines.extend(missed);
        REACHED.clone_into(&mut failure.cure);
    }

    /// State of an account's renewal; with `--refresh` it is renewed.
    async fn renewal(&self, services: &Services, key: &AccountKey) -> Result<StepDetail, StepFailure> {
        let manager = &services.exchange.accounts.manager;
        let record = manager.record(key).await.map_err(stored)?;
        let gone = || StepFailure::new(Code::NeedsAuth, "the account is gone", "connect it again");
        let record = record.ok_or_else(gone)?;
        self.sent.lock().clone_from(&record.source.resource);
        if self.options.refresh {
            let renewed = manager.refresh(key, true).await.map_err(stored)?;
            let renewed = renewed.ok_or_else(gone)?;
            let next = renewed.next_at.map_or_else(|| "never".to_owned(), rfc3339);
            return match renewed.outcome {
                RefreshOutcome::Refreshed => {
                    Ok(format!("a new token was had and stored; due again {next}").into())
                }
                RefreshOutcome::NotDue => Ok(format!("it is not due; next {next}").into()),
                RefreshOutcome::NeedsReauth => {
                    let record = manager.record(key).await.ok().flatten();
                    let connect = format!("run {}", self.connect(Some(&key.account)));
                    Err(
                        match record.and_then(|it| it.refusal.clone().map(|refusal| (it, refusal))) {
                            Some((record, refusal)) => StepFailure::new(
                                Code::TokenExpired,
                                format!("the provider refuses to renew it: {}", refusal.why),
                                self.connecting(&record, &refusal).unwrap_or(connect),
                            ),
                            None => {
                                let why = Reason::Refused.sentence();
                                StepFailure::new(Code::TokenExpired, why, connect)
                            }
                        },
                    )
                }
                RefreshOutcome::Unhealthy => {
                    let record = manager.record(key).await.ok().flatten();
                    let lines = record.as_ref().map(missed_lines).unwrap_or_default();
                    Err(StepFailure {
                        lines,
                        ..StepFailure::new(
                            Code::CredentialTimeout,
                            "the authorization server did not renew it now",
                            "nothing here: a gateway that runs tries it again by itself; see that the token endpoint is \
                             reached from here",
                        )
                    })
                }
            };
        }
        self.stands(&record)
    }

    /// The cure when a renewal was refused because of our client.
    fn connecting(&self, record: &AccountRecord, refusal: &TokenRefusal) -> Option<String> {
        refusal
            .error
            .as_deref()
            .filter(|it| oauth::is_unknown_client(it))?;
        let connect = self.connect(Some(&record.account));
        Some(match record.source.client.declared {
            true => format!(
                "check `client_id`, `client_secret` and `token_auth` in the descriptor against the provider's settings: \
                 {connect} helps only after they are right"
            ),
            false => format!(
                "its registration of this gateway was dropped here: run {connect}, and the gateway registers itself anew"
            ),
        })
    }

    /// Why an account is not renewed any more, and what to do.
    fn stopped(&self, record: &AccountRecord) -> Option<StepFailure> {
        let connect = format!("run {}", self.connect(Some(&record.account)));
        let refusal = record.refusal.as_ref();
        let cure = refusal.and_then(|refusal| self.connecting(record, refusal));
        Some(match (record.ended.map(EndReason::as_str), refusal) {
            (Some(ended), Some(refusal)) => StepFailure::new(
                Code::TokenExpired,
                format!("it has ended ({ended}): {}", refusal.why),
                cure.unwrap_or(connect),
            ),
            (Some(ended), None) => {
                StepFailure::new(Code::TokenExpired, format!("it has ended: {ended}"), connect)
            }
            (None, Some(refusal)) => StepFailure::new(
                Code::TokenExpired,
                format!("the provider refused to renew it: {}", refusal.why),
                cure.unwrap_or_else(|| format!("{connect}, if asking again (`--refresh`) does not help")),
            ),
            (None, None) => return None,
        })
    }

    /// How renewals go without being tried.
    fn stands(&self, record: &AccountRecord) -> Result<StepDetail, StepFailure> {
        if let Some(mut stopped) = self.stopped(record) {
            stopped.lines = missed_lines(record);
            return Err(stopped);
        }
        let mut lines = Vec::new();
        if let Some(lease) = &record.lease {
            let what = if lease.replay {
                "repeats an interrupted renewal"
            } else {
                "renews it just now"
            };
            lines.push(format!("somebody {what}, for at most {} s", lease.ttl));
        }
        lines.extend(missed_lines(record));
        let Some(ends) = record.tokens.expires_at else {
            let detail =
                "the access token does not say when it ends: it is renewed when it is refused".to_owned();
            return Ok(StepDetail { detail, lines });
        };
        if record.tokens.refresh.is_none() {
            return Err(StepFailure {
                code: Some(Code::TokenExpired),
                detail: format!("there is no refresh token: the access token ends {}", rfc3339(ends)),
                cure: "ask for one, often with the scope `offline_access` or `parameters: { access_type: offline }`, \
                       and connect again"
                    .to_owned(),
                lines,
            });
        }
        let life = ends.saturating_sub(record.tokens.obtained_at);
        let due = ends.saturating_sub(self.connection.lead.as_secs().min(life / 2));
        let when = if due <= unix_now() { "due now" } else { "due" };
        let detail = format!("{when} {}, at {}", rfc3339(due), record.source.token_endpoint);
        let is_over = record.failures > 0 && ends <= unix_now();
        if record.failures >= 3 || is_over {
            return Err(StepFailure {
                code: Some(Code::CredentialTimeout),
                detail,
                cure: format!(
                    "look whether the token endpoint is reached from here: `{} doctor {} --refresh` tries it",
                    self.options.program, self.connection.provider
                ),
                lines,
            });
        }
        Ok(StepDetail { detail, lines })
    }
}

/// Until when the token serves, what the last renewals ended with, and when the next is tried; nothing of renewals
/// that go well.
fn missed_lines(record: &AccountRecord) -> Vec<String> {
    if record.failures == 0 && record.refusal.is_none() {
        return Vec::new();
    }
    let now = unix_now();
    let mut lines = Vec::new();
    if let Some(ends) = record.tokens.expires_at {
        let word = if ends <= now { "ended" } else { "ends" };
        lines.push(format!("the access token {word} {}", rfc3339(ends)));
    }
    if let Some(missed) = &record.missed {
        let (at, why) = (rfc3339(missed.at), &missed.why);
        lines.push(format!(
            "{} renewals failed in a row, the last at {at}: {why}",
            record.failures
        ));
        if record.ended.is_none() {
            lines.push(format!(
                "a gateway that runs tries again at {}",
                rfc3339(missed.again)
            ));
        }
    }
    lines
}

/// Redirect URIs of sign-ins, the one of browsers first, called `what`.
fn callback_lines(callbacks: &[String], what: &str) -> Vec<String> {
    callbacks
        .iter()
        .enumerate()
        .map(|(index, uri)| match index {
            0 => format!("{what}: {uri}"),
            _ => format!(
                "for `pleiades connect` beside no running gateway, if the provider takes any port: {uri}"
            ),
        })
        .collect()
}

fn line(account: &Account) -> String {
    let state = match (&account.reason, account.state) {
        (Some(reason), state) if state != AccountState::Ok => format!("{} ({reason})", state.as_str()),
        (_, state) => state.as_str().to_owned(),
    };
    let ends = account
        .expires_at
        .map_or_else(String::new, |at| format!(", ends {}", rfc3339(at)));
    let default = if account.is_default { ", the default" } else { "" };
    format!("`{}`: {state}{default}{ends}", account.id)
}

const fn cure(kind: OAuthErrorKind) -> &'static str {
    match kind {
        OAuthErrorKind::Transient => {
            "look whether the authorization server is reached from here, and try again"
        }
        OAuthErrorKind::Grant | OAuthErrorKind::Client => "check the client in `auth.oauth`",
        OAuthErrorKind::Metadata => {
            "where the provider publishes no metadata, write `authorization_endpoint`, `token_endpoint` and \
             `client_id`; else its operator has to correct them"
        }
    }
}

/// A fault of the store and its cure.
fn stored(fault: Fault) -> StepFailure {
    let of_kind = match fault.kind {
        vault::Kind::Unreachable => {
            "look whether `vault.hashicorp.address`, or the file's folder, is reached from here"
        }
        vault::Kind::Sealed => "unseal it; a standby needs a way to the active node",
        vault::Kind::Redirected => "give the address of the active node or of the cluster",
        vault::Kind::Throttled => "ask it less often, or raise its limit",
        vault::Kind::Failed => "look at its log",
        vault::Kind::Denied => "give the role the policy that the documentation lists, and look at its login",
        vault::Kind::Unopened => "give the key that the vault is under: `vault.file.key`, or its key file",
        vault::Kind::Corrupt => {
            "is the key the one it was written with? `vault.file.key`, or the Transit key"
        }
        vault::Kind::Refused => {
            "look at mount and prefix: the mount must be of version 2 of the key-value engine"
        }
    };
    // The embedded store knows what mends it; the words of kinds are for Vault.
    let cure = fault.cure.clone().unwrap_or_else(|| of_kind.to_owned());
    let detail = format!("the credential store: {}", fault.in_full());
    StepFailure::new(Code::CredentialStore, detail, cure)
}
