//! A call of one provider's operation that the cache may answer.

use std::sync::Arc;
use std::time::Duration;

use super::provider_call::ProviderCall;
use crate::catalog::{CacheRule, Catalogue, Tool};
use crate::exchange::account::Reached;
use crate::exchange::call::CallOutcome;
use crate::facade::answer::{AnswerStatus, MetaAnswer};
use crate::result_store::{AccountScope, CacheKey, CacheLookup, CacheTicket, ResultOwner, StoredResult};
use pleiades_core::error::Error;
use pleiades_mcp::{RawObject, Revision};

/// What a call came to.
pub(super) struct CallResult {
    /// The account that made it, as far as it is known.
    pub(super) account: Option<Arc<str>>,
    pub(super) outcome: Result<CallOutcome, Error>,
    /// How old its answer is, where it is from the cache.
    pub(super) age: Option<Duration>,
}

impl ProviderCall<'_> {
    /// Makes a call, unless its answer is in the cache, which charges no limit. `fresh`: whatever is there.
    pub(super) async fn make_or_reuse(
        &self,
        reached: &Reached,
        (lists, tool): (Arc<Catalogue>, &Arc<Tool>),
        params: RawObject,
        fresh: bool,
    ) -> CallResult {
        let rule = self.provider.cached_for(tool);
        let ticket = match self.key(rule, reached, tool, &params) {
            Some(key) => match self.services.results.cache.look_up(key, fresh).await {
                CacheLookup::Hit(stored, age) => return self.reused(reached, &stored, age),
                CacheLookup::Miss(ticket) => ticket,
            },
            None => None,
        };
        let (account, outcome) = self.make(lists, tool, params).await;
        if let (Some(ticket), Some(rule)) = (ticket, rule) {
            let same = account == reached.account;
            let answer = match &outcome {
                Ok(CallOutcome::Result(result, revision)) if same && is_answer(result) => {
                    Some((result, *revision))
                }
                _ => None,
            };
            self.store((ticket, rule.ttl), reached, tool, answer).await;
        }
        CallResult {
            account,
            outcome,
            age: None,
        }
    }

    /// A result as it is kept.
    pub(super) fn stored(
        &self,
        reached: &Reached,
        tool: &Tool,
        result: Arc<RawObject>,
        revision: Revision,
    ) -> StoredResult {
        let mut tools = vec![tool.name.clone(), tool.upstream.clone(), tool.alias.clone()];
        tools.dedup();
        StoredResult {
            tools,
            named: None,
            account: reached.account.clone(),
            fingerprint: reached.identity.signature.account,
            budget: None,
            revision,
            result,
        }
    }

    /// Names the answer; `None` for a call that no other one answers.
    fn key(
        &self,
        rule: Option<&CacheRule>,
        reached: &Reached,
        tool: &Tool,
        params: &RawObject,
    ) -> Option<CacheKey> {
        let rule = rule?;
        // What a person answered to its questions is part of it.
        let is_answered = ["requestState", "inputResponses"]
            .into_iter()
            .any(|name| params.get(name).is_some());
        let arguments = params.get("arguments").filter(|_| !is_answered)?;
        let scope = AccountScope::new(&self.provider.id, reached.identity.signature.account);
        let owner = ResultOwner::new(self.request.principal(), scope);
        CacheKey::new(owner, &rule.generation, &tool.upstream, arguments)
    }

    fn reused(&self, reached: &Reached, stored: &StoredResult, age: Duration) -> CallResult {
        self.services.accounts.remember(self.request, self.provider);
        let result = RawObject::clone(&stored.result);
        CallResult {
            account: reached.account.clone(),
            outcome: Ok(CallOutcome::Result(result, stored.revision)),
            age: Some(age),
        }
    }

    async fn store(
        &self,
        (ticket, ttl): (CacheTicket, Duration),
        reached: &Reached,
        tool: &Tool,
        answer: Option<(&RawObject, Revision)>,
    ) {
        let cache = &self.services.results.cache;
        match answer {
            Some((result, revision)) => {
                let stored = self.stored(reached, tool, Arc::new(result.clone()), revision);
                cache.store(ticket, ttl, Arc::new(stored)).await;
            }
            None => cache.discard(ticket),
        }
    }
}

/// Whether a result is one that another call may be answered with: a success, and all of it.
fn is_answer(result: &RawObject) -> bool {
    let is_complete = result.text("resultType").is_none_or(|kind| kind == "complete");
    is_complete
        && result.get("taskId").is_none()
        && MetaAnswer::status_of(result) == AnswerStatus::Ok
        && StoredResult::may_be_cached(result)
}

/// How a model learns that an answer is not of this moment.
pub(super) fn age_note(age: Duration) -> String {
    format!("from the cache, {} s old", age.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::tests::object;

    #[test]
    fn failures_questions_and_tasks_are_no_answers_to_others() {
        for (result, is) in [
            (json!({ "content": [] }), true),
            (
                json!({ "content": [], "resultType": "complete", "isError": false }),
                true,
            ),
            (json!({ "content": [], "isError": true }), false),
            (json!({ "content": [], "isError": "true" }), false),
            (
                json!({ "resultType": "input_required", "inputRequests": {} }),
                false,
            ),
            (json!({ "resultType": "task", "taskId": "a" }), false),
            (
                json!({ "content": [{ "type": "text", "text": "x".repeat(3 << 20) }] }),
                false,
            ),
        ] {
            assert_eq!(is_answer(&object(&result)), is, "{:.80}", result.to_string());
        }
    }

    #[test]
    fn the_age_of_an_answer_is_in_whole_seconds() {
        assert_eq!(
            age_note(Duration::from_millis(12_900)),
            "from the cache, 12 s old"
        );
    }
}
