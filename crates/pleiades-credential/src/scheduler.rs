//! Tells a scheduler outside when each stored token is to be refreshed: one
//! signed POST for each connection and each refresh, beside the work that stored them.

use std::sync::{Arc, Weak};
use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::Notify, sync::broadcast::error::RecvError};
use tracing::Instrument as _;
use url::Url;

use super::manager::{AccountEventKind, CredentialManager};
use super::{AccountKey, Connection, record::AccountRecord};
use crate::access::signed;
use pleiades_core::secret::Secret;
use pleiades_core::time::{rfc3339, unix_now};
use pleiades_core::web::{AddressPolicy, HttpClient};

/// Accounts in the queue, each once. Beyond that the oldest are dropped, with a warning.
const QUEUE: usize = 1_024;
/// Pauses before further attempts at one account.
const RETRY_PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(25),
];

/// `scheduler` of the settings.
#[derive(Debug, Clone)]
pub struct SchedulerHook {
    /// Where the requests go.
    pub webhook: Url,
    /// Signs them.
    pub key: Secret,
}

/// Starts the deliveries; they end with the manager.
pub fn begin(scheduler: SchedulerHook, manager: &Arc<CredentialManager>, control: &Handle) {
    let waiting = Arc::new(AccountQueue::default());
    let mut happened = manager.subscribe();
    let noting = Arc::clone(&waiting);
    control.spawn(async move {
        loop {
            match happened.recv().await {
                Ok(it)
                    if !it.elsewhere
                        && matches!(it.kind, AccountEventKind::Connected | AccountEventKind::Renewed) =>
                {
                    noting.note(it.key);
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        scheduler.missed = missed,
                        "the scheduler is not told of some stored tokens"
                    );
                }
                Err(RecvError::Closed) => return noting.close(),
            }
        }
    });
    control.spawn(deliver(scheduler, Arc::downgrade(manager), waiting));
}

#[derive(Debug, Default)]
struct AccountQueue {
    keys: Mutex<(VecDeque<AccountKey>, bool)>,
    more: Notify,
}

impl AccountQueue {
    fn note(&self, key: AccountKey) {
        let mut keys = self.keys.lock();
        if keys.0.contains(&key) {
            return;
        }
        if keys.0.len() >= QUEUE {
            keys.0.pop_front();
            tracing::warn!("the scheduler is too slow: it is not told of a stored token");
        }
        keys.0.push_back(key);
        drop(keys);
        self.more.notify_one();
    }

    fn close(&self) {
        self.keys.lock().1 = true;
        self.more.notify_one();
    }

    /// The next account; `None` at the end.
    async fn next(&self) -> Option<AccountKey> {
        loop {
            {
                let mut keys = self.keys.lock();
                if let Some(key) = keys.0.pop_front() {
                    return Some(key);
                }
                if keys.1 {
                    return None;
                }
            }
            self.more.notified().await;
        }
    }
}

async fn deliver(scheduler: SchedulerHook, manager: Weak<CredentialManager>, waiting: Arc<AccountQueue>) {
    while let Some(key) = waiting.next().await {
        let Some(manager) = manager.upgrade() else { return };
        // The record of now is delivered, however long the account waited.
        let record = match manager.record(&key).await {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(fault) => {
                tracing::warn!(
                    provider.name = &*key.owner.connection,
                    principal.tenant = &*key.owner.tenant,
                    principal.user = &*key.owner.user,
                    account.id = &*key.account,
                    outcome = fault.kind.as_str(),
                    error = &fault as &dyn std::error::Error,
                    "the scheduler was not told of a stored token: it cannot be read"
                );
                continue;
            }
        };
        let Some(body) = to_body(&manager, &key, &record) else {
            continue;
        };
        let web = Arc::clone(manager.web());
        // The manager may end while the scheduler is waited for.
        drop(manager);
        let span = tracing::error_span!(
            "delivery",
            provider.name = &*key.owner.connection,
            principal.tenant = &*key.owner.tenant,
            principal.user = &*key.owner.user,
            account.id = &*key.account,
        );
        let body = body.to_string();
        post(&scheduler, &*web, body.as_bytes()).instrument(span).await;
    }
}

/// The request for an account; none for one that is never refreshed.
fn to_body(manager: &CredentialManager, key: &AccountKey, record: &AccountRecord) -> Option<Value> {
    let loaded = manager.loaded()?;
    let parts = loaded.of(&key.owner.connection);
    let part = parts
        .iter()
        .find(|part| *part.provider == *record.provider)
        .or(parts.first())?;
    let at = due(part, record)?;
    Some(json!({
        "event": "auth/schedule",
        "tenant": &*key.owner.tenant,
        "user": &*key.owner.user,
        "provider": &*part.provider,
        "account": &*key.account,
        "runAt": rfc3339(at),
    }))
}

/// When an account is due: `lead` before its end, but never before half its life is over.
fn due(connection: &Connection, record: &AccountRecord) -> Option<u64> {
    if record.ended.is_some() || record.tokens.refresh.is_none() {
        return None;
    }
    let end = record.tokens.expires_at?;
    let life = end.saturating_sub(record.tokens.obtained_at);
    Some(end.saturating_sub(connection.lead.as_secs().min(life / 2)))
}

async fn post(scheduler: &SchedulerHook, web: &dyn HttpClient, body: &[u8]) {
    let mut pauses = RETRY_PAUSES.into_iter();
    loop {
        let why = match once(scheduler, web, body).await {
            Ok(()) => return,
            Err(DeliveryError::Final(why)) => {
                return tracing::warn!(error = why, "the scheduler was not told of a stored token");
            }
            Err(DeliveryError::Passing(why)) => why,
        };
        let Some(pause) = pauses.next() else {
            return tracing::warn!(
                error = why,
                scheduler.attempts = RETRY_PAUSES.len() + 1,
                "the scheduler was not told of a stored token"
            );
        };
        tokio::time::sleep(pause).await;
    }
}

enum DeliveryError {
    Final(String),
    Passing(String),
}

async fn once(scheduler: &SchedulerHook, web: &dyn HttpClient, body: &[u8]) -> Result<(), DeliveryError> {
    let request = http::Request::post(scheduler.webhook.as_str())
        .header(http::header::CONTENT_TYPE, "application/json")
        // Signed anew with each attempt: the time is part of it.
        .header(signed::HEADER, signed::sign(&scheduler.key, unix_now(), body))
        .body(body.to_vec())
        .map_err(|error| DeliveryError::Final(error.to_string()))?;
    // The operator named it: it may be beside us.
    let reach = AddressPolicy {
        private: true,
        loopback: true,
        ca: None,
    };
    match web.send(&reach, request).await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let status = answer.status();
            let why = format!("it answered {status}");
            let passes = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
            Err(if passes {
                DeliveryError::Passing(why)
            } else {
                DeliveryError::Final(why)
            })
        }
        Err(error) if error.transient => Err(DeliveryError::Passing(error.message)),
        Err(error) => Err(DeliveryError::Final(error.message)),
    }
}
