//! Compiled schemas that are kept: of all providers together within a budget, the oldest given up
//! first, since a provider may list thousands and a caller may call each once.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::Checks;

/// What compiled schemas may take in all (bytes, estimated).
const MAX_KEPT: usize = 32 * 1024 * 1024;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

type Place = Mutex<Option<Option<Arc<Checks>>>>;

/// Where the compiled schema of one tool is kept.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<Place>);

#[derive(Debug, Default)]
struct Kept {
    oldest_first: VecDeque<(Weak<Place>, usize)>,
    bytes: usize,
}

impl Slot {
    /// What is there already: `Some(None)` for a schema that cannot be compiled.
    #[must_use]
    pub fn known(&self) -> Option<Option<Arc<Checks>>> {
        self.0.lock().clone()
    }

    /// The compiled schema; `None` when it cannot be compiled.
    #[must_use]
    pub fn get(&self, schema: &RawValue) -> Option<Arc<Checks>> {
        if let Some(known) = self.known() {
            return known;
        }
        let compiled = Checks::compile(schema).map(Arc::new);
        *self.0.lock() = Some(compiled.clone());
        if let Some(compiled) = &compiled {
            let given_up = KEPT.lock().keep(&self.0, compiled.bytes(schema), MAX_KEPT);
            for place in given_up {
                *place.lock() = None;
            }
        }
        compiled
    }
}

impl Kept {
    /// Notes one more; those that have to go for it.
    fn keep(&mut self, place: &Arc<Place>, bytes: usize, most: usize) -> Vec<Arc<Place>> {
        self.oldest_first.push_back((Arc::downgrade(place), bytes));
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
        let mut kept = Kept::default();
        let places: Vec<Arc<Place>> = (0..4).map(|_| Arc::default()).collect();
        for place in &places[..3] {
            assert!(kept.keep(place, 30, 100).is_empty());
        }
        let given_up = kept.keep(&places[3], 50, 100);
        assert_eq!((given_up.len(), kept.bytes), (2, 80));
        assert!(Arc::ptr_eq(&given_up[0], &places[0]));
    }

    #[test]
    fn a_schema_is_compiled_once_and_what_cannot_be_is_remembered() {
        let slot = Slot::default();
        assert!(slot.known().is_none());
        let schema: &RawValue = serde_json::from_str(r#"{"type":"object"}"#).unwrap();
        let first = slot.get(schema).unwrap();
        assert!(Arc::ptr_eq(&first, &slot.get(schema).unwrap()));
        let odd = Slot::default();
        let schema: &RawValue = serde_json::from_str(r#"{"$ref":"https://a.example/"}"#).unwrap();
        assert!(odd.get(schema).is_none());
        assert!(matches!(odd.known(), Some(None)));
    }
}
