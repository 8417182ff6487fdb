//! The steps that contact a provider, in the order of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::oauth::{LoginCheck, LoginOptions, possible_callbacks};
use super::step::{StepDetail, StepFailure, Steps};
use super::{network, program, protocol};
use crate::app::App;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::tail::Tail;
use pleiades_credential::oauth::{RefusalCause, challenge};
use pleiades_credential::{CallerKeys, Connection, ProviderAuth};
use pleiades_descriptor::{Descriptor, Protocol, ReadContext, settings};
use pleiades_gateway::catalog::{Provider, examine};
use pleiades_gateway::exchange::Keys;
use pleiades_upstream::{Endpoint, Identity, Profile, Transport, Upstreams, minimal_environment};

/// How long to wait for the last output of a process that failed.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Lines of stderr that are shown.
const LINES: usize = 10;
/// Steps of providers whose tokens come from an authorization server.
const LOGIN: [&str; 5] = ["discovery", "registration", "scopes", "vault", "refresh"];
/// Steps after the connection.
const AFTER: [&str; 4] = ["protocol", "capabilities", "credential", "lists"];

pub(super) struct Subject {
    upstreams: Arc<Upstreams>,
    provider: Arc<Provider>,
    identity: Identity,
    tail: Tail,
    /// The old transport is asked by GET.
    get: bool,
    /// The descriptor may start its process.
    may_start: bool,
    connection: Option<Arc<Connection>>,
    /// The redirect URIs that a login may use, known without anybody's answer.
    callbacks: Vec<String>,
    /// Whether an account's token is put on requests.
    is_signed: bool,
    /// Whether its token was renewed just now, and which `resource` was sent for it.
    renewed: Option<Option<String>>,
    /// The credential, and whether there is one to be judged.
    credential: Credential,
}

enum Credential {
    Unneeded,
    /// Tokens, which have steps of their own.
    Login,
    Given(String),
    /// Only callers have it, and this one has none: how to bring it.
    Missing(String),
}

impl Subject {
    pub(super) fn new(
        app: &App,
        file: &std::path::Path,
        descriptor: Descriptor,
        world: &ReadContext,
        tail: Tail,
    ) -> Result<Self, String> {
        let provider = examine::compile_one(file, &descriptor, world.loopback)?;
        let brought = Keys::Environment(Arc::clone(&world.env)).brought(&provider.need);
        let (credential, signature) = credential(&provider.need, &brought);
        let connection = match &provider.need {
            ProviderAuth::OAuth(connection) | ProviderAuth::ClientCredentials(connection, _) => {
                Some(Arc::clone(connection))
            }
            ProviderAuth::None | ProviderAuth::ApiKey { .. } | ProviderAuth::ClientKey(_) => None,
        };
        let principal = &app.services().principal;
        Ok(Self {
            upstreams: Arc::clone(app.upstreams()),
            identity: Identity {
                session: None,
                tenant: Arc::clone(&principal.tenant),
                user: Arc::clone(&principal.user),
                signature,
            },
            provider,
            tail,
            get: descriptor.upstream.protocol == Protocol::Sse,
            may_start: world.commands,
            callbacks: connection
                .as_ref()
                .map_or_else(Vec::new, |connection| possible_callbacks(app, connection)),
            connection,
            is_signed: false,
            renewed: None,
            credential,
        })
    }

    pub(super) async fn examine(mut self, app: &App, steps: &mut Steps, login: LoginOptions) {
        let provider = Arc::clone(&self.provider);
        let profile = match &provider.endpoint.target {
            Transport::Http { url, tls, .. } => {
                if self.reach(steps, url, tls.clone()).await {
                    self.log_in(app, steps, login).await;
                    let began = Instant::now();
                    let probed = self.probed(&self.provider.endpoint).await;
                    self.report_protocol(steps, began, probed)
                } else {
                    None
                }
            }
            Transport::Stdio { command, env, folder } => {
                let began = Instant::now();
                let minimal = minimal_environment(settings::variables());
                let found = if self.may_start {
                    program::find(command, env, folder, &minimal)
                } else {
                    Err(StepFailure::new(
                        Code::UnknownProvider,
                        "descriptors may not start processes here",
                        "write `commands: true` in `pleiades.yaml` if that is meant",
                    ))
                };
                if steps.end("program", began, found) {
                    self.start_process(steps).await
                } else {
                    steps.skip("start", "`program` failed");
                    steps.skip_all(&AFTER, "program");
                    None
                }
            }
        };
        if let Some(profile) = profile {
            self.read_lists(steps, profile).await;
        }
    }

    /// The steps of tokens; what they end in is put on the requests of the steps after them.
    async fn log_in(&mut self, app: &App, steps: &mut Steps, login: LoginOptions) {
        let Some(connection) = &self.connection else {
            return;
        };
        let services = app.services();
        let loaded = services.exchange.accounts.manager.loaded();
        let login = LoginCheck {
            app,
            connection,
            loaded: loaded.is_some_and(|loaded| loaded.provider(&connection.provider).is_some()),
            options: login,
            sent: Mutex::default(),
        };
        if let Some(signature) = login.examine(steps).await {
            self.identity.signature = signature;
            self.is_signed = true;
        }
        let is_renewed = login.options.refresh && steps.is_ok("refresh");
        self.renewed = is_renewed.then(|| login.sent.into_inner());
    }

    /// Skips all that comes after a step that failed.
    fn skip_rest(&self, steps: &mut Steps, after: &str) {
        if self.connection.is_some() {
            for name in LOGIN {
                let is_registration = name == "registration";
                let lines = if is_registration {
                    self.callbacks.as_slice()
                } else {
                    &[]
                };
                steps.skip_with(name, format!("`{after}` failed"), lines);
            }
        }
        steps.skip_all(&AFTER, after);
    }

    /// DNS, TCP, TLS, HTTP; whether there is a server to speak to.
    async fn reach(
        &self,
        steps: &mut Steps,
        url: &url::Url,
        tls: Option<Arc<pleiades_upstream::ClientTls>>,
    ) -> bool {
        let endpoint = &self.provider.endpoint;
        let within = endpoint.connect;
        let began = Instant::now();
        let addresses = match network::dns(&self.upstreams, url, endpoint.target.permit(), within).await {
            Ok((addresses, Some(text))) => {
                steps.end("dns", began, Ok(text.into()));
                addresses
            }
            Ok((addresses, None)) => {
                steps.skip("dns", "the URL holds an address");
                addresses
            }
            Err(trouble) => {
                steps.end("dns", began, Err(with_proxies(trouble)));
                steps.skip_all(&["tcp", "tls", "http"], "dns");
                self.skip_rest(steps, "dns");
                return false;
            }
        };
        let began = Instant::now();
        let address = match network::tcp(&addresses, within).await {
            Ok(address) => address,
            Err(trouble) => {
                steps.end("tcp", began, Err(with_proxies(trouble)));
                steps.skip_all(&["tls", "http"], "tcp");
                self.skip_rest(steps, "tcp");
                return false;
            }
        };
        steps.end("tcp", began, Ok(format!("{address} accepts").into()));
        let began = Instant::now();
        if url.scheme() != "https" {
            steps.skip("tls", "the URL is plain `http`");
        } else if !steps.end("tls", began, network::tls(address, url, tls, within).await) {
            steps.skip("http", "`tls` failed");
            self.skip_rest(steps, "tls");
            return false;
        }
        if let Credential::Missing(how) = &self.credential {
            for name in ["http", "protocol", "capabilities", "credential", "lists"] {
                steps.skip(name, how.clone());
            }
            return false;
        }
        let began = Instant::now();
        let found = network::http(&self.upstreams, endpoint, &self.identity, self.get).await;
        if !steps.end("http", began, found) {
            self.skip_rest(steps, "http");
            return false;
        }
        true
    }

    /// Everything that the server speaks; `serve` asks for older revisions only when a client needs them.
    async fn probed(&self, endpoint: &Arc<Endpoint>) -> Result<Profile, Error> {
        let profile = self.upstreams.probe(endpoint, &self.identity).await?;
        let asked = self.upstreams.probe_legacy(endpoint, &self.identity, &profile);
        Ok(asked.await.unwrap_or(profile))
    }

    /// Starts the process and probes it; shows its stderr.
    async fn start_process(&self, steps: &mut Steps) -> Option<Profile> {
        let began = Instant::now();
        let (endpoint, identity) = (&self.provider.endpoint, &self.identity);
        let probed = self.upstreams.probe(endpoint, identity).await;
        if probed.is_err() {
            tokio::time::sleep(LAST_WORDS).await;
        }
        let mut stderr_lines = self.tail.lines();
        stderr_lines.retain(|line| !line.trim().is_empty());
        let lines = stderr_lines.iter().skip(stderr_lines.len().saturating_sub(LINES));
        let stderr = lines.map(|line| format!("stderr: {line}"));
        let junk = self.tail.junk();
        let junk = junk.map(|line| format!("prints what is not JSON-RPC: {line}"));
        let lines: Vec<String> = junk.into_iter().chain(stderr).collect();
        match probed {
            Err(error) if error.code == Code::UpstreamUnreachable => {
                let mut trouble = protocol::trouble(&error);
                "run the command by hand in the descriptor's folder, and read what it says"
                    .clone_into(&mut trouble.cure);
                trouble.lines = lines;
                steps.end("start", began, Err(trouble));
                steps.skip_all(&AFTER, "start");
                None
            }
            probed => {
                let detail = "its process runs".to_owned();
                steps.end("start", began, Ok(StepDetail { detail, lines }));
                self.report_protocol(steps, began, probed)
            }
        }
    }

    fn report_protocol(
        &self,
        steps: &mut Steps,
        began: Instant,
        probed: Result<Profile, Error>,
    ) -> Option<Profile> {
        match probed {
            Ok(profile) => {
                let spoken = protocol::spoken(&self.provider.endpoint, &profile);
                steps.end("protocol", began, Ok(spoken));
                let capabilities = protocol::capabilities(&profile);
                steps.end("capabilities", Instant::now(), Ok(capabilities));
                Some(profile)
            }
            Err(error) if error.code == Code::UpstreamAuth => {
                self.needs_login(steps, began, &error);
                None
            }
            Err(error) => {
                steps.end("protocol", began, Err(protocol::trouble(&error)));
                steps.skip_all(&AFTER[1..], "protocol");
                None
            }
        }
    }

    /// The server answers nothing without a credential that it accepts.
    fn needs_login(&self, steps: &mut Steps, began: Instant, error: &Error) {
        if self.connection.is_some() {
            if self.is_signed {
                steps.end("protocol", began, Err(self.refused(error)));
                steps.skip_all(&["capabilities", "lists"], "protocol");
                return;
            }
            for name in ["protocol", "capabilities", "lists"] {
                steps.skip(name, "the server wants a login first");
            }
            return;
        }
        let why = "the server wants a credential first";
        steps.skip("protocol", why);
        steps.skip("capabilities", why);
        steps.end("credential", began, Err(self.refused(error)));
        steps.skip("lists", why);
    }

    fn refused_token_cure(&self) -> String {
        let Some(sent) = &self.renewed else {
            return "run this with `--refresh`; if a new token is refused too, look at `resource`, `audience` and scopes"
                .to_owned();
        };
        let sent = sent
            .as_ref()
            .map_or_else(|| "none was sent".to_owned(), |it| format!("sent: `{it}`"));
        format!(
            "the new token was refused too: look at `resource` ({sent}), `audience` and `scopes` in the descriptor"
        )
    }

    fn refused(&self, error: &Error) -> StepFailure {
        let mut trouble = match &self.credential {
            Credential::Given(what) => StepFailure::new(
                error.code,
                format!("the server refused {what}"),
                "put a valid key where the descriptor reads it; check header and prefix in `auth`",
            ),
            Credential::Login => StepFailure::new(
                account_code(error),
                "the server refused the account's token",
                self.refused_token_cure(),
            ),
            Credential::Unneeded | Credential::Missing(_) => StepFailure::new(
                error.code,
                "the server wants a credential, and `auth` is `none`",
                "write `auth: { oauth: {} }`, or `auth: { api_key: { value: \"${NAME}\" } }`",
            ),
        };
        trouble.lines.extend(error.root());
        trouble
    }

    /// Credential and lists of a server that speaks; both are known from reading the lists.
    async fn read_lists(&self, steps: &mut Steps, profile: Profile) {
        let began = Instant::now();
        let lister: &dyn pleiades_gateway::catalog::Lister = &self.upstreams;
        let surveyed = examine::survey(lister, &self.provider, &self.identity, profile).await;
        let refused =
            matches!(&surveyed, Err(error) if matches!(error.code, Code::UpstreamAuth | Code::NeedsAuth));
        match (&self.credential, &surveyed) {
            (Credential::Login, _) => {}
            (_, Err(error)) if refused => {
                steps.end("credential", began, Err(self.refused(error)));
            }
            (Credential::Given(what), _) => {
                steps.end("credential", began, Ok(format!("{what} is accepted").into()));
            }
            (Credential::Missing(how), _) => steps.skip("credential", how.clone()),
            (Credential::Unneeded, _) => {
                let none = "none is wanted for lists".to_owned();
                steps.end("credential", began, Ok(none.into()));
            }
        }
        match surveyed {
            Err(error) if refused && self.connection.is_some() => {
                steps.end("lists", began, Err(self.refused(&error)));
            }
            Err(_) if refused => steps.skip("lists", "`credential` failed"),
            Err(error) => {
                steps.end("lists", began, Err(protocol::trouble(&error)));
            }
            Ok(survey) => {
                steps.end("lists", began, protocol::lists(&survey));
            }
        }
    }
}

/// What callers are answered when the provider refuses their account's token: that it ended, or that it lacks
/// rights.
fn account_code(error: &Error) -> Code {
    let Some((status, header)) = error.refusal.as_deref() else {
        return Code::TokenExpired;
    };
    match challenge(*status, header.as_deref()).cause() {
        RefusalCause::Token => Code::TokenExpired,
        RefusalCause::Scope | RefusalCause::Other => Code::CapabilityMiss,
    }
}

/// Adds the proxy variables that are set and ignored.
fn with_proxies(mut trouble: StepFailure) -> StepFailure {
    let names = settings::variables().into_iter().map(|(name, _)| name);
    trouble.lines.extend(network::proxies(names));
    trouble
}

fn credential(
    need: &ProviderAuth,
    brought: &CallerKeys,
) -> (Credential, Arc<pleiades_credential::Signature>) {
    match (need, need.sign(brought)) {
        (ProviderAuth::None, signed) => (Credential::Unneeded, signed.unwrap_or_default()),
        (ProviderAuth::ApiKey { field, signature }, signed) => {
            let now = signature.now();
            let header = now.headers.first().map_or("", |(name, _)| name.as_str());
            let origin = format!("the credential of `{field}` in the header `{header}`");
            (Credential::Given(origin), signed.unwrap_or_default())
        }
        (ProviderAuth::OAuth(_) | ProviderAuth::ClientCredentials(..), _) => {
            (Credential::Login, Arc::default())
        }
        (ProviderAuth::ClientKey(key), Ok(signed)) => {
            let env = key.env.as_deref();
            let origin = match env.filter(|name| brought.environment.contains_key(*name)) {
                Some(name) => format!("the caller's key of `{name}`"),
                None => "the fallback key".to_owned(),
            };
            (Credential::Given(origin), signed)
        }
        (ProviderAuth::ClientKey(_), Err(missing)) => {
            let how = match missing.env {
                Some(name) => format!("callers bring the key; set `{name}` to look further"),
                None => "callers bring the key in a header; name a variable in `auth.client_key.env` to look further".to_owned(),
            };
            (Credential::Missing(how), Arc::default())
        }
    }
}
