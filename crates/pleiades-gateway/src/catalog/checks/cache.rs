//! Compiled schemas that are kept: of all providers together within a budget, the oldest given up
//! first, since a provider may list thousands and a caller may call each once.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::ArgumentValidator;

/// What compiled schemas may take in all (bytes, estimated).
const MAX_BYTES: usize = 32 * 1024 * 1024;

static CACHE: LazyLock<Mutex<ValidatorCache>> = LazyLock::new(Mutex::default);

type SharedValidator = Mutex<Option<Option<Arc<ArgumentValidator>>>>;

/// Where the compiled schema of one tool is kept.
#[derive(Debug, Clone, Default)]
pub struct ValidatorSlot(Arc<SharedValidator>);

#[derive(Debug, Default)]
struct ValidatorCache {
    oldest_first: VecDeque<(Weak<SharedValidator>, usize)>,
    bytes: usize,
}

impl ValidatorSlot {
    /// What is there already: `Some(None)` for a schema that cannot be compiled.
    #[must_use]
    pub(crate) fn compiled(&self) -> Option<Option<Arc<ArgumentValidator>>> {
        self.0.lock().clone()
    }

    /// The compiled schema; `None` when it cannot be compiled.
    #[must_use]
    pub fn get(&self, schema: &RawValue) -> Option<Arc<ArgumentValidator>> {
        if let Some(compiled) = self.compiled() {
            return compiled;
        }
        let compiled = ArgumentValidator::compile(schema).map(Arc::new);
        *self.0.lock() = Some(compiled.clone());
        if let Some(compiled) = &compiled {
            let given_up = CACHE.lock().keep(&self.0, compiled.bytes(schema), MAX_BYTES);
            for shared in given_up {
                *shared.lock() = None;
            }
        }
        compiled
    }
}

impl ValidatorCache {
    /// Notes one more; those that have to go for it.
    fn keep(
        &mut self,
        shared: &Arc<SharedValidator>,
        bytes: usize,
        most: usize,
    ) -> Vec<Arc<SharedValidator>> {
        self.oldest_first.push_back((Arc::downgrade(shared), bytes));
        self.bytes += bytes;
        let mut given_up = Vec::new();
        while self.bytes > most
            && let Some((oldest, bytes)) = self.oldest_first.pop_front()
        {
            self.bytes -= bytes;
            given_up.extend(oldest.upgrade());
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_compiled_schemas_go_when_there_are_too_many_bytes() {
        let mut cache = ValidatorCache::default();
        let places: Vec<Arc<SharedValidator>> = (0..4).map(|_| Arc::default()).collect();
        for shared in &places[..3] {
            assert!(cache.keep(shared, 30, 100).is_empty());
        }
        let given_up = cache.keep(&places[3], 50, 100);
        assert_eq!((given_up.len(), cache.bytes), (2, 80));
        assert!(Arc::ptr_eq(&given_up[0], &places[0]));
    }

    #[test]
    fn a_schema_is_compiled_once_and_what_cannot_be_is_remembered() {
        let slot = ValidatorSlot::default();
        assert!(slot.compiled().is_none());
        let schema: &RawValue = serde_json::from_str(r#"{"type":"object"}"#).unwrap();
        let first = slot.get(schema).unwrap();
        assert!(Arc::ptr_eq(&first, &slot.get(schema).unwrap()));
        let odd = ValidatorSlot::default();
        let schema: &RawValue = serde_json::from_str(r#"{"$ref":"https://a.example/"}"#).unwrap();
        assert!(odd.get(schema).is_none());
        assert!(matches!(odd.compiled(), Some(None)));
    }
}
