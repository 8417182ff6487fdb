//! What a request turned out to be, for its one event.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use pleiades_core::telemetry::events::RequestDone;

/// What a request turned out to be, for its one event.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Method, as the peer named it.
    pub method: String,
    /// The provider that was called.
    pub provider: Option<Arc<str>>,
    /// The tool, when the catalogue knows it.
    pub tool: Option<Arc<str>>,
    /// Closed set: `ok`, an error code's name, or an answer's status.
    pub outcome: &'static str,
    /// Time spent waiting for the provider.
    pub upstream: Option<Duration>,
    /// The account whose credential was used.
    pub account: Option<Arc<str>>,
}

impl Record {
    /// What the event of a request says of the request.
    pub fn describe(&self, done: &mut RequestDone) {
        done.provider.clone_from(&self.provider);
        done.tool = self.tool.as_deref().map(|tool| tool.to_owned().into());
        done.outcome = self.outcome;
        done.upstream = self.upstream;
        done.account.clone_from(&self.account);
    }
}

/// What is known of a request while it runs. Written on its way down and read once at its end, also
/// when it was cancelled before it came to anything; no step depends on it.
#[derive(Debug, Default)]
pub(crate) struct Facts(Mutex<RecordedFacts>);

#[derive(Debug, Default)]
struct RecordedFacts {
    provider: Option<Arc<str>>,
    tool: Option<Arc<str>>,
    account: Option<Arc<str>>,
    upstream: Option<Duration>,
    refused: Option<[u8; 32]>,
}

impl Facts {
    /// Which provider is called.
    pub(crate) fn set_provider(&self, provider: &Arc<str>) {
        self.0.lock().provider = Some(Arc::clone(provider));
    }

    /// Which of its tools, if it is one.
    pub(crate) fn set_tool(&self, tool: Option<&Arc<str>>) {
        self.0.lock().tool = tool.cloned();
    }

    /// Whose credential is used.
    pub(crate) fn set_account(&self, account: Option<&Arc<str>>) {
        self.0.lock().account = account.cloned();
    }

    /// How long the provider was waited for.
    pub(crate) fn set_upstream(&self, waited: Duration) {
        self.0.lock().upstream = Some(waited);
    }

    /// The fingerprint of the account that did not do; the first one counts.
    pub(crate) fn set_refused(&self, fingerprint: [u8; 32]) {
        self.0.lock().refused.get_or_insert(fingerprint);
    }

    /// The fingerprint of the account that did not do.
    pub(crate) fn refused(&self) -> Option<[u8; 32]> {
        self.0.lock().refused
    }

    /// The record of a request that came to this outcome.
    pub(crate) fn record(self, method: String, outcome: &'static str) -> Record {
        let known = self.0.into_inner();
        Record {
            method,
            provider: known.provider,
            tool: known.tool,
            outcome,
            upstream: known.upstream,
            account: known.account,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_was_known_when_the_request_ended() {
        let facts = Facts::default();
        facts.set_provider(&"mail".into());
        facts.set_tool(Some(&"send".into()));
        facts.set_account(Some(&"ann".into()));
        facts.set_upstream(Duration::from_millis(7));
        let record = facts.record("tools/call".to_owned(), "cancelled");
        assert_eq!(
            (record.method.as_str(), record.outcome),
            ("tools/call", "cancelled")
        );
        assert_eq!(record.provider.as_deref(), Some("mail"));
        assert_eq!(record.tool.as_deref(), Some("send"));
        assert_eq!(record.account.as_deref(), Some("ann"));
        assert_eq!(record.upstream, Some(Duration::from_millis(7)));
    }

    #[test]
    fn the_first_account_that_did_not_do_is_the_one_that_is_waited_for() {
        let facts = Facts::default();
        assert_eq!(facts.refused(), None);
        facts.set_refused([1; 32]);
        facts.set_refused([2; 32]);
        assert_eq!(facts.refused(), Some([1; 32]));
    }
}
