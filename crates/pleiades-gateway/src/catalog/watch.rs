//! When to read the folder: soon after something happened in it, and every 30 s besides.
//!
//! Kinds of events are not trusted: symlink swaps, rename-writes and network mounts each look
//! different. Any event leads to a reading, and readings that find nothing new change nothing.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Quiet after an event before the folder is read.
const QUIET: Duration = Duration::from_millis(200);
/// The folder is read that long after the first event at the latest.
const MAX_DELAY: Duration = Duration::from_millis(600);
/// The folder is read that often without an event: some file systems send none.
const POLL: Duration = Duration::from_secs(30);
/// The folder itself is looked at that often: a watch does not follow when it is replaced.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct FolderWatcher {
    heard: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the folder that is watched.
    on: Option<(u64, u64)>,
    /// Keeps the inode's number from being given to a folder made in place of a deleted one.
    handle: Option<File>,
}

impl FolderWatcher {
    pub(super) fn open(folder: &Path) -> Self {
        let mut watching = Self::default();
        watching.point_at(folder);
        watching
    }

    /// Watches the folder that is there now; returns whether it is another than before.
    pub(super) fn point_at(&mut self, folder: &Path) -> bool {
        let there = fs::metadata(folder)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        if there == self.on {
            return false;
        }
        self.on = there;
        self.watcher = None;
        // A folder that may not be read has no handle; nothing can be watched in it either.
        self.handle = File::open(folder).ok();
        if there.is_some() {
            match listen(folder, &self.heard) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => tracing::warn!(
                    providers.folder = %folder.display(), error = &error as &dyn std::error::Error,
                    "the folder of descriptors cannot be watched; it is read every {} s instead", POLL.as_secs()
                ),
            }
        }
        true
    }
}

/// Watches the folder, never the files in it: a watch on a file follows its link and stays with
/// what was there.
fn listen(folder: &Path, heard: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let heard = Arc::clone(heard);
    // Runs on a thread of the watcher's own: it only says that something happened.
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_reading(event.kind)) {
            return;
        }
        heard.notify_one();
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Our own readings are events too; answering them would never end.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// Calls `look` twice a second until it returns `None`, since the catalogue is gone. Its argument:
/// whether to read the folder. It returns whether that is another one than before.
pub(super) async fn run(
    watching: FolderWatcher,
    end: CancellationToken,
    look: impl Fn(&mut FolderWatcher, bool) -> Option<bool> + Send + Sync + 'static,
) {
    end.run_until_cancelled(watch(watching, Arc::new(look)))
        .await
        .unwrap_or_default();
}

async fn watch<Look>(mut watching: FolderWatcher, look: Arc<Look>)
where
    Look: Fn(&mut FolderWatcher, bool) -> Option<bool> + Send + Sync + 'static,
{
    let mut poll = Instant::now() + POLL;
    loop {
        let heard = timeout_at(Instant::now() + LOOK, watching.heard.notified())
            .await
            .is_ok();
        if heard {
            settle(&watching.heard).await;
        }
        let read = heard || Instant::now() >= poll;
        let look = Arc::clone(&look);
        let looking = tokio::task::spawn_blocking(move || (look(&mut watching, read), watching));
        let moved = match looking.await {
            Ok((Some(moved), back)) => {
                watching = back;
                moved
            }
            Ok((None, _)) => return,
            Err(_) => {
                tracing::error!(
                    "reading the folder of descriptors ended in a panic; it is not watched any more"
                );
                return;
            }
        };
        if read || moved {
            poll = Instant::now() + POLL;
        }
    }
}

/// Waits until nothing has happened for a moment, but not for ever.
async fn settle(heard: &Notify) {
    let latest = Instant::now() + MAX_DELAY;
    loop {
        let quiet = (Instant::now() + QUIET).min(latest);
        if timeout_at(quiet, heard.notified()).await.is_err() || Instant::now() >= latest {
            return;
        }
        // A burst of thousands of events must not keep a core busy.
        sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, RemoveKind};

    use super::*;

    #[test]
    fn our_own_readings_lead_to_no_reading() {
        let ours = [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
        ];
        assert!(
            ours.into_iter()
                .all(|access| is_reading(EventKind::Access(access)))
        );
        let writing = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let others = [
            writing,
            EventKind::Create(CreateKind::File),
            EventKind::Remove(RemoveKind::Folder),
            EventKind::Other,
        ];
        assert!(!others.into_iter().any(is_reading));
    }
}
