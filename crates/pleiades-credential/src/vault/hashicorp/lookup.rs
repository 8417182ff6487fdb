//! `${vault:path#key}` of descriptors: fields of entries that others keep in the same KV engine.
//!
//! Descriptors are read by threads that may block, and read often; each entry is asked for once in a
//! while at most, and the last answer serves while Vault cannot give one.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use pleiades_core::{bounded::Bounded, secret::Secret};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::HashicorpVault;
use crate::vault::{Fault, Kind};

/// An entry is asked for that often at most: one reading of a folder asks once.
const FRESH: Duration = Duration::from_secs(2);
/// Longest wait of one reader; longer than any request of ours.
const WITHIN: Duration = Duration::from_secs(15);
const MAX_ENTRIES: usize = 10_000;

/// Looks fields up, blocking.
pub struct FieldLookup {
    vault: Arc<HashicorpVault>,
    control: Handle,
    cache: Bounded<String, CachedEntry>,
}

impl std::fmt::Debug for FieldLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

type EntryFields = Arc<HashMap<String, Secret>>;

#[derive(Clone)]
struct CachedEntry {
    at: Instant,
    /// `None`: there is no such entry.
    fields: Option<EntryFields>,
}

impl FieldLookup {
    /// Looks fields up in a Vault; requests run on `control`.
    #[must_use]
    pub fn new(vault: Arc<HashicorpVault>, control: Handle) -> Self {
        Self {
            vault,
            control,
            cache: Bounded::new(MAX_ENTRIES),
        }
    }

    /// The text of one field. Blocks; never call it from a task.
    ///
    /// # Errors
    /// Why there is none, in one sentence without a secret.
    pub fn field(&self, path: &str, key: &str) -> Result<Secret, String> {
        let fields = self.entry(path)?.ok_or_else(|| {
            format!(
                "there is no entry `{path}` at the mount `{}` of vault",
                self.vault.mount()
            )
        })?;
        let field = fields.get(key).cloned();
        field.ok_or_else(|| format!("the entry `{path}` of vault has no field `{key}` that is a text"))
    }

    fn entry(&self, path: &str) -> Result<Option<EntryFields>, String> {
        let cached = self.cache.get(path).filter(|cached| cached.at.elapsed() < FRESH);
        if let Some(cached) = cached {
            return Ok(cached.fields);
        }
        match self.ask(path) {
            Ok(fields) => {
                let fields = fields.map(texts);
                let cached = CachedEntry {
                    at: Instant::now(),
                    fields: fields.clone(),
                };
                self.cache.insert(path.to_owned(), cached);
                Ok(fields)
            }
            Err(fault) => self.last(path, &fault).ok_or(fault.message),
        }
    }

    /// The entry as it was read last, while Vault cannot answer. A Vault that says no is believed.
    fn last(&self, path: &str, fault: &Fault) -> Option<Option<EntryFields>> {
        if matches!(fault.kind, Kind::Denied | Kind::Corrupt | Kind::Refused) {
            return None;
        }
        let fields = self.cache.get(path)?.fields?;
        tracing::debug!(
            outcome = fault.kind.as_str(),
            "an entry of vault is used as it was known last"
        );
        Some(Some(fields))
    }

    fn ask(&self, path: &str) -> Result<Option<Map<String, Value>>, Fault> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (vault, path) = (Arc::clone(&self.vault), path.to_owned());
        self.control.spawn(async move {
            // A reader that has given up needs no answer.
            sender.send(vault.fields(&path).await).ok();
        });
        receiver
            .recv_timeout(WITHIN)
            .unwrap_or_else(|_| Err(Fault::new(Kind::Unreachable, "vault gave no answer in time")))
    }
}

fn texts(fields: Map<String, Value>) -> EntryFields {
    let text = |value| match value {
        Value::String(text) => Some(Secret::new(text)),
        Value::Number(number) => Some(Secret::new(number.to_string())),
        Value::Bool(truth) => Some(Secret::new(truth.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    Arc::new(
        fields
            .into_iter()
            .filter_map(|(key, value)| Some((key, text(value)?)))
            .collect(),
    )
}
