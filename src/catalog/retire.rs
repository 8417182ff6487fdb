//! The end of what a reload replaced.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Provider, work::Work};

/// Ends sessions and processes of a replaced provider when no request holds it any more; at the
/// latest when the longest call must have ended.
pub(super) fn retire(work: &Arc<Work>, provider: &Arc<Provider>) {
    const LAST: Duration = Duration::from_secs(5);
    let endpoint = &provider.endpoint;
    let (work, identity) = (Arc::clone(work), endpoint.identity);
    let until = Instant::now() + endpoint.connect + endpoint.call + LAST;
    let held: Weak<Provider> = Arc::downgrade(provider);
    let control = work.control.clone();
    control.spawn(async move {
        let mut pause = Duration::from_millis(20);
        while held.strong_count() > 0 && Instant::now() < until {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        // The descriptor may have been changed back meanwhile.
        let snapshot = work.snapshot.load();
        if snapshot
            .providers
            .values()
            .all(|provider| provider.endpoint.identity != identity)
        {
            work.lister.retire(&identity);
        }
    });
}
