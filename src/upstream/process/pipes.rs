//! The three pipes of a child process.

use std::sync::{Arc, Weak};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::Waiting;
use crate::mcp::{Message, message};
use crate::upstream::answer::LARGEST;
use crate::upstream::asks::Request;
use crate::upstream::call::Change;
use crate::upstream::hub::Routed;
use crate::upstream::incoming::{self, number};
use crate::upstream::lines::{Line, next_line};
use crate::upstream::pool::Key;
use crate::upstream::shared::Shared;

/// The longest line of its log that is kept.
const LOG_LINE: usize = 8 * 1024;

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

/// What a child writes to stderr goes to our log.
pub(super) async fn log(stderr: ChildStderr, provider: Arc<str>) {
    let mut reader = BufReader::new(stderr);
    let mut buffer = Vec::new();
    loop {
        match next_line(&mut reader, &mut buffer, LOG_LINE).await {
            Ok(Line::Whole | Line::TooLong) => {
                let line = String::from_utf8_lossy(&buffer);
                tracing::debug!(
                    provider.name = &*provider,
                    line = line.trim_end(),
                    "the provider's process says"
                );
            }
            Ok(Line::End) | Err(_) => return,
        }
    }
}

/// Reads what the process answers.
pub(super) struct Reader {
    pub(super) provider: Arc<str>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) lines: mpsc::WeakSender<Vec<u8>>,
    pub(super) key: Key,
    pub(super) shared: Weak<Shared>,
}

impl Reader {
    pub(super) async fn run(self, stdout: ChildStdout, stop: CancellationToken) {
        let mut reader = BufReader::with_capacity(64 * 1024, stdout);
        let mut buffer = Vec::new();
        loop {
            match next_line(&mut reader, &mut buffer, LARGEST).await {
                Ok(Line::Whole) => self.line(&buffer),
                Ok(Line::TooLong) => {
                    tracing::warn!(
                        provider.name = &*self.provider,
                        limit = LARGEST,
                        "a line of the provider's process is too long and was dropped"
                    );
                }
                Ok(Line::End) | Err(_) => break,
            }
            if buffer.capacity() > LARGEST / 32 {
                buffer = Vec::new();
            }
        }
        // Without its stdout a process is of no use, whether it still runs or not.
        self.waiting.bury();
        stop.cancel();
    }

    fn line(&self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match message::decode(line) {
            Ok(Message::Response { id, outcome }) => {
                let pending = number(&id.0).and_then(|id| self.waiting.requests.lock().remove(&id));
                if let Some(pending) = pending {
                    let heard = pending.send(outcome).is_ok();
                    tracing::trace!(provider.name = &*self.provider, heard, "an answer came");
                }
            }
            Ok(Message::Request { id, method, params }) => self.asked(Request { id, method, params }),
            Ok(Message::Notification { method, params }) => {
                let Some(shared) = self.shared.upgrade() else {
                    return;
                };
                match Change::of(&method) {
                    Some(change) => shared.hubs.tell(&self.key, change),
                    None => shared.hubs.notice(&self.key, &method, params.as_ref()),
                }
            }
            Err(error) => match incoming::fault(line) {
                Some((fault, Some(id))) => {
                    let pending = self.waiting.requests.lock().remove(&id);
                    let heard = pending.is_some_and(|pending| pending.send(Err(fault)).is_ok());
                    tracing::trace!(provider.name = &*self.provider, heard, "a refusal came");
                }
                _ => {
                    tracing::debug!(provider.name = &*self.provider, %error, "a line of the provider's process is not JSON-RPC")
                }
            },
        }
    }

    /// A pipe says nothing of the call that a question belongs to: the hub decides who takes it.
    fn asked(&self, request: Request) {
        let (Some(shared), Some(lines)) = (self.shared.upgrade(), self.lines.upgrade()) else {
            return;
        };
        let routed = if request.is_ping() {
            Routed::default()
        } else {
            shared.hubs.route(&self.key)
        };
        let closing = shared.closing.clone();
        let put = request.put(routed.to.as_ref());
        let lines = lines.downgrade();
        shared.detach(async move {
            let reply = closing.run_until_cancelled(put.reply()).await;
            if let (Some(reply), Some(lines)) = (reply, lines.upgrade()) {
                // A process that reads nothing gets no answers.
                closing.run_until_cancelled(lines.send(reply)).await;
            }
            drop(routed.asking);
        });
    }
}
