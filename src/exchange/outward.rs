//! The way out of one call: account, limit, signature, upstream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::handover;
use super::state::{Of, State};
use super::talk::{Followed, Held, Talk, Underway};
use super::{Outlet, Step};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::credential::Missing;
use crate::error::{Code, Error};
use crate::limit::{Refusal, Rule};
use crate::mcp::abilities::TASKS;
use crate::mcp::{Declared, Raw, RawObject, Revision, headers, translate};
use crate::telemetry::View;
use crate::upstream::{Behalf, Call, Target};

/// Keys of `_meta` that speak of one hop only.
const HOP_KEYS: [&str; 2] = ["io.modelcontextprotocol/", "pleiades/"];
/// The one of them that means the provider, between two peers of 2026-07-28.
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Events of a call that wait for its client.
const EVENTS: usize = 64;

/// How often a provider may ask anew within one call.
const ROUNDS: usize = 16;

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
    /// On whose behalf this caller reaches a provider.
    pub(super) fn behalf(&self, provider: &Provider) -> Result<Behalf, Missing> {
        let signature = provider.need.sign(&self.peer.keys.brought(&provider.need))?;
        let principal = &self.peer.principal;
        Ok(Behalf {
            lane: self.peer.lane.clone(),
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            signature,
        })
    }

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
    pub(super) fn declared(&self, leg: Revision) -> Declared {
        let abilities = self.peer.abilities.between(self.revision(), leg);
        let both = leg.is_modern() && self.revision().is_modern();
        let verbatim = self.peer.capabilities.as_ref().filter(|_| both);
        Declared {
            abilities,
            verbatim: verbatim.map(|raw| match self.scope.view {
                View::Meta => without_tasks(raw),
                View::Tool | View::Relay => raw.clone(),
            }),
        }
    }

    /// Limits, signs and makes one call, in as many rounds as its provider asks for.
    pub(super) async fn outward(&mut self, mut out: Outgoing<'_>) -> Result<Came, Error> {
        let provider = out.provider;
        self.record.provider = Some(Arc::clone(&provider.id));
        self.record.tool = out.tool.map(|tool| Arc::from(&*tool.name));
        let behalf = self
            .behalf(provider)
            .map_err(|missing| needs_auth(provider, &missing))?;
        let leg = self.leg(out.catalogue)?;
        let holder = self.peer.principal.binding();
        let retry = self.retry(&mut out.params);
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
                    return self.resumed(&replica, retry, provider.endpoint.call).await;
                }
                State::Upstream(state) => out.params.put("requestState", &state),
            }
        }
        match retry.responses {
            Some(responses) if leg.is_modern() => out.params.set("inputResponses", responses.close()),
            Some(responses) => accepted(&responses)?,
            None => {}
        }
        let held = self.enter(provider, &holder, out.tool)?;
        self.rounds(out, &behalf, leg, of, held).await
    }

    /// Takes out of a modern client's parameters what belongs to an earlier round.
    fn retry(&self, params: &mut RawObject) -> Retry {
        if !self.revision().is_modern() || self.scope.view == View::Relay {
            return Retry::default();
        }
        let state = params.read("requestState");
        params.remove("requestState");
        let responses = params.remove("inputResponses");
        Retry {
            state,
            responses: responses.and_then(|raw| RawObject::open(&raw).ok()),
        }
    }

    /// Lets a call in, or says which rule of ours keeps it out.
    fn enter(&self, provider: &Arc<Provider>, holder: &str, tool: Option<&Tool>) -> Result<Held, Error> {
        let principal = &self.peer.principal;
        let pass = provider
            .gate
            .enter(holder, &principal.tenant, tool.map(|tool| &*tool.name))
            .map_err(|refusal| self.refused(provider, &refusal))?;
        Ok(Held {
            pass: Some(pass),
            _inflight: self.exchange.metrics.inflight(&provider.id),
            started: Instant::now(),
        })
    }

    async fn rounds(
        &mut self,
        out: Outgoing<'_>,
        behalf: &Behalf,
        leg: Revision,
        of: Option<Of>,
        mut held: Held,
    ) -> Result<Came, Error> {
        let (provider, method) = (out.provider, out.method);
        let holder = self.peer.principal.binding();
        let declared = self.declared(leg);
        let talk = self.talk(&holder, &declared, leg);
        let (tool, mut params) = (out.tool, out.params);
        self.hop_meta(&mut params, leg);
        // Only a legacy client in front of a modern provider needs the parameters again.
        let again = leg.is_modern() && !self.revision().is_modern() && !declared.abilities.is_empty();
        for _ in 0..ROUNDS {
            let round = if again {
                params.clone()
            } else {
                std::mem::take(&mut params)
            };
            let call = self.call(provider, tool, method, round, leg, &declared);
            let (outcome, back) = match self.follow(&talk, provider, behalf, call, held).await {
                Followed::Done(outcome, held) => (outcome, held),
                Followed::Asked(asks, underway) => {
                    self.record.outcome = "input_required";
                    let of = of.unwrap_or_else(|| Of::new(&provider.id, None, method, &RawObject::new()));
                    return self.exchange.parked(&holder, of, asks, *underway);
                }
            };
            held = back;
            let result = match outcome.and_then(|result| opened(&result)) {
                Ok(result) => result,
                Err(error) => {
                    self.record.upstream = Some(held.conclude(self.exchange, provider, Err(&error)));
                    return self.failing(&talk, provider, method, error, leg);
                }
            };
            let asks = leg.is_modern()
                && self.scope.view != View::Relay
                && result.text("resultType").as_deref() == Some("input_required");
            if !asks || self.revision().is_modern() {
                self.record.upstream = Some(held.conclude(self.exchange, provider, Ok(())));
                return Ok(match (asks, of) {
                    (true, Some(of)) => Came::Asked(self.wrapped(result, &holder, of)),
                    _ => Came::Result(result, leg),
                });
            }
            match talk.interrogate(&result, provider, leg).await {
                Ok(responses) => params.set("inputResponses", responses.close()),
                Err(error) => {
                    held.conclude(self.exchange, provider, Ok(()));
                    return Err(error);
                }
            }
            match result.get("requestState") {
                Some(state) => params.set("requestState", state.to_owned()),
                None => drop(params.remove("requestState")),
            }
        }
        let error = Error::new(Code::UpstreamProtocol, "the provider asks without end").sent();
        held.conclude(self.exchange, provider, Err(&error));
        Err(error)
    }

    /// Makes one round of a call; nothing is kept for one during which nothing can be said.
    async fn follow(
        &self,
        talk: &Talk<'_>,
        provider: &Arc<Provider>,
        behalf: &Behalf,
        mut call: Call,
        held: Held,
    ) -> Followed {
        let upstreams = &self.exchange.upstreams;
        let (leg, method) = (call.revision, call.method);
        if !self.converses(talk, leg) {
            let outcome = upstreams.request(&provider.endpoint, behalf, call).await;
            return Followed::Done(outcome, held);
        }
        let (sender, events) = mpsc::channel(EVENTS);
        call.events = Some(sender);
        let (upstreams, endpoint) = (Arc::clone(upstreams), Arc::clone(&provider.endpoint));
        let behalf = behalf.clone();
        let running = Box::pin(async move { upstreams.request(&endpoint, &behalf, call).await });
        let underway = Underway {
            running,
            events,
            from: leg,
            provider: Arc::clone(provider),
            method,
            held,
        };
        talk.follow(underway).await
    }

    /// Whether something may be said or asked during a call.
    fn converses(&self, talk: &Talk<'_>, leg: Revision) -> bool {
        let progress = talk.outlet.is_some_and(Outlet::wants_progress);
        let asks = !leg.is_modern() && !talk.abilities.is_empty();
        let session = !leg.is_modern() && self.peer.lane.is_some() && talk.outlet.is_some();
        progress || asks || session || (leg.is_modern() && talk.logs && talk.outlet.is_some())
    }

    fn call(
        &self,
        provider: &Provider,
        tool: Option<&Tool>,
        method: &'static str,
        params: RawObject,
        leg: Revision,
        declared: &Declared,
    ) -> Call {
        let endpoint = &provider.endpoint;
        let http = matches!(endpoint.target, Target::Http { .. });
        let mirrored = match tool {
            Some(tool) if http && leg.is_modern() && !tool.mirrored.is_empty() => {
                let arguments = params.get("arguments").and_then(|raw| RawObject::open(raw).ok());
                headers::mirrored(&tool.mirrored, &arguments.unwrap_or_default())
            }
            _ => Vec::new(),
        };
        Call {
            method,
            params,
            revision: leg,
            mirrored,
            deadline: Instant::now() + endpoint.call,
            idempotent: method != "tools/call",
            declared: declared.clone(),
            progress: self.outlet.is_some_and(Outlet::wants_progress),
            events: None,
        }
    }

    /// A provider's state sealed to its call before a client carries it.
    fn wrapped(&mut self, mut result: RawObject, holder: &str, of: Of) -> Raw {
        self.record.outcome = "input_required";
        if let Some(state) = result.read::<String>("requestState") {
            let sealed = self.exchange.seal_state(holder, of, State::Upstream(state));
            result.put("requestState", &sealed);
        }
        result.close()
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
                mailbox: None,
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

    /// An error of the provider as this caller can take it.
    fn failing(
        &mut self,
        talk: &Talk<'_>,
        provider: &Provider,
        method: &str,
        error: Error,
        leg: Revision,
    ) -> Result<Came, Error> {
        let came = talk.failing(provider, method, error, leg);
        if came.is_ok() {
            self.record.outcome = "input_required";
        }
        came
    }

    /// Leaves in `_meta` what is meant for the provider: the caller's own keys and the trace.
    fn hop_meta(&self, params: &mut RawObject, leg: Revision) {
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

    fn refused(&self, provider: &Provider, refusal: &Refusal) -> Error {
        self.exchange.metrics.limited(&provider.id, refusal.rule.as_str());
        limited(&provider.title, refusal)
    }
}

pub(super) fn opened(result: &Raw) -> Result<RawObject, Error> {
    RawObject::open(result).map_err(|cause| {
        Error::new(Code::UpstreamProtocol, "the provider's result is not an object")
            .because(cause)
            .sent()
    })
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

/// A client's capabilities without tasks: the one tool of a provider answers when it is done.
fn without_tasks(capabilities: &RawValue) -> Raw {
    let Ok(mut all) = RawObject::open(capabilities) else {
        return capabilities.to_owned();
    };
    if let Some(mut extensions) = all.read::<RawObject>("extensions")
        && extensions.remove(TASKS).is_some()
    {
        all.set("extensions", extensions.close());
    }
    all.close()
}

impl<'s> Step<'s> {
    /// The client's end of a call.
    fn talk<'t>(&self, holder: &'t str, declared: &Declared, leg: Revision) -> Talk<'t>
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
            mailbox: lane.and_then(|lane| self.exchange.mailboxes.peek(lane)),
            logs: leg.is_modern() == self.revision().is_modern(),
        }
    }
}

/// An upstream's own error as a peer of another revision may be told it.
pub(super) fn translated(method: &str, mut error: Error, from: Revision, to: Revision) -> Error {
    if let Some(fault) = error.rpc.take() {
        error.rpc = Some(Box::new(translate::fault(method, *fault, from, to)));
    }
    error
}

/// The error for a refusal of the provider's gate.
pub(crate) fn limited(title: &str, refusal: &Refusal) -> Error {
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
pub(super) fn need_auth(provider: &Provider, missing: &Missing) -> String {
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
pub(crate) fn needs_auth(provider: &Provider, missing: &Missing) -> Error {
    Error::new(Code::NeedsAuth, need_auth(provider, missing)).data(json!({
        "provider_id": &*provider.id,
        "reason": "never_connected",
        "headers": missing.headers,
        "env": missing.env,
    }))
}
