//! Values that replicas share: sealed, named so that the names tell nothing, bounded for each tenant,
//! and gone by themselves.
//!
//! They stand on a connection of their own, since a large one would keep messages waiting. A Redis that
//! does not answer in time is asked nothing more until it has answered in the background: one caller
//! waits, and no longer than [`WAIT`]. What it missed by then is unknown, so its return counts as a change
//! for all owners, as each new connection does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline, RedisError};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::wire::SKEW_SECS;
use pleiades_core::{random, time::unix_now};
use pleiades_mcp::seal::Sealer;

/// How long a caller waits for an answer of Redis.
pub(super) const WAIT: Duration = Duration::from_millis(250);
/// Between two questions whether a Redis that was too slow answers again.
const PROBE: Duration = Duration::from_millis(500);
/// Largest value that is shared, in bytes; larger ones stay with their replica.
pub const MAX_ENTRY: usize = 8 << 20;
/// Beside a value: its seal.
const SEAL: usize = 64;
/// What names and bookkeeping of a value count for in the share of its tenant, in bytes.
const OVERHEAD: usize = 512;
/// Values on their way to Redis, in KiB.
const SENDING: u32 = 32 << 10;
/// Values above this are sealed and opened beside the threads that answer (bytes).
const LARGE: usize = 64 << 10;
/// Longest that anything is kept, and a little: marks outlive all that was stored under them.
const MARK_SECS: u64 = 25 * 60 * 60;
const MARK_LEN: usize = 16;

/// Stores a value and counts it for its tenant; those that would expire first make room.
/// KEYS: the value, its tenant's names by their ends, their sizes. ARGV: the value, how long it is kept
/// (ms), its size, the tenant's share, how long the bookkeeping is kept (ms).
const STORE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local total = tonumber(redis.call('HGET', KEYS[3], 'total') or '0')
local function drop(name)
  total = total - tonumber(redis.call('HGET', KEYS[3], name) or '0')
  redis.call('HDEL', KEYS[3], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('DEL', name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do drop(name) end
drop(KEYS[1])
local size, share = tonumber(ARGV[3]), tonumber(ARGV[4])
while total + size > share do
  local first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not first then
    redis.call('DEL', KEYS[3])
    total = 0
    break
  end
  drop(first)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), KEYS[1])
redis.call('HSET', KEYS[3], KEYS[1], size, 'total', total + size)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return total + size
";

/// Where a value stands. It opens under the same address alone.
#[derive(Debug, Clone, Copy)]
pub struct EntryAddress<'a> {
    /// What kind of value it is.
    pub purpose: &'static str,
    /// Whom it is for, unambiguously.
    pub owner: &'a str,
    /// Which of theirs it is.
    pub id: &'a str,
}

/// How a value is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention<'a> {
    /// Whose share it is counted in.
    pub tenant: &'a str,
    /// What all values of this purpose may take for the tenant, in bytes.
    pub share: usize,
    /// How long.
    pub ttl: Duration,
}

/// What the changes of an owner were up to when it was read. Two that are equal have no change between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryStamp(Vec<u8>);

impl EntryStamp {
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// As bytes, to be kept beside a value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Redis did not answer, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntriesAway;

pub(super) struct SharedEntries {
    sealer: Arc<Sealer>,
    /// Prefix of all names of ours in Redis.
    prefix: String,
    line: RwLock<Option<EntryLine>>,
    sending: Arc<Semaphore>,
}

/// The connection for values, while the link is up.
#[derive(Clone)]
pub(super) struct EntryLine {
    commands: MultiplexedConnection,
    /// Whether Redis was too slow and has not answered since.
    is_slow: Arc<AtomicBool>,
    broken: Arc<Notify>,
}

impl EntryLine {
    pub(super) fn new(commands: MultiplexedConnection) -> Self {
        Self {
            commands,
            is_slow: Arc::default(),
            broken: Arc::default(),
        }
    }

    /// Returns when the connection has ended.
    pub(super) async fn ended(&self) {
        self.broken.notified().await;
    }
}

impl SharedEntries {
    pub(super) fn new(sealer: Arc<Sealer>, prefix: &str) -> Self {
        Self {
            sealer,
            prefix: prefix.to_owned(),
            line: RwLock::default(),
            sending: Arc::new(Semaphore::new(SENDING as usize)),
        }
    }

    /// Takes a new connection into use: whatever changed while there was none has changed for all.
    pub(super) async fn begin(&self, mut line: EntryLine) -> Result<(), RedisError> {
        marking(&[self.common_mark()])
            .exec_async(&mut line.commands)
            .await?;
        *self.line.write() = Some(line);
        Ok(())
    }

    pub(super) fn end(&self) {
        *self.line.write() = None;
    }

    /// The value at an address, and the stamp of an owner with it.
    pub(super) async fn get(
        &self,
        stamped: Option<&str>,
        address: Option<EntryAddress<'_>>,
    ) -> Result<(EntryStamp, Option<Vec<u8>>), EntriesAway> {
        let marks: Vec<String> = stamped.map_or_else(Vec::new, |owner| {
            let own = self.marks_of(owner);
            [self.common_mark()].into_iter().chain(own).collect()
        });
        let names = address.map_or_else(Vec::new, |address| self.names_of(&address));
        if marks.len() + names.len() == 0 {
            return Err(EntriesAway);
        }
        let mut ask = redis::pipe();
        for mark in &marks {
            ask.cmd("GETRANGE").arg(mark).arg(0).arg(MARK_LEN - 1);
        }
        for name in &names {
            // One byte more than fits says that it is none of ours.
            ask.cmd("GETRANGE").arg(name).arg(0).arg(MAX_ENTRY + SEAL);
        }
        let mut values: Vec<Vec<u8>> = self.ask(&ask).await?;
        let entries = values.split_off(marks.len().min(values.len()));
        // Each with its length: a missing mark is one too.
        let stamp = values.iter().flat_map(|mark| {
            let length = u8::try_from(mark.len()).unwrap_or(u8::MAX);
            std::iter::once(length).chain(mark.iter().copied())
        });
        let stamp = EntryStamp(stamp.collect());
        let sealed = entries.into_iter().find(|entry| !entry.is_empty());
        let value = match (address, sealed) {
            (Some(address), Some(sealed)) if sealed.len() <= MAX_ENTRY + SEAL => {
                self.opened(address, sealed).await
            }
            _ => None,
        };
        Ok((stamp, value))
    }

    /// Notes a change for an owner: what was stamped before is known to be older.
    pub(super) async fn advance(&self, owner: &str) -> Result<(), EntriesAway> {
        // By the names of all keys: a replica may have some of them alone.
        self.ask(&marking(&self.marks_of(owner))).await
    }

    /// Stores a value. It goes on when nobody waits for it any more.
    pub(super) async fn put(
        self: Arc<Self>,
        address: EntryAddress<'_>,
        retention: Retention<'_>,
        value: Arc<[u8]>,
    ) {
        let kib = u32::try_from(value.len().div_ceil(1024)).unwrap_or(u32::MAX);
        if value.len() > MAX_ENTRY || value.len() + OVERHEAD > retention.share {
            return;
        }
        let (Some(line), Ok(room)) = (
            self.usable(),
            Arc::clone(&self.sending).try_acquire_many_owned(kib.max(1)),
        ) else {
            return;
        };
        let Some(name) = self.names_of(&address).into_iter().next() else {
            return;
        };
        let (order, sizes) = self.share_names(address.purpose, retention.tenant);
        let (purpose, binding) = (address.purpose, binding(&address));
        let expires = unix_now()
            .saturating_add(retention.ttl.as_secs())
            .saturating_add(1 + SKEW_SECS);
        let millis = retention.ttl.as_millis().max(1).to_string();
        let (size, share) = (value.len() + OVERHEAD, retention.share);
        let entries = Arc::clone(&self);
        let storing = tokio::spawn(async move {
            let sealer = Arc::clone(&entries.sealer);
            let seal = move || sealer.seal_bytes(purpose, &binding, expires, &value);
            let sealed = if size > LARGE {
                spawn_blocking(seal).await.unwrap_or_default()
            } else {
                seal()
            };
            if sealed.is_empty() {
                return;
            }
            let mut store = redis::cmd("EVAL");
            store.arg(STORE).arg(3).arg(name).arg(order).arg(sizes);
            store.arg(sealed).arg(millis).arg(size).arg(share);
            store.arg(MARK_SECS * 1_000);
            let mut commands = line.commands.clone();
            if let Err(error) = store.query_async::<redis::Value>(&mut commands).await {
                entries.failed(&line, Some(&error));
            }
            drop(room);
        });
        timeout(WAIT, storing).await.ok();
    }

    async fn ask<T: FromRedisValue>(&self, all: &Pipeline) -> Result<T, EntriesAway> {
        let line = self.usable().ok_or(EntriesAway)?;
        let mut commands = line.commands.clone();
        match timeout(WAIT, all.query_async(&mut commands)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.failed(&line, Some(&error));
                Err(EntriesAway)
            }
            Err(_elapsed) => {
                self.failed(&line, None);
                Err(EntriesAway)
            }
        }
    }

    fn usable(&self) -> Option<EntryLine> {
        let line = self.line.read().clone()?;
        (!line.is_slow.load(Ordering::Acquire)).then_some(line)
    }

    /// Nothing more is asked until Redis has taken a change for all owners.
    fn failed(&self, line: &EntryLine, error: Option<&RedisError>) {
        let cause = error.map_or_else(|| "it does not answer".to_owned(), ToString::to_string);
        tracing::debug!(error = cause, "Redis keeps no values for a while");
        if line.is_slow.swap(true, Ordering::AcqRel) {
            return;
        }
        let (mark, mut line) = (marking(&[self.common_mark()]), line.clone());
        tokio::spawn(async move {
            loop {
                match mark.exec_async(&mut line.commands).await {
                    Ok(()) => return line.is_slow.store(false, Ordering::Release),
                    Err(error) if error.is_unrecoverable_error() => return line.broken.notify_one(),
                    Err(_) => sleep(PROBE).await,
                }
            }
        });
    }

    async fn opened(&self, address: EntryAddress<'_>, sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (sealer, purpose, binding) = (Arc::clone(&self.sealer), address.purpose, binding(&address));
        let size = sealed.len();
        let open = move || sealer.open_bytes(purpose, &binding, unix_now(), &sealed);
        if size > LARGE {
            return spawn_blocking(open).await.ok().flatten();
        }
        open()
    }

    fn common_mark(&self) -> String {
        format!("{}:mark", self.prefix)
    }

    fn marks_of(&self, owner: &str) -> Vec<String> {
        let names = self.sealer.names("shared_state/mark", &[owner.as_bytes()]);
        self.written("m", &names)
    }

    fn names_of(&self, address: &EntryAddress<'_>) -> Vec<String> {
        let parts = [address.owner.as_bytes(), address.id.as_bytes()];
        self.written("e", &self.sealer.names(address.purpose, &parts))
    }

    fn share_names(&self, purpose: &str, tenant: &str) -> (String, String) {
        let names = self
            .sealer
            .names("shared_state/share", &[purpose.as_bytes(), tenant.as_bytes()]);
        let [order, sizes] = ["o", "s"].map(|kind| self.written(kind, &names).into_iter().next());
        (order.unwrap_or_default(), sizes.unwrap_or_default())
    }

    fn written(&self, kind: &str, names: &[[u8; 32]]) -> Vec<String> {
        let write = |name| format!("{}:{kind}:{}", self.prefix, URL_SAFE_NO_PAD.encode(name));
        names.iter().map(write).collect()
    }
}

/// Sets marks anew.
fn marking(names: &[String]) -> Pipeline {
    let mark = random::bytes::<MARK_LEN>().unwrap_or_default();
    let mut all = redis::pipe();
    for name in names {
        let set = all.cmd("SET").arg(name).arg(&mark);
        set.arg("EX").arg(MARK_SECS).ignore();
    }
    all
}

/// What a value is sealed to.
fn binding(address: &EntryAddress<'_>) -> String {
    format!("{}:{}/{}", address.owner.len(), address.owner, address.id)
}

impl fmt::Debug for SharedEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedEntries")
            .field("is_up", &self.usable().is_some())
            .finish_non_exhaustive()
    }
}
