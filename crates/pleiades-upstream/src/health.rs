//! Whether a pooled session or wire that failed is still worth keeping: one that is refused twice alike is asked
//! `ping`, and dropped when that fails too. What a tool answers never counts.

use std::time::Duration;

use parking_lot::Mutex;

use super::{call::Call, incoming::RpcResult, lost, summary::ResponseSummary};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::text::one_line;

pub(crate) const PING: Duration = Duration::from_secs(5);
const METHOD_NOT_FOUND: i64 = -32601;
/// Longest sign that is remembered, in characters.
const LONGEST: usize = 200;

/// How it failed the last time; nothing while it answers.
#[derive(Debug, Default)]
pub(crate) struct SessionHealth(Mutex<Option<String>>);

impl SessionHealth {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn record_success(&self) {
        let mut last = self.0.lock();
        if last.is_some() {
            *last = None;
        }
    }

    /// Notes a failed request; whether the one before it failed alike.
    pub(crate) fn record_error(&self, error: &Error) -> bool {
        fingerprint(error).is_some_and(|failure| self.is_repeated(failure))
    }

    /// Notes a JSON-RPC error. `Some` when it puts the session in doubt: it says that the session is unknown, or
    /// is the same as the one before; with whether the call may then be made in another. A tool may say the like
    /// of sessions of its own: `ping` decides.
    pub(crate) fn record_fault(&self, call: &Call, fault: &RpcFault) -> Option<bool> {
        let named = lost::names_lost_session(fault);
        let text = one_line(&format!("{} {}", fault.code, fault.message), LONGEST);
        let again = call.method != "tools/call" && self.is_repeated(text);
        (named || again).then_some(named || call.idempotent)
    }

    fn is_repeated(&self, failure: String) -> bool {
        let mut last = self.0.lock();
        let same = last.as_deref() == Some(failure.as_str());
        *last = Some(failure);
        same
    }
}

/// What a failure is known by when it comes again; `None` where it says nothing of the session: a limit, a
/// credential that has ended, a request that was never sent.
fn fingerprint(error: &Error) -> Option<String> {
    let counts = matches!(
        error.code,
        Code::UpstreamProtocol | Code::UpstreamUnreachable | Code::UpstreamTimeout | Code::UpstreamAuth
    );
    let limited =
        error.retry_after.is_some() || ResponseSummary::status(error).is_some_and(|it| it.as_u16() == 429);
    (counts && error.sent && !limited).then(|| one_line(&error.in_full(), LONGEST))
}

/// Whether the outcome of a `ping` shows life: any result, or that the method is not known.
pub(crate) fn is_alive(outcome: &RpcResult) -> bool {
    match outcome {
        Ok(_) => true,
        Err(fault) => fault.code == METHOD_NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_failure_twice_in_a_row_counts() {
        let doubt = SessionHealth::default();
        assert!(!doubt.is_repeated("a".to_owned()));
        assert!(!doubt.is_repeated("b".to_owned()));
        doubt.record_success();
        assert!(!doubt.is_repeated("b".to_owned()));
        assert!(doubt.is_repeated("b".to_owned()));
    }

    #[test]
    fn what_says_nothing_of_a_session_is_no_sign() {
        let failed = |code| Error::new(code, "x").sent();
        assert!(fingerprint(&failed(Code::UpstreamTimeout)).is_some());
        assert!(fingerprint(&Error::new(Code::UpstreamUnreachable, "x")).is_none());
        assert!(fingerprint(&failed(Code::TokenExpired)).is_none());
        let limited = failed(Code::UpstreamUnreachable).retry_after(Duration::from_secs(1));
        assert!(fingerprint(&limited).is_none());
    }
}
