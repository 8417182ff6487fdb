//! Watches a child process: notices its end, and ends its whole process group.

use std::{sync::Arc, time::Duration};

use futures_util::future::join;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::wire::WireState;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(800);
/// For SIGKILL to work, and for what a dead process wrote to be read.
const REST: Duration = Duration::from_millis(200);
/// How often a process group is looked at while it ends.
const LOOK: Duration = Duration::from_millis(20);

/// Owns the child: notices its death, and ends its group.
pub(super) struct Supervisor {
    pub(super) state: Arc<WireState>,
    pub(super) kill: CancellationToken,
    /// Says that nothing is read from the pipes any more.
    pub(super) gone: DropGuard,
}

impl Supervisor {
    pub(super) async fn run(self, mut child: Child) {
        let state = &self.state;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let ended = tokio::select! {
            biased;
            // It may have ended just after its last line.
            () = state.stop.cancelled() => match state.is_closed() {
                true => Some(timeout(REST, child.wait()).await.ok()),
                false => None,
            },
            status = child.wait() => Some(Some(status)),
        };
        let wanted = ended.is_none() && !state.is_dead();
        if let Some(Some(Ok(status))) = ended {
            // What it answered last is read to its end, if that comes; so is what it wrote to stderr.
            let read = join(state.stop.cancelled(), state.ending.stderr_read.cancelled());
            timeout(REST, read).await.ok();
            state.ending.status(status);
            state.log_end();
        }
        state.end(wanted);
        if let Some(group) = group {
            self.end(group, &mut child).await;
        }
        let reaped = child.wait().await;
        drop(self.gone);
        tracing::debug!(
            provider.name = &*self.state.provider,
            process.status = ?reaped,
            "the provider's process is gone"
        );
    }

    /// SIGTERM to the group, SIGKILL to what is left of it.
    async fn end(&self, group: Pid, child: &mut Child) {
        // Without a process left there is nobody to end.
        kill_process_group(group, Signal::TERM).ok();
        tokio::select! {
            () = emptied(group, child) => return,
            () = sleep(GRACE) => {}
            () = self.kill.cancelled() => {}
        }
        kill_process_group(group, Signal::KILL).ok();
        // Bounded: orphans that nobody reaps stay in their group as zombies.
        if timeout(REST, emptied(group, child)).await.is_err() {
            tracing::debug!(
                provider.name = &*self.state.provider,
                "a process group outlives its end"
            );
        }
    }
}

async fn emptied(group: Pid, child: &mut Child) {
    // Reaps the leader: as a zombie it would keep its group in being.
    while !matches!(child.try_wait(), Ok(Some(_))) || test_kill_process_group(group).is_ok() {
        sleep(LOOK).await;
    }
}
