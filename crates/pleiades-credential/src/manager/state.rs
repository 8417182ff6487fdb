//! How accounts fare, for `/providers` and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CredentialManager;
use crate::record::AccountState;
use crate::slot::{AccountSlot, SeenRecord};

impl CredentialManager {
    /// Accounts in memory by connection and state, for `/providers` and the metrics.
    #[must_use]
    pub fn states(&self) -> Vec<(Arc<str>, AccountState, usize)> {
        let mut counts: BTreeMap<(Arc<str>, AccountState), usize> = BTreeMap::new();
        self.each(|slot, _, state| {
            *counts
                .entry((Arc::clone(&slot.key.owner.connection), state))
                .or_default() += 1;
        });
        counts
            .into_iter()
            .map(|((name, state), count)| (name, state, count))
            .collect()
    }

    /// Sets the gauges that are read rather than counted.
    pub fn publish(&self) {
        let unix = self.clock.unix();
        let mut states: BTreeMap<(String, AccountState), usize> = BTreeMap::new();
        let mut soonest: BTreeMap<String, i64> = BTreeMap::new();
        self.each(|slot, seen, state| {
            let loaded = self.connection_of(&slot.key.owner.connection, &seen.record.provider);
            let Some(connection) = loaded else {
                return;
            };
            *states
                .entry((connection.provider.to_string(), state))
                .or_default() += 1;
            let ends = seen.record.tokens.expires_at;
            // What only a person can mend is told by its state: its expiry would hide all others.
            let lives = !matches!(state, AccountState::NeedsReauth | AccountState::Revoked);
            if let Some(ends) = ends.filter(|_| lives) {
                let left = i64::try_from(ends).unwrap_or(i64::MAX) - i64::try_from(unix).unwrap_or_default();
                let soonest = soonest.entry(connection.provider.to_string()).or_insert(left);
                *soonest = left.min(*soonest);
            }
        });
        let states = states
            .iter()
            .map(|((provider, state), count)| (provider.as_str(), state.as_str(), *count));
        let soonest = soonest.iter().map(|(provider, left)| (provider.as_str(), *left));
        self.parts.metrics.credentials(states, soonest);
    }

    fn each(&self, mut look: impl FnMut(&AccountSlot, &SeenRecord, AccountState)) {
        let unix_ms = self.clock.unix_ms();
        let mut leads: BTreeMap<(Arc<str>, String), u64> = BTreeMap::new();
        for entry in self.cache.all() {
            for slot in entry.slots() {
                let Some(seen) = slot.seen() else {
                    continue;
                };
                let (name, provider) = (&entry.owner.connection, &seen.record.provider);
                let lead = *leads
                    .entry((Arc::clone(name), provider.clone()))
                    .or_insert_with(|| self.lead(name, provider));
                look(&slot, &seen, seen.state(unix_ms, lead));
            }
        }
    }
}
