//! What a call comes to, and what it holds until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::catalog::{Catalog, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::{CallPermit, LimitRefusal, Rule};
use pleiades_core::telemetry::InflightGuard;
use pleiades_mcp::{Raw, RawObject, Revision, reserved};

#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// Its result, and the revision it was made in.
    Result(RawObject, Revision),
    /// The whole `input_required` result for a client that answers with its next request.
    Asked(Raw),
}

#[derive(Debug)]
pub(super) struct CallGuard {
    pass: CallPermit,
    _inflight: InflightGuard,
    started: Instant,
}

impl CallGuard {
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
        match outcome {
            Err(error) if is_breakage(error) => self.pass.failed(),
            _ => self.pass.succeeded(),
        }
        catalog.report_call(provider, outcome);
        self.started.elapsed()
    }
}

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

pub(super) fn untouched(result: &Raw) -> Result<RawObject, Error> {
    RawObject::open(result).map_err(|cause| {
        Error::new(Code::UpstreamProtocol, "the provider's result is not an object")
            .because(cause)
            .sent()
    })
}

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
        Rule::RateCaller | Rule::RateTenant | Rule::RateAccount | Rule::RateProvider | Rule::RateTool => {
            (Code::RateLimited, "the rate limit is reached")
        }
    };
    Error::new(
        code,
        format!("{title}: {what}; nothing was run, try again in {seconds} s"),
    )
    .retry_after(Duration::from_secs(seconds))
    .data(json!({ "rule": refusal.rule.as_str(), "retry_after": seconds }))
    .because(format!("rule {}: {what}", refusal.rule.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::tests::provider;
    use pleiades_core::telemetry::Metrics;
    use pleiades_mcp::raw::raw;

    #[test]
    fn a_result_is_opened_without_keys_of_ours_and_one_that_is_no_object_is_an_error() {
        let result = raw(&json!({ "_meta": { "pleiades/accountId": "eve", "own": 1 } }));
        assert_eq!(
            opened(result.clone()).unwrap().close().get(),
            r#"{"_meta":{"own":1}}"#
        );
        assert_eq!(untouched(&result).unwrap().close().get(), result.get());
        let error = opened(raw(&7)).unwrap_err();
        assert_eq!((error.code, error.sent), (Code::UpstreamProtocol, true));
    }

    #[test]
    fn a_refusal_of_ours_says_what_was_not_run_and_when_to_come_back() {
        let refused = |rule| {
            let refusal = LimitRefusal {
                rule,
                retry_after: Duration::from_millis(1_200),
            };
            limited("Mail", &refusal)
        };
        for (rule, code) in [
            (Rule::Concurrency, Code::Busy),
            (Rule::Breaker, Code::BreakerOpen),
            (Rule::RateProvider, Code::RateLimited),
        ] {
            let error = refused(rule);
            assert_eq!(
                (error.code, error.retry_after),
                (code, Some(Duration::from_secs(2)))
            );
            assert!(
                error.message.ends_with("nothing was run, try again in 2 s"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn only_what_speaks_against_a_providers_health_opens_its_breaker() {
        for (code, speaks) in [
            (Code::UpstreamUnreachable, true),
            (Code::UpstreamTimeout, true),
            (Code::UpstreamProtocol, true),
            (Code::UpstreamError, false),
            (Code::NeedsAuth, false),
            (Code::Cancelled, false),
        ] {
            assert_eq!(is_breakage(&Error::new(code, "x")), speaks, "{code:?}");
        }
    }

    #[test]
    fn a_call_is_in_the_gauge_until_it_is_over() {
        let (provider, metrics) = (provider("one"), Metrics::new());
        let permit = provider.gate.enter("ann", "acme", None, None).expect("let in");
        let running = || {
            metrics
                .render()
                .lines()
                .any(|it| it.contains("inflight") && it.ends_with(" 1"))
        };
        let guard = CallGuard::new(permit, metrics.inflight(&provider.id));
        assert!(running());
        drop(guard);
        assert!(!running());
    }
}
