//! Where log lines go: a bounded buffer that a thread of its own writes to stderr.
//!
//! A worker never waits for a slow stderr: beyond the bound lines are dropped, counted, and the
//! count is written. One wake-up serves every line of a batch, so that ten thousand lines a
//! second cost ten thousand copies and a hundred wake-ups. That is why it is not a channel.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait; about ten thousand request lines.
const BOUND: usize = 4 << 20;
/// How long a batch gathers.
const BATCH: Duration = Duration::from_millis(10);
/// Room that is kept between batches.
const KEEP: usize = 64 << 10;

static SINK: OnceLock<Sink> = OnceLock::new();

/// The process's sink, when the log was initialised.
pub(super) fn get() -> Option<&'static Sink> {
    SINK.get()
}

/// Starts the process's sink on stderr; the first call wins.
pub(super) fn start() -> &'static Sink {
    SINK.get_or_init(|| Sink::start(io::stderr(), BOUND))
}

#[derive(Debug, Default)]
struct LogBuffer {
    bytes: Vec<u8>,
    dropped: u64,
    writing: bool,
    hurry: bool,
    /// Only ever set in tests: ends the thread.
    closed: bool,
}

impl LogBuffer {
    fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.dropped == 0 && !self.writing
    }
}

#[derive(Debug, Default)]
struct SinkShared {
    pending: Mutex<LogBuffer>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Clone)]
pub(super) struct Sink {
    shared: Arc<SinkShared>,
    bound: usize,
}

impl Sink {
    fn start(out: impl Write + Send + 'static, bound: usize) -> Self {
        let shared = Arc::new(SinkShared::default());
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("log".to_owned());
        if thread.spawn(move || writer.run(out)).is_err() {
            // Without a thread nothing is written and the bound drops what comes.
            shared.pending.lock().closed = true;
        }
        Self { shared, bound }
    }

    /// Adds whole lines. Never waits for the output.
    pub(super) fn append(&self, lines: &[u8]) {
        let mut pending = self.shared.pending.lock();
        if pending.bytes.len() + lines.len() > self.bound {
            pending.dropped += 1;
            return;
        }
        let first = pending.bytes.is_empty();
        pending.bytes.extend_from_slice(lines);
        drop(pending);
        if first {
            self.shared.filled.notify_one();
        }
    }

    /// Waits until everything was written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut pending = self.shared.pending.lock();
        while !pending.is_idle() && !pending.closed {
            pending.hurry = true;
            self.shared.filled.notify_one();
            if self.shared.written.wait_until(&mut pending, until).timed_out() {
                return;
            }
        }
    }
}

impl SinkShared {
    fn run(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        while self.next(&mut batch) {
            // A log that cannot be written has nobody to tell.
            drop(out.write_all(&batch).and_then(|()| out.flush()));
            batch.clear();
            batch.shrink_to(KEEP);
            self.pending.lock().writing = false;
            self.written.notify_all();
        }
    }

    /// Waits for lines and takes them; false at the end.
    fn next(&self, batch: &mut Vec<u8>) -> bool {
        let mut pending = self.pending.lock();
        while pending.is_idle() {
            if pending.closed {
                return false;
            }
            self.filled.wait(&mut pending);
        }
        if !pending.hurry {
            self.filled.wait_for(&mut pending, BATCH);
        }
        std::mem::swap(&mut pending.bytes, batch);
        pending.writing = true;
        pending.hurry = false;
        let dropped = std::mem::take(&mut pending.dropped);
        drop(pending);
        if dropped > 0 {
            super::line::dropped(batch, dropped);
        }
        true
    }
}

/// Lets tracing's formatter write whole events.
impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that hands over what it is given, and blocks until it is taken.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (out, seen) = mpsc::sync_channel(100);
        let sink = Sink::start(Slow(out), BOUND);
        for n in 0..100 {
            sink.append(format!("{n}\n").as_bytes());
        }
        sink.flush(Duration::from_secs(10));
        let all: Vec<u8> = seen.try_iter().flatten().collect();
        assert_eq!(text(&all), (0..100).map(|n| format!("{n}\n")).collect::<String>());
    }

    #[test]
    fn a_stuck_output_drops_lines_beyond_the_bound_and_says_how_many() {
        let (out, seen) = mpsc::sync_channel(0);
        let sink = Sink::start(Slow(out), 100);
        for _ in 0..50 {
            sink.append(b"123456789\n");
        }
        let mut all = Vec::new();
        while !text(&all).contains("dropped") {
            all.extend(seen.recv().unwrap());
        }
        let kept = text(&all).lines().filter(|line| *line == "123456789").count();
        assert!((10..50).contains(&kept), "{kept}");
        assert!(
            text(&all).contains(&format!("{} log lines were dropped", 50 - kept)),
            "{}",
            text(&all)
        );
    }

    #[test]
    fn a_flush_gives_up_on_a_stuck_output() {
        let (out, _seen) = mpsc::sync_channel(0);
        let sink = Sink::start(Slow(out), BOUND);
        sink.append(b"never read\n");
        sink.flush(Duration::from_millis(1));
    }
}
