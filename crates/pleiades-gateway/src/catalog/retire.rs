//! The end of what a reload replaced.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use pleiades_core::backoff::Backoff;

use super::{Provider, service::DiscoveryService};

/// Ends sessions and processes of a replaced provider when no request holds it any more; at the
/// latest when the longest call must have ended.
pub(super) fn retire(work: &Arc<DiscoveryService>, provider: &Arc<Provider>) {
    const LAST: Duration = Duration::from_secs(5);
    let endpoint = &provider.endpoint;
    let (work, digest) = (Arc::clone(work), endpoint.digest);
    let until = Instant::now() + endpoint.connect + endpoint.call + LAST;
    let alive: Weak<Provider> = Arc::downgrade(provider);
    let control = work.control.clone();
    control.spawn(async move {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        while alive.strong_count() > 0 && Instant::now() < until {
            sleep(backoff.pause()).await;
        }
        // The descriptor may have been changed back meanwhile.
        let snapshot = work.snapshot.load();
        let mut providers = snapshot.providers.values();
        if providers.all(|provider| provider.endpoint.digest != digest) {
            work.lister.retire(&digest);
        }
    });
}
