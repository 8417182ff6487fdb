//! The link to Redis: three connections, for subscriptions, for commands and for values, kept up for as
//! long as the process lives.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, sync::Arc, time::Duration};

use futures_util::StreamExt;
use parking_lot::{Mutex, RwLock};
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::entries::{EntryLine, SharedEntries};
use super::wire::{AskRefusal, MAX_BODY, ReplicaMessage, SKEW_SECS, SessionEnd};
use super::{HandOverError, Handler, RedisConfig, ReplicaNews, ended::MAX_ENDED, pending::PendingAsks};
use pleiades_core::{backoff::Backoff, random, telemetry::Metrics, time::unix_now};
use pleiades_mcp::seal::Sealer;

/// Any one exchange with Redis, and connecting to it.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often both connections are asked whether they live.
const BEAT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After Redis was away, replicas that do not listen yet may only not have come back: for a moment
/// more than the longest pause they are not called gone.
const RETURNING: Duration = Duration::from_secs(4);
/// Ends that are published in one message, and changes in one pipeline.
const BATCH: usize = 256;
/// Changes that wait for Redis.
const MAX_PENDING: usize = 1_024;
/// Redis keeps nothing of ours for longer without hearing of it again.
const MOST_KEPT_SECS: u64 = 366 * 24 * 60 * 60;

/// The outcome of Redis being away, in the words of the metrics of other stores.
const UNREACHED: &str = "unreachable";

type LinkError = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct RedisLink {
    client: Client,
    sealer: Arc<Sealer>,
    metrics: Arc<Metrics>,
    replica: String,
    /// Prefix of all names of ours in Redis.
    prefix: String,
    entries: Arc<SharedEntries>,
    ends: Arc<ReplicaNews>,
    post: PendingAsks,
    /// Ends that Redis does not know yet.
    unsent: Mutex<HashMap<[u8; 32], u64>>,
    changes: Mutex<PendingChanges>,
    news: Notify,
    line: RwLock<Option<RedisConnection>>,
    /// Whether it was logged that a message could not be opened.
    complained: AtomicBool,
}

/// Changes that wait for Redis, numbered in their order; of too many the oldest go.
#[derive(Default)]
struct PendingChanges {
    number: u64,
    waiting: VecDeque<(u64, Vec<u8>)>,
}

impl PendingChanges {
    fn push(&mut self, body: Vec<u8>) {
        self.number += 1;
        if self.waiting.len() >= MAX_PENDING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((self.number, body));
    }

    fn first(&self, most: usize) -> Vec<(u64, Vec<u8>)> {
        self.waiting.iter().take(most).cloned().collect()
    }

    fn remove_through(&mut self, last: u64) {
        self.waiting.retain(|(number, _)| *number > last);
    }
}

/// The connection for commands, while the link is up.
#[derive(Clone)]
struct RedisConnection {
    commands: MultiplexedConnection,
    values: EntryLine,
    /// From then on a replica that does not subscribe is gone.
    settled: Instant,
    doubt: Arc<Notify>,
}

impl RedisLink {
    pub(super) fn new(
        client: Client,
        meeting: RedisConfig,
        replica: &str,
        ends: Arc<ReplicaNews>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        metrics.shared_state(false);
        let prefix = format!("pleiades:{}", meeting.name);
        Arc::new(Self {
            client,
            entries: Arc::new(SharedEntries::new(Arc::clone(&meeting.sealer), &prefix)),
            sealer: meeting.sealer,
            metrics,
            replica: replica.to_owned(),
            prefix,
            ends,
            post: PendingAsks::new(),
            unsent: Mutex::default(),
            changes: Mutex::default(),
            news: Notify::new(),
            line: RwLock::default(),
            complained: AtomicBool::new(false),
        })
    }

    pub(super) const fn entries(&self) -> &Arc<SharedEntries> {
        &self.entries
    }

    pub(super) fn serve(&self, handler: Handler) {
        self.post.serve(handler);
    }

    pub(super) fn announce(&self, (digest, expires): SessionEnd) {
        self.unsent.lock().insert(digest, expires);
        self.news.notify_one();
    }

    pub(super) fn change(&self, body: Vec<u8>) {
        self.changes.lock().push(body);
        self.news.notify_one();
    }

    pub(super) fn has_published_changes(&self) -> bool {
        self.changes.lock().waiting.is_empty()
    }

    pub(super) async fn hand_over(
        &self,
        to: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, HandOverError> {
        if body.len() > MAX_BODY {
            return Err(HandOverError::TooLarge);
        }
        let mut expected = self.post.expect();
        let ask = ReplicaMessage::Ask {
            id: expected.id,
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            from: self.replica.clone(),
            body,
        };
        let asked = async {
            self.send(to, &ask, within).await?;
            expected.answer().await
        };
        timeout(within, asked).await.unwrap_or(Err(HandOverError::Late))
    }

    async fn send(&self, to: &str, message: &ReplicaMessage, within: Duration) -> Result<(), HandOverError> {
        let Some(mut line) = self.line.read().clone() else {
            return Err(HandOverError::Away);
        };
        let channel = self.replica_channel(to);
        let expires = unix_now()
            .saturating_add(within.as_secs())
            .saturating_add(SKEW_SECS);
        let sealed = message.seal(&self.sealer, &channel, expires);
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&channel).arg(sealed);
        match publish.query_async::<u64>(&mut line.commands).await {
            Ok(0) if Instant::now() < line.settled => Err(HandOverError::Away),
            Ok(0) => Err(HandOverError::Gone),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "a message could not be handed over");
                line.doubt.notify_one();
                Err(HandOverError::Away)
            }
        }
    }

    /// Connects, holds the link for as long as it lives, and begins anew.
    pub(super) async fn run(self: Arc<Self>) {
        // What is not sealed is neither sent nor understood.
        self.sealer.ready().await;
        let (mut backoff, mut was_up) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), false);
        loop {
            let began = Instant::now();
            match self.connect(was_up).await {
                Ok(up) => {
                    was_up = true;
                    let why = self.hold(up).await;
                    tracing::warn!(
                        outcome = UNREACHED,
                        error = self.placed(&*why),
                        "the Redis of the shared state is away: this replica stands alone until it is back"
                    );
                    if began.elapsed() > BEAT {
                        backoff.reset();
                    }
                }
                Err(error) if backoff.failures() == 0 => {
                    tracing::warn!(
                        outcome = UNREACHED,
                        error = self.placed(&*error),
                        "the Redis of the shared state cannot be reached: this replica stands alone, trying on"
                    );
                }
                Err(error) => tracing::debug!(%error, "the Redis of the shared state is still away"),
            }
            let pause = backoff.pause();
            // Half of it is chance, so that replicas do not return all at once.
            sleep(random::between(pause / 2, pause)).await;
        }
    }

    /// An error with the address of Redis, which none of its own names.
    fn placed(&self, error: &(dyn std::error::Error + Send + Sync)) -> String {
        format!("{}: {error}", self.client.get_connection_info().addr())
    }

    /// Opens all connections; it subscribes before it loads, so that no end falls between.
    async fn connect(&self, was_up: bool) -> Result<(RedisConnection, PubSubSink, PubSubStream), LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let mut commands = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let listening = async {
            let mut both = self.client.get_async_pubsub().await?;
            both.subscribe(&[
                self.replica_channel(&self.replica),
                self.ended_channel(),
                self.changes_channel(),
            ])
            .await?;
            Ok::<_, RedisError>(both.split())
        };
        let (sink, stream) = timeout(ANSWER_WITHIN, listening).await??;
        self.load_ends(&mut commands).await?;
        let values = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let settled = Instant::now() + if was_up { RETURNING } else { Duration::ZERO };
        let line = RedisConnection {
            commands,
            values: EntryLine::new(values),
            settled,
            doubt: Arc::default(),
        };
        Ok((line, sink, stream))
    }

    /// Returns when the link is broken, and why.
    async fn hold(
        self: &Arc<Self>,
        (line, sink, stream): (RedisConnection, PubSubSink, PubSubStream),
    ) -> LinkError {
        if let Err(error) = self.entries.begin(line.values.clone()).await {
            return error.into();
        }
        *self.line.write() = Some(line.clone());
        self.complained.store(false, Ordering::Relaxed);
        self.metrics.shared_state(true);
        tracing::info!(replica.id = %self.replica, "replicas meet at the Redis of the shared state");
        let why = tokio::select! {
            () = self.listen(stream) => "the subscription has ended".into(),
            why = self.heartbeat(sink, line.commands.clone()) => why,
            why = self.publish(line.commands.clone()) => why,
            () = line.doubt.notified() => "a message could not be sent".into(),
            () = line.values.ended() => "the connection for values has ended".into(),
        };
        *self.line.write() = None;
        self.entries.end();
        self.metrics.shared_state(false);
        self.post.fail_all();
        why
    }

    async fn heartbeat(&self, mut sink: PubSubSink, mut commands: MultiplexedConnection) -> LinkError {
        loop {
            sleep(BEAT).await;
            let both = async {
                sink.ping::<redis::Value>().await?;
                redis::cmd("PING")
                    .query_async::<redis::Value>(&mut commands)
                    .await
            };
            match timeout(ANSWER_WITHIN, both).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.into(),
                Err(late) => return late.into(),
            }
        }
    }

    async fn listen(self: &Arc<Self>, mut stream: PubSubStream) {
        let (ended, changed) = (self.ended_channel(), self.changes_channel());
        let is_own = |channel: &str| channel != ended && channel != changed;
        while let Some(message) = stream.next().await {
            let channel = message.get_channel_name();
            match ReplicaMessage::open(&self.sealer, channel, unix_now(), message.get_payload_bytes()) {
                Some(ReplicaMessage::Ends(ends)) if channel == ended => self.record_ends(&ends),
                Some(ReplicaMessage::Change { from, body }) if channel == changed => {
                    if from != self.replica {
                        // Nobody may be listening.
                        self.ends.changes.send(body.into()).ok();
                    }
                }
                Some(ReplicaMessage::Answer { id, body }) if is_own(channel) => {
                    self.post.deliver(id, Ok(body))
                }
                Some(ReplicaMessage::Refusal { id, why }) if is_own(channel) => {
                    self.post.deliver(id, Err(why.into()));
                }
                Some(ReplicaMessage::Ask {
                    id,
                    within_ms,
                    from,
                    body,
                }) if is_own(channel) => {
                    self.answer_ask((id, from), Duration::from_millis(within_ms), body);
                }
                _ => self.complain(),
            }
        }
    }

    fn record_ends(&self, ends: &[SessionEnd]) {
        for end in ends {
            self.ends.record(*end);
        }
    }

    fn complain(&self) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "something on the shared state cannot be opened: replicas of one `name` need the same \
                 `seal.keys` and clocks that agree, and different gateways different names"
            );
        }
    }

    fn answer_ask(self: &Arc<Self>, (id, from): (u64, String), within: Duration, body: Vec<u8>) {
        let link = Arc::clone(self);
        match self.post.admit() {
            Ok(room) => {
                tokio::spawn(async move {
                    // Its sender does not wait longer, and reads nothing after that.
                    let Ok(Some(body)) = timeout(within, link.post.handle(body)).await else {
                        return;
                    };
                    let answer = if body.len() > MAX_BODY {
                        let why = AskRefusal::TooLarge;
                        ReplicaMessage::Refusal { id, why }
                    } else {
                        ReplicaMessage::Answer { id, body }
                    };
                    link.send(&from, &answer, ANSWER_WITHIN).await.ok();
                    drop(room);
                });
            }
            Err(why) => {
                let Some(room) = self.post.refuse() else { return };
                tokio::spawn(async move {
                    let refusal = ReplicaMessage::Refusal { id, why };
                    link.send(&from, &refusal, ANSWER_WITHIN).await.ok();
                    drop(room);
                });
            }
        }
    }

    /// Reads which sessions have ended, and finds what Redis does not know of ours: it may have been
    /// away, or have lost its memory.
    async fn load_ends(&self, commands: &mut MultiplexedConnection) -> Result<(), LinkError> {
        let ended = self.ended_channel();
        let now = unix_now();
        let mut read = redis::cmd("ZRANGEBYSCORE");
        read.arg(&ended).arg(format!("({now}")).arg("+inf");
        read.arg("LIMIT").arg(0).arg(MAX_ENDED);
        let members: Vec<Vec<u8>> = read.query_async(commands).await?;
        let mut stored = HashSet::with_capacity(members.len());
        for member in members {
            match ReplicaMessage::open(&self.sealer, &ended, now, &member) {
                Some(ReplicaMessage::Ends(ends)) => {
                    stored.extend(ends.iter().map(|(digest, _)| *digest));
                    self.record_ends(&ends);
                }
                _ => self.complain(),
            }
        }
        let known = self.ends.known.lock();
        let unknown = known.iter().filter(|(digest, _)| !stored.contains(digest));
        self.unsent.lock().extend(unknown);
        Ok(())
    }

    async fn publish(&self, mut commands: MultiplexedConnection) -> LinkError {
        loop {
            let some: Vec<SessionEnd> = {
                let unsent = self.unsent.lock();
                let some = unsent.iter().take(BATCH);
                some.map(|(digest, expires)| (*digest, *expires)).collect()
            };
            let changes = self.changes.lock().first(BATCH);
            if some.is_empty() && changes.is_empty() {
                self.news.notified().await;
                continue;
            }
            let mut all = if some.is_empty() {
                redis::pipe()
            } else {
                self.publish_ends(&some)
            };
            for (_, body) in &changes {
                self.publish_change(&mut all, body);
            }
            match all.exec_async(&mut commands).await {
                Ok(()) => {
                    let mut unsent = self.unsent.lock();
                    for (digest, _) in some {
                        unsent.remove(&digest);
                    }
                    if let Some((last, _)) = changes.last() {
                        self.changes.lock().remove_through(*last);
                    }
                }
                Err(error) if error.is_unrecoverable_error() || error.is_timeout() => return error.into(),
                Err(error) => {
                    tracing::warn!(outcome = UNREACHED, %error, "Redis takes neither ends of sessions nor changes; trying on");
                    sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }

    fn publish_change(&self, all: &mut redis::Pipeline, body: &[u8]) {
        let changed = self.changes_channel();
        let change = ReplicaMessage::Change {
            from: self.replica.clone(),
            body: body.to_vec(),
        };
        let sealed = change.seal(&self.sealer, &changed, unix_now().saturating_add(SKEW_SECS));
        all.cmd("PUBLISH").arg(&changed).arg(sealed).ignore();
    }

    fn publish_ends(&self, ends: &[SessionEnd]) -> redis::Pipeline {
        let ended = self.ended_channel();
        let now = unix_now();
        let mut all = redis::pipe();
        all.atomic();
        for end in ends {
            let member = ReplicaMessage::Ends(vec![*end]).seal(&self.sealer, &ended, end.1);
            all.cmd("ZADD").arg(&ended).arg(end.1).arg(member).ignore();
        }
        all.cmd("ZREMRANGEBYSCORE")
            .arg(&ended)
            .arg("-inf")
            .arg(now)
            .ignore();
        let beyond = -i64::try_from(MAX_ENDED).unwrap_or(i64::MAX) - 1;
        all.cmd("ZREMRANGEBYRANK").arg(&ended).arg(0).arg(beyond).ignore();
        let last = self.ends.known.lock().last().unwrap_or(now);
        let left = last
            .saturating_sub(now)
            .saturating_add(SKEW_SECS)
            .min(MOST_KEPT_SECS);
        all.cmd("EXPIRE").arg(&ended).arg(left).ignore();
        let expires = now.saturating_add(SKEW_SECS);
        let sealed = ReplicaMessage::Ends(ends.to_vec()).seal(&self.sealer, &ended, expires);
        all.cmd("PUBLISH").arg(&ended).arg(sealed).ignore();
        all
    }

    fn replica_channel(&self, replica: &str) -> String {
        format!("{}:r:{replica}", self.prefix)
    }

    fn changes_channel(&self) -> String {
        format!("{}:changed", self.prefix)
    }

    /// Name of both the memory of ended sessions and their channel.
    fn ended_channel(&self) -> String {
        format!("{}:ended", self.prefix)
    }
}

impl From<AskRefusal> for HandOverError {
    fn from(refused: AskRefusal) -> Self {
        match refused {
            AskRefusal::Busy => Self::Busy,
            AskRefusal::TooLarge => Self::TooLarge,
        }
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("space", &self.prefix)
            .field("is_up", &self.line.read().is_some())
            .field("post", &self.post)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_in_their_order_and_of_too_many_the_oldest_go() {
        let mut changes = PendingChanges::default();
        for number in 0..MAX_PENDING + 2 {
            changes.push(number.to_be_bytes().to_vec());
        }
        let some = changes.first(2);
        assert_eq!(some.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4]);
        // One that came meanwhile pushed the oldest out: what was published goes all the same.
        changes.push(Vec::new());
        changes.remove_through(4);
        assert_eq!(changes.waiting.len(), MAX_PENDING - 1);
        assert_eq!(changes.first(1)[0].0, 5);
    }
}
