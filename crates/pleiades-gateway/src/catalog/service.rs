//! Attempts to read the lists of providers, and notifications of what changed by them.

use std::{pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast},
    time::timeout,
};

use super::{
    CachedLists, CatalogChange, Lister, Live, Provider, Snapshot, State,
    cached::{AttemptClaim, Discovery, Freshness},
    discover::{Previous, discover},
    failure::ListFailure,
    lists::ListSet,
    live::HealthCause,
    pins::{PinMode, PinStore},
};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::BreakerState;
use pleiades_core::telemetry::{Metrics, events::ProviderChanged, request_scope};
use pleiades_credential::{CallerKeys, ProviderAuth, access::Principal};
use pleiades_upstream::Identity;

/// Attempts of providers' tasks that begin at once.
const AT_ONCE: usize = 16;
/// How long an attempt keeps others from beginning: a hundred hanging providers must not keep a
/// thousand good ones waiting.
const TURN: Duration = Duration::from_secs(2);
/// Changes that a slow listener may fall behind; then everything counts as changed.
const CHANGES: usize = 256;

#[derive(Debug, Clone, Copy)]
pub(super) enum ReadReason {
    /// For a reason of the gateway: these lists, or all with a probe. Subscribers are notified of what
    /// differs.
    Internal(Option<ListSet>),
    /// The provider announced that these changed. Subscribers are notified even where nothing differs: what is
    /// behind an entry may have changed.
    Announced(ListSet),
}

pub(super) struct DiscoveryService {
    pub(super) lister: Box<dyn Lister>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) changes: broadcast::Sender<CatalogChange>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) control: Handle,
    /// Where approved definitions of tools are kept.
    pub(super) pins: Arc<dyn PinStore>,
    tenant: Arc<str>,
    user: Arc<str>,
    turns: Semaphore,
}

impl DiscoveryService {
    pub(super) fn new(
        lister: Box<dyn Lister>,
        metrics: Arc<Metrics>,
        control: Handle,
        pins: Arc<dyn PinStore>,
        (tenant, user): (Arc<str>, Arc<str>),
    ) -> Self {
        Self {
            lister,
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            changes: broadcast::Sender::new(CHANGES),
            metrics,
            control,
            pins,
            tenant,
            user,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether a caller is the one as whom shared lists are read: the local one.
    pub(super) fn is_own(&self, principal: &Principal) -> bool {
        (&principal.tenant, &principal.user) == (&self.tenant, &self.user)
    }

    /// The provider that runs under this id, when it is still the one that `live` belongs to.
    pub(super) fn current(&self, id: &str, live: &Arc<Live>) -> Option<Arc<Provider>> {
        let snapshot = self.snapshot.load();
        let found = snapshot.providers.get(id)?;
        Arc::ptr_eq(&found.live, live).then(|| Arc::clone(found))
    }

    /// The identity with which shared lists are read; `None` when only callers have a credential.
    pub(super) fn identity(&self, need: &ProviderAuth) -> Option<Identity> {
        let signature = need.sign(&CallerKeys::default()).ok()?;
        Some(Identity {
            session: None,
            tenant: Arc::clone(&self.tenant),
            user: Arc::clone(&self.user),
            signature,
        })
    }

    /// Begins an attempt unless one runs. Not ended by a reload: a request of the older snapshot
    /// may wait for it.
    pub(super) fn start(
        self: &Arc<Self>,
        provider: &Arc<Provider>,
        cached: &Arc<CachedLists>,
        identity: &Identity,
        which: Option<ListSet>,
    ) {
        let Some(claim) = cached.claim() else { return };
        let (work, provider, identity) = (Arc::clone(self), Arc::clone(provider), identity.clone());
        self.control.spawn(request_scope::inherited(async move {
            work.attempt(claim, &provider, &identity, ReadReason::Internal(which))
                .await
        }));
    }

    /// An attempt on the shared lists, when it is this provider's turn.
    pub(super) async fn attempt_in_turn(&self, provider: &Provider, identity: &Identity, cause: ReadReason) {
        let cached = &provider.live.shared;
        let mut ended = cached.watch();
        let Ok(turn) = self.turns.acquire().await else {
            return;
        };
        // Somebody who could not wait for our turn may have been here.
        if ended.has_changed().unwrap_or(false) && matches!(cached.freshness(), Freshness::Fresh) {
            return;
        }
        let Some(claim) = cached.claim() else {
            drop(turn);
            ended.changed().await.unwrap_or_default();
            return;
        };
        let mut attempt = pin!(self.attempt(claim, provider, identity, cause));
        if timeout(TURN, &mut attempt).await.is_err() {
            drop(turn);
            attempt.await;
        }
    }

    async fn attempt(
        &self,
        claim: AttemptClaim,
        provider: &Provider,
        identity: &Identity,
        cause: ReadReason,
    ) {
        let cached = claim.cached();
        let listed = matches!(cached.freshness(), Freshness::Fresh | Freshness::Stale);
        let previous = Previous {
            catalogue: cached.load_full(),
            offered: cached.offered(),
            listed,
        };
        // Only a list that was read just before says that what is known of the provider holds.
        let (which, announced) = match cause {
            ReadReason::Internal(which) => (which, ListSet::default()),
            ReadReason::Announced(which) => (Some(which), which),
        };
        let which = which.filter(|_| listed);
        let mut result = discover(&*self.lister, provider, identity, &previous, which).await;
        if which.is_some() && matches!(&result, Err(error) if error.code == Code::UnsupportedRevision) {
            // It was replaced by a newer or an older server: what it is has to be learnt again.
            result = discover(&*self.lister, provider, identity, &previous, None).await;
        }
        match result {
            Ok(mut found) => {
                self.hold_pins((provider, identity), &mut found).await;
                self.on_success(&claim, (provider, identity), (&previous, announced), found);
            }
            Err(error) => self.on_failure(&claim, (provider, identity), &error),
        }
    }

    /// Leaves out of new lists what may not be shown. Where the store cannot say what may, nobody is told that
    /// these tools do not exist.
    async fn hold_pins(&self, (provider, identity): (&Provider, &Identity), found: &mut Discovery) {
        if provider.rules.pins.mode == PinMode::Off {
            return;
        }
        let settled = self.settle_pins(provider, &found.offered).await;
        let tools = provider.live.admitted(&provider.rules, &found.offered);
        let failure = settled
            .err()
            .filter(|_| tools.len() < found.catalogue.tools.len());
        found.catalogue.set_tools(tools);
        if let Some(error) = failure {
            found.catalogue.tools_failure = Some(Box::new(ListFailure::of(&error, identity)));
        }
    }

    fn on_success(
        &self,
        claim: &AttemptClaim,
        (provider, identity): (&Provider, &Identity),
        (previous, announced): (&Previous, ListSet),
        mut found: Discovery,
    ) {
        let shared = Arc::ptr_eq(claim.cached(), &provider.live.shared);
        let is_ending = matches!(&found.failing, Some((Code::ShuttingDown, _)));
        let (failing, idle) = (found.failing.clone().filter(|_| shared), found.idle);
        let cause = failing.as_ref().map(|(code, failing)| HealthCause {
            code: *code,
            root: identity.signature.redacted(failing.clone()),
        });
        let reason = match (failing, found.left_out.reason()) {
            (Some((_, failing)), Some(left_out)) => Some(format!("{failing}; {left_out}")),
            (failing, left_out) => failing.map(|(_, failing)| failing).or(left_out),
        };
        let reason = reason.map(|reason| identity.signature.redacted(reason));
        if !shared {
            provider
                .live
                .share_equal_tools(&mut found.catalogue, &mut found.offered, &provider.rules);
        }
        let (failed_before, left_out) = claim.succeed(found);
        self.review_pins(provider);
        for why in left_out {
            tracing::warn!(
                provider.name = %provider.id,
                outcome = Code::UpstreamProtocol.as_str(),
                error = why,
                "a part of what the provider offers is left out"
            );
        }
        let catalogue = claim.cached().load();
        let count = catalogue.tools.len();
        let mut differ = ListSet::differences(&previous.catalogue, &catalogue).union(announced);
        if failed_before {
            // Whoever asked meanwhile got a list without this provider.
            differ.tools |= count > 0;
            differ.resources |= !catalogue.resources.is_empty() || !catalogue.templates.is_empty();
            differ.prompts |= !catalogue.prompts.is_empty();
        }
        // Nothing that could be read is no news of what the provider offers.
        if !shared && (count > 0 || catalogue.tools_failure.is_none()) {
            provider
                .live
                .remember_template(&identity.tenant, Arc::clone(&catalogue));
        }
        match reason {
            _ if is_ending => {}
            Some(reason) => self.set_health(provider, State::Degraded, (cause, Some(reason))),
            None => self.set_health(provider, State::Ready, (None, idle.map(str::to_owned))),
        }
        if self.current(&provider.id, &provider.live).is_none() {
            return;
        }
        self.metrics.tools(&provider.id, provider.live.known_tools());
        if !shared {
            provider.live.trim();
        }
        if differ.any() {
            let user = (!shared).then(|| (Arc::clone(&identity.tenant), Arc::clone(&identity.user)));
            self.notify_user(Some(&provider.id), user, differ);
        }
    }

    fn on_failure(&self, claim: &AttemptClaim, (provider, identity): (&Provider, &Identity), error: &Error) {
        let shared = Arc::ptr_eq(claim.cached(), &provider.live.shared);
        let why = identity.signature.redacted(error.in_full());
        tracing::debug!(
            provider.name = %provider.id, outcome = error.code.as_str(), error = why,
            "lists could not be read"
        );
        claim.fail(ListFailure::of(error, identity));
        let cause = HealthCause {
            code: error.code,
            root: identity.signature.redacted(error.cause()),
        };
        let set_health = |state| self.set_health(provider, state, (Some(cause.clone()), Some(why.clone())));
        match error.code {
            // Says nothing of the provider.
            Code::ShuttingDown | Code::Cancelled => {}
            // What one caller brought says nothing of the provider.
            _ if !shared && error.code.is_of_credentials() => {}
            // Whoever runs the gateway brought it: callers can do nothing.
            code if provider.need.is_shared() && code.is_of_credentials() => set_health(State::Degraded),
            Code::UpstreamAuth | Code::NeedsAuth => set_health(State::NeedsAuth),
            Code::UpstreamUnreachable | Code::UpstreamTimeout => set_health(State::Unreachable),
            _ if shared => set_health(State::Unreachable),
            _ => {}
        }
    }

    /// Sets the health of a provider, and logs it when state or cause are new.
    pub(super) fn set_health(
        &self,
        provider: &Provider,
        state: State,
        (cause, reason): (Option<HealthCause>, Option<String>),
    ) {
        let code = cause.as_ref().map(|cause| cause.code);
        if !provider.live.set_health(state, reason.clone(), cause) {
            return;
        }
        let is_credential = state == State::Degraded && code.is_some_and(Code::is_of_credentials);
        let own = is_credential.then(|| credential_cure(&provider.need)).flatten();
        let cure =
            own.unwrap_or_else(|| format!("run `pleiades doctor {}`: it says which step fails", provider.id));
        let changed = ProviderChanged {
            provider: &provider.id,
            state: state.as_str(),
            is_well: matches!(state, State::Starting | State::Ready | State::NeedsAuth),
            tools: provider.live.known_tools(),
            outcome: code.map(Code::as_str),
            error: reason.as_deref(),
            cure: Some(&cure),
        };
        changed.emit();
    }

    /// Logs that the breaker of a provider has opened, and that it is closed again.
    pub(super) fn note_breaker(&self, provider: &Provider, outcome: Result<(), &Error>) {
        match outcome {
            Err(error) => {
                if provider.gate.breaker() == BreakerState::Open && provider.live.note_breaker(true) {
                    tracing::warn!(
                        provider.name = %provider.id,
                        outcome = error.code.as_str(),
                        error = error.in_full(),
                        "the breaker of the provider opened: its calls are refused for a while"
                    );
                }
            }
            Ok(()) => {
                if provider.live.note_breaker(false) {
                    tracing::info!(provider.name = %provider.id, "the breaker of the provider closed");
                }
            }
        }
    }

    pub(super) fn notify(&self, provider: Option<&Arc<str>>, which: ListSet) {
        self.notify_user(provider, None, which);
    }

    /// Notifies the subscribers of one user, or all.
    pub(super) fn notify_user(
        &self,
        provider: Option<&Arc<str>>,
        user: Option<(Arc<str>, Arc<str>)>,
        which: ListSet,
    ) {
        let changed = CatalogChange {
            provider: provider.cloned(),
            user,
            tools: which.tools,
            resources: which.resources,
            prompts: which.prompts,
        };
        // Nobody listening is no fault.
        self.changes.send(changed).unwrap_or_default();
    }
}

/// What whoever runs the gateway can do about a credential of its own that does not serve.
fn credential_cure(need: &ProviderAuth) -> Option<String> {
    match need {
        ProviderAuth::ApiKey { field, .. } => Some(format!("correct `{field}`, or what it refers to")),
        ProviderAuth::ClientCredentials(..) => {
            Some("correct `client_id` and `client_secret` of `auth.client_credentials`".to_owned())
        }
        ProviderAuth::None => Some("the provider wants a credential: declare it under `auth`".to_owned()),
        ProviderAuth::ClientKey(_) | ProviderAuth::OAuth(_) => None,
    }
}
