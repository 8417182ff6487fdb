//! One message in, its answer out, whatever carried it: HTTP through `proxy`, lines through
//! `pleiades stdio`.
//!
//! The way of a message: snapshot -> method -> view -> (facade) -> account -> limit -> sign ->
//! upstream -> shape. Nothing here knows sockets or statuses.
//!
//! Calls go down only, results come up (`tests/it/layering.rs` holds it):
//!
//! ```text
//! mod        Exchange: what a message is, its answer, its record     -> methods, services
//! methods    a function for each method of MCP                        -> services
//! services   what methods work with                                   -> call, lists, client
//! call       plan, limit, attempts, tasks, parked calls, replicas     -> account, client, workers
//! lists      what providers offer to a caller, whom a name means      -> account, union
//! account    which account is used, what to do when there is none     -> session
//! client     what a client is told and asked during a call            -> session
//! session    sealed ids, what sessions hold, what runs for them       -> request
//! union      the lists of several providers as one                    -> request
//! request    whom a message addresses, who sent it, what it says      -> fault
//! reply      what comes back                                          -> fault
//! workers    where what may take long is done
//! fault      errors as JSON-RPC tells them
//! ```

mod account;
mod call;
mod client;
mod fault;
mod lists;
mod methods;
mod reply;
mod request;
mod services;
mod session;
mod union;
mod workers;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::result_store::WriteGuard;
pub(crate) use account::{AccountPurpose, UsedAccount, needs_auth};
pub use account::{Accounts, ConnectCommand, NAMED_IN_TOOL_VIEW};
pub(crate) use call::{is_breakage, limited};
pub(crate) use fault::paced;
pub use fault::{rpc_fault, rpc_fault_of};
pub(crate) use methods::{equal, relay_open, unequal};
pub use reply::Reply;
pub(crate) use request::{ACCOUNT_HEADER, own_signature};
pub use request::{
    Arrived, Inlet, Keys, Kind, Names, Outlet, Peer, Record, Scope, Variables, Word, unsupported,
};
pub use services::Shown;
pub use session::{Sessions, abilities, client_name, negotiated, unsealed};

use self::client::{Delivery, Questions};
use self::reply::{Done, OK};
use self::request::{Facts, Request};
use self::session::{BACKLOG, ListKinds, RememberedSessions, RepeatedCalls, RunningRequests, Watch};
use self::{account::AccountEventTask, call::Calls, lists::ListReader, services::MethodServices};
use crate::catalog::{Catalog, Provider, Snapshot};
use crate::result_store::{AccountScope, ResultStores, SharedResults};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::telemetry::{Metrics, View, request_scope};
use pleiades_credential::{access::Principal, broker::Broker, manager::CredentialManager};
use pleiades_mcp::{Id, Raw, RawObject};
use pleiades_upstream::Upstreams;

/// Everything a message needs on its way; one per process.
#[derive(Debug)]
pub struct Exchange {
    /// What is loaded.
    pub catalog: Arc<Catalog>,
    /// The way out.
    pub upstreams: Arc<Upstreams>,
    /// Legacy sessions.
    pub sessions: Arc<Sessions>,
    /// Accounts of callers.
    pub accounts: Arc<Accounts>,
    /// Open streams end when this is cancelled.
    pub closing: CancellationToken,
    /// Running requests are answered when this is cancelled, whatever they wait for.
    pub ending: CancellationToken,
    services: MethodServices,
    running: RunningRequests,
    remembered: Arc<RememberedSessions>,
    /// Hears of what happens to accounts for as long as this lives.
    _events: Arc<AccountEventTask>,
    busy: Arc<AtomicUsize>,
}

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

impl Exchange {
    /// Composes the parts.
    #[must_use]
    pub fn new(
        (catalog, upstreams): (Arc<Catalog>, Arc<Upstreams>),
        metrics: Arc<Metrics>,
        sessions: Sessions,
        keys: (Arc<CredentialManager>, Arc<Broker>),
        shown: Shown,
    ) -> Arc<Self> {
        let closing = CancellationToken::new();
        let (mailboxes, remembered) = (Arc::default(), Arc::<RememberedSessions>::default());
        let tokens = sessions.tokens().clone();
        let accounts = Accounts::new(keys, shown.name.clone(), Arc::clone(&remembered), tokens.clone());
        let (accounts, sessions) = (Arc::new(accounts), Arc::new(sessions));
        let questions = Arc::new(Questions::new(tokens, sessions.shared().replica()));
        let workers = Arc::default();
        let shared: Arc<dyn SharedResults> = Arc::clone(sessions.shared()) as _;
        let results = ResultStores::new(&shared, &metrics, catalog.control());
        let calls = Calls::new(
            (Arc::clone(&catalog), Arc::clone(&upstreams), Arc::clone(&metrics)),
            Arc::clone(&accounts),
            (Arc::clone(&questions), Arc::clone(&mailboxes)),
            &sessions,
            (Arc::clone(&workers), Arc::clone(&results.cache)),
        );
        let calls = Arc::new(calls);
        calls.serve_replicas();
        let lists = ListReader::new(Arc::clone(&catalog), Arc::clone(&accounts), closing.clone());
        let events = Arc::new(AccountEventTask {
            catalog: Arc::clone(&catalog),
            accounts: Arc::clone(&accounts),
            remembered: Arc::clone(&remembered),
            mailboxes: Arc::clone(&mailboxes),
        });
        events.listen();
        Arc::new(Self {
            services: MethodServices {
                catalog: Arc::clone(&catalog),
                upstreams: Arc::clone(&upstreams),
                metrics,
                sessions: Arc::clone(&sessions),
                mailboxes,
                questions,
                accounts: Arc::clone(&accounts),
                lists: Arc::new(lists),
                calls,
                workers,
                results,
                wrong_calls: RepeatedCalls::default(),
                shown,
                closing: closing.clone(),
            },
            catalog,
            upstreams,
            sessions,
            accounts,
            closing,
            ending: CancellationToken::new(),
            running: RunningRequests::default(),
            remembered,
            _events: events,
            busy: Arc::default(),
        })
    }

    /// Ends a legacy session and all it holds here: what still runs for it is cancelled.
    pub(crate) async fn end_session(&self, id: &str) {
        self.sessions.end(id);
        self.running.end(id);
        self.services.mailboxes.end(id);
        self.remembered.end(id);
        self.sessions.remembered(id).await;
    }

    /// Begins a write of an account that goes past [`Exchange::handle`]; `None` where no answers are given
    /// again. `tool`: the name that the caller gave it, `None` where there is none to be seen.
    pub(crate) async fn begin_write(
        &self,
        provider: &Provider,
        tool: Option<&str>,
        account: Option<[u8; 32]>,
    ) -> Option<WriteGuard> {
        let lists = provider.live.shared.load_full();
        let tool = tool.and_then(|name| lists.tool(name));
        if !provider.empties_cache(tool.map(AsRef::as_ref)) {
            return None;
        }
        let scope = AccountScope::new(&provider.id, account);
        Some(self.services.results.cache.begin_write(scope).await)
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

    /// What a caller finds loaded at a path: taken once for a request, which keeps to it.
    #[must_use]
    pub fn snapshot(&self, scope: &Scope, principal: &Principal) -> Arc<Snapshot> {
        // A caller's own server has no relay: its credentials are put on by the views alone.
        let own = (scope.view != View::Relay).then_some((&principal.tenant, &principal.user));
        self.catalog.snapshot_for(own)
    }

    /// Answers one message by what was loaded when it arrived. `outlet` takes the notifications of a
    /// running request.
    pub async fn handle(
        &self,
        snapshot: &Arc<Snapshot>,
        (scope, peer): (&Scope, &Peer),
        message: Arrived,
        outlet: Option<&Outlet>,
    ) -> (Reply, Record) {
        let id = peer.request_id.as_str().into();
        request_scope::within(id, self.handle_message(snapshot, (scope, peer), message, outlet)).await
    }

    async fn handle_message(
        &self,
        snapshot: &Arc<Snapshot>,
        (scope, peer): (&Scope, &Peer),
        message: Arrived,
        outlet: Option<&Outlet>,
    ) -> (Reply, Record) {
        let account = message.account();
        let Arrived {
            kind, method, params, ..
        } = message;
        let method = match &kind {
            Kind::Response(..) => "response".to_owned(),
            Kind::Request(_) | Kind::Notification => method,
        };
        let facts = Facts::default();
        let request = Request::new(snapshot, (scope, peer), &method, &facts);
        // Answers of HTTP have a header for it, which not every caller gets to see.
        let headers = peer.keys.headers();
        let is_named = headers.is_none_or(|headers| headers.contains_key("pleiades-name-request"));
        let named = is_named.then_some(&*peer.request_id);
        let to = (peer.revision, named);
        let (reply, outcome) = match kind {
            Kind::Request(id) => {
                let _busy = self.begin();
                let done = match account {
                    Ok(account) => {
                        let request = request.with_account(account).with_outlet(outlet);
                        self.cancellable(&request, &id, params).await
                    }
                    Err(error) => Err(error),
                };
                let done = done.map_err(paced);
                if let Err(error) = &done {
                    facts.fail(error);
                }
                Reply::of(&id, done, to)
            }
            Kind::Notification => {
                self.take_notice(&request, &params);
                (Reply::Accepted, OK)
            }
            Kind::Response(id, answer) => match self.take_answer(&request.holder(), &id, answer).await {
                Ok(()) => (Reply::Accepted, OK),
                Err(error) => {
                    facts.fail(&error);
                    (Reply::failure(None, &error, to), error.code.as_str())
                }
            },
        };
        let record = facts.record(method, outcome);
        if record.cause.is_none() {
            return (reply, record);
        }
        let id = record.provider.as_ref().or(scope.provider.as_ref()).cloned();
        let provider = id.and_then(|id| snapshot.providers.get(&id));
        (reply, record.judged(provider.map(|it| &it.need)))
    }

    async fn cancellable(&self, request: &Request<'_>, id: &Id, params: RawObject) -> Result<Done, Error> {
        let running = self.running.enter(request.session(), &id.0);
        let done = tokio::select! {
            biased;
            done = self.connecting(request, id, params) => done?,
            () = running.cancelled() => return Err(Error::new(Code::Cancelled, "cancelled by the caller")),
            () = self.ending.cancelled() => return Err(Error::new(Code::ShuttingDown, ENDING)),
        };
        Ok(match done {
            Done::Stream(messages) if request.session().is_some() => Done::Stream(running.bound(messages)),
            done => done,
        })
    }

    /// Runs the method, for a client that may be asked to connect first, or was.
    async fn connecting(&self, request: &Request<'_>, id: &Id, mut params: RawObject) -> Result<Done, Error> {
        let awaited = match self.accounts.take_retry(request, &mut params).await {
            Ok(awaited) => awaited,
            Err(declined) => return account::declined_answer(request, declined),
        };
        let request = request.clone().with_awaited(awaited.as_ref());
        match methods::dispatch(&self.services, &request, id, params).await {
            Err(error) => self.accounts.ask_to_connect(&request, error).map(Done::asks),
            done => done,
        }
    }

    fn take_notice(&self, request: &Request<'_>, params: &RawObject) {
        match request.method() {
            "notifications/cancelled" => {
                if let Some(id) = params.get("requestId") {
                    self.running.cancel(request.session(), id);
                }
            }
            "notifications/roots/list_changed" if !request.is_modern() => {
                methods::roots_changed(&self.services, request);
            }
            _ => {}
        }
    }

    async fn take_answer(&self, holder: &str, id: &Id, answer: Result<Raw, RpcFault>) -> Result<(), Error> {
        let (delivery, verdict) = self.services.questions.answer(holder, id, answer)?;
        if let Delivery::Elsewhere { replica, answered } = delivery {
            self.services.calls.hand_answer(&replica, answered).await?;
        }
        verdict
    }

    /// The stream of a legacy session: list changes in its scope, and what its providers say and
    /// ask outside of calls, until the process ends.
    #[must_use]
    pub fn session_stream(
        &self,
        snapshot: &Arc<Snapshot>,
        scope: &Scope,
        peer: &Peer,
    ) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let (session, principal) = (peer.session.as_ref(), &peer.principal);
        let mailboxes = &self.services.mailboxes;
        let stream = session.map(|session| mailboxes.place(session, principal, sender.clone()));
        let watch = Watch {
            changes: self.catalog.changes(),
            provider: scope.provider.clone(),
            principal: principal.clone(),
            kinds: ListKinds::ALL,
            subscription: None,
            updates: None,
            sender,
            _stream: stream,
            closing: self.closing.clone(),
        };
        tokio::spawn(watch.run(Vec::new()));
        if session.is_some() && scope.provider.is_some() && scope.view != View::Relay {
            let facts = Facts::default();
            let request = Request::new(snapshot, (scope, peer), "", &facts);
            methods::open_line(&self.services, &request);
        }
        receiver
    }
}
