//! The metric handles of one provider, resolved once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::{collections::HashMap, time::Duration};

use parking_lot::{Mutex, RwLock};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::{View, metrics::Families, names};
use crate::error::Code;

/// Tools of a provider that get a label of their own; further ones are `other`.
const TOOLS: usize = 2000;

type Counters<const N: usize> = [OnceLock<IntCounter>; N];

fn empty<const N: usize>() -> Counters<N> {
    std::array::from_fn(|_| OnceLock::new())
}

#[derive(Debug)]
struct Outcomes(Counters<{ names::OUTCOMES.len() }>);

#[derive(Debug)]
pub(super) struct CallSample<'a> {
    pub(super) view: View,
    pub(super) tool: Option<&'a str>,
    pub(super) outcome: &'static str,
    pub(super) duration: Duration,
    pub(super) upstream: Option<Duration>,
    /// One of several calls that a request led to: it is no request of its own.
    pub(super) is_part: bool,
}

#[derive(Debug)]
struct PerView {
    outcomes: Outcomes,
    duration: OnceLock<Histogram>,
}

/// The series of one provider. Cheap to move: no label is hashed, no lock is taken but the shared
/// one that finds a tool.
#[derive(Debug)]
pub struct ProviderMetrics {
    id: Arc<str>,
    families: Arc<Families>,
    views: [PerView; View::ALL.len()],
    upstream: OnceLock<Histogram>,
    inflight: OnceLock<IntGauge>,
    breaker: OnceLock<IntGauge>,
    tools: OnceLock<IntGauge>,
    pins: [OnceLock<IntGauge>; names::PIN_STATES.len()],
    limited: Counters<{ names::RULES.len() }>,
    refreshes: Counters<{ names::REFRESHES.len() }>,
    cache: Counters<{ names::CACHE_OUTCOMES.len() }>,
    menus: Counters<{ names::MENU_OUTCOMES.len() }>,
    tokens_cut: OnceLock<IntCounter>,
    tokens_saved: OnceLock<IntCounter>,
    by_tool: RwLock<HashMap<Box<str>, Arc<Outcomes>>>,
    other_tool: Outcomes,
    /// Set once, when the provider was removed.
    gone: AtomicBool,
    /// Locked while a series is made and while all are dropped, so that none is made afterwards.
    making: Mutex<()>,
}

impl ProviderMetrics {
    pub(super) fn new(id: Arc<str>, families: Arc<Families>) -> Arc<Self> {
        let per_view = |_| PerView {
            outcomes: Outcomes(empty()),
            duration: OnceLock::new(),
        };
        Arc::new(Self {
            id,
            families,
            views: std::array::from_fn(per_view),
            upstream: OnceLock::new(),
            inflight: OnceLock::new(),
            breaker: OnceLock::new(),
            tools: OnceLock::new(),
            pins: std::array::from_fn(|_| OnceLock::new()),
            limited: empty(),
            refreshes: empty(),
            cache: empty(),
            menus: empty(),
            tokens_cut: OnceLock::new(),
            tokens_saved: OnceLock::new(),
            by_tool: RwLock::default(),
            other_tool: Outcomes(empty()),
            gone: AtomicBool::new(false),
            making: Mutex::new(()),
        })
    }

    /// Counts a request as running until the guard is dropped.
    pub fn inflight(self: &Arc<Self>) -> InflightGuard {
        let gauge = self.series(&self.inflight, || {
            self.families.inflight.with_label_values(&[&*self.id])
        });
        InflightGuard(gauge.inspect(|gauge| gauge.inc()).cloned())
    }

    /// A call that a rule refused.
    pub fn limited(&self, rule: &str) {
        let at = names::position(&names::RULES, rule);
        let (Some(cell), Some(rule)) = (self.limited.get(at), names::RULES.get(at)) else {
            return;
        };
        let made = || self.families.limited.with_label_values(&[&*self.id, *rule]);
        self.series(cell, made).inspect(|counter| counter.inc());
    }

    /// Publishes what alerts watch, at 0: the growth of a series that is born at 1 is never seen.
    pub(super) fn publish_calls(&self) {
        let at = names::position(&names::OUTCOMES, Code::Internal.as_str());
        for view in View::ALL {
            self.counted(view, at);
        }
    }

    /// Publishes the outcomes of renewals, at 0: of a provider that has accounts.
    pub fn publish_renewals(&self) {
        for at in 0..names::REFRESHES.len() {
            self.renewals(at);
        }
    }

    /// An attempt to renew a token set.
    pub fn refreshed(&self, outcome: &str) {
        self.renewals(names::position(&names::REFRESHES, outcome))
            .inspect(|counter| counter.inc());
    }

    fn renewals(&self, at: usize) -> Option<&IntCounter> {
        let (cell, outcome) = (self.refreshes.get(at)?, names::REFRESHES.get(at)?);
        let made = || self.families.refreshes.with_label_values(&[&*self.id, *outcome]);
        self.series(cell, made)
    }

    /// A meta tool was listed in place of definitions that cost so many tokens more.
    pub fn tokens_saved(&self, tokens: usize) {
        let made = || self.families.tokens_saved.with_label_values(&[&*self.id]);
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        self.series(&self.tokens_saved, made)
            .inspect(|counter| counter.inc_by(tokens));
    }

    /// A call met the cache of answers, or a write emptied it.
    pub fn cached(&self, outcome: &str) {
        let at = names::position(&names::CACHE_OUTCOMES, outcome);
        let (Some(cell), Some(outcome)) = (self.cache.get(at), names::CACHE_OUTCOMES.get(at)) else {
            return;
        };
        let made = || self.families.cache.with_label_values(&[&*self.id, *outcome]);
        self.series(cell, made).inspect(|counter| counter.inc());
    }

    /// So many tokens of a result were not sent.
    pub fn tokens_cut(&self, tokens: usize) {
        let made = || self.families.tokens_cut.with_label_values(&[&*self.id]);
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        self.series(&self.tokens_cut, made)
            .inspect(|counter| counter.inc_by(tokens));
    }

    /// State of the breaker: 0 closed, 1 half open, 2 open.
    pub fn breaker(&self, state: i64) {
        let made = || self.families.breaker.with_label_values(&[&*self.id]);
        self.series(&self.breaker, made).inspect(|gauge| gauge.set(state));
    }

    /// How many of its tools are in each of [`names::PIN_STATES`].
    pub fn tool_pins(&self, states: [usize; names::PIN_STATES.len()]) {
        for ((cell, state), count) in self.pins.iter().zip(names::PIN_STATES).zip(states) {
            let made = || self.families.pins.with_label_values(&[&*self.id, state]);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.series(cell, made).inspect(|gauge| gauge.set(count));
        }
    }

    /// How many tools it offers.
    pub fn tools(&self, count: usize) {
        let made = || self.families.tools.with_label_values(&[&*self.id]);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.series(&self.tools, made).inspect(|gauge| gauge.set(count));
    }

    pub(super) fn call(&self, call: &CallSample<'_>) {
        let outcome = names::position(&names::OUTCOMES, call.outcome);
        if !call.is_part {
            self.view(call, outcome);
        }
        if let Some(upstream) = call.upstream {
            let made = || self.families.upstream_duration.with_label_values(&[&*self.id]);
            self.series(&self.upstream, made)
                .inspect(|histogram| histogram.observe(upstream.as_secs_f64()));
        }
        if let Some(tool) = call.tool {
            self.tool(tool, outcome);
        }
        self.menu(call);
    }

    fn menu(&self, call: &CallSample<'_>) {
        let at = names::MENU_OUTCOMES
            .iter()
            .position(|outcome| *outcome == call.outcome);
        if let Some((cell, at)) = at.and_then(|at| Some((self.menus.get(at)?, at))) {
            let made = || {
                let outcome = names::MENU_OUTCOMES.get(at).copied().unwrap_or(names::OTHER);
                self.families.menus.with_label_values(&[&*self.id, outcome])
            };
            self.series(cell, made).inspect(|counter| counter.inc());
        }
    }

    fn view(&self, call: &CallSample<'_>, at: usize) {
        let Some(view) = self.views.get(call.view as usize) else {
            return;
        };
        let labels = [&*self.id, call.view.as_str()];
        let made = || self.families.call_duration.with_label_values(&labels);
        self.series(&view.duration, made)
            .inspect(|histogram| histogram.observe(call.duration.as_secs_f64()));
        self.counted(call.view, at).inspect(|counter| counter.inc());
    }

    fn counted(&self, view: View, at: usize) -> Option<&IntCounter> {
        let cells = &self.views.get(view as usize)?.outcomes.0;
        let (cell, outcome) = (cells.get(at)?, names::OUTCOMES.get(at)?);
        let labels = [&*self.id, view.as_str(), *outcome];
        self.series(cell, || self.families.calls.with_label_values(&labels))
    }

    fn tool(&self, tool: &str, at: usize) {
        if tool == names::OTHER {
            return self.count_tool(&self.other_tool, tool, at);
        }
        if let Some(outcomes) = self.by_tool.read().get(tool) {
            return self.count_tool(outcomes, tool, at);
        }
        match self.new_tool(tool) {
            Some(outcomes) => self.count_tool(&outcomes, tool, at),
            None => self.count_tool(&self.other_tool, names::OTHER, at),
        }
    }

    fn new_tool(&self, tool: &str) -> Option<Arc<Outcomes>> {
        let mut tools = self.by_tool.write();
        if tools.len() >= TOOLS && !tools.contains_key(tool) {
            return None;
        }
        Some(Arc::clone(
            tools
                .entry(tool.into())
                .or_insert_with(|| Arc::new(Outcomes(empty()))),
        ))
    }

    fn count_tool(&self, outcomes: &Outcomes, tool: &str, at: usize) {
        let (Some(cell), Some(outcome)) = (outcomes.0.get(at), names::OUTCOMES.get(at)) else {
            return;
        };
        let made = || {
            self.families
                .tool_calls
                .with_label_values(&[&*self.id, tool, *outcome])
        };
        self.series(cell, made).inspect(|counter| counter.inc());
    }

    /// The series of a cell, made on first use; `None` once the provider is gone.
    fn series<'a, T>(&self, cell: &'a OnceLock<T>, make: impl FnOnce() -> T) -> Option<&'a T> {
        if let Some(made) = cell.get() {
            return Some(made);
        }
        let _making = self.making.lock();
        if self.gone.load(Relaxed) {
            return None;
        }
        Some(cell.get_or_init(make))
    }

    /// Drops every series that was made.
    pub(super) fn forget(&self) {
        let _making = self.making.lock();
        self.gone.store(true, Relaxed);
        let id = &*self.id;
        // A series that was never made cannot be removed; that is no fault.
        let gone = |_: prometheus::Result<()>| ();
        gone(self.families.inflight.remove_label_values(&[id]));
        gone(self.families.breaker.remove_label_values(&[id]));
        gone(self.families.tools.remove_label_values(&[id]));
        gone(self.families.tokens_cut.remove_label_values(&[id]));
        for state in names::PIN_STATES {
            gone(self.families.pins.remove_label_values(&[id, state]));
        }
        gone(self.families.tokens_saved.remove_label_values(&[id]));
        gone(self.families.upstream_duration.remove_label_values(&[id]));
        for outcome in made(&self.refreshes, &names::REFRESHES) {
            gone(self.families.refreshes.remove_label_values(&[id, outcome]));
        }
        for outcome in made(&self.menus, &names::MENU_OUTCOMES) {
            gone(self.families.menus.remove_label_values(&[id, outcome]));
        }
        for outcome in made(&self.cache, &names::CACHE_OUTCOMES) {
            gone(self.families.cache.remove_label_values(&[id, outcome]));
        }
        for rule in made(&self.limited, &names::RULES) {
            gone(self.families.limited.remove_label_values(&[id, rule]));
        }
        for (view, name) in self.views.iter().zip(View::ALL.map(View::as_str)) {
            gone(self.families.call_duration.remove_label_values(&[id, name]));
            for outcome in made(&view.outcomes.0, &names::OUTCOMES) {
                gone(self.families.calls.remove_label_values(&[id, name, outcome]));
            }
        }
        let tools = self.by_tool.read();
        let named = tools.iter().map(|(tool, outcomes)| (&**tool, &**outcomes));
        for (tool, outcomes) in named.chain([(names::OTHER, &self.other_tool)]) {
            for outcome in made(&outcomes.0, &names::OUTCOMES) {
                gone(self.families.tool_calls.remove_label_values(&[id, tool, outcome]));
            }
        }
    }
}

/// The label values whose series exist.
fn made<'a>(
    cells: &'a [OnceLock<IntCounter>],
    values: &'a [&'static str],
) -> impl Iterator<Item = &'static str> {
    cells
        .iter()
        .zip(values)
        .filter(|(cell, _)| cell.get().is_some())
        .map(|(_, value)| *value)
}

/// A running request; drop ends it.
#[derive(Debug)]
#[must_use = "dropping it ends the request"]
pub struct InflightGuard(Option<IntGauge>);

impl Drop for InflightGuard {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}
