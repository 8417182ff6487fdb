//! In which order the calls of a plan are made.
//!
//! Reads run beside each other. A write waits for all that stands before it, and what stands after it
//! waits for the write, so that each call finds what those before it left behind. The first failure ends
//! it: nothing else starts, and what runs is waited for.

/// Reads of one plan that run at once: a provider is asked by others too.
pub(crate) const MAX_AT_ONCE: usize = 5;

/// What the order of a call depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallOrder {
    /// Whether it may change something.
    pub(crate) writes: bool,
    /// Positions of the calls whose results it needs; all are before its own.
    pub(crate) needs: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    Succeeded,
    Failed,
}

/// Which calls of a plan may start now. Knows no time and no provider.
#[derive(Debug)]
pub(crate) struct CallSchedule {
    calls: Vec<(CallOrder, Progress)>,
    at_once: usize,
    is_closed: bool,
}

impl CallSchedule {
    /// The schedule of calls in their order, of which so many run at once; at least one does.
    pub(crate) fn new(calls: impl IntoIterator<Item = CallOrder>, at_once: usize) -> Self {
        Self {
            calls: calls.into_iter().map(|call| (call, Progress::Waiting)).collect(),
            at_once: at_once.max(1),
            is_closed: false,
        }
    }

    /// The next call that may start, which counts as running from now on.
    pub(crate) fn start(&mut self) -> Option<usize> {
        if self.is_closed || self.running() >= self.at_once {
            return None;
        }
        let at = (0..self.calls.len()).find(|at| self.may_start(*at))?;
        self.set(at, Progress::Running);
        Some(at)
    }

    /// Notes that a call is over. After one that failed nothing starts.
    pub(crate) fn finish(&mut self, at: usize, succeeded: bool) {
        let progress = match succeeded {
            true => Progress::Succeeded,
            false => Progress::Failed,
        };
        self.set(at, progress);
        self.is_closed |= !succeeded;
    }

    /// Nothing starts any more, for another reason.
    pub(crate) const fn close(&mut self) {
        self.is_closed = true;
    }

    /// Calls that run now.
    pub(crate) fn running(&self) -> usize {
        let running = |(_, progress): &&(CallOrder, Progress)| *progress == Progress::Running;
        self.calls.iter().filter(running).count()
    }

    /// The first call that failed, by position.
    pub(crate) fn failed(&self) -> Option<usize> {
        self.calls
            .iter()
            .position(|(_, progress)| *progress == Progress::Failed)
    }

    fn may_start(&self, at: usize) -> bool {
        let Some((call, Progress::Waiting)) = self.calls.get(at) else {
            return false;
        };
        let before = self.calls.iter().take(at);
        let is_over = |(_, progress): &(CallOrder, Progress)| *progress == Progress::Succeeded;
        let mut waited_for = before
            .enumerate()
            .filter(|(other, (order, _))| call.writes || order.writes || call.needs.contains(other));
        waited_for.all(|(_, before)| is_over(before))
    }

    fn set(&mut self, at: usize, progress: Progress) {
        if let Some((_, slot)) = self.calls.get_mut(at) {
            *slot = progress;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> CallOrder {
        CallOrder::default()
    }

    fn write() -> CallOrder {
        CallOrder {
            writes: true,
            needs: Vec::new(),
        }
    }

    fn after(needs: &[usize]) -> CallOrder {
        CallOrder {
            writes: false,
            needs: needs.to_vec(),
        }
    }

    fn started(schedule: &mut CallSchedule) -> Vec<usize> {
        std::iter::from_fn(|| schedule.start()).collect()
    }

    #[test]
    fn reads_start_at_once_and_no_more_of_them_than_are_allowed() {
        let mut schedule = CallSchedule::new([read(), read(), read()], 2);
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.finish(1, true);
        assert_eq!(started(&mut schedule), [2]);
        let mut one = CallSchedule::new([read(), read()], 0);
        assert_eq!(started(&mut one), [0], "one at least");
    }

    #[test]
    fn a_write_waits_for_all_before_it_and_all_after_it_wait_for_the_write() {
        let mut schedule = CallSchedule::new([read(), read(), write(), write(), read()], 5);
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.finish(0, true);
        assert_eq!(
            started(&mut schedule),
            [] as [usize; 0],
            "a read before it still runs"
        );
        schedule.finish(1, true);
        assert_eq!(started(&mut schedule), [2]);
        schedule.finish(2, true);
        assert_eq!(started(&mut schedule), [3]);
        schedule.finish(3, true);
        assert_eq!(started(&mut schedule), [4]);
    }

    #[test]
    fn a_read_waits_for_what_it_needs_alone() {
        let mut schedule = CallSchedule::new([read(), after(&[0]), read(), after(&[1, 2])], 5);
        assert_eq!(started(&mut schedule), [0, 2]);
        schedule.finish(2, true);
        assert_eq!(started(&mut schedule), [] as [usize; 0]);
        schedule.finish(0, true);
        assert_eq!(started(&mut schedule), [1]);
        schedule.finish(1, true);
        assert_eq!(started(&mut schedule), [3]);
    }

    #[test]
    fn after_a_failure_nothing_starts_and_what_runs_is_waited_for() {
        let mut schedule = CallSchedule::new([read(), read(), read(), write()], 2);
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.finish(0, false);
        assert_eq!((schedule.running(), schedule.failed()), (1, Some(0)));
        assert_eq!(started(&mut schedule), [] as [usize; 0]);
        schedule.finish(1, true);
        assert_eq!((schedule.running(), started(&mut schedule)), (0, Vec::new()));
    }

    #[test]
    fn a_closed_schedule_starts_nothing_and_names_no_failure() {
        let mut schedule = CallSchedule::new([read(), read()], 1);
        assert_eq!(started(&mut schedule), [0]);
        schedule.close();
        schedule.finish(0, true);
        assert_eq!((schedule.start(), schedule.failed()), (None, None));
    }
}
