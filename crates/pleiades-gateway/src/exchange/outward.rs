//! The way out of one call: account, limit, signature, upstream.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use serde_json::value::RawValue;

use super::Step;
use super::drive::{self, Tasks};
use super::handover;
use super::rounds::Course;
use super::state::{Of, State};
use super::talk::{Held, Talk};
use crate::catalog::{Catalogue, Provider, Tool};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::{LimitRefusal, Rule};
use pleiades_core::telemetry::View;
use pleiades_credential::MissingKey;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, elicit, raw, reserved, task, translate};
use pleiades_upstream::Identity;

/// Keys of `_meta` that speak of one hop only.
const HOP_KEYS: [&str; 2] = ["io.modelcontextprotocol/", reserved::PREFIX];
/// The one of them that means the provider, between two peers of 2026-07-28.
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// A call on its way out.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) provider: &'a Arc<Provider>,
    pub(super) catalogue: &'a Catalogue,
    pub(super) tool: Option<&'a Tool>,
    pub(super) method: &'static str,
    pub(super) params: RawObject,
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Came {
    /// Its result, and the revision it was made in.
    Result(RawObject, Revision),
    /// The whole `input_required` result for a client that answers with its next request.
    Asked(Raw),
}

/// What a client of 2026-07-28 brings back to a call that asked.
#[derive(Debug, Default)]
struct Retry {
    state: Option<String>,
    responses: Option<RawObject>,
}

impl Step<'_> {
    /// The revision in which this caller's calls to a provider are made: its own when the provider
    /// speaks it, else the provider's newest.
    pub(super) fn leg(&self, catalogue: &Catalogue) -> Result<Revision, Error> {
        catalogue
            .profile
            .as_ref()
            .and_then(|profile| profile.revisions.choose(self.revision()))
            .ok_or_else(|| Error::new(Code::UpstreamUnreachable, "the provider was not reached yet"))
    }

    /// What a provider may ask this caller.
    pub(super) fn declared(&self, leg: Revision) -> DeclaredCapabilities {
        let abilities = self.peer.abilities.between(self.revision(), leg);
        let both = leg.is_modern() && self.revision().is_modern();
        let verbatim = self.peer.capabilities.as_ref().filter(|_| both);
        DeclaredCapabilities {
            abilities,
            verbatim: verbatim.map(|raw| match self.scope.view {
                View::Meta => task::without_extension(raw),
                View::Tool | View::Relay => raw.clone(),
            }),
        }
    }

    /// Limits, signs and makes one call, in as many rounds as its provider asks for.
    pub(super) async fn outward(&mut self, out: Outgoing<'_>) -> Result<Came, Error> {
        let provider = out.provider;
        self.record.provider = Some(Arc::clone(&provider.id));
        self.record.tool = out.tool.map(|tool| Arc::from(&*tool.name));
        let reached = self.reach(provider).await?;
        let Some(account) = &reached.account else {
            return self.made(out, &reached.behalf).await;
        };
        self.record.account = Some(Arc::clone(account));
        self.remember(provider);
        match self.made(out, &reached.behalf).await {
            Err(error) => Err(self.judged(provider, &reached, error).await),
            came => {
                self.took(provider, &reached);
                came
            }
        }
    }

    /// Limits and makes one call.
    async fn made(&mut self, mut out: Outgoing<'_>, behalf: &Identity) -> Result<Came, Error> {
        let provider = out.provider;
        let (leg, tasks) = self.footing(&out)?;
        let holder = self.peer.principal.binding();
        let retry = self.retry(out.method, &mut out.params)?;
        if let Some(responses) = &retry.responses {
            answers(responses)?;
        }
        let of = || Of::new(&provider.id, behalf.signature.account, out.method, &out.params);
        let of = (self.revision().is_modern() && (retry.state.is_some() || !self.peer.abilities.is_empty()))
            .then(of);
        if let (Some(of), Some(token)) = (&of, &retry.state) {
            match self.exchange.open_state(&holder, of, token)? {
                State::Parked { replica, slot } => {
                    let responses = retry.responses.unwrap_or_default();
                    let retry = handover::Retry {
                        holder: holder.clone(),
                        of: of.clone(),
                        slot,
                        responses,
                        abilities: self.peer.abilities.bits(),
                    };
                    let within = match tasks {
                        Tasks::Core => drive::within(&provider.endpoint),
                        _ => provider.endpoint.call,
                    };
                    return self.resumed(&replica, retry, within).await;
                }
                State::Upstream(state) => out.params.put("requestState", &state),
                State::Task(id) => {
                    let held = self.enter(provider, behalf, &holder, out.tool)?;
                    let course = Course::new(out, behalf, leg, tasks, Some(of.clone()));
                    let responses = retry.responses.unwrap_or_default();
                    return self.taken_up(course, id, responses, held).await;
                }
            }
        }
        match retry.responses {
            Some(responses) if leg.is_modern() => out.params.set("inputResponses", responses.close()),
            Some(responses) => accepted(&responses)?,
            None => {}
        }
        let held = self.enter(provider, behalf, &holder, out.tool)?;
        let spare = (tasks == Tasks::None && self.drives(&out)).then(|| out.params.clone());
        let mut course = Course::new(out, behalf, leg, tasks, of);
        course.spare = spare;
        self.rounds(course, held).await
    }

    /// In which revision a call is made, and how it meets tasks.
    fn footing(&self, out: &Outgoing<'_>) -> Result<(Revision, Tasks), Error> {
        let leg = self.leg(out.catalogue)?;
        let profile = out.catalogue.profile.as_ref();
        let called = out.tool.filter(|_| self.scope.view != View::Relay);
        let Some((tool, profile)) = called.zip(profile) else {
            return Ok((leg, Tasks::None));
        };
        if leg.is_modern() && self.tends_tasks() {
            return Ok((leg, Tasks::Native));
        }
        let core = Revision::V2025_11_25;
        if !leg.is_modern()
            && task::is_required(&tool.raw)
            && profile.revisions.contains(core)
            && task::has_core_tasks(&profile.capabilities)
        {
            return Ok((core, Tasks::Core));
        }
        if self.drives(out) && self.exchange.needing.has(out.provider, &tool.name) {
            return Ok((Revision::V2026_07_28, Tasks::Declared));
        }
        Ok((leg, Tasks::None))
    }

    /// Whether this client looks after tasks of the extension itself.
    pub(super) fn tends_tasks(&self) -> bool {
        let own = self.peer.capabilities.as_deref();
        self.scope.view == View::Tool && self.revision().is_modern() && own.is_some_and(task::has_extension)
    }

    /// Whether the extension is declared for this client where a call cannot be made without it.
    /// One of 2026-07-28 that sees the tool itself decides for itself.
    fn drives(&self, out: &Outgoing<'_>) -> bool {
        let view = match self.scope.view {
            View::Meta => true,
            View::Tool => !self.revision().is_modern(),
            View::Relay => false,
        };
        view && out.tool.is_some() && drive::offers(out.catalogue)
    }

    /// Takes out of a modern client's parameters what belongs to an earlier round.
    fn retry(&self, method: &str, params: &mut RawObject) -> Result<Retry, Error> {
        if !self.revision().is_modern() || self.scope.view == View::Relay || method.starts_with("tasks/") {
            return Ok(Retry::default());
        }
        let wrong = |name| Error::new(Code::InvalidParams, format!("`{name}` is of the wrong type"));
        let given = |raw: &Raw| raw.get() != "null";
        let state = params
            .remove("requestState")
            .filter(given)
            .map(|raw| raw::text(&raw).map(Cow::into_owned));
        let responses = params
            .remove("inputResponses")
            .filter(given)
            .map(|raw| RawObject::open(&raw).ok());
        if matches!(state, Some(None)) {
            return Err(wrong("requestState"));
        }
        if matches!(responses, Some(None)) {
            return Err(wrong("inputResponses"));
        }
        Ok(Retry {
            state: state.flatten(),
            responses: responses.flatten(),
        })
    }

    /// Lets a call in, or says which rule of ours keeps it out.
    fn enter(
        &self,
        provider: &Arc<Provider>,
        behalf: &Identity,
        holder: &str,
        tool: Option<&Tool>,
    ) -> Result<Held, Error> {
        let principal = &self.peer.principal;
        let pass = provider
            .gate
            .enter(
                holder,
                &principal.tenant,
                behalf.signature.account.as_ref(),
                tool.map(|tool| &*tool.name),
            )
            .map_err(|refusal| self.refused(provider, &refusal))?;
        Ok(Held {
            pass: Some(pass),
            _inflight: self.exchange.metrics.inflight(&provider.id),
            started: Instant::now(),
        })
    }

    /// Goes on with a call that is parked, here or at another replica.
    async fn resumed(
        &mut self,
        replica: &str,
        retry: handover::Retry,
        within: Duration,
    ) -> Result<Came, Error> {
        let holder = retry.holder.clone();
        let came = if replica == self.exchange.shared.replica() {
            let talk = Talk {
                exchange: self.exchange,
                holder: &holder,
                client: self.revision(),
                abilities: self.peer.abilities,
                outlet: self.outlet,
                lane: None,
                logs: false,
            };
            self.exchange.resume(&talk, retry).await
        } else {
            // A little more than the call itself may take there.
            let within = within.saturating_add(Duration::from_secs(2));
            self.exchange.hand_retry(replica, retry, within).await
        };
        if matches!(came, Ok(Came::Asked(_))) {
            self.record.outcome = "input_required";
        }
        came
    }

    /// Leaves in `_meta` what is meant for the provider: the caller's own keys and the trace.
    pub(super) fn hop_meta(&self, params: &mut RawObject, leg: Revision) {
        let logs = leg.is_modern() && self.revision().is_modern();
        let meta = params.remove("_meta").and_then(|raw| RawObject::open(&raw).ok());
        let mut kept = RawObject::new();
        for (key, value) in meta.iter().flat_map(RawObject::iter) {
            let hop = HOP_KEYS.iter().any(|hop| key.starts_with(hop)) && !(logs && key == LOG_LEVEL);
            if !hop && key != "progressToken" {
                kept.set(key, value.to_owned());
            }
        }
        if let Some(trace) = &self.peer.trace
            && kept.get("traceparent").is_none()
        {
            kept.put("traceparent", trace);
        }
        if !kept.is_empty() {
            params.set("_meta", kept.close());
        }
    }

    fn refused(&self, provider: &Provider, refusal: &LimitRefusal) -> Error {
        self.exchange.metrics.limited(&provider.id, refusal.rule.as_str());
        limited(&provider.title, refusal)
    }
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

/// Whether each answer to a question is one: an elicitation is accepted, declined or cancelled.
///
/// # Errors
/// [`Code::InvalidParams`], at once: as an answer that is none it would be waited for, or read as
/// agreement.
pub(super) fn answers(responses: &RawObject) -> Result<(), Error> {
    for (key, response) in responses.iter() {
        let opened = RawObject::open(response);
        let is_answer = match &opened {
            Ok(response) if response.get("action").is_some() => elicit::is_answer(response),
            // Of sampling and roots; an answer to an elicitation names its action.
            Ok(response) => {
                !response.is_empty() && (response.get("content").is_none() || response.get("role").is_some())
            }
            Err(_) => false,
        };
        if !is_answer {
            return Err(malformed(key));
        }
    }
    Ok(())
}

/// The refusal of an answer that is none.
pub(super) fn malformed(key: &str) -> Error {
    Error::new(
        Code::InvalidParams,
        format!(
            "the answer `{}` is none: `action` must be \"accept\", \"decline\" or \"cancel\"",
            super::printable(key)
        ),
    )
}

/// Whether a person agreed to everything an earlier round asked for.
fn accepted(responses: &RawObject) -> Result<(), Error> {
    let agrees = |response: &RawValue| {
        let response = RawObject::open(response).unwrap_or_default();
        response.text("action").is_none_or(|action| action == "accept")
    };
    if responses.iter().all(|(_, response)| agrees(response)) {
        return Ok(());
    }
    Err(Error::new(
        Code::InputRequired,
        "what the provider asked for was declined; nothing was run",
    ))
}

impl<'s> Step<'s> {
    /// The client's end of a call.
    pub(super) fn talk<'t>(&self, holder: &'t str, declared: &DeclaredCapabilities, leg: Revision) -> Talk<'t>
    where
        's: 't,
    {
        let lane = self.peer.lane.as_ref();
        Talk {
            exchange: self.exchange,
            holder,
            client: self.revision(),
            abilities: declared.abilities,
            outlet: self.outlet,
            lane,
            logs: leg.is_modern() == self.revision().is_modern(),
        }
    }
}

/// An upstream's own error as a peer of another revision may be told it.
pub(super) fn translated(method: &str, mut error: Error, from: Revision, to: Revision) -> Error {
    if let Some(mut fault) = error.rpc.take() {
        fault.data = fault.data.map(reserved::strip);
        error.rpc = Some(Box::new(translate::fault(method, *fault, from, to)));
    }
    error
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

/// Whether an outcome speaks against the provider's health.
pub(crate) const fn is_breakage(error: &Error) -> bool {
    matches!(
        error.code,
        Code::UpstreamUnreachable | Code::UpstreamTimeout | Code::UpstreamProtocol
    )
}

/// One sentence that names where the caller puts its key.
#[must_use]
pub(super) fn need_auth(provider: &Provider, missing: &MissingKey) -> String {
    let headers: Vec<String> = missing.headers.iter().map(|name| format!("`{name}`")).collect();
    let variable = missing.env.as_ref().map_or_else(String::new, |name| {
        format!(", or set the environment variable `{name}` for `pleiades stdio`")
    });
    format!(
        "{} needs your own key: send it in the request header {}{variable}; it is passed on and never stored",
        provider.title,
        headers.join(" or ")
    )
}

/// The error for a caller that brought no key.
pub(crate) fn needs_auth(provider: &Provider, missing: &MissingKey) -> Error {
    Error::new(Code::NeedsAuth, need_auth(provider, missing)).data(json!({
        "provider_id": &*provider.id,
        "reason": "never_connected",
        "headers": missing.headers,
        "env": missing.env,
    }))
}
