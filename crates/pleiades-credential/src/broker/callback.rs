//! The answer of an authorization server: from the right browser, once, at the right path, from the
//! right issuer; only then is its code redeemed.

use std::sync::Arc;

use tracing::Instrument as _;
use url::form_urlencoded;

use super::error::{OPERATORS, advice};
use super::pending::{PendingChoice, PendingConnection, PendingState};
use super::{Broker, ConnectError, ConnectErrorKind, LinkPayload, account_key, hashed, now};
use super::{start::cookie_name, status::ConnectionOutcome};
use crate::access::Principal;
use crate::connection::ResourceParameter;
use crate::oauth::{self, SentRequest, Verdict, failure};
use crate::record::AccountRecord;
use pleiades_core::{secret::Secret, telemetry::request_scope};

/// The query of a callback (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Debug, Clone)]
pub struct Callback {
    pub(super) state: String,
    pub(super) code: Option<Secret>,
    pub(super) error: Option<String>,
    pub(super) description: Option<String>,
    pub(super) iss: Option<String>,
}

/// The result of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackResult {
    /// It is connected.
    Connected(ConnectedAccount),
    /// The person has said which account calls use that name none.
    Chosen {
        /// The provider's title.
        title: String,
        /// The account; `None`: each call has to name one.
        account: Option<String>,
    },
    /// Another account of the provider was used than the one connected under this name, or maybe: the
    /// person is asked. Nothing is replaced yet.
    Confirm(Replacement),
}

/// The account that a person signed in with, and the one whose place it would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The provider's title.
    pub title: String,
    /// Whether the provider names its accounts, so that it is certainly another one.
    pub certain: bool,
    /// The name that both have here.
    pub account: String,
    /// Who is connected, as the provider says, where it does.
    pub connected: Option<String>,
    /// Who signed in.
    pub signed_in: Option<String>,
    /// What [`Broker::confirm`] wants back.
    pub state: String,
}

/// An account that was connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedAccount {
    /// The provider's title.
    pub title: String,
    /// `accountId`.
    pub account: String,
    /// Email or name.
    pub label: Option<String>,
    /// The account that calls use which name none; `None`: each call has to name one.
    pub used: Option<String>,
    /// What [`Broker::choose_default`] wants back, where the person is asked which that should be.
    pub question: Option<String>,
    /// Whether this answer had come before, and only the question is still open.
    pub is_repeated: bool,
}

/// Which account calls are to use that name none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultChoice {
    /// The one that they use so far.
    Used,
    /// The one that was just connected.
    New,
    /// None: each call has to name one.
    None,
}

impl DefaultChoice {
    /// As a form sends it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::New => "new",
            Self::None => "none",
        }
    }

    /// From what a form sends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Used, Self::New, Self::None]
            .into_iter()
            .find(|choice| choice.as_str() == text)
    }
}

impl Callback {
    /// Reads a query.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Malformed`] without a state, or with one of its parameters twice.
    pub fn read(query: &str) -> Result<Self, ConnectError> {
        let malformed = |why: &str| ConnectError::begin_anew(ConnectErrorKind::Malformed, why);
        let one = |name: &str| -> Result<Option<String>, ConnectError> {
            let mut found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            let first = found.next().map(|(_, value)| value.into_owned());
            if found.next().is_some() {
                return Err(malformed("The address of this page says one thing twice."));
            }
            Ok(first.filter(|value| !value.is_empty()))
        };
        Ok(Self {
            state: one("state")?
                .ok_or_else(|| malformed("The address of this page names no sign-in (`state`)."))?,
            code: one("code")?.map(Secret::new),
            error: one("error")?,
            description: one("error_description")?,
            iss: one("iss")?,
        })
    }

    /// The name of the cookie that it must bring.
    #[must_use]
    pub fn cookie_name(&self) -> String {
        cookie_name(&self.state)
    }

    /// The state that it brings.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The same for the state that a confirmation brings.
    #[must_use]
    pub fn cookie_of(state: &str) -> String {
        cookie_name(state)
    }
}

impl Broker {
    /// The provider and the principal of a sign-in, for the log; `None` where it is not known any more.
    pub async fn sign_in_of(&self, state: &str) -> Option<(String, Principal)> {
        let (_, entry) = self.pending.read(state).await.ok()?;
        match entry.stage {
            PendingState::Begun(pending) | PendingState::Asked(pending, _) => {
                let principal = pending.principal();
                Some((pending.request.provider, principal))
            }
            PendingState::Choosing(choice) => {
                Some((choice.provider, Principal::new(choice.tenant, choice.user)))
            }
            PendingState::Used => None,
        }
    }

    /// Takes an answer that came to `redirect`. What is redeemed is stored whatever becomes of the caller.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing is connected then. One without its cookie leaves the pending connection as it is.
    pub async fn finish(
        self: &Arc<Self>,
        callback: Callback,
        cookie: Option<&str>,
        redirect: &str,
    ) -> Result<CallbackResult, ConnectError> {
        let (version, entry) = self.pending.read(&callback.state).await?;
        let pending = match entry.stage {
            PendingState::Begun(pending) => pending,
            PendingState::Asked(pending, record) => {
                check_cookie(Origin::of(&pending), cookie)?;
                return Ok(self.confirmation(&pending, callback.state, &record).await);
            }
            PendingState::Choosing(choice) => {
                check_cookie(Origin::of_choice(&choice), cookie)?;
                return Ok(CallbackResult::Connected(ConnectedAccount {
                    title: self.title(&choice.provider),
                    account: choice.account,
                    label: choice.label,
                    used: choice.used,
                    question: Some(callback.state),
                    is_repeated: true,
                }));
            }
            PendingState::Used => return Err(lost()),
        };
        check_cookie(Origin::of(&pending), cookie)?;
        let (broker, redirect) = (Arc::clone(self), redirect.to_owned());
        let span = pending.span();
        let work = async move {
            broker.pending.consume(&callback.state, version).await?;
            let (id, attempted) = (pending.id.clone(), pending.attempted());
            let again = broker.link_of(&pending);
            let finished = broker.handle_answer(callback, *pending, &redirect).await;
            if let Err(refusal) = &finished {
                broker.failures.note(attempted, refusal.for_callers());
                broker.fail(&id, refusal).await;
            }
            finished.map_err(|refusal| refusal.with_link(again))
        };
        self.run_detached(work.instrument(span)).await
    }

    /// Whether tokens of another account may replace those that are there, as the person says.
    ///
    /// # Errors
    /// [`ConnectError`], also when the person says no.
    pub async fn confirm(
        self: &Arc<Self>,
        state: &str,
        cookie: Option<&str>,
        yes: bool,
    ) -> Result<CallbackResult, ConnectError> {
        let (version, entry) = self.pending.read(state).await?;
        let (PendingState::Asked(pending, record), state) = (entry.stage, state.to_owned()) else {
            return Err(ConnectError::begin_anew(
                ConnectErrorKind::Malformed,
                "Nothing waits for this confirmation.",
            ));
        };
        check_cookie(Origin::of(&pending), cookie)?;
        let broker = Arc::clone(self);
        let span = pending.span();
        let work = async move {
            broker.pending.consume(&state, version).await?;
            let again = broker.link_of(&pending);
            let finished = if yes {
                broker.store_account(&state, &pending, *record).await
            } else {
                broker.revoke_tokens(&pending, &record.tokens).await;
                Err(ConnectError::new(
                    ConnectErrorKind::Conflict,
                    "The connection stays as it was.",
                    "Open the link again to sign in with the account that was connected before.",
                ))
            };
            if let Err(refusal) = &finished {
                broker.fail(&pending.id, refusal).await;
            }
            finished.map_err(|refusal| refusal.with_link(again))
        };
        self.run_detached(work.instrument(span)).await
    }

    /// Ends a connection that its person does not want: whoever waits for it hears so. Whether it is that
    /// person is not asked, since nothing is connected by it and a later sign-in still may be.
    pub async fn cancel(&self, opened: &LinkPayload) {
        let (provider, principal) = (&opened.request.provider, &opened.principal);
        let now = now();
        // Each stores an outcome, so they are bounded as sign-ins are, and by themselves: whoever has the link can
        // cancel, and must not keep its person out.
        let until = now.saturating_add(self.pending.ttl.as_secs());
        if self
            .cancel_limit
            .count(principal, &opened.id, (now, until))
            .is_err()
        {
            return;
        }
        let why = format!(
            "{} was not connected: somebody pressed Cancel on its page.",
            self.title(provider)
        );
        self.failures.note(opened.attempted(), &why);
        self.statuses
            .set(&opened.id, ConnectionOutcome::Failed(why))
            .await;
    }

    /// The link that began a sign-in, made once more; `None` when it has expired, or a command began it.
    fn link_of(&self, pending: &PendingConnection) -> Option<String> {
        let payload = LinkPayload {
            principal: pending.principal(),
            request: pending.request.clone(),
            account_digest: pending.account_digest.clone(),
            id: pending.id.clone(),
            until: pending.link_until,
        };
        (payload.until > now()).then(|| self.links.seal(&payload))
    }

    /// Which account calls use that name none, as the person says who has connected one; once.
    ///
    /// # Errors
    /// [`ConnectError`]; everything stays as it is then.
    pub async fn choose_default(
        self: &Arc<Self>,
        state: &str,
        cookie: Option<&str>,
        choice: DefaultChoice,
    ) -> Result<CallbackResult, ConnectError> {
        let (version, entry) = self.pending.read(state).await?;
        let PendingState::Choosing(asked) = entry.stage else {
            return Err(ConnectError::begin_anew(
                ConnectErrorKind::Malformed,
                "Nothing waits for this answer.",
            ));
        };
        check_cookie(Origin::of_choice(&asked), cookie)?;
        let account = match choice {
            DefaultChoice::Used => Some(asked.used.clone().ok_or_else(not_asked)?),
            DefaultChoice::New => Some(asked.account.clone()),
            DefaultChoice::None => None,
        };
        let (broker, state) = (Arc::clone(self), state.to_owned());
        let work = async move {
            broker.pending.consume(&state, version).await?;
            let principal = Principal::new(asked.tenant.as_str(), asked.user.as_str());
            let connection: Arc<str> = asked.connection.as_str().into();
            let key = account_key(&principal, &connection, account.as_deref().unwrap_or_default());
            let is_done = match account {
                Some(_) => broker.manager.choose(&key).await?,
                None => broker.manager.choose_none(&key.owner).await?,
            };
            if !is_done {
                return Err(not_asked());
            }
            let title = broker.title(&asked.provider);
            Ok(CallbackResult::Chosen { title, account })
        };
        self.run_detached(work).await
    }

    async fn fail(&self, id: &str, refusal: &ConnectError) {
        let why = refusal.for_callers().to_owned();
        self.statuses.set(id, ConnectionOutcome::Failed(why)).await;
    }

    /// Work that a closed browser must not end.
    async fn run_detached(
        &self,
        work: impl Future<Output = Result<CallbackResult, ConnectError>> + Send + 'static,
    ) -> Result<CallbackResult, ConnectError> {
        let task = self
            .redeeming
            .spawn_on(request_scope::inherited(work), &self.control);
        task.await.unwrap_or_else(|_ended| Err(lost()))
    }

    /// The question whether `record` replaces what is connected under its name.
    pub(super) async fn confirmation(
        &self,
        pending: &PendingConnection,
        state: String,
        record: &AccountRecord,
    ) -> CallbackResult {
        let provider = pending.request.provider.as_str();
        let connection = self.connection(provider);
        let connection = connection.map_or_else(|| provider.into(), |it| Arc::clone(&it.name));
        let key = account_key(&pending.principal(), &connection, &record.account);
        let before = self.manager.record(&key).await.ok().flatten();
        let person = |record: &AccountRecord| record.label.clone().or_else(|| record.subject.clone());
        CallbackResult::Confirm(Replacement {
            title: self.title(provider),
            certain: record.subject.is_some(),
            account: record.account.clone(),
            connected: before.as_ref().and_then(person),
            signed_in: person(record),
            state,
        })
    }

    async fn handle_answer(
        &self,
        callback: Callback,
        pending: PendingConnection,
        redirect: &str,
    ) -> Result<CallbackResult, ConnectError> {
        let judged = self.check_origin(&callback, &pending, redirect);
        // Whoever wrote it: a server that has lost the client sends nobody back.
        let is_answer = judged.is_err() || callback.error.is_none();
        if let Some(name) = pending.client.as_ref().filter(|_| is_answer) {
            self.clients.note_answered(name, &pending.source.client).await;
        }
        judged?;
        if let Some(error) = &callback.error {
            let description = callback.description.as_deref();
            return Err(self.refused_by_server(&pending, error, description).await);
        }
        let Some(code) = callback.code else {
            tracing::warn!(
                outcome = ConnectErrorKind::Malformed.as_str(),
                error = "the answer carries neither a code nor an error",
                "a connection failed"
            );
            let title = self.title(&pending.request.provider);
            return Err(ConnectError::begin_anew(
                ConnectErrorKind::Malformed,
                format!("The answer of {title} carries neither a code nor an error."),
            ));
        };
        self.redeem(&callback.state, pending, &code).await
    }

    /// Whether an answer came to the right path, from the server that was asked.
    fn check_origin(
        &self,
        callback: &Callback,
        pending: &PendingConnection,
        redirect: &str,
    ) -> Result<(), ConnectError> {
        let provider = &pending.request.provider;
        if redirect != pending.redirect {
            tracing::warn!(
                outcome = ConnectErrorKind::Malformed.as_str(),
                error = "its answer came to another redirect URI",
                oauth.redirect = redirect,
                oauth.redirect_expected = pending.redirect,
                "a connection failed"
            );
            return Err(mixed_up());
        }
        let issuer = pending.issuer.as_deref();
        let checked = oauth::check_iss(issuer, pending.iss_supported, callback.iss.as_deref());
        let Err(trouble) = checked else { return Ok(()) };
        let iss = callback
            .iss
            .as_deref()
            .map(|iss| failure::plain(iss).unwrap_or_default());
        tracing::warn!(
            outcome = ConnectErrorKind::Malformed.as_str(),
            error = callback.error.as_deref().and_then(failure::plain).unwrap_or_else(|| trouble.to_string()),
            description = %trouble,
            oauth.issuer = issuer,
            oauth.iss = iss,
            cure = callback.iss.is_none().then_some(WITHOUT_ISS),
            "a connection failed"
        );
        if callback.iss.is_some() {
            return Err(mixed_up());
        }
        let title = self.title(provider);
        Err(ConnectError::new(
            ConnectErrorKind::Malformed,
            format!(
                "The answer of {title} does not say which server it comes from (`iss`), though its metadata promises \
                 that (RFC 9207); such an answer may be another server's."
            ),
            format!(
                "Nothing was connected. Open the link again; if it happens again: {WITHOUT_ISS}. {OPERATORS}"
            ),
        ))
    }

    /// What an authorization server answers in the place of a code (RFC 6749 section 4.1.2.1), shown to
    /// people with the cure, and logged in full.
    async fn refused_by_server(
        &self,
        pending: &PendingConnection,
        error: &str,
        description: Option<&str>,
    ) -> ConnectError {
        let (provider, source) = (&pending.request.provider, &pending.source);
        let title = self.title(provider);
        let description_text = description.and_then(failure::plain);
        let code = failure::plain(error).unwrap_or_default();
        let verdict = oauth::verdict(error, description);
        let connection = self.connection(provider);
        let declared = connection
            .as_ref()
            .map_or(&ResourceParameter::Auto, |it| &it.resource);
        let cure = match (verdict, &pending.client) {
            (Verdict::UnknownClient, Some(_)) => oauth::MADE_ANEW.to_owned(),
            (verdict, _) => verdict.cure(SentRequest {
                client: &source.client.id,
                redirect: &pending.redirect,
                scopes: &pending.scopes,
                resource: (source.resource.as_deref(), declared),
            }),
        };
        log_refusal(pending, verdict, (&code, description_text.as_deref(), &cure));
        if let Some(name) = &pending.client {
            match verdict {
                Verdict::UnknownClient => self.clients.forget_refused(name, &source.client).await,
                // Reason enough to ask the server before the next sign-in.
                Verdict::PerhapsUnknownClient => {}
                _ => self.clients.note_answered(name, &source.client).await,
            }
        }
        if verdict == Verdict::Denied {
            return ConnectError::new(
                ConnectErrorKind::Denied,
                format!("Access was refused at {title}, so nothing was connected."),
                match pending.link_until {
                    0 => "If that was a mistake, run `pleiades connect` again.",
                    _ => "If that was a mistake, open the link again, or ask your agent: it gets a new one.",
                },
            );
        }
        let words = description_text
            .filter(|text| *text != code)
            .map_or_else(String::new, |text| format!(": “{text}”"));
        ConnectError::new(
            ConnectErrorKind::Provider,
            format!("{title} refused with `{code}`{words}."),
            advice(&cure),
        )
    }
}

/// A person who cancels is no fault of anybody's; any other refusal is logged with what was asked for.
fn log_refusal(
    pending: &PendingConnection,
    verdict: Verdict,
    (code, description, cure): (&str, Option<&str>, &str),
) {
    if verdict == Verdict::Denied {
        tracing::info!(
            outcome = ConnectErrorKind::Denied.as_str(),
            error = code,
            description,
            "a connection was cancelled at its authorization server"
        );
        return;
    }
    let source = &pending.source;
    tracing::warn!(
        outcome = ConnectErrorKind::Provider.as_str(),
        error = code,
        description,
        cure,
        oauth.client = source.client.id,
        oauth.issuer = pending.issuer,
        oauth.scopes = pending.scopes.join(" "),
        oauth.resource = source.resource,
        "a connection failed: the authorization server refused it"
    );
}

/// Where a sign-in began.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    provider: &'a str,
    tenant: &'a str,
    user: &'a str,
    /// Hash of the cookie that the browser has.
    cookie: &'a str,
    is_anywhere: bool,
}

impl<'a> Origin<'a> {
    fn of(pending: &'a PendingConnection) -> Self {
        Self {
            provider: &pending.request.provider,
            tenant: &pending.tenant,
            user: &pending.user,
            cookie: &pending.cookie,
            is_anywhere: pending.anywhere,
        }
    }

    fn of_choice(choice: &'a PendingChoice) -> Self {
        Self {
            provider: &choice.provider,
            tenant: &choice.tenant,
            user: &choice.user,
            cookie: &choice.cookie,
            is_anywhere: false,
        }
    }
}

/// Whether the answer comes from where the sign-in began.
fn check_cookie(origin: Origin<'_>, cookie: Option<&str>) -> Result<(), ConnectError> {
    if origin.is_anywhere || cookie.is_some_and(|cookie| hashed(cookie) == origin.cookie) {
        return Ok(());
    }
    tracing::warn!(
        provider.name = origin.provider,
        principal.tenant = origin.tenant,
        principal.user = origin.user,
        outcome = ConnectErrorKind::Unproven.as_str(),
        error = "its answer came from another browser than the one that began",
        "a connection failed"
    );
    Err(ConnectError::new(
        ConnectErrorKind::Unproven,
        "This answer did not come from the browser in which the sign-in was begun.",
        "Open the link yourself, in one browser, with cookies allowed. If somebody sent you the address that \
         brought you here, do not go on: it would connect your account for them.",
    ))
}

/// What to do where the promised `iss` does not come.
const WITHOUT_ISS: &str = "the provider has to send `iss`, or to take `authorization_response_iss_parameter_supported` out of \
                           its metadata; until then `authorization_endpoint`, `token_endpoint` and `client_id` in the \
                           descriptor do without it";

/// Repeats nothing of the answer: an attacker may have written it.
fn mixed_up() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Malformed,
        "This answer came from another server than the one that was asked.",
        "Nothing was connected. Open the link again; if it happens again, tell whoever runs the gateway: its log \
         names both.",
    )
}

fn not_asked() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Gone,
        "The account that you chose is not connected any more, or it is the only one.",
        "Nothing was changed. Close this page; calls that name no account use the one that is connected.",
    )
}

fn lost() -> ConnectError {
    ConnectError::begin_anew(
        ConnectErrorKind::Gone,
        "The gateway could not finish this sign-in.",
    )
}
