//! The states of everything loaded, as `/providers` and the metrics show them.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use serde_json::{Map, Value, json};

use super::{Catalogue, Entry, Provider, Snapshot, State, reload::FolderRefusal};
use pleiades_core::{limit::BreakerState, telemetry::Metrics, time};
use pleiades_credential::{ClientCredentialsTokens, ProviderAuth, record::AccountState};

type StateSince = (State, Option<String>, SystemTime);

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
            let reason = format!("it does not run, its file is broken: {first}");
            (State::Unreachable, Some(reason), entry.since)
        }
    }
}

/// What `/providers` answers.
pub(super) fn report(
    snapshot: &Snapshot,
    tokens: &dyn ClientCredentialsTokens,
    refused: Option<FolderRefusal>,
) -> Value {
    let line = |entry: &Entry| {
        let provider = snapshot.providers.get(&entry.id).map(AsRef::as_ref);
        let mut line = line(entry, provider, full_state(entry, provider, tokens));
        // Those without any account are left out.
        let counts: Map<String, Value> = provider
            .map(|provider| accounts(provider, tokens))
            .into_iter()
            .flatten()
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| (state.as_str().to_owned(), json!(count)))
            .collect();
        line.insert("accounts".into(), counts.into());
        Value::Object(line)
    };
    let mut report = Map::new();
    report.insert("generation".into(), json!(snapshot.generation));
    report.insert("providers".into(), snapshot.entries.values().map(line).collect());
    if let Some(refused) = refused {
        report.insert(
            "refused".into(),
            json!({"since": time::to_rfc3339(refused.since), "reason": refused.reason}),
        );
    }
    Value::Object(report)
}

pub(super) fn publish(snapshot: &Snapshot, tokens: &dyn ClientCredentialsTokens, metrics: &Metrics) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, entry) in &snapshot.entries {
        let provider = snapshot.providers.get(id).map(AsRef::as_ref);
        let (state, ..) = full_state(entry, provider, tokens);
        *counts.entry(state.as_str()).or_default() += 1;
    }
    metrics.providers(counts);
    for (id, provider) in &snapshot.providers {
        metrics.breaker(id, provider.gate.breaker().gauge());
    }
}

/// As [`state_of`], with what is known of accounts.
fn full_state(
    entry: &Entry,
    provider: Option<&Provider>,
    tokens: &dyn ClientCredentialsTokens,
) -> StateSince {
    let (state, reason, since) = state_of(entry, provider);
    let Some(provider) = provider else {
        return (state, reason, since);
    };
    let (state, reason) = with_accounts(provider, tokens, (state, reason));
    (state, reason, since)
}

/// Accounts of a provider by state: those that are in memory.
fn accounts(provider: &Provider, tokens: &dyn ClientCredentialsTokens) -> Vec<(AccountState, usize)> {
    let connection = match &provider.need {
        ProviderAuth::OAuth(connection) | ProviderAuth::ClientCredentials(connection, _) => connection,
        ProviderAuth::None | ProviderAuth::ApiKey { .. } | ProviderAuth::ClientKey(_) => return Vec::new(),
    };
    tokens.accounts(&connection.name)
}

/// The state of a provider whose callers use accounts: it needs one that works before all else.
fn with_accounts(
    provider: &Provider,
    tokens: &dyn ClientCredentialsTokens,
    (state, reason): (State, Option<String>),
) -> (State, Option<String>) {
    if !matches!(provider.need, ProviderAuth::OAuth(_)) || !matches!(state, State::Ready | State::NeedsAuth) {
        return (state, reason);
    }
    let works = |state: &AccountState| !matches!(state, AccountState::NeedsReauth | AccountState::Revoked);
    let (mut any, mut good) = (false, false);
    for (state, count) in &accounts(provider, tokens) {
        any |= *count > 0;
        good |= *count > 0 && works(state);
    }
    let reason = match (any, good) {
        (_, true) => return (State::Ready, reason.filter(|_| state == State::Ready)),
        (true, false) => "no connected account works any more: each has to be connected again",
        (false, false) => match tokens.store_trouble() {
            // Nobody knows who has connected what.
            Some(trouble) => return (State::Degraded, Some(trouble.caller_message().to_owned())),
            None => "nobody has connected an account yet",
        },
    };
    (State::NeedsAuth, Some(reason.to_owned()))
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
    let profile = lists.as_ref().and_then(|lists| lists.profile.as_ref());
    let eras = profile.into_iter().flat_map(|it| it.revisions.iter());
    let eras: Vec<&str> = eras.map(pleiades_mcp::Revision::as_str).collect();
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
