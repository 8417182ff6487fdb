//! What a caller is answered of a provider's result: all of it, or a part and a handle for the rest.

use std::{sync::Arc, time::Duration};

use super::provider_call::{ProviderCall, too_many};
use crate::catalog::Tool;
use crate::exchange::account::Reached;
use crate::exchange::{reply::Done, workers::LARGE};
use crate::facade::answer::{AnswerStatus, MetaAnswer};
use crate::facade::form::AnswerForm;
use crate::facade::options::ResultRequest;
use crate::facade::part::{WantedPart, nothing_read, nothing_selected, part, shortened, unknown_result};
use crate::result_store::{AccountScope, ResultOwner, StoredResult};
use pleiades_core::{error::Error, limit::load::run_sized};
use pleiades_mcp::{RawObject, Revision, translate};
use pleiades_shaping::{ShapeFault, ShapeHandle, ShapeRequest, may_exceed};

/// How long a large result waits for a worker that takes it apart.
const SHAPING: Duration = Duration::from_secs(20);

/// A result that a call brought.
pub(super) struct BroughtResult<'a> {
    pub(super) reached: &'a Reached,
    /// The account that made the call.
    pub(super) account: Option<Arc<str>>,
    pub(super) tool: &'a Tool,
    /// The tool that the call named through it, where it runs others.
    pub(super) named: Option<Box<str>>,
    pub(super) result: RawObject,
    pub(super) revision: Revision,
}

/// What a part is made of, beside threads that answer others where it is large.
struct PartWork {
    stored: Arc<StoredResult>,
    /// The result as this client knows it.
    result: RawObject,
    wanted: WantedPart,
    budget: Option<usize>,
    handle: Option<(String, Duration)>,
    provider: Option<Arc<str>>,
    head: MetaAnswer,
}

impl PartWork {
    fn run(&self) -> Result<(MetaAnswer, usize), ShapeFault> {
        let handle = self.handle.as_ref().map(|(id, kept_for)| ShapeHandle {
            id,
            kept_for: *kept_for,
            provider: self.provider.as_deref(),
        });
        let request = ShapeRequest {
            budget: self.budget,
            prompt: &self.wanted.prompt,
            select: self.wanted.select.as_deref(),
            page: self.wanted.page.max(1),
            sends_data: self.head.form != AnswerForm::Off,
            handle,
        };
        part(self.head.clone(), &self.result, &self.wanted, request)
    }
}

impl ProviderCall<'_> {
    /// Answers with a result: with what is wanted of it and fits, and a handle for the rest.
    pub(super) async fn answered_result(
        &self,
        brought: BroughtResult<'_>,
        wanted: WantedPart,
        notes: Vec<String>,
    ) -> Done {
        let budget = self.provider.facade.results.max_tokens.filter(|_| !wanted.full);
        let is_cut = wanted.select.is_some() || Self::is_long(&brought.result, budget);
        let is_ok = MetaAnswer::status_of(&brought.result) == AnswerStatus::Ok;
        let account = brought.account.clone();
        if !is_ok || !is_cut {
            let result = self.translated(brought.result, brought.revision);
            return self.answered_whole(account, result, notes).await;
        }
        let answer = self.cut_answer(brought, wanted, budget, notes).await;
        self.answered(account, answer)
    }

    /// Tokens that one of so many calls of a plan may take of what all of them may.
    pub(super) fn share(&self, calls: usize, full: bool) -> Option<usize> {
        let all = self.provider.facade.results.max_tokens.filter(|_| !full)?;
        all.checked_div(calls)
    }

    /// Whether a result may take more tokens than these.
    pub(super) fn is_long(result: &RawObject, budget: Option<usize>) -> bool {
        budget.is_some_and(|budget| may_exceed(size(result), budget))
    }

    /// What is wanted of a result, as far as the budget (tokens) goes, and a handle for the rest.
    pub(super) async fn cut_answer(
        &self,
        brought: BroughtResult<'_>,
        wanted: WantedPart,
        budget: Option<usize>,
        notes: Vec<String>,
    ) -> MetaAnswer {
        let account = brought.account.clone();
        let keep_for = self.provider.facade.results.keep_for;
        let (reached, tool) = (brought.reached, brought.tool);
        let stored = self.stored(reached, tool, Arc::new(brought.result), brought.revision);
        // What one call lifts, reading on does not.
        let pages = budget.or(self.provider.facade.results.max_tokens);
        let stored = Arc::new(StoredResult {
            budget: pages,
            named: brought.named,
            ..stored
        });
        let handles = &self.services.results.handles;
        // One that turned to another account on its way could not be found again.
        let handle = (account == reached.account)
            .then(|| handles.reserve(&stored))
            .flatten();
        let mut head = MetaAnswer::new(AnswerStatus::Ok, "");
        head.notes = notes;
        let work = self.part_work(
            stored,
            wanted,
            (budget, handle.clone().map(|id| (id, keep_for))),
            head,
        );
        let (work, made) = self.made(work).await;
        let is_large = handle.is_none();
        match made {
            Ok((mut answer, cut)) => {
                self.count_cut(cut);
                if let Some(handle) = handle.filter(|_| answer.page.is_some()) {
                    self.keep(&handle, &work.stored).await;
                    answer.result_id = Some(handle);
                } else if is_large && answer.page.is_some() {
                    answer.notes.push(too_large());
                }
                answer
            }
            Err(fault) => {
                if let Some(handle) = &handle {
                    self.keep(handle, &work.stored).await;
                }
                let named = handle.as_deref().map(|id| (id, keep_for.as_secs()));
                nothing_selected(&fault, &tool.alias, named)
            }
        }
    }

    /// Reads an earlier result: nobody outside is asked and nothing is charged, but the account that it is of
    /// must still be this caller's.
    ///
    /// # Errors
    /// When a client has to handle what the account came to.
    pub(super) async fn read_result(&self, reached: &Reached, reading: ResultRequest) -> Result<Done, Error> {
        let found = self.find(reached, &reading.id).await;
        let Some((stored, left)) = found else {
            return Ok(self.answered(reached.account.clone(), unknown_result()));
        };
        if let Some(name) = stored.tools.first() {
            self.request.facts().set_tool(Some(&Arc::from(&**name)));
        }
        let account = stored.account.clone();
        let wanted = WantedPart {
            page: reading
                .page
                .map_or(1, |page| usize::try_from(page.get()).unwrap_or(usize::MAX)),
            select: reading.select,
            full: reading.full,
            prompt: Box::default(),
        };
        let budget = stored.budget.filter(|_| !wanted.full);
        let handle = (reading.id.to_string(), left);
        let head = MetaAnswer::new(AnswerStatus::Ok, "");
        let work = self.part_work(stored, wanted, (budget, Some(handle)), head);
        // It is kept, so that it can be asked for again: nobody else waits for it.
        match self.worked(&Arc::new(work)).await {
            Some(Ok((mut answer, _))) => {
                answer.result_id = Some(reading.id.into());
                Ok(self.answered(account, answer))
            }
            Some(Err(fault)) => Ok(self.answered(account, nothing_read(&fault))),
            None => self.failed(account, too_many(), None),
        }
    }

    /// The earlier result that this caller may read, and for how long it is kept.
    async fn find(&self, reached: &Reached, id: &str) -> Option<(Arc<StoredResult>, Duration)> {
        let (stored, left) = self.services.results.handles.find(&self.owner(None), id).await?;
        // What rules hide now is hidden in what was kept too.
        let names: Vec<&str> = stored.tools.iter().map(|name| &**name).collect();
        if !self.provider.rules.admits_result(&names, stored.named.as_deref()) {
            return None;
        }
        if reached.identity.signature.account == stored.fingerprint && reached.account == stored.account {
            return Some((stored, left));
        }
        // A call that names no account reads whichever result it is of, as far as that account is still there.
        let account = stored
            .account
            .clone()
            .filter(|_| self.request.account().is_none())?;
        let request = self.request.clone().with_account(Some(account));
        let reached = self.services.accounts.reach(&request, self.provider).await.ok()?;
        (reached.identity.signature.account == stored.fingerprint).then_some((stored, left))
    }

    async fn keep(&self, handle: &str, stored: &Arc<StoredResult>) {
        let owner = self.owner(stored.fingerprint);
        let handles = &self.services.results.handles;
        let keep_for = self.provider.facade.results.keep_for;
        handles.keep(&owner, handle, stored, keep_for).await;
    }

    fn owner(&self, account: Option<[u8; 32]>) -> ResultOwner {
        ResultOwner::new(
            self.request.principal(),
            AccountScope::new(&self.provider.id, account),
        )
    }

    /// A result as this client knows it.
    pub(super) fn translated(&self, mut result: RawObject, from: Revision) -> RawObject {
        let of = (&**self.provider, "tools/call");
        self.services
            .lists
            .outer_uris(self.request, of, &mut result, None);
        translate::blocks("tools/call", &mut result, from, self.request.revision());
        result
    }

    fn part_work(
        &self,
        stored: Arc<StoredResult>,
        wanted: WantedPart,
        (budget, handle): (Option<usize>, Option<(String, Duration)>),
        head: MetaAnswer,
    ) -> PartWork {
        let mut head = head;
        head.form = self.form;
        let is_single = self.services.is_single(self.request);
        PartWork {
            result: self.translated(RawObject::clone(&stored.result), stored.revision),
            stored,
            wanted,
            budget,
            handle,
            provider: is_single.then(|| Arc::clone(&self.provider.id)),
            head,
        }
    }

    /// What was answered is there and has to be told, however busy the workers are.
    async fn made(&self, work: PartWork) -> (Arc<PartWork>, Result<(MetaAnswer, usize), ShapeFault>) {
        let work = Arc::new(work);
        let made = self.worked(&work).await;
        let made = made.unwrap_or_else(|| run_sized(size(&work.result), || work.run()));
        (work, made)
    }

    /// Large work is done by a worker; `None` when there is no time for it.
    async fn worked(&self, work: &Arc<PartWork>) -> Option<Result<(MetaAnswer, usize), ShapeFault>> {
        if size(&work.result) <= LARGE {
            return Some(work.run());
        }
        let (shared, holder) = (Arc::clone(work), self.request.holder());
        let workers = &self.services.workers;
        let made = workers.run((&self.provider.id, &holder), SHAPING, move || shared.run());
        made.await
    }

    /// A result of the tool view, where its provider's are cut there too.
    pub(super) async fn shortened(&self, result: RawObject) -> RawObject {
        let limits = self.provider.facade.results;
        let budget = limits.max_tokens.filter(|_| limits.in_tool_view);
        let bytes = size(&result);
        let Some(budget) = budget.filter(|budget| may_exceed(bytes, *budget)) else {
            return result;
        };
        let result = Arc::new(result);
        let made = match bytes <= LARGE {
            true => shortened(&result, budget),
            false => {
                let (shared, holder) = (Arc::clone(&result), self.request.holder());
                let workers = &self.services.workers;
                let work = move || shortened(&shared, budget);
                let made = workers.run((&self.provider.id, &holder), SHAPING, work).await;
                made.unwrap_or_else(|| run_sized(bytes, || shortened(&result, budget)))
            }
        };
        let Some((short, cut)) = made else {
            return Arc::unwrap_or_clone(result);
        };
        self.count_cut(cut);
        short
    }

    fn count_cut(&self, tokens: usize) {
        if tokens > 0 {
            let metrics = &self.services.metrics;
            metrics.provider(&self.provider.id).tokens_cut(tokens);
        }
    }

    async fn answered_whole(&self, account: Option<Arc<str>>, result: RawObject, notes: Vec<String>) -> Done {
        if size(&result) <= LARGE {
            return self.answered(account, MetaAnswer::of_result(&result, notes));
        }
        // Status and accounts are known without its blocks.
        let mut head = MetaAnswer::new(MetaAnswer::status_of(&result), "");
        head.notes = notes;
        self.complete(account, &mut head);
        let outcome = head.outcome();
        let (revision, id) = (self.request.revision(), self.request.peer().request_id.clone());
        let shared = Arc::new((result, head));
        let shape = move |shared: &(RawObject, MetaAnswer)| {
            let (result, head) = shared;
            head.clone().with_result(result).into_result(revision, &id)
        };
        let work = {
            let (shared, shape) = (Arc::clone(&shared), shape.clone());
            move || shape(&shared)
        };
        let holder = self.request.holder();
        let workers = &self.services.workers;
        let shaped = workers.run((&self.provider.id, &holder), SHAPING, work).await;
        let shaped = shaped.unwrap_or_else(|| run_sized(size(&shared.0), || shape(&shared)));
        Done::Result(shaped, outcome)
    }
}

pub(super) fn size(result: &RawObject) -> usize {
    result.iter().map(|(_, value)| value.get().len()).sum()
}

fn too_large() -> String {
    "the whole result is not kept: it is larger than the 64 MiB that are kept for a tenant".to_owned()
}
