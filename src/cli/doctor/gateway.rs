//! How the gateway of the same settings that runs says that a provider is.

use std::time::Instant;

use serde_json::Value;

use super::step::{StepDetail, StepFailure, Steps};
use crate::app::{RunningGateway, providers};
use pleiades_core::error::Code;

/// Whether a provider is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayState {
    Runs,
    /// Disabled, or its file never was one that could be served.
    Absent,
}

/// What `/providers` says of one provider.
#[derive(Debug)]
pub(super) struct ProviderReport {
    pub(super) state: GatewayState,
    word: String,
    reason: Option<String>,
    breaker: String,
    faults: usize,
}

impl ProviderReport {
    /// Asks the gateway; `None` where it does not say.
    pub(super) fn ask(gateway: &RunningGateway, provider: &str) -> Option<Self> {
        let entries = providers(gateway)?;
        entries.iter().find(|entry| entry["id"] == provider).map(Self::of)
    }

    fn of(entry: &Value) -> Self {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        let (word, reason) = (text("state").unwrap_or_default(), text("reason"));
        let never_ran = reason
            .as_deref()
            .is_some_and(|it| it.starts_with("it does not run"));
        let is_absent = word == "disabled" || never_ran;
        Self {
            state: if is_absent {
                GatewayState::Absent
            } else {
                GatewayState::Runs
            },
            word,
            reason,
            breaker: text("breaker").unwrap_or_default(),
            faults: entry["faults"].as_array().map_or(0, Vec::len),
        }
    }

    pub(super) fn is_served(&self) -> bool {
        self.state == GatewayState::Runs
    }

    /// Whether the gateway has read the file as it is, with all its references.
    pub(super) fn has_read_it_well(&self) -> bool {
        self.is_served() && self.faults == 0
    }

    /// Says how the provider is there, where that decides, or its breaker refuses calls.
    pub(super) fn examine(&self, steps: &mut Steps, decides: bool) {
        let is_refusing = self.breaker == "open";
        if !decides && !is_refusing {
            return;
        }
        let because = self
            .reason
            .as_ref()
            .map_or_else(String::new, |it| format!(": {it}"));
        let mut detail = format!(
            "the gateway that runs says that the provider is {}{because}",
            self.word
        );
        let code = match (is_refusing, self.word.as_str()) {
            (true, _) => {
                detail.push_str("; its breaker is open: calls are refused until a trial call succeeds");
                Code::BreakerOpen
            }
            (_, "ready") => {
                steps.end("gateway", Instant::now(), Ok(StepDetail::from(detail)));
                return;
            }
            (_, "needs_auth") => Code::NeedsAuth,
            (_, "unreachable") => Code::UpstreamUnreachable,
            _ => Code::UpstreamError,
        };
        let cure = match code {
            Code::NeedsAuth => "connect an account",
            Code::BreakerOpen => "it closes by itself once the provider answers again",
            _ => "look at the gateway's log, or run this where the gateway starts, with the same variables",
        };
        steps.end(
            "gateway",
            Instant::now(),
            Err(StepFailure::new(code, detail, cure)),
        );
    }
}
