//! Workers for what a caller or a provider chooses the amount of, beside the threads that answer everybody.
//!
//! There are few places. Each provider has one of them at a time, each caller half of them, so that
//! the work of one waits for itself. What does not get a place in time is not done; what runs holds its
//! place until it ends, whoever still waits for it, so that nothing piles up behind it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{collections::HashMap, sync::Arc, thread::available_parallelism, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// JSON above this is looked into by a worker (bytes).
pub(crate) const LARGE: usize = 64 * 1024;
/// Pieces of work that wait for a place; each holds its input.
const MAX_WAITING: usize = 256;
/// Shares that are remembered while nobody uses them.
const REMEMBERED: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Workers {
    places: Arc<Semaphore>,
    /// Of these places a caller has so many.
    each: usize,
    shares: Mutex<HashMap<ShareOf, Arc<Semaphore>>>,
    waiting: AtomicUsize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum ShareOf {
    Provider(Arc<str>),
    Caller(Box<str>),
}

impl Default for Workers {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of(threads.div_ceil(2))
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    fn of(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            each: places.div_ceil(2),
            shares: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Does a piece of work for a provider and a caller; `None` when it is not done within this time.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        (provider, caller): (&Arc<str>, &str),
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if ahead >= MAX_WAITING {
            return None;
        }
        let provider = self.share(ShareOf::Provider(Arc::clone(provider)), 1);
        let caller = self.share(ShareOf::Caller(caller.into()), self.each);
        let done = async {
            let own = (
                provider.acquire_owned().await.ok()?,
                caller.acquire_owned().await.ok()?,
            );
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

    fn share(&self, of: ShareOf, places: usize) -> Arc<Semaphore> {
        let mut shares = self.shares.lock();
        if shares.len() >= REMEMBERED {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = shares
            .entry(of)
            .or_insert_with(|| Arc::new(Semaphore::new(places)));
        Arc::clone(share)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn workers(places: usize) -> Arc<Workers> {
        Arc::new(Workers::of(places))
    }

    type CallOrder = Arc<Mutex<Vec<&'static str>>>;

    /// A piece of work that says its caller when it runs.
    async fn says(
        workers: Arc<Workers>,
        provider: &'static str,
        caller: &'static str,
        order: CallOrder,
    ) -> Option<()> {
        let work = move || order.lock().push(caller);
        workers.run((&Arc::from(provider), caller), LONG, work).await
    }

    /// Work that ends when it is told to; returns once it runs.
    async fn busy(
        workers: &Arc<Workers>,
        provider: &str,
        caller: &'static str,
    ) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Option<()>>) {
        let (end, ended) = mpsc::channel::<()>();
        let (runs, running) = tokio::sync::oneshot::channel();
        let (workers, provider): (_, Arc<str>) = (Arc::clone(workers), Arc::from(provider));
        let work = tokio::spawn(async move {
            let work = move || {
                runs.send(()).ok();
                ended.recv().ok();
            };
            workers.run((&provider, caller), LONG, work).await
        });
        running.await.expect("it runs");
        (end, work)
    }

    #[tokio::test]
    async fn work_of_one_provider_or_caller_waits_for_itself_and_not_for_others() {
        let (workers, order) = (workers(4), CallOrder::default());
        let (end, first) = busy(&workers, "slow", "a").await;
        let (end_other, second) = busy(&workers, "other", "a").await;
        let provider = tokio::spawn(says(Arc::clone(&workers), "slow", "b", Arc::clone(&order)));
        let caller = tokio::spawn(says(Arc::clone(&workers), "third", "a", Arc::clone(&order)));
        says(Arc::clone(&workers), "fourth", "c", Arc::clone(&order))
            .await
            .expect("done");
        assert_eq!(*order.lock(), ["c"], "who waits for nobody");
        drop((end, end_other));
        for done in [first, second, provider, caller] {
            assert_eq!(done.await.expect("no panic"), Some(()));
        }
        assert_eq!(order.lock().len(), 3);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_holds_its_place_until_it_ends() {
        let (workers, order) = (workers(1), CallOrder::default());
        let (end, first) = busy(&workers, "slow", "a").await;
        first.abort();
        first.await.expect_err("aborted");
        assert_eq!(workers.places.available_permits(), 0);
        drop(end);
        says(workers, "other", "b", Arc::clone(&order))
            .await
            .expect("done");
        assert_eq!(*order.lock(), ["b"]);
    }

    #[tokio::test]
    async fn what_finds_too_many_waiting_is_not_done_and_what_panics_gives_its_place_back() {
        let (workers, order) = (workers(1), CallOrder::default());
        workers.waiting.store(MAX_WAITING, Ordering::Relaxed);
        assert_eq!(
            says(Arc::clone(&workers), "a", "a", Arc::clone(&order)).await,
            None
        );
        workers.waiting.store(0, Ordering::Relaxed);
        let panics = || -> i32 { panic!("on purpose") };
        assert_eq!(workers.run((&Arc::from("a"), "a"), LONG, panics).await, None);
        says(workers, "a", "a", order).await.expect("done");
    }
}
