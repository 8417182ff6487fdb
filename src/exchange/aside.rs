//! Work whose amount a caller or a provider chooses, aside from the threads that answer everybody.
//!
//! There are few places, and each provider has one of them at a time, so that one provider's work
//! waits for itself. What does not get a place in time is not done; what runs holds its place until it
//! ends, whoever still waits for it, so that nothing piles up behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// JSON above this is looked into aside (bytes; contracts section 12).
pub(super) const LARGE: usize = 64 * 1024;
/// Pieces of work that wait for a place; each holds its input.
const MAX_WAITING: usize = 256;
/// Providers whose places are remembered while nobody uses them.
const REMEMBERED: usize = 1_024;

/// The places.
#[derive(Debug)]
pub(super) struct Aside {
    places: Arc<Semaphore>,
    providers: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    waiting: AtomicUsize,
}

impl Default for Aside {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            places: Arc::new(Semaphore::new(threads.div_ceil(2))),
            providers: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Aside {
    /// Does a piece of work for a provider; `None` when it is not done within this time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        provider: &Arc<str>,
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if ahead >= MAX_WAITING {
            return None;
        }
        let own = self.own(provider);
        let done = async {
            let own = own.acquire_owned().await.ok()?;
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            drop(waiting);
            let worked = spawn_blocking(move || {
                let done = work();
                drop((own, place));
                done
            });
            worked.await.ok()
        };
        timeout(within, done).await.ok().flatten()
    }

    fn own(&self, provider: &Arc<str>) -> Arc<Semaphore> {
        let mut providers = self.providers.lock();
        if providers.len() >= REMEMBERED {
            providers.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let own = providers
            .entry(Arc::clone(provider))
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(own)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn aside(places: usize) -> Arc<Aside> {
        Arc::new(Aside {
            places: Arc::new(Semaphore::new(places)),
            ..Aside::default()
        })
    }

    /// Work of a provider that ends when it is told to; returns once it runs.
    async fn busy(
        aside: &Arc<Aside>,
        provider: &str,
    ) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Option<()>>) {
        let (end, ended) = mpsc::channel::<()>();
        let (runs, running) = tokio::sync::oneshot::channel();
        let (aside, provider) = (Arc::clone(aside), Arc::from(provider));
        let work = tokio::spawn(async move {
            let work = move || {
                runs.send(()).ok();
                ended.recv().ok();
            };
            aside.run(&provider, LONG, work).await
        });
        running.await.expect("it runs");
        (end, work)
    }

    #[tokio::test]
    async fn work_of_one_provider_waits_for_itself_and_not_for_others() {
        let aside = aside(2);
        let (end, first) = busy(&aside, "slow").await;
        assert_eq!(aside.run(&"other".into(), LONG, || 1).await, Some(1));
        assert_eq!(aside.run(&"slow".into(), Duration::ZERO, || 2).await, None);
        drop(end);
        assert_eq!(first.await.expect("no panic"), Some(()));
        assert_eq!(aside.run(&"slow".into(), LONG, || 2).await, Some(2));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_holds_its_place_until_it_ends() {
        let aside = aside(1);
        let (end, first) = busy(&aside, "slow").await;
        first.abort();
        first.await.expect_err("aborted");
        assert_eq!(aside.run(&"other".into(), Duration::ZERO, || 1).await, None);
        drop(end);
        assert_eq!(aside.run(&"other".into(), LONG, || 1).await, Some(1));
    }

    #[tokio::test]
    async fn what_finds_too_many_waiting_is_not_done_and_what_panics_gives_its_place_back() {
        let aside = aside(1);
        aside.waiting.store(MAX_WAITING, Ordering::Relaxed);
        assert_eq!(aside.run(&"a".into(), LONG, || 1).await, None);
        aside.waiting.store(0, Ordering::Relaxed);
        let panics = || -> i32 { panic!("on purpose") };
        assert_eq!(aside.run(&"a".into(), LONG, panics).await, None);
        assert_eq!(aside.run(&"a".into(), LONG, || 1).await, Some(1));
    }
}
