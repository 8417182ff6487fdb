//! How everything loaded fares, as `/providers` and the metrics say it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use serde_json::{Map, Value, json};

use super::{Catalog, Catalogue, Entry, Provider, Snapshot, State};
use pleiades_core::limit::BreakerState;
use pleiades_core::time;

/// State, reason and since.
type StateSince = (State, Option<String>, SystemTime);

/// State, reason and since of an entry, running or not.
fn state_of(entry: &Entry, provider: Option<&Provider>) -> StateSince {
    match provider {
        Some(provider) => provider.state(),
        None if entry.disabled => (State::Disabled, None, entry.since),
        // There is no state for what never ran: to callers it cannot be reached.
        None => {
            let first = entry
                .faults
                .first()
                .and_then(|fault| fault.lines().next())
                .unwrap_or_default();
            (
                State::Unreachable,
                Some(format!("it does not run, its file is broken: {first}")),
                entry.since,
            )
        }
    }
}

impl Catalog {
    /// `/providers`: generation, every provider that a file names, and why the folder is not
    /// believed when it is not.
    #[must_use]
    pub fn report(&self) -> Value {
        let snapshot = self.snapshot();
        let providers: Vec<Value> = snapshot
            .entries
            .values()
            .map(|entry| self.line(entry, &snapshot))
            .collect();
        let mut report = Map::new();
        report.insert("generation".into(), json!(snapshot.generation));
        report.insert("providers".into(), Value::Array(providers));
        if let Some(refused) = self.refused() {
            report.insert(
                "refused".into(),
                json!({"since": time::to_rfc3339(refused.since), "reason": refused.reason}),
            );
        }
        Value::Object(report)
    }

    /// Brings the gauges of providers up to date; also done once a second.
    pub fn publish(&self) {
        let snapshot = self.snapshot();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, entry) in &snapshot.entries {
            let provider = snapshot.providers.get(id);
            let (state, ..) = self.state_of(entry, provider.map(AsRef::as_ref));
            *counts.entry(state.as_str()).or_default() += 1;
        }
        self.work.metrics.providers(counts);
        for (id, provider) in &snapshot.providers {
            self.work.metrics.breaker(id, provider.gate.breaker().gauge());
        }
    }

    fn line(&self, entry: &Entry, snapshot: &Snapshot) -> Value {
        let provider = snapshot.providers.get(&entry.id).map(AsRef::as_ref);
        let mut line = line(entry, provider, self.state_of(entry, provider));
        let accounts = provider.map(|provider| self.account_counts(provider));
        line.insert("accounts".into(), json!(accounts.unwrap_or_default()));
        Value::Object(line)
    }

    /// As [`standing`], with what is known of accounts.
    fn state_of(&self, entry: &Entry, provider: Option<&Provider>) -> StateSince {
        let (state, reason, since) = state_of(entry, provider);
        let Some(provider) = provider else {
            return (state, reason, since);
        };
        let (state, reason) = self.with_accounts(provider, (state, reason));
        (state, reason, since)
    }

    /// Accounts by state, those without any left out.
    fn account_counts(&self, provider: &Provider) -> Map<String, Value> {
        let mut counts = Map::new();
        for (state, count) in self.accounts(provider) {
            if count > 0 {
                counts.insert(state.as_str().to_owned(), json!(count));
            }
        }
        counts
    }
}

/// The lists that say what a provider is: everybody's, else those that some account saw last. Nothing
/// is known of a provider that nobody has connected.
fn lists_of(provider: &Provider) -> Arc<Catalogue> {
    let shared = provider.live.shared.load_full();
    if shared.profile.is_some() || provider.need.is_shared() {
        return shared;
    }
    provider.live.any_template().unwrap_or(shared)
}

fn line(
    entry: &Entry,
    provider: Option<&Provider>,
    (state, reason, since): StateSince,
) -> Map<String, Value> {
    let lists = provider.map(lists_of);
    let eras: Vec<&str> = lists
        .as_ref()
        .and_then(|lists| lists.profile.as_ref())
        .map(|profile| {
            profile
                .revisions
                .iter()
                .map(pleiades_mcp::Revision::as_str)
                .collect()
        })
        .unwrap_or_default();
    let breaker = provider.map_or(BreakerState::Closed, |provider| provider.gate.breaker());
    let mut line = Map::new();
    line.insert("id".into(), json!(*entry.id));
    line.insert("title".into(), json!(entry.title));
    line.insert("state".into(), json!(state.as_str()));
    line.insert("since".into(), json!(time::to_rfc3339(since)));
    if let Some(reason) = reason {
        line.insert("reason".into(), json!(reason));
    }
    line.insert("file".into(), json!(entry.file.to_string_lossy()));
    line.insert("faults".into(), json!(entry.faults));
    line.insert("tools".into(), json!(lists.map_or(0, |lists| lists.tools.len())));
    line.insert("eras".into(), json!(eras));
    line.insert("breaker".into(), json!(breaker.as_str()));
    line
}
