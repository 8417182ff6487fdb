//! Parks a call while its client answers, and goes on with it: here, or for another replica.

use std::sync::Arc;

use super::Calls;
use super::outcome::{CallOutcome, opened};
use super::parking::{CallUnderway, Parked, asked};
use super::replicas::{HandOverMessage, HandOverReply, Retry};
use super::state::{CallKey, CallState};
use crate::exchange::client::{Answered, ClientChannel, Followed, failing, follow};
use pleiades_core::error::Error;
use pleiades_mcp::{ClientCapabilities, RawObject, Revision};
use pleiades_upstream::ProviderRequest;

impl Calls {
    pub(super) fn park(
        &self,
        holder: &str,
        of: CallKey,
        asks: Vec<ProviderRequest>,
        call: CallUnderway,
    ) -> Result<CallOutcome, Error> {
        let (asks, requests) = asked(asks, call.conversation.from);
        self.park_open(Parked {
            holder: holder.into(),
            of,
            call,
            asks,
            requests,
        })
    }

    fn park_open(&self, parked: Parked) -> Result<CallOutcome, Error> {
        self.tokens.ready()?;
        let (holder, of) = (parked.holder.clone(), parked.of.clone());
        let requests = parked.requests.close();
        let slot = self.parking.park(parked)?;
        let replica = self.replicas.own().to_owned();
        let mut result = RawObject::new();
        result.put("resultType", "input_required");
        result.set("inputRequests", requests);
        let state = CallState::Parked { replica, slot }.seal(&self.tokens, &holder, of);
        result.put("requestState", &state);
        Ok(CallOutcome::Asked(result.close()))
    }

    /// Its provider gets the answers, and what is still open is asked again.
    pub(super) async fn resume(
        &self,
        channel: &ClientChannel<'_>,
        retry: Retry,
    ) -> Result<CallOutcome, Error> {
        let mut parked = self
            .parking
            .take(retry.slot, &retry.holder, &retry.of, &retry.responses)?;
        parked.deliver(&retry.responses);
        if !parked.asks.is_empty() {
            return self.park_open(parked);
        }
        let CallUnderway {
            plan,
            conversation,
            guard,
        } = parked.call;
        let (from, provider) = (conversation.from, &plan.target.provider);
        match follow(channel, conversation).await {
            Followed::Asked(asks, conversation) => {
                let call = CallUnderway {
                    plan: Arc::clone(&plan),
                    conversation,
                    guard,
                };
                self.park(&retry.holder, retry.of, asks, call)
            }
            Followed::Done(outcome) => {
                guard.conclude(&self.catalog, provider, outcome.as_ref().map(|_| ()));
                match outcome {
                    Ok(result) => Ok(CallOutcome::Result(opened(result)?, from)),
                    Err(error) => {
                        let of = (provider.title.as_str(), plan.target.method);
                        failing(channel, of, error, from).map(CallOutcome::Asked)
                    }
                }
            }
        }
    }

    pub(crate) fn serve_replicas(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.replicas.serve(move |handover| {
            let calls = weak.upgrade();
            Box::pin(async move { Some(calls?.take_handover(handover).await) })
        });
    }

    pub(crate) async fn hand_answer(&self, replica: &str, answered: Answered) -> Result<(), Error> {
        self.replicas.hand_answer(replica, answered).await
    }

    async fn take_handover(&self, handover: HandOverMessage) -> HandOverReply {
        match handover {
            HandOverMessage::Answer(answered) => {
                self.questions.take(answered);
                HandOverReply::Taken
            }
            HandOverMessage::Retry(retry) => {
                let holder = retry.holder.clone();
                let channel = ClientChannel {
                    questions: &self.questions,
                    mailboxes: &self.mailboxes,
                    holder: &holder,
                    client: Revision::V2026_07_28,
                    abilities: ClientCapabilities::from_bits(retry.abilities),
                    outlet: None,
                    session: None,
                    logs: false,
                };
                HandOverReply::of(self.resume(&channel, retry).await)
            }
        }
    }
}
