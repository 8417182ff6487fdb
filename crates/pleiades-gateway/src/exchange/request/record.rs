//! What a request turned out to be, for its one event.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{events::RequestDone, names};
use pleiades_credential::{ProviderAuth, Signature};
use pleiades_mcp::Revision;

/// Why a call failed whose tool says so itself: results of tools stand in no log.
const OF_THE_TOOL: &str = "the tool reported a failure of its own; its text stands in the answer alone";

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
    /// The revision that was agreed with this request; `None` for all but `initialize`.
    pub revision: Option<Revision>,
    /// Why it failed: the first cause, for whoever runs the gateway.
    pub cause: Option<String>,
    /// Whether it is for the operator to act: the provider refuses the descriptor's own credential.
    pub is_operators: bool,
}

impl Record {
    /// The same, judged by how its provider is signed in at.
    pub(crate) fn judged(mut self, need: Option<&ProviderAuth>) -> Self {
        if let Some(own) = need.and_then(own_signature) {
            self.is_operators = self.outcome == Code::UpstreamAuth.as_str();
            self.cause = self.cause.map(|cause| own.redacted(cause));
        }
        self
    }

    /// What the event of a request says of the request.
    pub fn describe(self, done: &mut RequestDone) {
        done.provider = self.provider;
        done.tool = self.tool.as_deref().map(|tool| tool.to_owned().into());
        done.outcome = self.outcome;
        done.upstream = self.upstream;
        done.account = self.account;
        if let Some(revision) = self.revision {
            done.revision = Some(revision.as_str());
        }
        done.cause = self.cause;
        done.is_operators = self.is_operators;
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
    revision: Option<Revision>,
    cause: Option<String>,
    signature: Option<Arc<Signature>>,
}

/// How a provider is signed in at with a credential of the descriptor itself.
pub(crate) fn own_signature(need: &ProviderAuth) -> Option<&Arc<Signature>> {
    match need {
        ProviderAuth::ApiKey { signature: own, .. } | ProviderAuth::ClientCredentials(_, own) => Some(own),
        ProviderAuth::None | ProviderAuth::ClientKey(_) | ProviderAuth::OAuth(_) => None,
    }
}

impl Facts {
    /// Why it fails.
    pub(crate) fn fail(&self, error: &Error) {
        self.set_cause(error.cause());
    }

    /// Why it fails, in words of ours.
    pub(crate) fn set_cause(&self, cause: String) {
        self.0.lock().cause = Some(cause);
    }

    /// With which credential it failed.
    pub(crate) fn set_signature(&self, signature: &Arc<Signature>) {
        self.0.lock().signature = Some(Arc::clone(signature));
    }

    /// Which revision was agreed.
    pub(crate) fn set_revision(&self, revision: Revision) {
        self.0.lock().revision = Some(revision);
    }

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
            revision: known.revision,
            cause: match known.signature {
                Some(signature) => known.cause.map(|cause| signature.redacted(cause)),
                None => known.cause,
            }
            .or_else(|| (outcome == names::TOOL_ERROR).then(|| OF_THE_TOOL.to_owned())),
            is_operators: false,
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
    fn a_failure_that_a_tool_reports_itself_is_named_without_its_text() {
        let record = Facts::default().record("tools/call".to_owned(), names::TOOL_ERROR);
        assert_eq!(record.cause.as_deref(), Some(OF_THE_TOOL));
        assert_eq!(Facts::default().record("tools/call".to_owned(), "ok").cause, None);
    }

    #[test]
    fn a_cause_never_shows_the_credential_that_a_provider_repeats() {
        let key = pleiades_core::secret::Secret::new("hunter22");
        let signature = Signature::of_header(http::HeaderName::from_static("x-key"), &key).unwrap();
        let signature = Arc::new(signature);
        let refused = Error::new(Code::UpstreamAuth, "no").because("status 401: no key hunter22 here");
        let shown = |own: Option<&ProviderAuth>, used: Option<&Arc<Signature>>| {
            let facts = Facts::default();
            facts.fail(&refused);
            used.into_iter().for_each(|used| facts.set_signature(used));
            let record = facts.record("tools/call".to_owned(), Code::UpstreamAuth.as_str());
            let record = record.judged(own);
            (record.cause.unwrap(), record.is_operators)
        };
        let cleaned = "status 401: no key … here".to_owned();
        let own = ProviderAuth::ApiKey {
            field: "auth.api_key.value",
            signature: Arc::clone(&signature),
        };
        assert_eq!(shown(Some(&own), None), (cleaned.clone(), true));
        assert_eq!(shown(None, Some(&signature)), (cleaned, false));
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
