//! What a legacy client's session holds in this process: its streams, its lines to providers, its
//! log level. The session itself is in its id; this is what a stream is, and goes with it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use pleiades_core::limit::{BudgetOwner, KeyedLimit, KeyedPermit};
use pleiades_credential::access::Principal;
use pleiades_mcp::{Raw, RawObject};
use pleiades_upstream::Subscription;

/// Sessions that hold something; beyond it those without a stream go first.
const MOST: usize = 20_000;
/// The same of one caller; beyond it those of its own without a stream go first.
const OWN: usize = 4_096;
/// Lines of one session.
const LINES: usize = 64;
/// Resources of one session whose names differ.
const NAMES: usize = 4_096;
/// Bytes of those names.
const NAME_BYTES: usize = 1 << 20;
/// How long what is held outlives the last stream of its session, and its last request: lines cost
/// something here and at the provider, the rest next to nothing.
const LINGER: Duration = Duration::from_secs(120);
const LINGER_WITHOUT_LINES: Duration = Duration::from_secs(3600);
/// Between two looks for what nobody needs any more.
const SWEEP: Duration = Duration::from_secs(15);
/// Levels of RFC 5424, least severe first.
const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// What sessions hold, by their ids.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    all: Arc<Mutex<Boxes>>,
    own: KeyedLimit<BudgetOwner>,
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self {
            all: Arc::default(),
            own: KeyedLimit::new(OWN),
        }
    }
}

#[derive(Debug, Default)]
struct Boxes {
    boxes: HashMap<Arc<str>, Arc<Mailbox>>,
    /// Whether somebody looks for what nobody needs any more.
    swept: bool,
}

/// What one session holds.
#[derive(Debug)]
pub(crate) struct Mailbox {
    contents: Mutex<Contents>,
    /// Whose it is, and its place among those of the same caller.
    holder: BudgetOwner,
    _place: Option<KeyedPermit<BudgetOwner>>,
}

#[derive(Debug, Default)]
struct Contents {
    streams: Vec<(u64, mpsc::Sender<Vec<u8>>)>,
    /// How many those are, for who must know without asking.
    open: Arc<AtomicUsize>,
    lines: HashMap<Arc<str>, Arc<Subscription>>,
    /// What the client calls a provider's resource, where that differs.
    names: HashMap<(Arc<str>, Box<str>), String>,
    name_bytes: usize,
    level: usize,
    last: u64,
    /// When it was last of use.
    used: Option<Instant>,
}

/// A stream's place; given up when dropped.
#[derive(Debug)]
pub(crate) struct MailboxStream {
    mailbox: Arc<Mailbox>,
    number: u64,
}

impl Mailboxes {
    /// What a session of a caller holds, made when it holds nothing yet.
    pub(crate) fn of(&self, session: &Arc<str>, principal: &Principal) -> Arc<Mailbox> {
        if let Some(known) = self.peek(session) {
            return known;
        }
        let holder = (Arc::clone(&principal.tenant), Arc::clone(&principal.user));
        let place = self.own.acquire(&holder).or_else(|| {
            let is_idle_own = |it: &Mailbox| it.holder == holder && it.contents.lock().streams.is_empty();
            // Bound first: dropped at the end of this statement, they would be within the lock.
            let gone = self.all.lock().take(is_idle_own);
            drop(gone);
            self.own.acquire(&holder)
        });
        let mut boxes = self.all.lock();
        let full = boxes.boxes.len() >= MOST;
        let gone = if full {
            boxes.take(|it| it.contents.lock().streams.is_empty())
        } else {
            Vec::new()
        };
        let new = || {
            Arc::new(Mailbox {
                contents: Mutex::default(),
                holder,
                _place: place,
            })
        };
        let mailbox = Arc::clone(boxes.boxes.entry(Arc::clone(session)).or_insert_with(new));
        let first = !std::mem::replace(&mut boxes.swept, true);
        drop(boxes);
        drop(gone);
        mailbox.used();
        if first {
            tokio::spawn(sweep(Arc::downgrade(&self.all)));
        }
        mailbox
    }

    pub(crate) fn peek(&self, session: &Arc<str>) -> Option<Arc<Mailbox>> {
        let mailbox = self.all.lock().boxes.get(session).cloned()?;
        mailbox.used();
        Some(mailbox)
    }

    /// Opens a stream of a session.
    pub(crate) fn place(
        &self,
        session: &Arc<str>,
        principal: &Principal,
        sender: mpsc::Sender<Vec<u8>>,
    ) -> MailboxStream {
        let mailbox = self.of(session, principal);
        let mut contents = mailbox.contents.lock();
        contents.last += 1;
        let number = contents.last;
        contents.streams.push((number, sender));
        contents.count();
        drop(contents);
        MailboxStream { mailbox, number }
    }

    /// Lets go of everything a session holds.
    pub(crate) fn end(&self, session: &str) {
        let ended = self.all.lock().boxes.remove(session);
        drop(ended);
    }
}

impl Boxes {
    /// Takes out what is of this kind, to be dropped when nothing is locked.
    fn take(&mut self, kind: impl Fn(&Mailbox) -> bool) -> Vec<Arc<Mailbox>> {
        let taken = self.boxes.extract_if(|_, mailbox| kind(mailbox));
        taken.map(|(_, mailbox)| mailbox).collect()
    }
}

/// Lets go of what nobody needs any more, for as long as anything is held.
async fn sweep(boxes: Weak<Mutex<Boxes>>) {
    loop {
        sleep(SWEEP).await;
        let Some(boxes) = boxes.upgrade() else { return };
        let mut open = boxes.lock();
        let gone = open.take(|it| it.contents.lock().is_idle());
        open.swept = !open.boxes.is_empty();
        let over = !open.swept;
        drop(open);
        drop(gone);
        if over {
            return;
        }
    }
}

impl Contents {
    fn count(&self) {
        self.open.store(self.streams.len(), Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        let linger = if self.lines.is_empty() {
            LINGER_WITHOUT_LINES
        } else {
            LINGER
        };
        self.streams.is_empty() && self.used.is_none_or(|used| used.elapsed() >= linger)
    }
}

impl Mailbox {
    fn used(&self) {
        self.contents.lock().used = Some(Instant::now());
    }

    /// How many streams are open, at any time.
    pub(crate) fn streams(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.contents.lock().open)
    }

    /// To every stream; a reader that is too slow loses some.
    pub(crate) fn say(&self, message: &[u8]) {
        for (_, stream) in &self.contents.lock().streams {
            if stream.try_send(message.to_vec()).is_err() {
                tracing::trace!("a notification found no reader");
            }
        }
    }

    /// To one stream, the newest; whether it could be put there.
    pub(crate) fn ask(&self, message: Vec<u8>) -> bool {
        let contents = self.contents.lock();
        contents
            .streams
            .last()
            .is_some_and(|(_, stream)| stream.try_send(message).is_ok())
    }

    pub(crate) fn line(&self, provider: &str) -> Option<Arc<Subscription>> {
        self.contents.lock().lines.get(provider).cloned()
    }

    /// Keeps a line unless there is one; at most 64.
    pub(crate) fn keep(
        &self,
        provider: &Arc<str>,
        line: impl FnOnce() -> Subscription,
    ) -> Option<Arc<Subscription>> {
        let mut contents = self.contents.lock();
        if let Some(line) = contents.lines.get(provider) {
            return Some(Arc::clone(line));
        }
        if contents.lines.len() >= LINES {
            return None;
        }
        let line = Arc::new(line());
        contents.lines.insert(Arc::clone(provider), Arc::clone(&line));
        Some(line)
    }

    /// Remembers what the client calls a resource of a provider; as many as lines may watch.
    pub(crate) fn name(&self, provider: &Arc<str>, inner: &str, outer: String) {
        let mut contents = self.contents.lock();
        let bytes = contents.name_bytes + inner.len() + outer.len();
        if contents.names.len() < NAMES && bytes <= NAME_BYTES {
            contents.name_bytes = bytes;
            contents.names.insert((Arc::clone(provider), inner.into()), outer);
        }
    }

    /// What the client calls a resource, when that differs.
    pub(crate) fn outer(&self, provider: &Arc<str>, inner: &str) -> Option<String> {
        let key = (Arc::clone(provider), Box::from(inner));
        self.contents.lock().names.get(&key).cloned()
    }

    /// From now on nothing below a level; whether there is such a level.
    pub(crate) fn set_level(&self, level: &str) -> bool {
        let Some(at) = LEVELS.iter().position(|known| *known == level) else {
            return false;
        };
        self.contents.lock().level = at;
        true
    }

    /// Whether a log message is severe enough for this session.
    pub(crate) fn hears(&self, params: Option<&Raw>) -> bool {
        let params = params.and_then(|params| RawObject::open(params).ok());
        let level = params.and_then(|params| params.read::<String>("level"));
        let at = level.and_then(|level| LEVELS.iter().position(|known| *known == level));
        at.is_none_or(|at| at >= self.contents.lock().level)
    }
}

impl Drop for MailboxStream {
    fn drop(&mut self) {
        let mut contents = self.mailbox.contents.lock();
        contents.streams.retain(|(number, _)| *number != self.number);
        contents.count();
        contents.used = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_session_holds_goes_when_it_was_long_of_no_use() {
        let boxes = Mailboxes::default();
        let session: Arc<str> = "session".into();
        let ann = Principal::new("acme", "ann");
        let (sender, _heard) = mpsc::channel(1);
        let placed = boxes.place(&session, &ann, sender);
        sleep(LINGER_WITHOUT_LINES * 2).await;
        assert!(
            boxes.all.lock().boxes.contains_key(&session),
            "its stream is open"
        );
        drop(placed);
        sleep(LINGER_WITHOUT_LINES / 2).await;
        assert!(boxes.peek(&session).is_some());
        sleep(LINGER_WITHOUT_LINES / 2 + SWEEP).await;
        assert!(
            boxes.all.lock().boxes.contains_key(&session),
            "it was used meanwhile"
        );
        sleep(LINGER_WITHOUT_LINES).await;
        assert!(boxes.all.lock().boxes.is_empty());
        // Whoever comes later is looked after again.
        drop(boxes.of(&session, &ann));
        sleep(LINGER_WITHOUT_LINES + SWEEP * 2).await;
        assert!(boxes.all.lock().boxes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_many_sessions_puts_out_its_own() {
        let boxes = Mailboxes::default();
        let (ann, bob) = (Principal::new("acme", "ann"), Principal::new("acme", "bob"));
        let theirs: Arc<str> = "bob's".into();
        drop(boxes.of(&theirs, &bob));
        let (sender, _heard) = mpsc::channel(1);
        let listening: Arc<str> = "listening".into();
        let _placed = boxes.place(&listening, &ann, sender);
        for number in 0..OWN {
            drop(boxes.of(&format!("ann's {number}").into(), &ann));
        }
        assert!(boxes.all.lock().boxes.len() < OWN, "the idle ones went");
        assert!(boxes.peek(&listening).is_some() && boxes.peek(&theirs).is_some());
    }
}
