//! Tools of new lists are held against what is approved, and what others approved is taken up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{PinMode, StoredPins, state::name_some};
use crate::catalog::{Provider, Tool, lists::ListSet, service::DiscoveryService};
use pleiades_core::error::{Code, Error};

/// How often the store is asked while something waits for an approval: one is taken up within 5 s.
const EVERY: Duration = Duration::from_secs(2);
/// How long a list waits for the store.
const STORE: Duration = Duration::from_secs(5);
/// Replicas that meet a new tool at once write one after the other.
const WRITES: usize = 8;
/// Providers that are looked after at once.
const AT_ONCE: usize = 16;
/// Largest record that is written, in bytes: Consul, which Vault may store in, takes 512 KiB.
pub(super) const LARGEST: usize = 384 * 1024;
/// New tools that are logged each by its own line.
const LOGGED: usize = 20;

impl DiscoveryService {
    /// Holds the tools of a new list against what is approved: one whose name was not there yet is approved, and
    /// the store says so before anybody sees it. The error: why some are withheld though they may be approved.
    pub(in crate::catalog) async fn settle_pins(
        &self,
        provider: &Provider,
        offered: &[Arc<Tool>],
    ) -> Result<(), Error> {
        let (rules, pins) = (&provider.rules, &provider.live.pins);
        if rules.pins.mode == PinMode::Off {
            return Ok(());
        }
        let named = || offered.iter().filter(|tool| rules.admits_tool(tool));
        let open = pins.unapproved(&rules.pins, named());
        if open.is_empty() {
            return Ok(());
        }
        if rules.pins.file.is_some() {
            log_new(provider, &pins.add(&rules.pins, &open));
            return Ok(());
        }
        let approving = timeout(STORE, self.approve_first_seen(provider, &open)).await;
        let outcome = approving.unwrap_or_else(|_| Err(format!("the store did not answer within {STORE:?}")));
        let Err(why) = outcome else { return Ok(()) };
        if pins.fail(why.clone()) {
            tracing::warn!(
                provider.name = %provider.id,
                outcome = Code::CredentialStore.as_str(),
                error = why,
                cure = "mend the credential store; tools that are withheld come back by themselves",
                "approved definitions cannot be read or written"
            );
        }
        let message = format!(
            "provider `{}`: its approved definitions cannot be read",
            provider.id
        );
        Err(Error::new(Code::CredentialStore, message)
            .because(why)
            .retry_after(EVERY))
    }

    async fn approve_first_seen(&self, provider: &Provider, open: &[&Arc<Tool>]) -> Result<(), String> {
        let pins = &provider.live.pins;
        for _ in 0..WRITES {
            let StoredPins { version, mut record } = self.pins.read(&provider.id).await?;
            let is_first = record.is_empty();
            let mut new = Vec::new();
            for tool in open
                .iter()
                .filter(|tool| record.of(&tool.upstream).is_none())
                .collect::<Vec<_>>()
            {
                record.approve(&tool.upstream, tool.digest(), tool.definition());
                new.push(tool.upstream.clone());
            }
            if !new.is_empty() && !record.fit(LARGEST) {
                return Err(format!(
                    "the entry `_gateway/pins/{}` would take more than {} KiB: use a pins file",
                    provider.id,
                    LARGEST / 1024
                ));
            }
            let written = match new.is_empty() {
                true => Some(version),
                false => self.pins.write(&provider.id, version, &record).await?,
            };
            let Some(version) = written else { continue };
            match is_first {
                true if !new.is_empty() => tracing::info!(
                    provider.name = %provider.id,
                    provider.tools = new.len(),
                    "tools are seen first: their definitions are approved"
                ),
                _ => log_new(provider, &new),
            }
            log_recovery(provider, pins.load(StoredPins { version, record }, &new));
            return Ok(());
        }
        Err("others write it all the time".to_owned())
    }

    /// Counts and logs what the approved definitions say of all lists of a provider, and shows callers what they may
    /// have. Whether that is another set than before.
    pub(in crate::catalog) fn review_pins(&self, provider: &Provider) -> bool {
        let (live, rules) = (&provider.live, &provider.rules);
        if rules.pins.mode == PinMode::Off && !live.pins.is_outdated() {
            return false;
        }
        let is_other = live.readmit(rules);
        let (counts, news) = live.pins.review(rules, &live.all_offered());
        for name in news.iter().take(LOGGED) {
            let consequence = match rules.pins.mode {
                PinMode::Enforce => "it is withheld until the change is approved",
                PinMode::Warn | PinMode::Off => "it is served all the same",
            };
            tracing::warn!(
                provider.name = %provider.id,
                tool.name = &**name,
                cure = format!("look at the change with `pleiades tools {} --approve`, which also approves it", provider.id),
                "the definition of a tool changed: {consequence}"
            );
        }
        let states = [counts.approved, counts.changed.len(), counts.unknown.len()];
        self.metrics.tool_pins(&provider.id, states);
        is_other
    }

    /// Takes up what others approved since, for one provider.
    async fn recheck_pins(&self, provider: &Provider) {
        let (rule, pins) = (&provider.rules.pins, &provider.live.pins);
        if rule.mode != PinMode::Off && rule.file.is_none() && pins.is_waiting() {
            let reading = timeout(STORE, self.pins.read(&provider.id)).await;
            match reading {
                Ok(Ok(stored)) => log_recovery(provider, pins.load(stored, &[])),
                Ok(Err(_)) | Err(_) => return,
            }
            for list in provider.live.all_offered() {
                if self.settle_pins(provider, &list).await.is_err() {
                    return;
                }
            }
        } else if !pins.is_outdated() {
            return;
        }
        if self.review_pins(provider) {
            let tools = ListSet {
                tools: true,
                ..ListSet::default()
            };
            self.notify(Some(&provider.id), tools);
        }
    }
}

fn log_recovery(provider: &Provider, had_failed: bool) {
    if had_failed {
        tracing::info!(provider.name = %provider.id, "approved definitions can be read again");
    }
}

/// New tools beside others that were approved before.
fn log_new(provider: &Provider, names: &[Box<str>]) {
    for name in names.iter().take(LOGGED) {
        tracing::info!(
            provider.name = %provider.id,
            tool.name = &**name,
            "a tool is new: its definition is approved"
        );
    }
    if names.len() > LOGGED {
        tracing::info!(
            provider.name = %provider.id,
            provider.tools = names.len(),
            "more tools are new: their definitions are approved; first {}",
            name_some(names)
        );
    }
}

/// Looks after the providers of which something waits for an approval, until the catalogue ends.
pub(in crate::catalog) async fn watch(service: Weak<DiscoveryService>, end: CancellationToken) {
    while end.run_until_cancelled(sleep(EVERY)).await.is_some() {
        let Some(service) = service.upgrade() else { return };
        let snapshot = service.snapshot.load_full();
        let pinned = snapshot.providers.values();
        stream::iter(pinned)
            .for_each_concurrent(AT_ONCE, |provider| service.recheck_pins(provider))
            .await;
    }
}
