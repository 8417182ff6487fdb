//! States of accounts, for `/providers` and the metrics.

use std::{collections::BTreeMap, sync::Arc};

use super::CredentialManager;
use crate::record::AccountState;
use crate::slot::{AccountSlot, SeenRecord};

pub(super) fn count(manager: &CredentialManager) -> Vec<(Arc<str>, AccountState, usize)> {
    let mut counts: BTreeMap<(Arc<str>, AccountState), usize> = BTreeMap::new();
    each(manager, |slot, _, state| {
        *counts
            .entry((Arc::clone(&slot.key.owner.connection), state))
            .or_default() += 1;
    });
    counts
        .into_iter()
        .map(|((name, state), count)| (name, state, count))
        .collect()
}

pub(super) fn publish(manager: &CredentialManager) {
    let unix = manager.clock.unix();
    let mut states: BTreeMap<(String, AccountState), usize> = BTreeMap::new();
    let mut soonest: BTreeMap<String, i64> = BTreeMap::new();
    each(manager, |slot, seen, state| {
        let loaded = manager.connection_of(&slot.key.owner.connection, &seen.record.provider);
        let Some(connection) = loaded else {
            return;
        };
        *states
            .entry((connection.provider.to_string(), state))
            .or_default() += 1;
        let ends = seen.record.tokens.expires_at;
        // The expiry of what has ended would hide all others; its state shows it.
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
    manager.parts.metrics.credentials(states, soonest);
}

fn each(manager: &CredentialManager, mut look: impl FnMut(&AccountSlot, &SeenRecord, AccountState)) {
    let unix_ms = manager.clock.unix_ms();
    let mut leads: BTreeMap<(Arc<str>, String), u64> = BTreeMap::new();
    for entry in manager.cache.all() {
        for slot in entry.slots() {
            let Some(seen) = slot.seen() else {
                continue;
            };
            let (name, provider) = (&entry.owner.connection, &seen.record.provider);
            let lead = *leads
                .entry((Arc::clone(name), provider.clone()))
                .or_insert_with(|| manager.lead(name, provider));
            look(&slot, &seen, seen.state(unix_ms, lead));
        }
    }
}
