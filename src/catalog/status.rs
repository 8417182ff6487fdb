//! How everything loaded fares, as `/providers` and the metrics say it.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::{Catalog, Entry, Provider, Snapshot, State};
use crate::limit::BreakerState;

/// State, reason and since of an entry, running or not.
fn standing(entry: &Entry, provider: Option<&Provider>) -> (State, Option<String>, SystemTime) {
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
            .map(|entry| line(entry, &snapshot))
            .collect();
        let mut report = Map::new();
        report.insert("generation".into(), json!(snapshot.generation));
        report.insert("providers".into(), Value::Array(providers));
        if let Some(refused) = self.refused() {
            report.insert(
                "refused".into(),
                json!({"since": rfc3339(refused.since), "reason": refused.reason}),
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
            let (state, ..) = standing(entry, provider.map(AsRef::as_ref));
            *counts.entry(state.as_str()).or_default() += 1;
        }
        self.work.metrics.providers(counts);
        for (id, provider) in &snapshot.providers {
            self.work.metrics.breaker(id, provider.gate.breaker().gauge());
        }
    }
}

fn line(entry: &Entry, snapshot: &Snapshot) -> Value {
    let provider = snapshot.providers.get(&entry.id);
    let (state, reason, since) = standing(entry, provider.map(AsRef::as_ref));
    let lists = provider.map(|provider| provider.live.shared.load_full());
    let eras: Vec<&str> = lists
        .as_ref()
        .and_then(|lists| lists.profile.as_ref())
        .map(|profile| {
            profile
                .revisions
                .iter()
                .map(crate::mcp::Revision::as_str)
                .collect()
        })
        .unwrap_or_default();
    let breaker = provider.map_or(BreakerState::Closed, |provider| provider.gate.breaker());
    let mut line = Map::new();
    line.insert("id".into(), json!(*entry.id));
    line.insert("title".into(), json!(entry.title));
    line.insert("state".into(), json!(state.as_str()));
    line.insert("since".into(), json!(rfc3339(since)));
    if let Some(reason) = reason {
        line.insert("reason".into(), json!(reason));
    }
    line.insert("file".into(), json!(entry.file.to_string_lossy()));
    line.insert("faults".into(), json!(entry.faults));
    line.insert("tools".into(), json!(lists.map_or(0, |lists| lists.tools.len())));
    line.insert("eras".into(), json!(eras));
    // No kind of credential that is built keeps accounts.
    line.insert("accounts".into(), json!({}));
    line.insert("breaker".into(), json!(breaker.as_str()));
    Value::Object(line)
}

/// A time as RFC 3339 says it, in UTC, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, years beginning in March, so that leap days come last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day % 3_600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_civil_dates() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_253_857), "2026-11-21T09:37:37Z");
    }
}
