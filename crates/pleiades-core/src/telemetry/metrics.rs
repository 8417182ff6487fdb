//! The metrics of this process.
//!
//! What moves with each request is resolved once per provider and kept in [`ProviderMetrics`], so
//! that an event costs a few atomic additions. Series appear with their first event, so that idle
//! providers cost a scrape little. What alerts watch for growth is there from the start, at 0.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    process_collector::ProcessCollector,
};

use super::names::{self, Metric};
use super::provider::{InflightGuard, ProviderMetrics};

/// Buckets of durations, in seconds: from a local answer to the longest default deadline.
const BUCKETS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Removed providers that are remembered, so that late events do not bring their series back.
const GONE: usize = 10_000;

/// Families with labels, shared by the handles of all providers.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) calls: IntCounterVec,
    pub(super) call_duration: HistogramVec,
    pub(super) tool_calls: IntCounterVec,
    pub(super) upstream_duration: HistogramVec,
    pub(super) inflight: IntGaugeVec,
    pub(super) limited: IntCounterVec,
    pub(super) breaker: IntGaugeVec,
    pub(super) tools: IntGaugeVec,
    pub(super) pins: IntGaugeVec,
    pub(super) refreshes: IntCounterVec,
    pub(super) cache: IntCounterVec,
    pub(super) tokens_saved: IntCounterVec,
    pub(super) menus: IntCounterVec,
    pub(super) tokens_cut: IntCounterVec,
}

#[derive(Debug, Default)]
struct ProviderHandles {
    live: HashMap<Arc<str>, Arc<ProviderMetrics>>,
    gone: HashSet<Box<str>>,
}

/// Every metric of the process, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    handles: RwLock<ProviderHandles>,
    none: Arc<ProviderMetrics>,
    reload: IntCounterVec,
    generation: IntGauge,
    providers: IntGaugeVec,
    sessions: IntGauge,
    result_handles: IntGauge,
    streams: IntGauge,
    shared_state: IntGaugeVec,
    vault_requests: IntCounterVec,
    vault_up: IntGaugeVec,
    repairs: IntCounterVec,
    credentials: IntGaugeVec,
    expiry: IntGaugeVec,
}

impl Metrics {
    /// All metrics at zero, with those of the process and the build.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        let families = Arc::new(Families {
            calls: counters(&registry, &names::CALLS),
            call_duration: histograms(&registry, &names::CALL_DURATION),
            tool_calls: counters(&registry, &names::TOOL_CALLS),
            upstream_duration: histograms(&registry, &names::UPSTREAM_DURATION),
            inflight: gauges(&registry, &names::INFLIGHT),
            limited: counters(&registry, &names::LIMITED),
            breaker: gauges(&registry, &names::BREAKER_STATE),
            tools: gauges(&registry, &names::TOOLS),
            pins: gauges(&registry, &names::TOOL_PINS),
            refreshes: counters(&registry, &names::TOKEN_REFRESH),
            cache: counters(&registry, &names::CACHE),
            tokens_saved: counters(&registry, &names::FACADE_TOKENS_SAVED),
            menus: counters(&registry, &names::MENUS),
            tokens_cut: counters(&registry, &names::RESULT_TOKENS_CUT),
        });
        gauges(&registry, &names::BUILD_INFO)
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        constant(registry.register(Box::new(ProcessCollector::for_self())));
        let none = ProviderMetrics::new(names::NO_PROVIDER.into(), Arc::clone(&families));
        none.publish_calls();
        Arc::new(Self {
            none,
            families,
            handles: RwLock::default(),
            reload: all_counters(&registry, &names::RELOAD, &[&names::RELOADS]),
            generation: gauge(&registry, &names::RELOAD_GENERATION),
            providers: gauges(&registry, &names::PROVIDERS),
            sessions: gauge(&registry, &names::SESSIONS),
            result_handles: gauge(&registry, &names::RESULT_HANDLES),
            streams: gauge(&registry, &names::STREAMS),
            shared_state: gauges(&registry, &names::SHARED_STATE_UP),
            vault_requests: all_counters(
                &registry,
                &names::VAULT_REQUESTS,
                &[&names::VAULT_OPERATIONS, &names::VAULT_OUTCOMES],
            ),
            vault_up: gauges(&registry, &names::VAULT_UP),
            repairs: counters(&registry, &names::FACADE_REPAIRS),
            credentials: gauges(&registry, &names::CREDENTIAL_STATE),
            expiry: gauges(&registry, &names::CREDENTIAL_EXPIRY),
            registry,
        })
    }

    /// Everything as Prometheus text (format 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be rendered");
        }
        text
    }

    /// The handles of a loaded provider; keep them while it is loaded. Call this with ids of
    /// descriptors only, never with what a caller sent: ids are labels.
    pub fn provider(&self, id: &str) -> Arc<ProviderMetrics> {
        if let Some(found) = self.handles.read().live.get(id) {
            return Arc::clone(found);
        }
        let mut known = self.handles.write();
        known.gone.remove(id);
        let id: Arc<str> = id.into();
        let made = || {
            let made = ProviderMetrics::new(Arc::clone(&id), Arc::clone(&self.families));
            made.publish_calls();
            made
        };
        Arc::clone(known.live.entry(Arc::clone(&id)).or_insert_with(made))
    }

    /// The handles for an event: those of no provider when it is `None` or was forgotten.
    fn of(&self, id: Option<&str>) -> Arc<ProviderMetrics> {
        let Some(id) = id else {
            return Arc::clone(&self.none);
        };
        let known = self.handles.read();
        if let Some(found) = known.live.get(id) {
            return Arc::clone(found);
        }
        if known.gone.contains(id) {
            return Arc::clone(&self.none);
        }
        drop(known);
        self.provider(id)
    }

    /// Drops every series of a removed provider. Handles still held move nothing any more.
    pub fn forget(&self, provider: &str) {
        let mut known = self.handles.write();
        if known.gone.len() >= GONE {
            known.gone.clear();
        }
        known.gone.insert(provider.into());
        // A series that was never made cannot be removed; that is no fault.
        self.expiry.remove_label_values(&[provider]).ok();
        for state in names::ACCOUNTS {
            self.credentials.remove_label_values(&[provider, state]).ok();
        }
        if let Some(handles) = known.live.remove(provider) {
            handles.forget();
        }
    }

    /// Counts a request as running against a provider until the guard is dropped.
    pub fn inflight(self: &Arc<Self>, provider: &Arc<str>) -> InflightGuard {
        self.of(Some(provider)).inflight()
    }

    /// A call that a rule refused.
    pub fn limited(&self, provider: &str, rule: &str) {
        self.of(Some(provider)).limited(rule);
    }

    /// State of a provider's breaker: 0 closed, 1 half open, 2 open.
    pub fn breaker(&self, provider: &str, state: i64) {
        self.of(Some(provider)).breaker(state);
    }

    /// How many tools a provider offers.
    pub fn tools(&self, provider: &str, count: usize) {
        self.of(Some(provider)).tools(count);
    }

    /// How many tools of a provider are in each of [`names::PIN_STATES`].
    pub fn tool_pins(&self, provider: &str, states: [usize; names::PIN_STATES.len()]) {
        self.of(Some(provider)).tool_pins(states);
    }

    /// A reading of the folder and the generation that is loaded after it.
    pub fn reload(&self, outcome: &str, generation: u64) {
        self.reload
            .with_label_values(&[names::closed(&names::RELOADS, outcome)])
            .inc();
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// How many providers are in each state; states that are not named have none.
    pub fn providers<'a>(&self, counts: impl IntoIterator<Item = (&'a str, usize)>) {
        let counts: HashMap<&str, usize> = counts.into_iter().collect();
        for state in names::STATES {
            let count = counts.get(state).copied().unwrap_or(0);
            self.providers
                .with_label_values(&[state])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How many upstream sessions and children are open.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many results are kept to be read on.
    pub fn result_handles(&self, count: usize) {
        self.result_handles.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A meta tool was listed in place of definitions that cost a model so many tokens more.
    pub fn tokens_saved(&self, provider: &str, tokens: usize) {
        self.of(Some(provider)).tokens_saved(tokens);
    }

    /// A call met the cache of answers, or a write emptied it.
    pub fn cached(&self, provider: &str, outcome: &str) {
        self.of(Some(provider)).cached(outcome);
    }

    /// A client's stream was opened (1) or closed (-1).
    pub fn streams(&self, delta: i64) {
        self.streams.add(delta);
    }

    /// Whether the Redis of the shared state is reached.
    pub fn shared_state(&self, is_up: bool) {
        let none: [&str; 0] = [];
        self.shared_state.with_label_values(&none).set(i64::from(is_up));
    }

    /// An attempt to renew a token set.
    pub fn refreshed(&self, provider: &str, outcome: &str) {
        self.of(Some(provider)).refreshed(outcome);
    }

    /// How many accounts of each loaded provider are in each state, and in how many seconds the first
    /// token of each ends; what is not named vanishes.
    pub fn credentials<'a>(
        &self,
        states: impl IntoIterator<Item = (&'a str, &'a str, usize)>,
        soonest: impl IntoIterator<Item = (&'a str, i64)>,
    ) {
        self.credentials.reset();
        for (provider, state, count) in states {
            self.credentials
                .with_label_values(&[provider, names::closed(&names::ACCOUNTS, state)])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.expiry.reset();
        for (provider, seconds) in soonest {
            self.expiry.with_label_values(&[provider]).set(seconds);
        }
    }

    /// A request to the credential store, and whether the store was there to answer it.
    pub fn vault(&self, operation: &str, outcome: &str, is_up: bool) {
        let operation = names::closed(&names::VAULT_OPERATIONS, operation);
        let outcome = names::closed(&names::VAULT_OUTCOMES, outcome);
        self.vault_requests.with_label_values(&[operation, outcome]).inc();
        let none: [&str; 0] = [];
        self.vault_up.with_label_values(&none).set(i64::from(is_up));
    }

    /// A call of a client was repaired before it ran. `client` is the name it gave itself.
    pub fn repaired(&self, client: &str, kind: &str) {
        let kind = names::closed(&names::REPAIRS, kind);
        self.repairs
            .with_label_values(&[names::client(client), kind])
            .inc();
    }

    pub(super) fn call(&self, provider: Option<&str>, call: &super::provider::CallSample<'_>) {
        self.of(provider).call(call);
    }
}

/// The definitions are constants and a test registers them all.
#[expect(clippy::expect_used, reason = "fails for a wrong constant in `names` alone")]
fn constant<T>(made: prometheus::Result<T>) -> T {
    made.expect("`names` defines every metric once and well")
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn counters(registry: &Registry, metric: &Metric) -> IntCounterVec {
    let made = constant(IntCounterVec::new(opts(metric), metric.labels));
    constant(registry.register(Box::new(made.clone())));
    made
}

/// Counters whose series are all there from the start, at 0: one for each combination of these values.
fn all_counters(registry: &Registry, metric: &Metric, values: &[&[&str]]) -> IntCounterVec {
    let made = counters(registry, metric);
    let mut rows: Vec<Vec<&str>> = vec![Vec::new()];
    for set in values {
        let mut longer = Vec::new();
        for row in &rows {
            longer.extend(set.iter().map(|value| [row.as_slice(), &[*value]].concat()));
        }
        rows = longer;
    }
    for row in rows {
        made.with_label_values(&row);
    }
    made
}

fn gauges(registry: &Registry, metric: &Metric) -> IntGaugeVec {
    let made = constant(IntGaugeVec::new(opts(metric), metric.labels));
    constant(registry.register(Box::new(made.clone())));
    made
}

fn gauge(registry: &Registry, metric: &Metric) -> IntGauge {
    let made = constant(IntGauge::with_opts(opts(metric)));
    constant(registry.register(Box::new(made.clone())));
    made
}

fn histograms(registry: &Registry, metric: &Metric) -> HistogramVec {
    let opts = HistogramOpts::new(metric.name, metric.help).buckets(BUCKETS.to_vec());
    let made = constant(HistogramVec::new(opts, metric.labels));
    constant(registry.register(Box::new(made.clone())));
    made
}
