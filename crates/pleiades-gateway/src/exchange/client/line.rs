//! The line of a legacy client's session to a provider: what the provider says and asks outside of
//! calls goes to the session's streams.

use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot};

use super::convert::{answer_for, question_for, unanswerable};
use super::questions::Questions;
use crate::exchange::session::Mailbox;
use pleiades_mcp::{ClientCapabilities, Raw, RawObject, Revision, message, reserved, translate, uris};
use pleiades_upstream::{ProviderEvent, ProviderRequest};

/// The notification that a watched resource has changed.
pub(crate) const UPDATED: &str = "notifications/resources/updated";

/// Where the events of a line go: a legacy client's session.
#[derive(Debug)]
pub(crate) struct SessionLine {
    pub(crate) questions: Arc<Questions>,
    pub(crate) provider: Arc<str>,
    pub(crate) mailbox: Weak<Mailbox>,
    pub(crate) holder: String,
    pub(crate) client: Revision,
    pub(crate) from: Revision,
    pub(crate) abilities: ClientCapabilities,
}

impl SessionLine {
    /// Passes on what arrives, for as long as the session holds anything.
    pub(crate) async fn listen(self, mut events: mpsc::Receiver<ProviderEvent>) {
        while let Some(event) = events.recv().await {
            let Some(mailbox) = self.mailbox.upgrade() else {
                return;
            };
            match event {
                ProviderEvent::Progress(_) | ProviderEvent::Pause(_) => {}
                ProviderEvent::Notification { method, params } => {
                    self.notice(&mailbox, &method, params.as_ref())
                }
                ProviderEvent::Request(ask) => self.put(&mailbox, ask),
            }
        }
    }

    fn notice(&self, mailbox: &Mailbox, method: &str, params: Option<&Raw>) {
        let same = self.from.is_modern() == self.client.is_modern();
        let passes = match method {
            "notifications/message" => same && mailbox.hears(params),
            UPDATED => {
                mailbox.say(&updated(params, !same, &|uri| mailbox.outer(&self.provider, uri)));
                return;
            }
            "notifications/elicitation/complete" => self.client == Revision::V2025_11_25,
            _ => false,
        };
        if passes {
            let params = params.cloned().map(reserved::strip);
            mailbox.say(&message::notification(method, params.as_deref()));
        }
    }

    fn put(&self, mailbox: &Mailbox, asked: ProviderRequest) {
        let ProviderRequest {
            method,
            params,
            answer,
            ..
        } = asked;
        let takes = self.abilities.takes(&method, params.as_deref());
        let shown = takes
            .then(|| question_for(&method, params, self.from, self.client))
            .flatten();
        let Some(params) = shown else {
            answer.send(unanswerable(&method)).ok();
            return;
        };
        let (sender, answered) = oneshot::channel();
        let Ok(question) = self.questions.open(&self.holder, &method, sender) else {
            answer.send(unanswerable(&method)).ok();
            return;
        };
        if !mailbox.ask(message::client_request(&question.id, &method, &params)) {
            answer.send(unanswerable(&method)).ok();
            return;
        }
        let (client, from) = (self.client, self.from);
        tokio::spawn(async move {
            let mut answer = answer;
            tokio::select! {
                answered = answered => if let Ok(outcome) = answered {
                    answer.send(outcome.map(|result| answer_for(&method, result, client, from))).ok();
                },
                // The provider gave up, or its session is gone.
                () = answer.closed() => {}
            }
            drop(question);
        });
    }
}

/// The notification of an update, the resource named as the client knows it. What only a peer of
/// 2026-07-28 says with it stays there.
fn updated(params: Option<&Raw>, bridged: bool, outer: &dyn Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut params = params
        .and_then(|params| RawObject::open(params).ok())
        .unwrap_or_default();
    reserved::strip_params(&mut params);
    if bridged {
        translate::notification(&mut params);
    }
    uris::rewrite(UPDATED, &mut params, outer);
    message::notification(UPDATED, Some(&params.close()))
}
