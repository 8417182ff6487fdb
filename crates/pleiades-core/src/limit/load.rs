//! The load of one request: the bytes that it takes of shared memory, and whether work on it belongs
//! away from the threads that answer others.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::budget::{Full, Reservation};

/// JSON of more bytes is worked on off the thread: it takes a millisecond and more.
const LARGE: usize = 64 * 1024;

tokio::task_local! {
    static LOAD: Arc<RequestLoad>;
}

/// The load of a task's request.
#[derive(Debug)]
pub struct RequestLoad {
    reservation: Mutex<Reservation>,
    is_large: AtomicBool,
}

impl RequestLoad {
    /// The load of a request whose body has so many bytes.
    #[must_use]
    pub fn new(reservation: Reservation, body: usize) -> Arc<Self> {
        Arc::new(Self {
            reservation: Mutex::new(reservation),
            is_large: AtomicBool::new(body > LARGE),
        })
    }

    /// Runs the work on the request; what it [charges](charge) is its load.
    pub async fn carry<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        LOAD.scope(self, work).await
    }

    /// Whether the work is to be polled in [`run_blocking`].
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.is_large.load(Relaxed)
    }

    /// So many bytes are reserved from now on: those of the answer, once it is made.
    ///
    /// # Errors
    /// [`Full`].
    pub fn settle(&self, bytes: usize) -> Result<(), Full> {
        self.reservation.lock().resize(bytes)
    }

    fn grow(&self, bytes: usize) -> Result<(), Full> {
        let mut reservation = self.reservation.lock();
        reservation.grow(bytes)?;
        if reservation.bytes() > LARGE {
            self.is_large.store(true, Relaxed);
        }
        Ok(())
    }
}

/// Charges more bytes of an answer to the request of this task. What no request waits for is bounded
/// where it is kept.
///
/// # Errors
/// [`Full`].
pub fn charge(bytes: usize) -> Result<(), Full> {
    LOAD.try_with(|load| load.grow(bytes)).unwrap_or(Ok(()))
}

/// Yields when much was charged, so that what follows is polled off the thread.
pub async fn yield_if_large() {
    if LOAD.try_with(|load| load.is_large()).unwrap_or(false) {
        tokio::task::yield_now().await;
    }
}

/// Does work on so many bytes of JSON: on much of it off the thread.
pub fn run_sized<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE { run_blocking(work) } else { work() }
}

/// Does work while another thread goes on with the tasks of this one; for few at once, so that cores
/// are left for the rest. Where there is no other thread (a runtime of one) it is done at once.
pub fn run_blocking<T>(work: impl FnOnce() -> T) -> T {
    let many = Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if !many || INSIDE.get() {
        return work();
    }
    tokio::task::block_in_place(|| {
        let _slot = BlockingSlot::take();
        work()
    })
}

thread_local! {
    /// Whether this thread has a slot already.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Slots that are taken.
static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

struct BlockingSlot;

impl BlockingSlot {
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        let mut taken = TAKEN.lock();
        while *taken >= most {
            FREED.wait(&mut taken);
        }
        *taken += 1;
        INSIDE.set(true);
        Self
    }
}

impl Drop for BlockingSlot {
    fn drop(&mut self) {
        INSIDE.set(false);
        *TAKEN.lock() -= 1;
        FREED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::limit::Budget;

    #[tokio::test]
    async fn what_comes_for_a_request_is_its_load() {
        let budget = Budget::new(1 << 20);
        let load = RequestLoad::new(Arc::clone(&budget).reserve(None), 10);
        assert!(!load.is_large());
        let refused = Arc::clone(&load).carry(async {
            charge(LARGE).unwrap();
            charge(1).unwrap();
            charge(1 << 20)
        });
        assert_eq!(refused.await, Err(Full));
        assert!(load.is_large());
        load.settle(5).unwrap();
        assert_eq!(charge(usize::MAX), Ok(()), "outside of any request");
        assert!(RequestLoad::new(budget.reserve(None), LARGE + 1).is_large());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_are_answered_while_much_is_worked_on() {
        let (answered, answer) = mpsc::channel();
        let other = tokio::spawn(async move { answered.send(()).unwrap() });
        // The only thread of the runtime is here: without another one this would never end.
        let nested = tokio::spawn(async move { run_blocking(|| run_blocking(|| answer.recv().is_ok())) });
        assert!(nested.await.unwrap());
        other.await.unwrap();
    }
}
