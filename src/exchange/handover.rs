//! Between replicas: an answer or a retry that arrived at another one than asked.

use super::Exchange;
use super::ask::Answered;
use super::outward::Came;
use super::state::Of;
use crate::error::{Code, Error};
use crate::mcp::RawObject;

/// Placeholder for the state replicas share.
#[derive(Debug)]
pub(super) struct Replica(String);

impl Replica {
    pub(super) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(format!(
            "{:016x}",
            RandomState::new().hash_one(std::process::id())
        ))
    }

    pub(super) fn replica(&self) -> &str {
        &self.0
    }
}

/// A retry of a parked call.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) holder: String,
    pub(super) of: Of,
    pub(super) slot: u64,
    pub(super) responses: RawObject,
}

impl Exchange {
    /// Hands an answer to the replica whose question it is.
    pub(super) async fn hand_answer(&self, _replica: &str, _answered: Answered) -> Result<(), Error> {
        Err(Error::new(Code::UnknownQuestion, ELSEWHERE))
    }

    /// Hands a retry to the replica whose call it is.
    pub(super) async fn hand_retry(&self, _replica: &str, _retry: Retry) -> Result<Came, Error> {
        Err(Error::new(Code::CallGone, ELSEWHERE))
    }
}

const ELSEWHERE: &str = "another replica asked, and it is gone or cannot be reached from here; set `shared_state`, \
                         or keep each client at one replica";
