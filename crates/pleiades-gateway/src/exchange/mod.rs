//! One message in, its answer out, whatever carried it: HTTP through `proxy`, lines through
//! `pleiades stdio`.
//!
//! The way of a message: snapshot -> method -> view -> (facade) -> account -> limit -> sign ->
//! upstream -> shape. Nothing here knows sockets or statuses.

mod accounts;
mod arrival;
mod aside;
mod ask;
mod call;
mod connect;
mod drive;
mod fault;
mod forward;
mod handover;
mod identity;
mod invite;
mod job;
mod lanes;
mod late;
mod list;
mod mailbox;
mod namespace;
mod naming;
mod open;
mod outlet;
mod outward;
mod park;
mod peer;
mod relay;
mod rounds;
mod running;
mod session;
mod standing;
mod state;
mod stream;
mod talk;
mod tasks;
mod tries;
mod watched;
mod witness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use accounts::HEADER as ACCOUNT_HEADER;
pub use arrival::{Arrived, Kind};
pub use fault::rpc_fault;
pub(crate) use invite::Used;
pub use naming::Names;
pub use outlet::{Inlet, Outlet, Word};
pub(crate) use outward::{is_breakage, limited, needs_auth};
pub use peer::{Keys, Peer, RequestIds, Variables, unsupported};
pub(crate) use relay::{equal, relay_open, unsupported as unequal};
pub use session::{Sessions, abilities, negotiated, unsealed};

use crate::catalog::{Catalog, Provider, Snapshot};
use crate::shared_state::SharedState;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::events::RequestDone;
use pleiades_core::telemetry::{Metrics, View};
use pleiades_credential::access::Principal;
use pleiades_credential::broker::Broker;
use pleiades_credential::manager::CredentialManager;
use pleiades_mcp::{Id, Raw, RawObject, Revision, message};
use pleiades_upstream::Upstreams;

/// What a message is addressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// How tools are shown.
    pub view: View,
    /// One provider, or the union of all.
    pub provider: Option<Arc<str>>,
    /// How names are shown; `None`: as the settings say.
    pub names: Option<Names>,
}

impl Scope {
    /// A view of one provider or of all, names as the settings say.
    #[must_use]
    pub const fn new(view: View, provider: Option<Arc<str>>) -> Self {
        Self {
            view,
            provider,
            names: None,
        }
    }
}

/// What comes back for a message.
#[derive(Debug)]
pub enum Reply {
    /// Nothing to say (a notification or a response of the peer).
    Accepted,
    /// A JSON-RPC response.
    Answer {
        /// The whole message.
        body: Vec<u8>,
        /// The kind of failure; `None` for a result.
        code: Option<Code>,
        /// When trying again may help.
        retry_after: Option<std::time::Duration>,
        /// The session that `initialize` opened.
        session: Option<String>,
    },
    /// Messages until either side ends it (`subscriptions/listen`).
    Stream(mpsc::Receiver<Vec<u8>>),
}

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
    pub upstream: Option<std::time::Duration>,
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

/// Everything a message needs on its way; one per process.
#[derive(Debug)]
pub struct Exchange {
    /// What is loaded.
    pub catalog: Arc<Catalog>,
    /// The way out.
    pub upstreams: Arc<Upstreams>,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Legacy sessions.
    pub sessions: Sessions,
    /// Accounts of callers.
    pub accounts: Accounts,
    /// `name` of the settings: `serverInfo`, and the single tool's name.
    pub name: String,
    /// One tool for all providers in the meta union.
    pub single: bool,
    /// How names of several providers are told apart.
    pub names: Names,
    /// Calls that a peer may cancel.
    running: running::Running,
    /// Questions that are open towards clients.
    asking: ask::Asking,
    /// Calls that wait for their clients.
    parking: park::Parking,
    /// Tools that need the extension for tasks.
    needing: drive::Needing,
    /// What legacy sessions hold here.
    mailboxes: mailbox::Mailboxes,
    /// What is remembered of them.
    lanes: lanes::Lanes,
    /// Providers that unions do not wait for.
    late: late::Late,
    /// How often more rights were asked for.
    tries: tries::Tries,
    /// Where what may take long is done.
    aside: aside::Aside,
    /// What replicas tell each other.
    shared: Arc<SharedState>,
    me: Weak<Self>,
    busy: Arc<AtomicUsize>,
    /// Open streams end when this is cancelled.
    pub closing: CancellationToken,
    /// Running requests are answered when this is cancelled, whatever they wait for.
    pub ending: CancellationToken,
}

/// Accounts of callers: who keeps them, who connects them.
#[derive(Debug)]
pub struct Accounts {
    /// Hands out their signatures.
    pub manager: Arc<CredentialManager>,
    /// Connects them.
    pub broker: Arc<Broker>,
}

/// What the gateway is called, and whether it shows one tool for all.
#[derive(Debug)]
pub struct Shown {
    /// `name` of the settings.
    pub name: String,
    /// `facade.single`.
    pub single: bool,
    /// `tool_names`.
    pub names: Names,
}

/// To those whose requests were running when the process had to end.
const ENDING: &str =
    "the gateway ended before the answer; the call may have been carried out: look before you make it again";

/// A request under way.
#[derive(Debug)]
pub struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request on its way: what every step may look at.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) exchange: &'a Exchange,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) scope: &'a Scope,
    pub(crate) peer: &'a Peer,
    pub(crate) outlet: Option<&'a Outlet>,
    pub(crate) record: Record,
    /// The account that the request names.
    wanted: Option<Arc<str>>,
    /// A connection that its client said it would make.
    waiting: Option<accounts::Waiting>,
    /// Fingerprint of the account that was refused.
    insufficient: OnceLock<[u8; 32]>,
}

impl Exchange {
    /// Composes the parts.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        upstreams: Arc<Upstreams>,
        metrics: Arc<Metrics>,
        (sessions, accounts): (Sessions, Accounts),
        Shown { name, single, names }: Shown,
    ) -> Arc<Self> {
        let exchange = Arc::new_cyclic(|me| Self {
            catalog,
            upstreams,
            metrics,
            shared: Arc::clone(sessions.shared()),
            sessions,
            accounts,
            name,
            single,
            names,
            running: running::Running::default(),
            asking: ask::Asking::default(),
            parking: park::Parking::default(),
            needing: drive::Needing::default(),
            mailboxes: mailbox::Mailboxes::default(),
            lanes: lanes::Lanes::default(),
            late: late::Late::default(),
            tries: tries::Tries::default(),
            aside: aside::Aside::default(),
            me: Weak::clone(me),
            busy: Arc::default(),
            closing: CancellationToken::new(),
            ending: CancellationToken::new(),
        });
        exchange.shared.serve(exchange.takes());
        exchange.witness();
        exchange
    }

    /// Ends a legacy session and all it holds here: what still runs for it is cancelled.
    pub async fn end_session(&self, id: &str) {
        self.sessions.end(id);
        self.running.end(id);
        self.mailboxes.end(id);
        self.lanes.end(id);
        self.sessions.remembered(id).await;
    }

    /// Something no call can have: for ids that must only be unique and unguessable.
    fn ticket(&self) -> String {
        self.sessions.sealer().ticket()
    }

    /// What every step of a request may look at.
    fn step<'a>(&'a self, scope: &'a Scope, peer: &'a Peer) -> Step<'a> {
        Step {
            exchange: self,
            snapshot: self.snapshot_of(&peer.principal),
            scope,
            peer,
            outlet: None,
            record: Record::default(),
            wanted: None,
            waiting: None,
            insufficient: OnceLock::new(),
        }
    }

    /// Counts a request as under way for as long as the guard lives.
    #[must_use]
    pub fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.busy))
    }

    /// Requests under way.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// What a caller finds loaded.
    fn snapshot_of(&self, principal: &Principal) -> Arc<Snapshot> {
        self.catalog.snapshot_for(&principal.tenant, &principal.user)
    }

    /// Whether the scope exists for a caller: every union, every loaded provider, and what the caller
    /// connected.
    ///
    /// # Errors
    /// [`Code::UnknownProvider`].
    pub fn exists(&self, scope: &Scope, principal: &Principal) -> Result<(), Error> {
        let Some(id) = &scope.provider else { return Ok(()) };
        let snapshot = match scope.view {
            // A caller's own server has no relay: its credentials are put on by the views alone.
            View::Relay => self.catalog.snapshot(),
            View::Meta | View::Tool => self.snapshot_of(principal),
        };
        if snapshot.providers.contains_key(id) {
            Ok(())
        } else {
            Err(unknown_provider(id))
        }
    }

    /// Answers one message. `outlet` takes the notifications of a running request.
    pub async fn handle(
        &self,
        scope: &Scope,
        peer: &Peer,
        message: Arrived,
        outlet: Option<&Outlet>,
    ) -> (Reply, Record) {
        let wanted = message.account();
        let Arrived {
            kind, method, params, ..
        } = message;
        match kind {
            Kind::Request(id) => {
                let _busy = self.begin();
                let mut step = self.step(scope, peer);
                step.outlet = outlet;
                step.record.method = method;
                step.record.outcome = "ok";
                let reply = match wanted {
                    Ok(wanted) => {
                        step.wanted = wanted;
                        step.request(&id, params).await
                    }
                    Err(error) => step.failed(&id, &error),
                };
                (reply, step.record)
            }
            Kind::Notification => {
                self.noticed(scope, peer, &method, &params);
                (
                    Reply::Accepted,
                    Record {
                        method,
                        outcome: "ok",
                        ..Record::default()
                    },
                )
            }
            Kind::Response(id, outcome) => {
                let mut record = Record {
                    method: "response".to_owned(),
                    outcome: "ok",
                    ..Record::default()
                };
                let answered = self.answered(&peer.principal.binding(), &id, outcome).await;
                let Err(error) = answered else {
                    return (Reply::Accepted, record);
                };
                record.outcome = error.code.as_str();
                (failure(None, &error, peer.revision), record)
            }
        }
    }

    /// A client's notification: cancellation, and roots that changed.
    fn noticed(&self, scope: &Scope, peer: &Peer, method: &str, params: &RawObject) {
        if method == "notifications/cancelled"
            && let Some(id) = params.get("requestId")
        {
            self.running.cancel(peer.lane.as_ref(), id);
        }
        if method == "notifications/roots/list_changed" && !peer.revision.is_modern() {
            self.step(scope, peer).roots_changed();
        }
    }
}

impl Step<'_> {
    async fn request(&mut self, id: &Id, params: RawObject) -> Reply {
        match self.cancellable(id, params).await {
            Ok(Done::Result(result)) => answer(message::result(id, &result), None),
            Ok(Done::Opened { result, session }) => Reply::Answer {
                body: message::result(id, &result),
                code: None,
                retry_after: None,
                session: Some(session),
            },
            Ok(Done::Stream(receiver)) => Reply::Stream(receiver),
            Err(error) => self.failed(id, &error),
        }
    }

    /// Runs the method, unless the peer cancels it by its id first.
    async fn cancellable(&mut self, id: &Id, params: RawObject) -> Result<Done, Error> {
        let ticket = self.exchange.running.enter(self.peer.lane.as_ref(), &id.0);
        let exchange = self.exchange;
        let done = tokio::select! {
            biased;
            done = self.answering(id, params) => done?,
            () = ticket.cancelled() => return Err(Error::new(Code::Cancelled, "cancelled by the caller")),
            () = exchange.ending.cancelled() => return Err(Error::new(Code::ShuttingDown, ENDING)),
        };
        Ok(match done {
            Done::Stream(messages) if self.peer.lane.is_some() => Done::Stream(ticket.bound(messages)),
            done => done,
        })
    }

    /// Runs the method, for a client that may be asked to connect first, or was.
    async fn answering(&mut self, id: &Id, mut params: RawObject) -> Result<Done, Error> {
        if let Err(declined) = self.returned(&mut params) {
            return self.turned_down(declined);
        }
        match self.dispatch(id, params).await {
            Err(error) => self.asking(error),
            done => done,
        }
    }

    async fn dispatch(&mut self, id: &Id, params: RawObject) -> Result<Done, Error> {
        let method = self.record.method.clone();
        let modern = self.peer.revision.is_modern();
        if self.scope.view == View::Relay {
            return self.relayed(&method, params).await;
        }
        match method.as_str() {
            "initialize" if !modern => self.initialize(&params).await,
            "ping" if !modern => Ok(Done::Result(RawObject::new().close())),
            "server/discover" if modern => self.discover(),
            "subscriptions/listen" if modern => self.listen(id, &params).await,
            "resources/subscribe" if !modern => self.subscribe(params).await.map(Done::Result),
            "resources/unsubscribe" if !modern => self.unsubscribe(params).await.map(Done::Result),
            "logging/setLevel" if !modern => self.set_level(params).await.map(Done::Result),
            "tools/list" => self.tools_list(&params).await.map(Done::Result),
            "resources/list" => self.resources_list(&params).await.map(Done::Result),
            "resources/templates/list" => self.templates_list(&params).await.map(Done::Result),
            "prompts/list" => self.prompts_list(&params).await.map(Done::Result),
            "tools/call" => self.tools_call(params).await.map(Done::Result),
            "resources/read" => self.resources_read(params).await.map(Done::Result),
            "prompts/get" => self.prompts_get(params).await.map(Done::Result),
            "completion/complete" => self.complete(params).await.map(Done::Result),
            "tasks/get" if self.has_tasks() => self.task("tasks/get", params).await.map(Done::Result),
            "tasks/update" if self.has_tasks() => self.task("tasks/update", params).await.map(Done::Result),
            "tasks/cancel" if self.has_tasks() => self.task("tasks/cancel", params).await.map(Done::Result),
            _ => Err(Error::new(
                Code::MethodNotFound,
                format!("no method `{}` in {}", printable(&method), self.peer.revision),
            )),
        }
    }

    fn failed(&mut self, id: &Id, error: &Error) -> Reply {
        self.record.outcome = error.code.as_str();
        if let Some(source) = &error.source {
            tracing::debug!(outcome = error.code.as_str(), cause = %source, "request failed");
        }
        failure(Some(id), error, self.peer.revision)
    }

    /// The provider of the scope; a union has none.
    pub(crate) fn only(&self) -> Result<Option<Arc<Provider>>, Error> {
        self.scope
            .provider
            .as_ref()
            .map(|id| self.provider(id))
            .transpose()
    }

    pub(crate) fn provider(&self, id: &str) -> Result<Arc<Provider>, Error> {
        self.snapshot
            .providers
            .get(id)
            .cloned()
            .ok_or_else(|| unknown_provider(id))
    }

    pub(crate) fn revision(&self) -> Revision {
        self.peer.revision
    }
}

/// What a method came to.
#[derive(Debug)]
pub(crate) enum Done {
    Result(Raw),
    Opened { result: Raw, session: String },
    Stream(mpsc::Receiver<Vec<u8>>),
}

fn failure(id: Option<&Id>, error: &Error, revision: Revision) -> Reply {
    Reply::Answer {
        body: message::error(id, &rpc_fault(error, revision)),
        code: Some(fault::standing(error, revision)),
        retry_after: error.retry_after,
        session: None,
    }
}

fn answer(body: Vec<u8>, code: Option<Code>) -> Reply {
    Reply::Answer {
        body,
        code,
        retry_after: None,
        session: None,
    }
}

/// The refusal for an id that no loaded provider has.
pub(crate) fn unknown_provider(id: &str) -> Error {
    Error::new(
        Code::UnknownProvider,
        format!("no provider `{}` is loaded", printable(id)),
    )
}

/// A peer's word as it may stand in an error: bounded, without what cannot be seen.
pub(crate) fn printable(text: &str) -> String {
    pleiades_core::text::printable(text, 128)
}
