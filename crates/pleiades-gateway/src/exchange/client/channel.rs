//! The client's end of a call: what can be said to it, and on which stream.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use super::questions::Questions;
use crate::exchange::request::Outlet;
use crate::exchange::session::{Mailbox, Mailboxes};
use pleiades_mcp::raw::raw;
use pleiades_mcp::{ClientCapabilities, Id, Raw, Revision, message};

/// The client's end of a call.
#[derive(Debug, Clone)]
pub(crate) struct ClientChannel<'a> {
    pub(crate) questions: &'a Questions,
    pub(crate) mailboxes: &'a Mailboxes,
    pub(crate) holder: &'a str,
    pub(crate) client: Revision,
    /// What may be put to it, by this provider.
    pub(crate) abilities: ClientCapabilities,
    pub(crate) outlet: Option<&'a Outlet>,
    /// Its session, which may have other streams for when the call's own is gone.
    pub(crate) session: Option<&'a Arc<str>>,
    /// Whether log messages pass: between equal generations alone.
    pub(crate) logs: bool,
}

impl ClientChannel<'_> {
    /// What the client's session holds, when it holds anything.
    pub(super) fn mailbox(&self) -> Option<Arc<Mailbox>> {
        self.session.and_then(|session| self.mailboxes.peek(session))
    }

    /// Waits until nothing else of the same request asks the client.
    pub(super) async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        match self.outlet {
            Some(outlet) => outlet.turn().await,
            None => None,
        }
    }

    /// Whether a log message is wanted and severe enough.
    pub(super) fn wants_log(&self, params: Option<&Raw>) -> bool {
        self.logs && self.mailbox().is_none_or(|mailbox| mailbox.hears(params))
    }

    /// Writes a notification on the call's own stream; on the session's when nobody reads that any more.
    pub(super) fn notify(&self, message: Vec<u8>) {
        match self.outlet {
            Some(outlet) if outlet.is_closed() => {
                if let Some(mailbox) = self.mailbox() {
                    mailbox.say(&message);
                }
            }
            Some(outlet) => outlet.say(message),
            None => {}
        }
    }

    /// Tells the client that a question needs no answer any more.
    pub(super) fn retract(&self, question: &Id) {
        let params = raw(&json!({ "requestId": question.0, "reason": "no longer needed" }));
        self.notify(message::notification("notifications/cancelled", Some(&params)));
    }
}
