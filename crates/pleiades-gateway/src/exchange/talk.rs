//! A call under way, and what its provider and its client say to each other meanwhile.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration, time::Instant};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::ask;
use super::mailbox::Mailbox;
use super::open::{Asked, Open, cancelled};
use super::outward::{Came, is_breakage, translated};
use super::{Exchange, Outlet};
use crate::catalog::Provider;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::limit::CallPermit;
use pleiades_core::telemetry::InflightGuard;
use pleiades_mcp::elicit;
use pleiades_mcp::raw::raw;
use pleiades_mcp::{ClientCapabilities, Id, Raw, RawObject, Revision, message, reserved};
use pleiades_upstream::{ProviderEvent, ProviderRequest};

/// JSON-RPC: the client has to open an address first (2025-11-25).
pub(super) const URL_REQUIRED: i64 = -32042;

/// What a call holds until it is over.
pub(super) struct Held {
    pub(super) pass: Option<CallPermit>,
    pub(super) _inflight: InflightGuard,
    pub(super) started: Instant,
}

/// A call under way.
pub(super) struct Underway {
    pub(super) running: Pin<Box<dyn Future<Output = Result<Raw, Error>> + Send>>,
    pub(super) events: mpsc::Receiver<ProviderEvent>,
    pub(super) from: Revision,
    pub(super) provider: Arc<Provider>,
    pub(super) method: &'static str,
    pub(super) held: Held,
}

impl fmt::Debug for Underway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Underway")
            .field("provider", &self.provider.id)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// The verdict for the breaker and the catalogue; how long the call took.
    pub(super) fn conclude(
        mut self,
        exchange: &Exchange,
        provider: &Arc<Provider>,
        outcome: Result<(), &Error>,
    ) -> Duration {
        exchange.catalog.report_call(provider, outcome);
        if let Some(pass) = self.pass.take() {
            match outcome {
                Err(error) if is_breakage(error) => pass.failed(),
                _ => pass.succeeded(),
            }
        }
        self.started.elapsed()
    }
}

/// The client's end of a call.
#[derive(Debug, Clone)]
pub(super) struct Talk<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) holder: &'a str,
    pub(super) client: Revision,
    /// What may be put to it, by this provider.
    pub(super) abilities: ClientCapabilities,
    pub(super) outlet: Option<&'a Outlet>,
    /// Its session, which may have other streams for when the call's own is gone.
    pub(super) lane: Option<&'a Arc<str>>,
    /// Whether log messages pass: between equal generations alone.
    pub(super) logs: bool,
}

/// Where a call stands.
pub(super) enum Followed {
    Done(Result<Raw, Error>, Held),
    /// It waits for a client that answers with its next request.
    Asked(Vec<ProviderRequest>, Box<Underway>),
}

impl Talk<'_> {
    /// Stays with a call until it is done, or a modern client has to be asked.
    pub(super) async fn follow(&self, mut underway: Underway) -> Followed {
        let mut open = Open::default();
        let outcome = loop {
            tokio::select! {
                biased;
                Some(event) = underway.events.recv() => match event {
                    ProviderEvent::Request(ask) if self.client.is_modern() => {
                        if let Some(asks) = self.askable(ask, &mut underway.events) {
                            return Followed::Asked(asks, Box::new(underway));
                        }
                    }
                    ProviderEvent::Request(ask) => self.put(ask, underway.from, &mut open).await,
                    event => self.hear(event, &mut open),
                },
                outcome = &mut underway.running => break outcome,
                () = self.left(&open) => self.turn(&mut open),
            }
        };
        while let Ok(event) = underway.events.try_recv() {
            self.hear(event, &mut open);
        }
        for asked in open.drain() {
            self.retract(&asked);
        }
        Followed::Done(outcome, underway.held)
    }

    /// The question and those that came with it, as far as the client takes them.
    fn askable(
        &self,
        first: ProviderRequest,
        events: &mut mpsc::Receiver<ProviderEvent>,
    ) -> Option<Vec<ProviderRequest>> {
        let mut asks = vec![first];
        while let Ok(event) = events.try_recv() {
            match event {
                ProviderEvent::Request(ask) => asks.push(ask),
                event => self.hear(event, &mut Open::default()),
            }
        }
        let (askable, others): (Vec<_>, Vec<_>) = asks
            .into_iter()
            .partition(|ask| self.abilities.takes(&ask.method, ask.params.as_deref()));
        for ask in others {
            let refusal = ask::unasked(&ask.method);
            ask.answer.send(refusal).ok();
        }
        (!askable.is_empty()).then_some(askable)
    }

    /// Puts a legacy provider's question to a legacy client.
    async fn put(&self, ask: ProviderRequest, from: Revision, open: &mut Open) {
        let ProviderRequest {
            id,
            method,
            params,
            answer,
        } = ask;
        let takes = self.abilities.takes(&method, params.as_deref());
        let shown = takes
            .then(|| ask::put(&method, params, from, self.client))
            .flatten();
        let Some(params) = shown else {
            answer.send(ask::unasked(&method)).ok();
            return;
        };
        let (told, said) = oneshot::channel();
        match self.question(&method, &params, told).await {
            Ok(asked) => open.push(id, asked),
            Err(_) => {
                answer.send(cancelled(&method)).ok();
                return;
            }
        }
        let client = self.client;
        tokio::spawn(async move {
            // Without an answer the sender is dropped, which refuses the question.
            if let Ok(outcome) = said.await {
                let outcome = outcome.map(|result| ask::said(&method, result, client, from));
                answer.send(outcome).ok();
            }
        });
    }

    fn hear(&self, event: ProviderEvent, open: &mut Open) {
        match event {
            ProviderEvent::Progress(params) => {
                if let Some(outlet) = self.outlet {
                    outlet.progress(params);
                }
            }
            ProviderEvent::Notification { method, params } => self.notice(&method, params, open),
            ProviderEvent::Pause(recess) => {
                if let Some(outlet) = self.outlet {
                    outlet.recess(recess);
                }
            }
            ProviderEvent::Request(ask) => {
                ask.answer.send(ask::unasked(&ask.method)).ok();
            }
        }
    }

    fn notice(&self, method: &str, params: Option<Raw>, open: &mut Open) {
        let params = params.map(reserved::strip);
        match method {
            "notifications/message" if self.logs && self.hears(params.as_ref()) => {
                self.say(message::notification(method, params.as_deref()));
            }
            "notifications/elicitation/complete" if self.client == Revision::V2025_11_25 => {
                self.say(message::notification(method, params.as_deref()));
            }
            "notifications/cancelled" => {
                let named = params.and_then(|params| RawObject::open(&params).ok());
                let id = named.and_then(|mut params| params.remove("requestId")).map(Id);
                if let Some(asked) = id.and_then(|id| open.take(&id)) {
                    self.retract(&asked);
                }
            }
            _ => {}
        }
    }

    fn hears(&self, params: Option<&Raw>) -> bool {
        self.mailbox().is_none_or(|mailbox| mailbox.hears(params))
    }

    /// What the client's session holds, when it holds anything.
    pub(super) fn mailbox(&self) -> Option<Arc<Mailbox>> {
        self.lane.and_then(|lane| self.exchange.mailboxes.peek(lane))
    }

    /// On the call's own stream; on the session's when nobody reads that any more.
    fn say(&self, message: Vec<u8>) {
        match self.outlet {
            Some(outlet) if outlet.is_closed() => {
                if let Some(mailbox) = self.mailbox() {
                    mailbox.say(&message);
                }
            }
            Some(outlet) => outlet.say(message),
            None => {}
        }
    }

    /// Tells the client that a question needs no answer any more.
    pub(super) fn retract(&self, asked: &Asked) {
        let params = raw(&json!({ "requestId": asked.id().0, "reason": "no longer needed" }));
        self.say(message::notification("notifications/cancelled", Some(&params)));
    }

    /// Puts the questions of a provider of 2026-07-28 to a legacy client; its answers by their keys.
    /// `ends`: the call is over already, and could be made anew once an address was opened.
    ///
    /// # Errors
    /// -32042 when all it has to do is to open addresses and the client knows that; an error it
    /// can read when it does not know, or cannot take a question.
    pub(super) async fn interrogate(
        &self,
        result: &RawObject,
        provider: &Provider,
        from: Revision,
        ends: bool,
    ) -> Result<RawObject, Error> {
        let requests = match result.get("inputRequests") {
            Some(requests) => RawObject::open(requests).map_err(unreadable)?,
            None => RawObject::new(),
        };
        let asked = requests
            .iter()
            .map(|(key, request)| question_of(request).map(|(method, params)| (key, method, params)))
            .collect::<Result<Vec<(&str, String, RawObject)>, Error>>()?;
        let urls = asked.iter().filter(|(_, _, params)| elicit::is_url(params));
        let urls: Vec<&RawObject> = urls.map(|(_, _, params)| params).collect();
        let instead = ends && urls.len() == asked.len();
        if !urls.is_empty() && (instead || !self.abilities.has(ClientCapabilities::URL)) {
            return Err(self.to_open(provider, &urls));
        }
        let said = join_all(
            asked
                .iter()
                .map(|(_, method, params)| self.one(method, params, from)),
        )
        .await;
        let mut responses = RawObject::new();
        for ((key, ..), answer) in asked.iter().zip(said) {
            responses.set(key, answer?);
        }
        Ok(responses)
    }

    async fn one(&self, method: &str, params: &RawObject, from: Revision) -> Result<Raw, Error> {
        let refused = |outcome: ask::Outcome| {
            outcome.map_err(|fault| {
                Error::new(Code::UpstreamProtocol, UNASKABLE)
                    .because(fault.message)
                    .sent()
            })
        };
        let asked = params.close();
        if !self.abilities.takes(method, Some(&asked)) {
            return refused(ask::unasked(method));
        }
        let Some(mut params) = ask::put(method, Some(asked), from, self.client) else {
            return refused(ask::unasked(method));
        };
        if elicit::is_url(&params) {
            params.put("elicitationId", &self.exchange.ticket());
        }
        let (answer, answered) = oneshot::channel();
        let Ok(asked) = self.question(method, &params, answer).await else {
            return refused(cancelled(method));
        };
        match self.answer(asked, answered).await {
            Some(Ok(result)) => Ok(ask::said(method, result, self.client, from)),
            _ => refused(cancelled(method)),
        }
    }

    /// An error of the provider as the client can take it: an address that a person has to open
    /// first becomes a question where the client's protocol has one.
    ///
    /// # Errors
    /// What cannot be asked.
    pub(super) fn failing(
        &self,
        provider: &Provider,
        method: &str,
        error: Error,
        from: Revision,
    ) -> Result<Came, Error> {
        let Some(fault) = error.rpc.as_ref().filter(|fault| fault.code == URL_REQUIRED) else {
            return Err(translated(method, error, from, self.client));
        };
        let data = fault.data.as_deref().and_then(|data| RawObject::open(data).ok());
        let urls: Vec<RawObject> = data
            .and_then(|data| data.read("elicitations"))
            .unwrap_or_default();
        if urls.is_empty() {
            return Err(translated(method, error, from, self.client));
        }
        match (
            self.client.is_modern(),
            self.abilities.has(ClientCapabilities::URL),
        ) {
            (true, true) => Ok(Came::Asked(self.to_visit(urls, from))),
            (false, true) => Err(without_ours(error)),
            (_, false) => Err(readable(provider, &urls.iter().collect::<Vec<_>>())),
        }
    }

    /// Addresses as questions of 2026-07-28; the call is over, and its retry makes a new one.
    fn to_visit(&self, urls: Vec<RawObject>, from: Revision) -> Raw {
        let mut requests = RawObject::new();
        for (at, mut params) in urls.into_iter().enumerate() {
            params.put("mode", "url");
            let Some(params) = elicit::elicitation(params, from, self.client) else {
                continue;
            };
            let request = json!({ "method": "elicitation/create", "params": params });
            requests.put(&format!("open-{}", at + 1), &request);
        }
        raw(&json!({ "resultType": "input_required", "inputRequests": requests }))
    }

    /// What a legacy client is told when a person has to open addresses first.
    pub(super) fn to_open(&self, provider: &Provider, urls: &[&RawObject]) -> Error {
        if !self.abilities.has(ClientCapabilities::URL) {
            return readable(provider, urls);
        }
        let elicitations: Vec<_> = urls
            .iter()
            .map(|params| {
                let mut params = (*params).clone();
                params.put("mode", "url");
                if params.get("elicitationId").is_none() {
                    params.put("elicitationId", &self.exchange.ticket());
                }
                params
            })
            .collect();
        Error::rpc(RpcFault {
            code: URL_REQUIRED,
            message: format!("{} needs you to open an address first", provider.title),
            data: Some(raw(&json!({ "elicitations": elicitations }))),
        })
    }
}

/// What a provider of 2026-07-28 asks.
fn question_of(request: &RawValue) -> Result<(String, RawObject), Error> {
    #[derive(Deserialize)]
    struct Question {
        method: String,
        #[serde(default)]
        params: Option<RawObject>,
    }
    let Question { method, params } = serde_json::from_str(request.get()).map_err(unreadable)?;
    Ok((method, params.unwrap_or_default()))
}

/// Of a question that is none: left out, it would be asked again without end.
fn unreadable(cause: serde_json::Error) -> Error {
    Error::new(
        Code::UpstreamProtocol,
        "the provider asked for something in a form that is not MCP",
    )
    .because(cause)
    .sent()
}

/// To a provider that asks what it was told nobody can answer.
const UNASKABLE: &str = "the provider asked for something that this client does not offer";

/// A provider's wish to have an address opened, without the names under which ours says where to
/// connect (contracts section 7).
fn without_ours(mut error: Error) -> Error {
    const OURS: [&str; 6] = [
        "connect_url",
        "connection_id",
        "provider_id",
        "reason",
        "scopes",
        "missing_scopes",
    ];
    if let Some(fault) = &mut error.rpc
        && let Some(mut data) = fault.data.as_deref().and_then(|data| RawObject::open(data).ok())
    {
        data.retain(|key| !OURS.contains(&key));
        fault.data = Some(reserved::strip(data.close()));
    }
    error
}

/// What a client is told that cannot be sent to an address by its protocol.
pub(super) fn readable(provider: &Provider, urls: &[&RawObject]) -> Error {
    let wanted: Vec<String> = urls
        .iter()
        .map(|params| {
            let why = params.text("message").unwrap_or_default();
            let url = params.text("url").unwrap_or_default();
            format!("open {url} ({why})")
        })
        .collect();
    Error::new(
        Code::InputRequired,
        format!(
            "{} wants a person to act first: {}. Then make the call again",
            provider.title,
            wanted.join("; ")
        ),
    )
}
