//! What is kept of results between calls: results that were cut, to be read on under a handle, and
//! answers of reads, to be given again.
//!
//! Both are of one caller, provider and account, in memory alone, within a share for each tenant and
//! for a time. Where replicas share state each finds what the others keep ([`SharedResults`]).

mod cache;
mod canonical;
mod handles;
mod owner;
mod quota;
mod record;
mod shared;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

pub(crate) use self::cache::{AnswerCache, CacheKey, CacheLookup, CacheTicket, WriteGuard};
pub(crate) use self::handles::ResultHandles;
pub(crate) use self::owner::{AccountScope, ResultOwner};
pub(crate) use self::record::StoredResult;
pub(crate) use self::shared::SharedResults;

use pleiades_core::telemetry::Metrics;

/// Work on more bytes than these takes long.
const LARGE: usize = 64 << 10;
/// How often it is looked for what has expired.
const SWEEP: Duration = Duration::from_secs(10);

/// The two stores, and what makes room in them beside calls.
#[derive(Debug)]
pub(crate) struct ResultStores {
    pub(crate) handles: ResultHandles,
    pub(crate) cache: Arc<AnswerCache>,
}

impl ResultStores {
    pub(crate) fn new(
        shared: &Arc<dyn SharedResults>,
        metrics: &Arc<Metrics>,
        control: &Handle,
    ) -> Arc<Self> {
        let stores = Arc::new(Self {
            handles: ResultHandles::new(Arc::clone(shared), Arc::clone(metrics)),
            cache: Arc::new(AnswerCache::new(Arc::clone(shared), Arc::clone(metrics))),
        });
        control.spawn(sweep(Arc::downgrade(&stores)));
        stores
    }
}

/// Does work on so many bytes, beside the threads that answer others where these are many.
async fn beside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match bytes {
        0..=LARGE => Some(work()),
        _ => spawn_blocking(work).await.ok(),
    }
}

/// Frees what has expired, for as long as the stores live.
async fn sweep(stores: Weak<ResultStores>) {
    loop {
        sleep(SWEEP).await;
        let Some(stores) = stores.upgrade() else { return };
        stores.handles.sweep();
        stores.cache.sweep();
    }
}
