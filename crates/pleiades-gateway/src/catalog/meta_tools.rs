//! The tools that stand for a provider's own, kept beside its lists: each `tools/list` shows them, and
//! making them goes through all names.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Provider;
use pleiades_mcp::RawObject;

/// The tools that stand for a provider's own.
#[derive(Debug, Default)]
pub(crate) struct MetaTools {
    /// Entries of `tools/list`.
    pub(crate) tools: Vec<RawObject>,
    /// About what they cost a model.
    pub(crate) tokens: usize,
}

/// Those that were made last of a list of tools.
#[derive(Debug, Default)]
pub(crate) struct MetaToolCache(Mutex<Option<MadeTools>>);

/// What they were made of beside the list.
#[derive(Debug)]
struct MadeTools {
    /// The provider as its descriptor described it; weak, because the provider has the list.
    provider: Weak<Provider>,
    is_split: bool,
    made: Arc<MetaTools>,
}

impl MetaToolCache {
    /// The tools for this provider as it is now; another descriptor of it has them made anew.
    pub(crate) fn get(
        &self,
        provider: &Arc<Provider>,
        is_split: bool,
        make: impl FnOnce() -> MetaTools,
    ) -> Arc<MetaTools> {
        // A weak pointer keeps the address from being used again, so equal ones are one provider.
        let fits = |it: &&MadeTools| {
            it.is_split == is_split && std::ptr::eq(it.provider.as_ptr(), Arc::as_ptr(provider))
        };
        let found = self.0.lock().as_ref().filter(fits).map(|it| Arc::clone(&it.made));
        found.unwrap_or_else(|| {
            let made = Arc::new(make());
            *self.0.lock() = Some(MadeTools {
                provider: Arc::downgrade(provider),
                is_split,
                made: Arc::clone(&made),
            });
            made
        })
    }
}
