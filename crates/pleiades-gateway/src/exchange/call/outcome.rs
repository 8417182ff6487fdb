//! What a call comes to, and what it holds until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::catalog::{Catalog, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::{CallPermit, LimitRefusal, Rule};
use pleiades_core::telemetry::InflightGuard;
use pleiades_mcp::{Raw, RawObject, Revision, reserved};

/// What a call came to.
#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// Its result, and the revision it was made in.
    Result(RawObject, Revision),
    /// The whole `input_required` result for a client that answers with its next request.
    Asked(Raw),
}

/// What a call holds until it is over: its place at the provider's gate, and in the gauge.
#[derive(Debug)]
pub(super) struct CallGuard {
    pass: CallPermit,
    _inflight: InflightGuard,
    started: Instant,
}

impl CallGuard {
    /// Of a call that was let in.
    pub(super) fn new(pass: CallPermit, inflight: InflightGuard) -> Self {
        Self {
            pass,
            _inflight: inflight,
            started: Instant::now(),
        }
    }

    /// The verdict for the breaker and the catalogue; how long the call took.
    pub(super) fn conclude(
        self,
        catalog: &Catalog,
        provider: &Arc<Provider>,
        outcome: Result<(), &Error>,
    ) -> Duration {
        catalog.report_call(provider, outcome);
        match outcome {
            Err(error) if is_breakage(error) => self.pass.failed(),
            _ => self.pass.succeeded(),
        }
        self.started.elapsed()
    }
}

/// Whether an outcome speaks against the provider's health.
pub(crate) const fn is_breakage(error: &Error) -> bool {
    matches!(
        error.code,
        Code::UpstreamUnreachable | Code::UpstreamTimeout | Code::UpstreamProtocol
    )
}

/// A result of a provider for the views, in which no key of `_meta` is ours.
pub(super) fn opened(result: Raw) -> Result<RawObject, Error> {
    untouched(&reserved::strip(result))
}

/// A result of a provider as it came.
pub(super) fn untouched(result: &Raw) -> Result<RawObject, Error> {
    RawObject::open(result).map_err(|cause| {
        Error::new(Code::UpstreamProtocol, "the provider's result is not an object")
            .because(cause)
            .sent()
    })
}

/// The error for a refusal of the provider's gate.
pub(crate) fn limited(title: &str, refusal: &LimitRefusal) -> Error {
    let seconds = (refusal.retry_after + Duration::from_millis(999))
        .as_secs()
        .max(1);
    let (code, what) = match refusal.rule {
        Rule::Concurrency => (Code::Busy, "as many calls as allowed are already running"),
        Rule::Breaker => (
            Code::BreakerOpen,
            "it failed repeatedly and is left alone for a while",
        ),
        _ => (Code::RateLimited, "the rate limit is reached"),
    };
    Error::new(
        code,
        format!("{title}: {what}; nothing was run, try again in {seconds} s"),
    )
    .retry_after(Duration::from_secs(seconds))
    .data(json!({ "rule": refusal.rule.as_str(), "retry_after": seconds }))
}
