//! One account's lists of one provider, and the attempts to read them: one at a time.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Catalogue, Tool, ToolRules, bounds::LeftOut, discover::Found, lists::Cost, live::jittered};
use crate::error::{Code, Error};
use crate::upstream::{Behalf, Profile};

/// Lists are read again after this long when nobody says how long they hold.
const TTL: Duration = Duration::from_secs(300);
/// The least between attempts that callers ask for after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// The shortest that a provider may say.
const TTL_LEAST: Duration = Duration::from_secs(60);

/// One account's lists of one provider.
#[derive(Debug)]
pub struct Shelf {
    catalogue: ArcSwap<Catalogue>,
    desk: Mutex<Desk>,
    /// Counts attempts that ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Desk {
    running: bool,
    last: Option<Last>,
    /// Tools before the descriptor's rules, so that other rules need no new attempt.
    offered: Arc<[Arc<Tool>]>,
    left_out: LeftOut,
}

/// What the last attempt came to.
#[derive(Debug, Clone)]
struct Last {
    at: Instant,
    /// Old from then on.
    until: Instant,
    failure: Option<Failure>,
}

/// An error that several callers are told.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(super) code: Code,
    pub(super) message: String,
    /// Which token set the reading ended with; 0 for credentials that are never renewed.
    pub(super) tokens: u64,
    data: Option<serde_json::Value>,
    refusal: Option<Box<(u16, Option<String>)>>,
    retry_after: Option<Duration>,
}

impl Failure {
    /// Of a reading that was made for this caller.
    pub(super) fn of(error: &Error, behalf: &Behalf) -> Self {
        Self {
            code: error.code,
            message: error.message.to_string(),
            tokens: behalf.signature.now().seq,
            data: error.data.clone(),
            refusal: error.refusal.clone(),
            retry_after: error.retry_after,
        }
    }

    pub(super) fn error(&self) -> Error {
        let mut error = Error::new(self.code, self.message.clone());
        error.data.clone_from(&self.data);
        error.refusal.clone_from(&self.refusal);
        error.retry_after = self.retry_after;
        error
    }

    /// Whether an attempt that failed so long ago says what one made now would come to: not when it is
    /// a while ago, nor when the account has other tokens since.
    pub(super) fn holds(&self, ago: Duration, behalf: &Behalf) -> bool {
        ago < RETRY && self.tokens == behalf.signature.now().seq
    }
}

/// Where the lists of a shelf stand.
#[derive(Debug)]
pub(super) enum Standing {
    /// No attempt has ended yet.
    Never,
    /// Read, and held to be true.
    Fresh,
    /// Read, and old.
    Old,
    /// The last attempt failed so long ago.
    Failed(Failure, Duration),
}

impl Default for Shelf {
    fn default() -> Self {
        Self::new(Catalogue::default())
    }
}

impl Shelf {
    /// A shelf with these lists; nothing has been read yet.
    #[must_use]
    pub fn new(catalogue: Catalogue) -> Self {
        Self {
            catalogue: ArcSwap::from_pointee(catalogue),
            desk: Mutex::default(),
            ended: watch::Sender::new(0),
        }
    }

    /// The lists as they are.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Catalogue>> {
        self.catalogue.load()
    }

    /// The lists as they are, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// The same lists under other rules on tools.
    pub(super) fn under(&self, rules: &ToolRules) -> Self {
        let desk = self.desk.lock();
        let old = self.catalogue.load();
        let mut catalogue = Catalogue {
            profile: old.profile.clone(),
            resources: old.resources.clone(),
            templates: old.templates.clone(),
            prompts: old.prompts.clone(),
            complete: old.complete,
            unread: old.unread.clone(),
            ttl_ms: old.ttl_ms,
            cost: old.cost,
            ..Catalogue::default()
        };
        catalogue.set_tools(
            desk.offered
                .iter()
                .filter(|tool| rules.lets(tool))
                .cloned()
                .collect(),
        );
        let heir = Self::new(catalogue);
        *heir.desk.lock() = Desk {
            running: false,
            last: desk.last.clone(),
            offered: Arc::clone(&desk.offered),
            left_out: desk.left_out.clone(),
        };
        heir
    }

    pub(super) fn standing(&self) -> Standing {
        let desk = self.desk.lock();
        let now = Instant::now();
        match &desk.last {
            None => Standing::Never,
            Some(Last {
                at,
                failure: Some(failure),
                ..
            }) => Standing::Failed(failure.clone(), now - *at),
            Some(last) if now < last.until => Standing::Fresh,
            Some(_) => Standing::Old,
        }
    }

    /// How long ago the last attempt ended.
    pub(super) fn age(&self) -> Option<Duration> {
        self.desk
            .lock()
            .last
            .as_ref()
            .map(|last| Instant::now() - last.at)
    }

    /// When the lists will be old.
    pub(super) fn until(&self) -> Option<Instant> {
        self.desk.lock().last.as_ref().map(|last| last.until)
    }

    /// Which tools are here and what they take, and what all else takes, in bytes.
    pub(super) fn cost(&self) -> (*const Arc<Tool>, Cost) {
        (self.desk.lock().offered.as_ptr(), self.catalogue.load().cost)
    }

    pub(super) fn offered(&self) -> Arc<[Arc<Tool>]> {
        Arc::clone(&self.desk.lock().offered)
    }

    /// Notes what the provider answered to the question that detection left open.
    pub(super) fn learn(&self) {
        // With the desk in hand no attempt stores what it knew before.
        let desk = self.desk.lock();
        let known = self.catalogue.load();
        if let Some(settled) = known.profile.as_ref().and_then(Profile::settled) {
            let mut catalogue = Catalogue::clone(&known);
            catalogue.profile = Some(settled);
            self.catalogue.store(Arc::new(catalogue));
        }
        drop(desk);
    }

    /// Watches for the end of attempts; take it before looking where the lists stand.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// The right to make an attempt; `None` while another runs.
    pub(super) fn claim(self: &Arc<Self>) -> Option<Claim> {
        let mut desk = self.desk.lock();
        if desk.running {
            return None;
        }
        desk.running = true;
        Some(Claim {
            shelf: Arc::clone(self),
        })
    }

    /// Notes from outside that the provider cannot be used.
    pub(super) fn failed(&self, failure: Failure) {
        let now = Instant::now();
        self.desk.lock().last = Some(Last {
            at: now,
            until: now,
            failure: Some(failure),
        });
    }
}

/// A running attempt; ends when dropped, whatever became of it.
#[derive(Debug)]
pub(super) struct Claim {
    shelf: Arc<Shelf>,
}

impl Claim {
    pub(super) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Puts what was found on the shelf. Says whether the attempt before had failed, and what was left
    /// out for the first time.
    pub(super) fn found(&self, mut found: Found) -> (bool, Vec<String>) {
        let mut desk = self.shelf.desk.lock();
        // It may have been learnt while the lists were read.
        if let Some(settled) = found.catalogue.profile.as_ref().and_then(Profile::settled) {
            found.catalogue.profile = Some(settled);
        }
        let failed = desk.last.as_ref().is_some_and(|last| last.failure.is_some());
        let new = found.left_out.news(&desk.left_out).cloned().collect();
        let now = Instant::now();
        let until = now + holds(&found.catalogue);
        desk.last = Some(Last {
            at: now,
            until,
            failure: None,
        });
        desk.offered = found.offered;
        desk.left_out = found.left_out;
        self.shelf.catalogue.store(Arc::new(found.catalogue));
        (failed, new)
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.shelf.failed(failure);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shelf.desk.lock().running = false;
        self.shelf.ended.send_modify(|ended| *ended += 1);
    }
}

/// How long lists hold. An incomplete one is tried again soon.
fn holds(catalogue: &Catalogue) -> Duration {
    if !catalogue.complete {
        return jittered(TTL_LEAST);
    }
    match catalogue.ttl_ms {
        0 => jittered(TTL),
        given => Duration::from_millis(given).clamp(TTL_LEAST, TTL * 12),
    }
}
