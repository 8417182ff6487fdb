//! What the other side of a wire says, and who hears it.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{ERRAND, Life, Wire};
use crate::limit::load;
use crate::mcp::{Message, message};
use crate::upstream::asks::Request;
use crate::upstream::call::Change;
use crate::upstream::hub::Routed;
use crate::upstream::incoming::{self, number};

/// Hears for a wire; does not keep it alive.
#[derive(Clone)]
pub(crate) struct Ear {
    pub(crate) life: Arc<Life>,
    pub(crate) wire: Weak<Wire>,
}

impl Ear {
    /// Takes one message.
    pub(crate) fn hear(&self, text: &[u8]) {
        if text.trim_ascii().is_empty() {
            return;
        }
        let provider = &*self.life.provider;
        match load::weighed(text.len(), || message::decode(text)) {
            Ok(Message::Response { id, outcome }) => {
                let heard = number(&id.0).is_some_and(|id| self.life.answer(id, Ok(outcome)));
                tracing::trace!(provider.name = provider, heard, "an answer came");
            }
            Ok(Message::Request { id, method, params }) => self.asked(Request { id, method, params }),
            Ok(Message::Notification { method, params }) => {
                let Some(shared) = self.life.shared.upgrade() else {
                    return;
                };
                match Change::of(&method) {
                    Some(change) => shared.hubs.tell(&self.life.key, change),
                    None => shared.hubs.notice(&self.life.key, &method, params.as_ref()),
                }
            }
            Err(error) => match incoming::fault(text) {
                Some((fault, Some(id))) => {
                    let heard = self.life.answer(id, Ok(Err(fault)));
                    tracing::trace!(provider.name = provider, heard, "a refusal came");
                }
                _ => {
                    tracing::debug!(provider.name = provider, %error, "the provider says what is not JSON-RPC")
                }
            },
        }
    }

    /// A wire says nothing of the call that a question belongs to: the hub decides who takes it.
    fn asked(&self, request: Request) {
        let Some(shared) = self.life.shared.upgrade() else {
            return;
        };
        let routed = if request.is_ping() {
            Routed::default()
        } else {
            shared.hubs.route(&self.life.key)
        };
        let (closing, wire) = (shared.closing.clone(), Weak::clone(&self.wire));
        let put = request.put(routed.to.as_ref());
        let stop = self.life.stop.clone();
        shared.detach(async move {
            let replied = async {
                let reply = put.reply().await;
                let wire = wire.upgrade()?;
                wire.notify(reply, Instant::now() + ERRAND).await.err()
            };
            let failed = tokio::select! {
                failed = replied => failed,
                () = closing.cancelled() => None,
                () = stop.cancelled() => None,
            };
            if let Some(error) = failed {
                tracing::debug!(%error, "an answer was not delivered");
            }
            drop(routed.asking);
        });
    }
}
