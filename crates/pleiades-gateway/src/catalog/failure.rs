//! Why lists could not be read, for all who ask for them.

use std::time::Duration;

use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_upstream::Identity;

/// The least between attempts that callers ask for after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The error of a reading of lists, for each caller that asks for them.
#[derive(Debug, Clone)]
pub(crate) struct ListFailure {
    pub(super) code: Code,
    pub(super) message: String,
    /// Which token set the reading ended with; 0 for credentials that are never renewed.
    pub(super) tokens: u64,
    data: Option<serde_json::Value>,
    rpc: Option<Box<RpcFault>>,
    /// The first cause, for the log.
    cause: String,
    refusal: Option<Box<(u16, Option<String>)>>,
    retry_after: Option<Duration>,
}

impl ListFailure {
    /// Of a reading that was made for this caller.
    pub(super) fn of(error: &Error, identity: &Identity) -> Self {
        Self {
            code: error.code,
            message: error.message.to_string(),
            tokens: identity.signature.now().seq,
            data: error.data.clone(),
            rpc: error.rpc.clone(),
            cause: identity.signature.redacted(error.cause()),
            refusal: error.refusal.clone(),
            retry_after: error.retry_after,
        }
    }

    pub(super) fn error(&self) -> Error {
        let mut error = Error::new(self.code, self.message.clone()).because(self.cause.clone());
        error.data.clone_from(&self.data);
        error.rpc.clone_from(&self.rpc);
        error.refusal.clone_from(&self.refusal);
        error.retry_after = self.retry_after;
        error
    }

    /// Whether a failure so long ago still stands for an attempt made now: not when it is
    /// a while ago, nor when the account has other tokens since.
    pub(super) fn still_holds(&self, ago: Duration, identity: &Identity) -> bool {
        ago < RETRY && self.tokens == identity.signature.now().seq
    }
}
