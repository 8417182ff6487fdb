//! The deadline of a call that may ask its caller: while a person thinks, the provider's time
//! stands still.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The longest a caller may take to answer one question.
pub(crate) const MAX_ANSWER: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Deadline {
    state: Mutex<State>,
    /// What is granted anew after an answer.
    extension: Duration,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    open: usize,
}

/// An open question; the clock runs again when the last one is dropped.
#[derive(Debug)]
pub(crate) struct OpenQuestion(Arc<Deadline>);

impl Deadline {
    /// Waits until a deadline, and as long again after each question.
    pub(crate) fn until(deadline: Instant) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { deadline, open: 0 }),
            extension: deadline.saturating_duration_since(Instant::now()),
            changed: Notify::new(),
        })
    }

    pub(crate) fn pause(self: &Arc<Self>) -> OpenQuestion {
        self.state.lock().open += 1;
        self.changed.notify_one();
        OpenQuestion(Arc::clone(self))
    }

    pub(crate) fn at(&self) -> Instant {
        let state = self.state.lock();
        if state.open > 0 {
            Instant::now() + MAX_ANSWER
        } else {
            state.deadline
        }
    }

    /// Waits for something; `None` when the deadline passed first.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                done = &mut future => return Some(done),
                () = self.changed.notified() => {}
                () = sleep_until(self.at()) => {
                    if self.at() <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }
}

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            state.deadline = Instant::now() + self.0.extension;
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_still_while_a_question_is_open() {
        let timer = Deadline::until(Instant::now() + Duration::from_secs(60));
        let asking = timer.pause();
        let begun = Instant::now();
        let thinking = async {
            tokio::time::sleep(Duration::from_secs(500)).await;
            drop(asking);
            std::future::pending::<()>().await;
        };
        assert!(timer.run(thinking).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 560);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_question_the_deadline_holds() {
        let timer = Deadline::until(Instant::now() + Duration::from_secs(60));
        let begun = Instant::now();
        assert!(timer.run(std::future::pending::<()>()).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}
