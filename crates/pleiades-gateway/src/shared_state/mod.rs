//! What the replicas of one gateway tell each other, through Redis: messages for whoever owns a
//! parked call or an open question, the sessions that have ended, and values that any of them may need.
//!
//! Redis carries and keeps, it is not trusted: everything is sealed with the gateway's own keys.
//! Nothing here is needed to serve: a Redis that is away costs the answers that arrive at another
//! replica, and that ends of sessions are learnt late.

mod ended;
mod entries;
mod link;
mod pending;
mod wire;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

pub use self::entries::{EntriesAway, EntryAddress, EntryStamp, MAX_ENTRY, Retention};

use self::ended::EndedDigests;
use self::link::RedisLink;
use pleiades_core::error::{Code, Error};
use pleiades_core::{random, secret::Secret, telemetry::Metrics, time::unix_now};
use pleiades_mcp::seal::Sealer;

/// What a slow reader of [`SharedState::ended`] or [`SharedState::changes`] may be behind.
const FEED: usize = 1_024;
/// Largest change that is published, in bytes.
const MAX_CHANGE: usize = 16 << 10;
/// How long the end of a session waits to be remembered beyond this process.
const REMEMBER_WITHIN: Duration = Duration::from_secs(1);
/// How often it is checked whether everything was published.
const POLL: Duration = Duration::from_millis(20);

/// Answers a message that another replica handed over. It lives as long as the [`SharedState`]: what
/// owns that should be captured weakly.
pub type Handler = Box<dyn Fn(Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync>;

/// A session that has ended, to be remembered beyond this process, and who waits for that.
pub type Remember = (([u8; 32], u64), oneshot::Sender<()>);

/// Why a message was not handed over, or brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// Replicas share nothing.
    #[error("no `shared_state` is configured")]
    NotShared,
    /// Redis is away or has only just returned, or went away before the answer: then the message may
    /// have been handled.
    #[error("the Redis of `shared_state` is away")]
    Away,
    /// Nobody listens under that name.
    #[error("the replica is gone")]
    Gone,
    /// No answer came in time; the message may have been handled.
    #[error("the replica did not answer in time")]
    Late,
    /// The replica has as much to do as it takes.
    #[error("the replica is too busy")]
    Busy,
    /// The message or its answer is larger than 1 MiB; in the second case it was handled.
    #[error("the message or its answer is too large to be handed over")]
    TooLarge,
}

/// The Redis where the replicas meet.
#[derive(Debug)]
pub struct RedisConfig {
    /// URL of the Redis: `redis://` or `rediss://`, with what it takes to log in.
    pub url: Secret,
    /// Name of the gateway: replicas of one name meet.
    pub name: String,
    /// The seal that all replicas of the gateway have.
    pub sealer: Arc<Sealer>,
}

/// The link between replicas of one gateway; without Redis a replica is alone.
pub struct SharedState {
    replica: String,
    ends: Arc<ReplicaNews>,
    memory: OnceLock<mpsc::Sender<Remember>>,
    line: Option<(Arc<RedisLink>, AbortHandle)>,
}

/// The sessions that have ended, here and elsewhere, and the feeds of what others publish.
struct ReplicaNews {
    known: Mutex<EndedDigests>,
    feed: broadcast::Sender<wire::SessionEnd>,
    changes: broadcast::Sender<Arc<[u8]>>,
}

impl SharedState {
    /// A process on its own: nothing is shared.
    #[must_use]
    pub fn alone() -> Arc<Self> {
        Arc::new(Self {
            replica: random_name(),
            ends: Arc::new(ReplicaNews::new()),
            memory: OnceLock::new(),
            line: None,
        })
    }

    /// Meets others at a Redis. Connects in the background on `control` and keeps at it: a Redis that
    /// is away now may come later; the metric `shared_state_up` says which.
    ///
    /// # Errors
    /// [`Code::Internal`] when the URL is none of a Redis, which reading the settings has checked.
    pub fn redis(
        meeting: RedisConfig,
        control: &tokio::runtime::Handle,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, Error> {
        // The cause is not kept: it may quote the URL, which holds a password.
        let Ok(client) = redis::Client::open(meeting.url.expose()) else {
            return Err(Error::new(
                Code::Internal,
                "`shared_state.redis` is not the URL of a Redis",
            ));
        };
        let replica = random_name();
        let ends = Arc::new(ReplicaNews::new());
        let link = RedisLink::new(client, meeting, &replica, Arc::clone(&ends), metrics);
        let task = control.spawn(Arc::clone(&link).run()).abort_handle();
        Ok(Arc::new(Self {
            replica,
            ends,
            memory: OnceLock::new(),
            line: Some((link, task)),
        }))
    }

    /// Names this replica in sealed ids: random for each process, URL-safe text.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Hands a message of at most 1 MiB to another replica and waits for its answer, at most
    /// `within`. A replica that is gone is an error at once.
    ///
    /// # Errors
    /// [`HandOverError`].
    pub async fn hand_over(
        &self,
        to: &str,
        message: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, HandOverError> {
        match &self.line {
            Some((link, _)) => link.hand_over(to, message, within).await,
            None => Err(HandOverError::NotShared),
        }
    }

    /// Takes what others hand to this replica; set once. Each message is handled in a task of its
    /// own on the control runtime, for no longer than its sender waits; beyond 256 at once they are
    /// refused as [`HandOverError::Busy`], as are those that come before this.
    pub fn serve(&self, handler: Handler) {
        if let Some((link, _)) = &self.line {
            link.serve(handler);
        }
    }

    /// Tells all replicas that a session (its digest) has ended, until `expires_unix` (seconds).
    /// Redis remembers it for replicas that start or reconnect later; while Redis is away this
    /// process does.
    pub fn announce_end(&self, digest: [u8; 32], expires_unix: u64) {
        let end = (digest, expires_unix);
        let is_new = self.ends.record(end);
        if let Some((link, _)) = &self.line
            && is_new
        {
            link.announce(end);
        }
    }

    /// Where ends are remembered that Redis does not remember; set once.
    pub fn remember_through(&self, memory: mpsc::Sender<Remember>) {
        if self.memory.set(memory).is_err() {
            tracing::error!("the memory of ended sessions is set twice: the first one stays");
        }
    }

    /// Waits until the end of a session is remembered beyond this process, at most a second.
    pub async fn remembered(&self, digest: [u8; 32], expires_unix: u64) {
        let Some(memory) = self.memory.get() else { return };
        let (done, stored) = oneshot::channel();
        let is_taken = memory.try_send(((digest, expires_unix), done)).is_ok();
        // A closed channel is an answer too: nothing more is to be waited for.
        if !is_taken || timeout(REMEMBER_WITHIN, stored).await.is_err() {
            tracing::warn!("the end of a session could not be remembered in time: it holds until a restart");
        }
    }

    /// Publishes that something which all replicas share has changed, in at most 16 KiB. What Redis does
    /// not take now is published later; of more than 1,024 that wait the oldest go.
    pub fn publish_change(&self, change: Vec<u8>) {
        if let Some((link, _)) = &self.line
            && change.len() <= MAX_CHANGE
        {
            link.change(change);
        }
    }

    /// What others publish from now on. A reader that lags has missed some.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Arc<[u8]>> {
        self.ends.changes.subscribe()
    }

    /// Waits until all changes were published, at most so long.
    pub async fn changes_published(&self, within: Duration) {
        let Some((link, _)) = &self.line else { return };
        let all = async {
            while !link.has_published_changes() {
                sleep(POLL).await;
            }
        };
        if timeout(within, all).await.is_err() {
            tracing::debug!("Redis did not take all changes in time");
        }
    }

    /// Whether values are shared at all; whether Redis is there is another question.
    #[must_use]
    pub const fn shares_entries(&self) -> bool {
        self.line.is_some()
    }

    /// The value at an address. A Redis that is away or slow is waited for 250 ms, once.
    ///
    /// # Errors
    /// [`EntriesAway`], without Redis too.
    pub async fn entry(&self, address: EntryAddress<'_>) -> Result<Option<Vec<u8>>, EntriesAway> {
        let (link, _) = self.line.as_ref().ok_or(EntriesAway)?;
        Ok(link.entries().get(None, Some(address)).await?.1)
    }

    /// What the changes of an owner are up to, and the value at an address of theirs, as
    /// [`entry`](Self::entry).
    ///
    /// # Errors
    /// [`EntriesAway`], without Redis too.
    pub async fn stamped_entry(
        &self,
        owner: &str,
        address: Option<EntryAddress<'_>>,
    ) -> Result<(EntryStamp, Option<Vec<u8>>), EntriesAway> {
        let (link, _) = self.line.as_ref().ok_or(EntriesAway)?;
        link.entries().get(Some(owner), address).await
    }

    /// Notes a change for an owner, so that all stamps from before are older. While Redis is away nothing
    /// is noted; when it returns, it has changed for everybody.
    ///
    /// # Errors
    /// [`EntriesAway`], without Redis too.
    pub async fn advance(&self, owner: &str) -> Result<(), EntriesAway> {
        let (link, _) = self.line.as_ref().ok_or(EntriesAway)?;
        link.entries().advance(owner).await
    }

    /// Stores a value of at most [`MAX_ENTRY`] bytes for all replicas, and waits 250 ms for it at most; it
    /// goes on after that. Larger ones, and those that find Redis away, are not stored. Of a tenant's
    /// values of one purpose those that would expire first make room.
    pub async fn put_entry(&self, address: EntryAddress<'_>, retention: Retention<'_>, value: Arc<[u8]>) {
        if let Some((link, _)) = &self.line {
            Arc::clone(link.entries()).put(address, retention, value).await;
        }
    }

    /// Whether a session has ended, here or at another replica. At most 65,536 are known; the
    /// ones that would expire first are forgotten first.
    #[must_use]
    pub fn has_ended(&self, digest: &[u8; 32]) -> bool {
        self.ends.known.lock().contains(digest)
    }

    /// Sessions that end from now on, here or elsewhere, each once. A reader that lags looks at
    /// [`has_ended`](Self::has_ended) for the sessions it cares for.
    #[must_use]
    pub fn ended(&self) -> broadcast::Receiver<([u8; 32], u64)> {
        self.ends.feed.subscribe()
    }
}

impl Drop for SharedState {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.line {
            task.abort();
        }
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState")
            .field("replica", &self.replica)
            .field("link", &self.line.as_ref().map(|(link, _)| link))
            .finish_non_exhaustive()
    }
}

impl ReplicaNews {
    fn new() -> Self {
        Self {
            known: Mutex::default(),
            feed: broadcast::channel(FEED).0,
            changes: broadcast::channel(FEED).0,
        }
    }

    /// Notes the end of a session; whether it is new.
    fn record(&self, end: wire::SessionEnd) -> bool {
        let is_new = self.known.lock().insert(end, unix_now());
        if is_new {
            // Nobody may be listening.
            self.feed.send(end).ok();
        }
        is_new
    }
}

/// A name that no other process has.
fn random_name() -> String {
    random::token::<16>().unwrap_or_else(|_none| format!("{:022x}", RandomState::new().hash_one(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: u64 = u64::MAX;

    #[tokio::test]
    async fn a_process_on_its_own_hands_nothing_over_and_says_why() {
        let alone = SharedState::alone();
        alone.serve(Box::new(|message| Box::pin(async move { message })));
        let answer = alone
            .hand_over(alone.replica(), b"hello".to_vec(), Duration::MAX)
            .await;
        assert_eq!(answer, Err(HandOverError::NotShared));
    }

    #[tokio::test]
    async fn an_end_is_known_and_published_once() {
        let alone = SharedState::alone();
        let mut ended = alone.ended();
        assert!(!alone.has_ended(&[1; 32]));
        alone.announce_end([1; 32], LATER);
        alone.announce_end([1; 32], LATER);
        alone.announce_end([2; 32], LATER);
        assert!(alone.has_ended(&[1; 32]));
        assert_eq!(ended.recv().await, Ok(([1; 32], LATER)));
        assert_eq!(ended.recv().await, Ok(([2; 32], LATER)));
    }

    #[test]
    fn replicas_have_names_of_their_own_that_fit_anywhere() {
        let (one, two) = (SharedState::alone(), SharedState::alone());
        assert_ne!(one.replica(), two.replica());
        assert_eq!(one.replica().len(), 22);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(one.replica().bytes().all(fits));
    }

    #[tokio::test]
    async fn a_redis_that_is_away_fails_nothing_and_shows_no_password() {
        let metrics = Metrics::new();
        let meeting = RedisConfig {
            // Nothing listens on port 1.
            url: Secret::new("redis://user:canary@127.0.0.1:1"),
            name: "test".to_owned(),
            sealer: Arc::new(Sealer::new(&[Secret::new("canary")])),
        };
        let here = tokio::runtime::Handle::current();
        let shared = SharedState::redis(meeting, &here, Arc::clone(&metrics)).unwrap();
        let answer = shared.hand_over("nobody", Vec::new(), Duration::MAX).await;
        assert_eq!(answer, Err(HandOverError::Away));
        shared.announce_end([1; 32], LATER);
        assert!(shared.has_ended(&[1; 32]));
        assert!(metrics.render().contains("pleiades_shared_state_up 0"));
        assert!(!format!("{shared:?}").contains("canary"));
    }

    #[tokio::test]
    async fn what_is_no_redis_is_refused_without_being_quoted() {
        let meeting = RedisConfig {
            url: Secret::new("http://user:canary@redis"),
            name: "test".to_owned(),
            sealer: Arc::new(Sealer::new(&[])),
        };
        let here = tokio::runtime::Handle::current();
        let refused = SharedState::redis(meeting, &here, Metrics::new()).unwrap_err();
        assert!(!format!("{refused:?}").contains("canary"));
    }
}
