//! What one request weighs: the bytes that it holds of what all share, and whether work on it belongs
//! away from the threads that answer others.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::budget::{Full, Reservation};

/// JSON of more bytes is worked on aside: a millisecond and more of a thread that others wait for.
const LARGE: usize = 64 * 1024;

tokio::task_local! {
    static LOAD: Arc<RequestLoad>;
}

/// What the request of a task weighs.
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

    /// Works on the request: what [`came`] meanwhile is its load.
    pub async fn carry<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        LOAD.scope(self, work).await
    }

    /// Whether the next step of the work belongs aside ([`aside`]).
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.is_large.load(Relaxed)
    }

    /// So many bytes are held from now on: those of the answer, once it is made.
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

/// More bytes of an answer came for the request of this task. What no request waits for is bounded
/// where it is kept.
///
/// # Errors
/// [`Full`].
pub fn charge(bytes: usize) -> Result<(), Full> {
    LOAD.try_with(|load| load.grow(bytes)).unwrap_or(Ok(()))
}

/// Lets go of the thread when much came, so that what follows is done aside.
pub async fn yield_if_large() {
    if LOAD.try_with(|load| load.is_large()).unwrap_or(false) {
        tokio::task::yield_now().await;
    }
}

/// Works on so many bytes of JSON: on much of it aside.
pub fn run_sized<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE { run_blocking(work) } else { work() }
}

/// Works while another thread goes on with the tasks of this one; in few places at once, so that cores
/// are left for them. Where there is no other thread (a runtime of one) it is done at once.
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
    /// Whether this thread has a place already.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Places that are taken.
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
