//! A call under way, and what its provider and its client say to each other meanwhile.

use std::{fmt, future::Future, pin::Pin};

use tokio::sync::{mpsc, oneshot};

use super::channel::ClientChannel;
use super::convert::{answer_for, cancelled, question_for, unanswerable};
use super::pending::{PendingQuestion, PendingQuestions};
use pleiades_core::error::Error;
use pleiades_mcp::{Id, Raw, RawObject, Revision, message, reserved};
use pleiades_upstream::{ProviderEvent, ProviderRequest};

/// A call under way.
pub(crate) struct Conversation {
    /// Comes to its result.
    pub(crate) running: Pin<Box<dyn Future<Output = Result<Raw, Error>> + Send>>,
    /// What its provider says and asks meanwhile.
    pub(crate) events: mpsc::Receiver<ProviderEvent>,
    /// The revision it is made in.
    pub(crate) from: Revision,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// What a call under way came to.
#[derive(Debug)]
pub(crate) enum Followed {
    Done(Result<Raw, Error>),
    /// It waits for a client that answers with its next request.
    Asked(Vec<ProviderRequest>, Conversation),
}

/// Stays with a call until it is done, or a modern client has to be asked.
pub(crate) async fn follow(channel: &ClientChannel<'_>, mut call: Conversation) -> Followed {
    let mut open = PendingQuestions::default();
    let outcome = loop {
        tokio::select! {
            biased;
            Some(event) = call.events.recv() => match event {
                ProviderEvent::Request(ask) if channel.client.is_modern() => {
                    if let Some(asks) = askable(channel, ask, &mut call.events) {
                        return Followed::Asked(asks, call);
                    }
                }
                ProviderEvent::Request(ask) => put(channel, ask, call.from, &mut open).await,
                event => pass_on(channel, event, &mut open),
            },
            outcome = &mut call.running => break outcome,
            () = open.left(channel) => open.relocate(channel),
        }
    };
    while let Ok(event) = call.events.try_recv() {
        pass_on(channel, event, &mut open);
    }
    open.retract_all(channel);
    Followed::Done(outcome)
}

/// The question and those that came with it, as far as the client takes them.
fn askable(
    channel: &ClientChannel<'_>,
    first: ProviderRequest,
    events: &mut mpsc::Receiver<ProviderEvent>,
) -> Option<Vec<ProviderRequest>> {
    let mut asks = vec![first];
    while let Ok(event) = events.try_recv() {
        match event {
            ProviderEvent::Request(ask) => asks.push(ask),
            event => pass_on(channel, event, &mut PendingQuestions::default()),
        }
    }
    let takes = |ask: &ProviderRequest| channel.abilities.takes(&ask.method, ask.params.as_deref());
    let (askable, others): (Vec<_>, Vec<_>) = asks.into_iter().partition(takes);
    others.into_iter().for_each(refuse);
    (!askable.is_empty()).then_some(askable)
}

/// Puts a legacy provider's question to a legacy client.
async fn put(channel: &ClientChannel<'_>, ask: ProviderRequest, from: Revision, open: &mut PendingQuestions) {
    let ProviderRequest {
        id,
        method,
        params,
        answer,
    } = ask;
    let client = channel.client;
    let takes = channel.abilities.takes(&method, params.as_deref());
    let shown = takes
        .then(|| question_for(&method, params, from, client))
        .flatten();
    let Some(params) = shown else {
        answer.send(unanswerable(&method)).ok();
        return;
    };
    let turn = channel.turn().await;
    let (sender, answered) = oneshot::channel();
    match PendingQuestion::put(channel, &method, &params, sender).await {
        Ok(question) => open.push(id, question),
        Err(_) => {
            answer.send(cancelled(&method)).ok();
            return;
        }
    }
    tokio::spawn(async move {
        // Without an answer the sender is dropped, which refuses the question.
        if let Ok(outcome) = answered.await {
            let outcome = outcome.map(|result| answer_for(&method, result, client, from));
            answer.send(outcome).ok();
        }
        drop(turn);
    });
}

/// Tells the client what a provider says, as far as it is for it.
fn pass_on(channel: &ClientChannel<'_>, event: ProviderEvent, open: &mut PendingQuestions) {
    match event {
        ProviderEvent::Progress(params) => {
            if let Some(outlet) = channel.outlet {
                outlet.progress(params);
            }
        }
        ProviderEvent::Notification { method, params } => notify(channel, &method, params, open),
        ProviderEvent::Pause(pause) => {
            if let Some(outlet) = channel.outlet {
                outlet.pause(pause);
            }
        }
        ProviderEvent::Request(ask) => refuse(ask),
    }
}

fn refuse(ask: ProviderRequest) {
    ask.answer.send(unanswerable(&ask.method)).ok();
}

fn notify(channel: &ClientChannel<'_>, method: &str, params: Option<Raw>, open: &mut PendingQuestions) {
    let params = params.map(reserved::strip);
    match method {
        "notifications/message" if channel.wants_log(params.as_ref()) => {
            channel.notify(message::notification(method, params.as_deref()));
        }
        "notifications/elicitation/complete" if channel.client == Revision::V2025_11_25 => {
            channel.notify(message::notification(method, params.as_deref()));
        }
        "notifications/cancelled" => {
            let named = params.and_then(|params| RawObject::open(&params).ok());
            if let Some(id) = named.and_then(|mut params| params.remove("requestId")) {
                open.retract(channel, &Id(id));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::client::Questions;
    use crate::exchange::session::Mailboxes;
    use crate::exchange::tests::{LEGACY, MODERN, tokens};
    use pleiades_core::error::RpcFault;
    use pleiades_mcp::{ClientCapabilities, raw};

    type Answered = oneshot::Receiver<Result<Raw, RpcFault>>;

    fn question() -> (ProviderEvent, Answered) {
        let (answer, answered) = oneshot::channel();
        let params = json!({ "message": "who?", "requestedSchema": { "type": "object" } });
        let ask = ProviderRequest {
            id: Id(raw::raw(&1)),
            method: "elicitation/create".to_owned(),
            params: Some(raw::raw(&params)),
            answer,
        };
        (ProviderEvent::Request(ask), answered)
    }

    /// Follows a call that comes to `result` once these events were sent, or never.
    async fn followed(
        (client, abilities): (Revision, ClientCapabilities),
        events: Vec<ProviderEvent>,
        result: Option<Result<Raw, Error>>,
    ) -> Followed {
        let (questions, mailboxes) = (Questions::new(tokens(), "one"), Mailboxes::default());
        let channel = ClientChannel {
            questions: &questions,
            mailboxes: &mailboxes,
            holder: "ann",
            client,
            abilities,
            outlet: None,
            session: None,
            logs: true,
        };
        let (sender, receiver) = mpsc::channel(8);
        for event in events {
            sender.try_send(event).expect("room");
        }
        drop(sender);
        let running = Box::pin(async move {
            match result {
                Some(result) => result,
                None => std::future::pending().await,
            }
        });
        let conversation = Conversation {
            running,
            events: receiver,
            from: LEGACY,
        };
        follow(&channel, conversation).await
    }

    #[tokio::test]
    async fn a_call_comes_to_its_result_whatever_was_said_meanwhile() {
        let progress = ProviderEvent::Progress(RawObject::new());
        let done = followed(
            (LEGACY, ClientCapabilities::NONE),
            vec![progress],
            Some(Ok(raw::raw(&7))),
        )
        .await;
        assert!(matches!(done, Followed::Done(Ok(result)) if result.get() == "7"));
    }

    #[tokio::test]
    async fn a_modern_client_is_asked_by_giving_the_call_back() {
        let (event, _answered) = question();
        let asked = followed((MODERN, ClientCapabilities::FORM), vec![event], None).await;
        let Followed::Asked(asks, _call) = asked else {
            panic!("it asks");
        };
        assert_eq!(asks.len(), 1);
    }

    #[tokio::test]
    async fn a_question_that_the_client_does_not_take_is_declined_and_the_call_goes_on() {
        let (event, answered) = question();
        let done = followed(
            (MODERN, ClientCapabilities::NONE),
            vec![event],
            Some(Ok(raw::raw(&7))),
        )
        .await;
        assert!(matches!(done, Followed::Done(Ok(_))));
        assert!(answered.await.unwrap().unwrap().get().contains("decline"));
    }

    #[tokio::test]
    async fn a_legacy_client_without_any_stream_is_not_asked_and_its_provider_hears_so() {
        let (event, answered) = question();
        let done = followed(
            (LEGACY, ClientCapabilities::FORM),
            vec![event],
            Some(Ok(raw::raw(&7))),
        )
        .await;
        assert!(matches!(done, Followed::Done(Ok(_))));
        assert!(answered.await.unwrap().unwrap().get().contains("cancel"));
    }
}
