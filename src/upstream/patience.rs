//! The deadline of a call that may ask its caller: while a person thinks, the provider's time
//! stands still.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The longest a caller may take to answer one question.
pub(crate) const LONGEST_ASK: Duration = Duration::from_secs(600);

/// When waiting for a provider ends.
#[derive(Debug)]
pub(crate) struct Patience {
    state: Mutex<State>,
    /// What is granted anew after an answer.
    again: Duration,
    moved: Notify,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    open: usize,
}

/// An open question; the clock runs again when the last one is dropped.
#[derive(Debug)]
pub(crate) struct Asking(Arc<Patience>);

impl Patience {
    /// Waits until a deadline, and as long again after each question.
    pub(crate) fn until(deadline: Instant) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { deadline, open: 0 }),
            again: deadline.saturating_duration_since(Instant::now()),
            moved: Notify::new(),
        })
    }

    pub(crate) fn ask(self: &Arc<Self>) -> Asking {
        self.state.lock().open += 1;
        self.moved.notify_one();
        Asking(Arc::clone(self))
    }

    /// When to give up, as things stand.
    pub(crate) fn deadline(&self) -> Instant {
        let state = self.state.lock();
        if state.open > 0 {
            Instant::now() + LONGEST_ASK
        } else {
            state.deadline
        }
    }

    /// Waits for something, `None` when patience ended first.
    pub(crate) async fn bear<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                done = &mut future => return Some(done),
                () = self.moved.notified() => {}
                () = sleep_until(self.deadline()) => {
                    if self.deadline() <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            state.deadline = Instant::now() + self.0.again;
        }
        drop(state);
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_still_while_a_question_is_open() {
        let patience = Patience::until(Instant::now() + Duration::from_secs(60));
        let asking = patience.ask();
        let begun = Instant::now();
        let thinking = async {
            tokio::time::sleep(Duration::from_secs(500)).await;
            drop(asking);
            std::future::pending::<()>().await;
        };
        assert!(patience.bear(thinking).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 560);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_question_the_deadline_holds() {
        let patience = Patience::until(Instant::now() + Duration::from_secs(60));
        let begun = Instant::now();
        assert!(patience.bear(std::future::pending::<()>()).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}
