//! Reads what the other side of a wire sends.

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

/// Takes messages for a wire; does not keep it alive.
#[derive(Clone)]
pub(crate) struct WireReader {
    pub(crate) state: Arc<WireState>,
    pub(crate) wire: Weak<Wire>,
}

impl WireReader {
    pub(crate) fn receive(&self, text: &[u8]) {
        if text.trim_ascii().is_empty() {
            return;
        }
        let provider = &*self.state.provider;
        let message = match load::run_sized(text.len(), || incoming::decode(text)) {
            Ok(message) => message,
            Err(unread) => return self.unread(text, unread),
        };
        self.state.noise.lock().record_message();
        match message {
            Message::Response { id, outcome } => {
                let heard = parse_id(&id.0).is_some_and(|id| self.state.answer(id, Ok(outcome)));
                tracing::trace!(
                    provider.name = provider,
                    message.is_expected = heard,
                    "an answer came"
                );
            }
            Message::Request { id, method, params } => self.answer(IncomingRequest { id, method, params }),
            Message::Notification { method, params } => {
                if let Some(shared) = self.state.shared.upgrade() {
                    shared.hubs.publish(&self.state.key, &method, params.as_ref());
                }
            }
        }
    }

    /// Fails the requests that something unreadable would have answered; the rest is passed over.
    fn unread(&self, text: &[u8], unread: UnreadableMessage) {
        if let Some((fault, Some(id))) = incoming::read_fault(text) {
            let heard = self.state.answer(id, Ok(Err(fault)));
            tracing::trace!(
                provider.name = &*self.state.provider,
                message.is_expected = heard,
                "a refusal came"
            );
            return;
        }
        if unread.ids.is_empty() {
            return self.handle_noise(text);
        }
        self.fail(&unread.ids, &unread.why);
    }

    pub(crate) fn fail(&self, ids: &[u64], why: &str) {
        for id in ids {
            let heard = self.state.answer(*id, Err(unreadable(why)));
            let provider = &*self.state.provider;
            tracing::debug!(
                provider.name = provider,
                message.is_expected = heard,
                error = why,
                "an answer cannot be read"
            );
        }
    }

    fn handle_noise(&self, line: &[u8]) {
        let mut junk = self.state.noise.lock();
        let found = junk.line(line, |line| self.state.redact(line));
        let first = junk.first().unwrap_or_default().to_owned();
        drop(junk);
        let provider = &*self.state.provider;
        match found {
            // `pleiades doctor` shows it.
            NoiseKind::Noise { first: true } if self.state.is_new_noise(&first) => {
                tracing::info!(
                    provider.name = provider,
                    process.line = first,
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
            NoiseKind::Framed => self.state.fail_unreadable(FRAMED),
        }
    }

    /// A request names no call that it belongs to: the hub decides who takes it.
    fn answer(&self, request: IncomingRequest) {
        let Some(shared) = self.state.shared.upgrade() else {
            return;
        };
        let route = request.route(&shared.hubs, &self.state.key);
        let wire = Weak::clone(&self.wire);
        shared.answer(request, route, self.state.stop.clone(), move |body| async move {
            match wire.upgrade() {
                Some(wire) => wire.notify(body, Instant::now() + NOTIFY_TIMEOUT).await,
                None => Ok(()),
            }
        });
    }
}
