//! The three pipes of a child process.

use std::sync::Arc;

use tokio::{
    io::{AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::incoming::LARGEST;
use crate::lines::{ReadLine, next_line};
use crate::scan::{self, AnswerScan};
use crate::wire::{WireReader, WireState};

/// The longest line of its log that is kept.
const LOG_LINE: usize = 8 * 1024;
/// 32 MiB: [`LARGEST`].
const TOO_LONG: &str = "it is longer than 32 MiB";

/// Writes one message a line.
pub(super) async fn write(
    mut stdin: ChildStdin,
    mut queue: mpsc::Receiver<Vec<u8>>,
    stop: CancellationToken,
) {
    while let Some(Some(mut line)) = stop.run_until_cancelled(queue.recv()).await {
        line.push(b'\n');
        let written = stop.run_until_cancelled(async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        });
        if !matches!(written.await, Some(Ok(()))) {
            break;
        }
    }
    // Dropping its stdin asks a process to end, as the transport prescribes.
}

/// Logs what a child writes to stderr, without the secrets it was given.
pub(super) async fn log(stderr: ChildStderr, state: Arc<WireState>) {
    let _read = state.ending.stderr_read.clone().drop_guard();
    let mut reader = BufReader::new(stderr);
    let mut buffer = Vec::new();
    loop {
        match next_line(&mut reader, &mut buffer, LOG_LINE).await {
            Ok(ReadLine::Whole | ReadLine::TooLong(_)) => {
                let line = state.redact(&String::from_utf8_lossy(&buffer));
                state.ending.line(&line);
                tracing::debug!(
                    provider.name = &*state.provider,
                    process.line = line.trim_end(),
                    "the provider's process says"
                );
            }
            Ok(ReadLine::End) | Err(_) => return,
        }
    }
}

pub(super) async fn read(stdout: ChildStdout, wire_reader: WireReader) {
    let mut reader = BufReader::with_capacity(64 * 1024, stdout);
    let mut buffer = Vec::new();
    loop {
        match next_line(&mut reader, &mut buffer, LARGEST).await {
            Ok(ReadLine::Whole) => wire_reader.receive(&buffer),
            Ok(ReadLine::TooLong(tail)) => {
                tracing::warn!(
                    provider.name = &*wire_reader.state.provider,
                    process.limit = LARGEST,
                    "a line of the provider's process is too long and was dropped"
                );
                let mut ids = AnswerScan::answers(&buffer);
                ids.extend(scan::last(&tail));
                wire_reader.fail(&ids, TOO_LONG);
            }
            Ok(ReadLine::End) | Err(_) => break,
        }
        if buffer.capacity() > LARGEST / 32 {
            buffer = Vec::new();
        }
    }
    // Without its stdout a process is of no use, whether it still runs or not.
    wire_reader.state.close();
}
