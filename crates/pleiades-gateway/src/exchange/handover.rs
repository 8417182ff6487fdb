//! Between replicas: an answer or a retry that arrived at another one than asked.
//!
//! What is parked and what is open lives in one process; a replica that gets the answer hands it to
//! the one that waits. Without `shared_state`, or when that one is gone, the client is told at once.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Exchange;
use super::ask::Answered;
use super::outward::Came;
use super::state::Of;
use super::talk::Talk;
use crate::shared_state::{HandOverError, Handler};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::raw::raw;
use pleiades_mcp::{ClientCapabilities, Raw, RawObject, Revision};

/// How long another replica may take to take an answer.
const TAKING: Duration = Duration::from_secs(1);

/// A retry of a parked call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Retry {
    pub(super) holder: String,
    pub(super) of: Of,
    pub(super) slot: u64,
    pub(super) responses: RawObject,
    /// What its client can be asked, as [`Abilities::bits`].
    pub(super) abilities: u8,
}

/// What is handed to another replica.
#[derive(Debug, Serialize, Deserialize)]
enum Handed {
    Answer(Answered),
    Retry(Retry),
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
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
    },
}

impl Exchange {
    /// Hands an answer to the replica whose question it is.
    ///
    /// # Errors
    /// [`Code::UnknownQuestion`] when it cannot be reached.
    pub(super) async fn hand_answer(&self, replica: &str, answered: Answered) -> Result<(), Error> {
        let handed = raw(&Handed::Answer(answered));
        let said = self
            .shared
            .hand_over(replica, handed.get().as_bytes().to_vec(), TAKING)
            .await;
        said.map(drop)
            .map_err(|why| Error::new(Code::UnknownQuestion, elsewhere(why)))
    }

    /// Hands a retry to the replica whose call it is, and waits for what the call comes to.
    ///
    /// # Errors
    /// [`Code::CallGone`] when it cannot be reached; what the call comes to.
    pub(super) async fn hand_retry(
        &self,
        replica: &str,
        retry: Retry,
        within: Duration,
    ) -> Result<Came, Error> {
        let handed = raw(&Handed::Retry(retry));
        let said = self
            .shared
            .hand_over(replica, handed.get().as_bytes().to_vec(), within)
            .await
            .map_err(|why| Error::new(Code::CallGone, elsewhere(why)).sent())?;
        let said = serde_json::from_slice(&said).map_err(|cause| {
            Error::new(Code::Internal, "another replica was not understood").because(cause)
        })?;
        match said {
            Said::Result { from, result } => {
                let from = Revision::parse(&from).unwrap_or(Revision::NEWEST_LEGACY);
                Ok(Came::Result(result, from))
            }
            Said::Asked(result) => Ok(Came::Asked(result)),
            Said::Failed {
                code,
                message,
                sent,
                rpc,
            } => Err(failed(&code, message, sent, rpc)),
            Said::Taken => Err(Error::new(Code::Internal, "another replica said nothing")),
        }
    }

    /// Takes what other replicas hand over.
    pub(super) fn takes(self: &Arc<Self>) -> Handler {
        let exchange = Arc::downgrade(self);
        Box::new(move |message| {
            let exchange = std::sync::Weak::clone(&exchange);
            Box::pin(async move {
                let Some(exchange) = exchange.upgrade() else {
                    return Vec::new();
                };
                let said = match serde_json::from_slice(&message) {
                    Ok(handed) => exchange.taken(handed).await,
                    Err(cause) => said_of(Error::new(Code::Internal, "not understood").because(cause)),
                };
                raw(&said).get().as_bytes().to_vec()
            })
        })
    }

    async fn taken(&self, handed: Handed) -> Said {
        match handed {
            Handed::Answer(answered) => {
                let (holder, number) = (answered.holder.clone(), answered.number);
                let heard = self.asking.deliver(&holder, number, answered.outcome());
                tracing::debug!(heard, "a question was answered at another replica");
                Said::Taken
            }
            Handed::Retry(retry) => {
                let holder = retry.holder.clone();
                let talk = Talk {
                    exchange: self,
                    holder: &holder,
                    client: Revision::V2026_07_28,
                    abilities: ClientCapabilities::from_bits(retry.abilities),
                    outlet: None,
                    lane: None,
                    logs: false,
                };
                match self.resume(&talk, retry).await {
                    Ok(Came::Result(result, from)) => Said::Result {
                        from: from.as_str().to_owned(),
                        result,
                    },
                    Ok(Came::Asked(result)) => Said::Asked(result),
                    Err(error) => said_of(error),
                }
            }
        }
    }
}

/// Errors that another replica may tell of; any other is told as one of the provider.
const TOLD: [Code; 14] = [
    Code::CallGone,
    Code::InputRequired,
    Code::Busy,
    Code::UpstreamUnreachable,
    Code::UpstreamTimeout,
    Code::UpstreamProtocol,
    Code::UpstreamError,
    Code::UpstreamAuth,
    Code::NeedsAuth,
    Code::TokenExpired,
    Code::CapabilityMiss,
    Code::CredentialStore,
    Code::CredentialTimeout,
    Code::ShuttingDown,
];

fn said_of(error: Error) -> Said {
    Said::Failed {
        code: error.code.as_str().to_owned(),
        message: error.message.into_owned(),
        sent: error.sent,
        rpc: error.rpc.map(|fault| (fault.code, fault.message, fault.data)),
    }
}

fn failed(code: &str, message: String, sent: bool, rpc: Option<(i64, String, Option<Raw>)>) -> Error {
    let code = TOLD.into_iter().find(|known| known.as_str() == code);
    let mut error = Error::new(code.unwrap_or(Code::UpstreamProtocol), message);
    error.sent = sent;
    error.rpc = rpc.map(|(code, message, data)| Box::new(RpcFault { code, message, data }));
    error
}

const fn elsewhere(why: HandOverError) -> &'static str {
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
