//! Tells a scheduler outside when each stored token is to be refreshed (contracts section 6): one
//! signed POST for each connection and each refresh, beside the work that stored them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use url::Url;

use super::keeper::{Keeper, What};
use super::record::Record;
use super::web::{Reach, Web};
use super::{Connection, Key};
use crate::access::signed;
use crate::secret::Secret;
use crate::telemetry::time::{rfc3339, unix_now};

/// Accounts that wait to be told of; each once. Beyond that the oldest go untold, with a warning.
const QUEUE: usize = 1_024;
/// Pauses before further attempts at one account.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(25),
];

/// `scheduler` of the settings.
#[derive(Debug, Clone)]
pub struct Scheduler {
    /// Where it is told.
    pub webhook: Url,
    /// Signs what it is told.
    pub key: Secret,
}

/// Begins to tell; ends with the keeper.
pub fn begin(scheduler: Scheduler, keeper: &Arc<Keeper>, control: &Handle) {
    let waiting = Arc::new(Waiting::default());
    let mut happened = keeper.watch();
    let noting = Arc::clone(&waiting);
    control.spawn(async move {
        loop {
            match happened.recv().await {
                Ok(it) if !it.elsewhere && matches!(it.what, What::Connected | What::Renewed) => {
                    noting.note(it.key);
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the scheduler is not told of some stored tokens");
                }
                Err(RecvError::Closed) => return noting.close(),
            }
        }
    });
    control.spawn(tell(scheduler, Arc::downgrade(keeper), waiting));
}

#[derive(Debug, Default)]
struct Waiting {
    keys: Mutex<(VecDeque<Key>, bool)>,
    more: Notify,
}

impl Waiting {
    fn note(&self, key: Key) {
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
    async fn next(&self) -> Option<Key> {
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

async fn tell(scheduler: Scheduler, keeper: Weak<Keeper>, waiting: Arc<Waiting>) {
    while let Some(key) = waiting.next().await {
        let Some(keeper) = keeper.upgrade() else { return };
        // What is stored now is told, however long it waited.
        let record = match keeper.record(&key).await {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(fault) => {
                tracing::warn!(%fault, "the scheduler is not told of a stored token: it cannot be read");
                continue;
            }
        };
        let Some(body) = said(&keeper, &key, &record) else {
            continue;
        };
        let web = Arc::clone(keeper.web());
        // The keeper is not held while somebody else is waited for.
        drop(keeper);
        post(&scheduler, &*web, body.to_string().as_bytes()).await;
    }
}

/// What is told of an account; nothing of one that is never refreshed.
fn said(keeper: &Keeper, key: &Key, record: &Record) -> Option<Value> {
    let loaded = keeper.loaded()?;
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
fn due(connection: &Connection, record: &Record) -> Option<u64> {
    if record.ended.is_some() || record.tokens.refresh.is_none() {
        return None;
    }
    let end = record.tokens.expires_at?;
    let life = end.saturating_sub(record.tokens.obtained_at);
    Some(end.saturating_sub(connection.lead.as_secs().min(life / 2)))
}

async fn post(scheduler: &Scheduler, web: &dyn Web, body: &[u8]) {
    let mut pauses = AGAIN.into_iter();
    loop {
        let why = match once(scheduler, web, body).await {
            Ok(()) => return,
            Err(Why::Final(why)) => return tracing::warn!("the scheduler was not told: {why}"),
            Err(Why::Passing(why)) => why,
        };
        let Some(pause) = pauses.next() else {
            return tracing::warn!(
                "the scheduler was not told after {} attempts: {why}",
                AGAIN.len() + 1
            );
        };
        tokio::time::sleep(pause).await;
    }
}

enum Why {
    Final(String),
    Passing(String),
}

async fn once(scheduler: &Scheduler, web: &dyn Web, body: &[u8]) -> Result<(), Why> {
    let request = http::Request::post(scheduler.webhook.as_str())
        .header(http::header::CONTENT_TYPE, "application/json")
        // Signed anew with each attempt: the time is part of it.
        .header(signed::HEADER, signed::sign(&scheduler.key, unix_now(), body))
        .body(body.to_vec())
        .map_err(|error| Why::Final(error.to_string()))?;
    // The operator named it: it may be beside us.
    let reach = Reach {
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
                Why::Passing(why)
            } else {
                Why::Final(why)
            })
        }
        Err(error) if error.transient => Err(Why::Passing(error.message)),
        Err(error) => Err(Why::Final(error.message)),
    }
}
