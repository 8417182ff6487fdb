//! What happens in the process: one struct an occurrence, whose `emit` writes the log line and
//! moves the metrics together, so that neither is ever forgotten.

use std::{path::Path, time::Duration};

use tracing::{error, info, warn};

#[cfg(doc)]
use super::names;
pub use super::request::RequestDone;
use super::{Metrics, redact::without_queries};

/// The process is about to serve.
#[derive(Debug)]
pub struct Started<'a> {
    /// Public listener.
    pub listen: &'a str,
    /// Admin listener.
    pub admin: &'a str,
    /// Folder of descriptors.
    pub providers: &'a Path,
    /// How many descriptors run.
    pub running: usize,
}

impl Started<'_> {
    /// Writes it.
    pub fn emit(&self) {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = self.listen,
            admin = self.admin,
            providers = %self.providers.display(),
            providers.running = self.running,
            "pleiades serves"
        );
    }
}

/// The process was told to end.
#[derive(Debug)]
pub struct Stopping {
    /// Why, for example the signal.
    pub reason: &'static str,
    /// How long running requests have.
    pub grace: Duration,
}

impl Stopping {
    /// Writes it.
    pub fn emit(&self) {
        info!(
            reason = self.reason,
            grace_ms = millis(self.grace),
            "pleiades stops: no new requests are taken"
        );
    }
}

/// The folder of descriptors was read.
#[derive(Debug)]
pub struct Reloaded<'a> {
    /// `applied`, `partial` (some files are broken), `refused` or `unchanged`.
    pub outcome: &'a str,
    /// The generation that is loaded now.
    pub generation: u64,
    /// Providers that came.
    pub added: usize,
    /// Providers that changed.
    pub changed: usize,
    /// Providers that went.
    pub removed: usize,
    /// Every fault, as `check` prints it.
    pub faults: &'a [String],
    /// How long it took.
    pub took: Duration,
    /// Why it was refused.
    pub reason: Option<&'a str>,
}

impl Reloaded<'_> {
    /// Counts the reload and writes it; a reading that found nothing new is only counted.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.reload(self.outcome, self.generation);
        match self.outcome {
            "unchanged" => {}
            "refused" => error!(
                reload.generation = self.generation,
                reason = self.reason,
                "reload refused: what was loaded keeps running"
            ),
            outcome => info!(
                outcome,
                reload.generation = self.generation,
                providers.added = self.added,
                providers.changed = self.changed,
                providers.removed = self.removed,
                faults = self.faults.len(),
                duration_ms = millis(self.took),
                "descriptors reloaded"
            ),
        }
        for fault in self.faults {
            warn!(fault, "descriptor refused");
        }
    }
}

/// A provider's state changed.
#[derive(Debug)]
pub struct ProviderChanged<'a> {
    /// Which.
    pub provider: &'a str,
    /// Before; `None` when it is new.
    pub from: Option<&'a str>,
    /// Now: one of [`names::STATES`].
    pub to: &'a str,
    /// Why, when it does not serve.
    pub reason: Option<&'a str>,
}

impl ProviderChanged<'_> {
    /// Writes it: as a warning when the provider serves less than it should.
    pub fn emit(&self) {
        let reason = self.reason.map(without_queries);
        let reason = reason.as_deref();
        let (provider, from, to) = (self.provider, self.from, self.to);
        if matches!(to, "degraded" | "unreachable" | "stale") {
            warn!(
                provider.name = provider,
                state.from = from,
                state = to,
                reason,
                "provider state changed"
            );
        } else {
            info!(
                provider.name = provider,
                state.from = from,
                state = to,
                reason,
                "provider state changed"
            );
        }
    }
}

/// A provider was removed.
#[derive(Debug)]
pub struct ProviderRemoved<'a> {
    /// Which.
    pub provider: &'a str,
}

impl ProviderRemoved<'_> {
    /// Drops its series and writes it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.forget(self.provider);
        info!(provider.name = self.provider, "provider removed");
    }
}

/// A provider offers other tools than before.
#[derive(Debug)]
pub struct ToolsChanged<'a> {
    /// Whose.
    pub provider: &'a str,
    /// How many there are.
    pub tools: usize,
    /// Whether every page of its lists was read.
    pub complete: bool,
}

impl ToolsChanged<'_> {
    /// Sets the gauge and writes it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.tools(self.provider, self.tools);
        info!(
            provider.name = self.provider,
            tools = self.tools,
            complete = self.complete,
            "tools listed"
        );
    }
}

/// A call was refused by a limit.
#[derive(Debug)]
pub struct Limited<'a> {
    /// Whose limit.
    pub provider: &'a str,
    /// One of [`names::RULES`].
    pub rule: &'static str,
}

impl Limited<'_> {
    /// Counts it. The line of the request says it, so there is no line of its own.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.limited(self.provider, self.rule);
    }
}

/// A breaker moved.
#[derive(Debug)]
pub struct BreakerMoved<'a> {
    /// Whose.
    pub provider: &'a str,
    /// 0 closed, 1 half open, 2 open.
    pub state: i64,
}

impl BreakerMoved<'_> {
    /// Sets the gauge and writes it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.breaker(self.provider, self.state);
        match self.state {
            0 => info!(provider.name = self.provider, "breaker closed: calls pass again"),
            1 => info!(
                provider.name = self.provider,
                "breaker half open: one call may try"
            ),
            _ => warn!(
                provider.name = self.provider,
                "breaker open: calls are refused for a while"
            ),
        }
    }
}

/// Somebody's token set was to be renewed.
#[derive(Debug)]
pub struct TokenRefreshed<'a> {
    /// Whose tokens.
    pub provider: &'a str,
    /// One of [`names::REFRESHES`].
    pub outcome: &'static str,
    /// Tenant, user and name of the account; `None` of tokens that are nobody's.
    pub account: Option<[&'a str; 3]>,
    /// Which set is there now.
    pub seq: Option<u64>,
    /// Why not: the server's name for it.
    pub error: Option<&'a str>,
    /// Why not, in a sentence, without any secret.
    pub description: Option<&'a str>,
    /// What to do.
    pub cure: Option<&'a str>,
}

impl TokenRefreshed<'_> {
    /// Counts it and writes it: as a warning when there is no new set.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.refreshed(self.provider, self.outcome);
        let description = self.description.map(without_queries);
        let (error, description, cure) = (self.error, description.as_deref(), self.cure);
        let [tenant, user, account] = self.account.map_or([None; 3], |all| all.map(Some));
        let (provider, outcome, seq) = (self.provider, self.outcome, self.seq);
        if matches!(outcome, "refreshed" | "lost_race") {
            info!(
                provider.name = provider,
                principal.tenant = tenant,
                principal.user = user,
                account.id = account,
                outcome,
                seq,
                "tokens renewed"
            );
        } else {
            warn!(
                provider.name = provider,
                principal.tenant = tenant,
                principal.user = user,
                account.id = account,
                outcome,
                seq,
                error,
                description,
                cure,
                "tokens could not be renewed"
            );
        }
    }
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
