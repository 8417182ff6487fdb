//! What the other side of a wire says, and who hears it.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{NOTIFY_TIMEOUT, Wire, WireState, noise::NoiseKind, unreadable};
use crate::incoming::{self, UnreadableMessage, parse_id};
use crate::incoming_request::IncomingRequest;
use pleiades_core::limit::load;
use pleiades_mcp::Message;

const OVER_LINES: &str = "its JSON stands over several lines, where each message is one line";
const FRAMED: &str = "its messages are framed by `Content-Length` headers, as those of language servers, where each \
                      message is one line";

/// Hears for a wire; does not keep it alive.
#[derive(Clone)]
pub(crate) struct WireReader {
    pub(crate) life: Arc<WireState>,
    pub(crate) wire: Weak<Wire>,
}

impl WireReader {
    /// Takes one message.
    pub(crate) fn receive(&self, text: &[u8]) {
        if text.trim_ascii().is_empty() {
            return;
        }
        let provider = &*self.life.provider;
        let message = match load::run_sized(text.len(), || incoming::decode(text)) {
            Ok(message) => message,
            Err(unread) => return self.unread(text, unread),
        };
        self.life.noise.lock().record_message();
        match message {
            Message::Response { id, outcome } => {
                let heard = parse_id(&id.0).is_some_and(|id| self.life.answer(id, Ok(outcome)));
                tracing::trace!(provider.name = provider, heard, "an answer came");
            }
            Message::Request { id, method, params } => self.answer(IncomingRequest { id, method, params }),
            Message::Notification { method, params } => {
                if let Some(shared) = self.life.shared.upgrade() {
                    shared.hubs.publish(&self.life.key, &method, params.as_ref());
                }
            }
        }
    }

    /// Fails the requests that something unreadable would have answered; the rest is passed over.
    fn unread(&self, text: &[u8], unread: UnreadableMessage) {
        if let Some((fault, Some(id))) = incoming::read_fault(text) {
            let heard = self.life.answer(id, Ok(Err(fault)));
            tracing::trace!(provider.name = &*self.life.provider, heard, "a refusal came");
            return;
        }
        if unread.ids.is_empty() {
            return self.handle_noise(text);
        }
        self.fail(&unread.ids, &unread.why);
    }

    /// Fails requests whose answers came and cannot be read.
    pub(crate) fn fail(&self, ids: &[u64], why: &str) {
        for id in ids {
            let heard = self.life.answer(*id, Err(unreadable(why)));
            let provider = &*self.life.provider;
            tracing::debug!(provider.name = provider, heard, why, "an answer cannot be read");
        }
    }

    fn handle_noise(&self, line: &[u8]) {
        let mut junk = self.life.noise.lock();
        let found = junk.line(line, |line| self.life.redact(line));
        let first = junk.first().unwrap_or_default().to_owned();
        drop(junk);
        let provider = &*self.life.provider;
        match found {
            // `pleiades doctor` shows it.
            NoiseKind::Noise { first: true } => {
                tracing::info!(
                    provider.name = provider,
                    line = first,
                    "the provider prints what is not JSON-RPC"
                );
            }
            NoiseKind::Noise { .. } => {
                tracing::trace!(
                    provider.name = provider,
                    "the provider prints what is not JSON-RPC"
                );
            }
            NoiseKind::Answers(ids) => self.fail(&ids, OVER_LINES),
            NoiseKind::Framed => self.life.fail_unreadable(FRAMED),
        }
    }

    /// A wire says nothing of the call that a question belongs to: the hub decides who takes it.
    fn answer(&self, request: IncomingRequest) {
        let Some(shared) = self.life.shared.upgrade() else {
            return;
        };
        let route = request.route(&shared.hubs, &self.life.key);
        let wire = Weak::clone(&self.wire);
        request.answer(&shared, route, self.life.stop.clone(), move |body| async move {
            match wire.upgrade() {
                Some(wire) => wire.notify(body, Instant::now() + NOTIFY_TIMEOUT).await,
                None => Ok(()),
            }
        });
    }
}
