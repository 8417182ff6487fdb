//! Between replicas: an answer or a retry that arrived at another one than asked.
//!
//! What is parked and what is open lives in one process; a replica that gets the answer hands it to
//! the one that waits. Without `shared_state`, or when that one is gone, the client is told at once.

use std::{pin::Pin, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{outcome::CallOutcome, state::CallKey};
use crate::exchange::client::Answered;
use crate::shared_state::{HandOverError, SharedState};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Raw, RawObject, Revision, raw::raw};

/// How long another replica may take to take an answer.
const TAKING: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Retry {
    pub(super) holder: String,
    pub(super) of: CallKey,
    pub(super) slot: u64,
    pub(super) responses: RawObject,
    /// What its client can be asked, as [`pleiades_mcp::ClientCapabilities::bits`].
    pub(super) abilities: u8,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HandOverMessage {
    Answer(Answered),
    Retry(Retry),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HandOverReply {
    Taken,
    Result {
        from: String,
        result: RawObject,
    },
    Asked(Raw),
    Failed {
        code: String,
        message: String,
        sent: bool,
        rpc: Option<(i64, String, Option<Raw>)>,
        /// The first cause, for the log.
        #[serde(default)]
        cause: String,
    },
}

/// What comes of a message that another replica handed over; `None`: the process ends.
pub(super) type Handling = Pin<Box<dyn Future<Output = Option<HandOverReply>> + Send>>;

#[derive(Debug)]
pub(super) struct ReplicaCalls(Arc<SharedState>);

impl ReplicaCalls {
    pub(super) const fn new(shared: Arc<SharedState>) -> Self {
        Self(shared)
    }

    pub(super) fn own(&self) -> &str {
        self.0.replica()
    }

    pub(super) fn serve(&self, handle: impl Fn(HandOverMessage) -> Handling + Send + Sync + 'static) {
        self.0.serve(Box::new(move |message| {
            let handling = serde_json::from_slice(&message).map(&handle);
            Box::pin(async move {
                let reply = match handling {
                    Ok(handling) => handling.await,
                    Err(cause) => {
                        let error = Error::new(Code::Internal, "not understood").because(cause);
                        Some(HandOverReply::failed(error))
                    }
                };
                reply.map_or_else(Vec::new, |reply| raw(&reply).get().as_bytes().to_vec())
            })
        }));
    }

    /// [`Code::UnknownQuestion`] when it cannot be reached.
    pub(super) async fn hand_answer(&self, replica: &str, answered: Answered) -> Result<(), Error> {
        let answer = HandOverMessage::Answer(answered);
        let handover = self.hand(replica, &answer, TAKING).await.map(drop);
        handover.map_err(|why| Error::new(Code::UnknownQuestion, unreachable(why)))
    }

    /// Waits for what the call comes to; [`Code::CallGone`] when the replica cannot be reached.
    pub(super) async fn hand_retry(
        &self,
        replica: &str,
        retry: Retry,
        within: Duration,
    ) -> Result<CallOutcome, Error> {
        let reply = self.hand(replica, &HandOverMessage::Retry(retry), within).await;
        let reply = reply.map_err(|why| Error::new(Code::CallGone, unreachable(why)).sent())?;
        let reply: HandOverReply = serde_json::from_slice(&reply).map_err(|cause| {
            Error::new(Code::Internal, "another replica was not understood").because(cause)
        })?;
        reply.into_outcome()
    }

    async fn hand(
        &self,
        replica: &str,
        handover: &HandOverMessage,
        within: Duration,
    ) -> Result<Vec<u8>, HandOverError> {
        let message = raw(handover).get().as_bytes().to_vec();
        self.0.hand_over(replica, message, within).await
    }
}

impl HandOverReply {
    pub(super) fn of(outcome: Result<CallOutcome, Error>) -> Self {
        match outcome {
            Ok(CallOutcome::Result(result, from)) => Self::Result {
                from: from.as_str().to_owned(),
                result,
            },
            Ok(CallOutcome::Asked(result)) => Self::Asked(result),
            Err(error) => Self::failed(error),
        }
    }

    fn failed(error: Error) -> Self {
        Self::Failed {
            cause: error.cause(),
            code: error.code.as_str().to_owned(),
            message: error.message.into_owned(),
            sent: error.sent,
            rpc: error.rpc.map(|fault| (fault.code, fault.message, fault.data)),
        }
    }

    fn into_outcome(self) -> Result<CallOutcome, Error> {
        match self {
            Self::Result { from, result } => {
                let from = Revision::parse(&from).unwrap_or(Revision::NEWEST_LEGACY);
                Ok(CallOutcome::Result(result, from))
            }
            Self::Asked(result) => Ok(CallOutcome::Asked(result)),
            Self::Failed {
                code,
                message,
                sent,
                rpc,
                cause,
            } => {
                let code = Code::parse(&code).unwrap_or(Code::UpstreamProtocol);
                let mut error = Error::new(code, message).because(cause);
                error.sent = sent;
                error.rpc = rpc.map(|(code, message, data)| Box::new(RpcFault { code, message, data }));
                Err(error)
            }
            Self::Taken => Err(Error::new(Code::Internal, "another replica said nothing")),
        }
    }
}

const fn unreachable(why: HandOverError) -> &'static str {
    match why {
        HandOverError::NotShared => {
            "another replica asked, and replicas share nothing here: set `shared_state`, \
             or keep each client at one replica"
        }
        HandOverError::Gone => {
            "the replica that asked is gone; make the call again after looking at what it has done"
        }
        HandOverError::Away => "another replica asked, and the shared state cannot be reached",
        HandOverError::Late => "the replica that asked did not answer in time",
        HandOverError::TooLarge => "the answer is too large to be handed to the replica that asked",
        HandOverError::Busy => "the replica that asked has too much to do",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::tests::object;

    fn carried(outcome: Result<CallOutcome, Error>) -> Result<CallOutcome, Error> {
        let reply = raw(&HandOverReply::of(outcome));
        let reply: HandOverReply = serde_json::from_str(reply.get()).unwrap();
        reply.into_outcome()
    }

    #[test]
    fn what_a_call_came_to_at_another_replica_is_what_it_comes_to_here() {
        let result = object(&json!({ "content": [] }));
        match carried(Ok(CallOutcome::Result(result, Revision::V2026_07_28))).unwrap() {
            CallOutcome::Result(result, from) => {
                assert_eq!(
                    (result.close().get(), from),
                    (r#"{"content":[]}"#, Revision::V2026_07_28)
                );
            }
            CallOutcome::Asked(_) => panic!("a result"),
        }
        let asked = carried(Ok(CallOutcome::Asked(raw(&json!({ "ask": 1 }))))).unwrap();
        assert!(matches!(asked, CallOutcome::Asked(asked) if asked.get() == r#"{"ask":1}"#));
    }

    #[test]
    fn an_error_of_another_replica_keeps_its_code_and_the_providers_own_words() {
        let error = carried(Err(Error::new(Code::CallGone, "gone").sent())).unwrap_err();
        assert_eq!(
            (error.code, error.sent, &*error.message),
            (Code::CallGone, true, "gone")
        );
        let fault = RpcFault {
            code: -32000,
            message: "theirs".to_owned(),
            data: None,
        };
        let error = carried(Err(Error::rpc(fault))).unwrap_err();
        assert_eq!(error.rpc.unwrap().message, "theirs");
    }

    #[test]
    fn an_error_of_another_release_is_read_without_a_cause_and_by_a_code_that_is_known_here() {
        let read = |code: &str| {
            let sent = json!({ "Failed": { "code": code, "message": "why", "sent": true, "rpc": null } });
            let reply: HandOverReply = serde_json::from_value(sent).unwrap();
            reply.into_outcome().unwrap_err()
        };
        assert_eq!(read("of_the_future").code, Code::UpstreamProtocol);
        let known = read("call_gone");
        assert_eq!((known.code, known.root()), (Code::CallGone, None));
    }

    #[test]
    fn what_replicas_hand_over_has_the_form_that_older_ones_read() {
        let key = CallKey::new("one", None, "tools/call", &RawObject::new());
        let retry = Retry {
            holder: "ann".to_owned(),
            of: key,
            slot: 7,
            responses: RawObject::new(),
            abilities: 1,
        };
        let sent: serde_json::Value =
            serde_json::from_str(raw(&HandOverMessage::Retry(retry)).get()).unwrap();
        let retry = &sent["Retry"];
        assert_eq!(
            (&retry["holder"], &retry["slot"], &retry["of"]["p"]),
            (&json!("ann"), &json!(7), &json!("one"))
        );
        assert_eq!(raw(&HandOverReply::Taken).get(), r#""Taken""#);
    }
}
