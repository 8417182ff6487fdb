//! One provider as one caller sees it, whatever the transport.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

use super::{
    call::Call,
    deadline::Deadline,
    endpoint::{Endpoint, Identity},
    hub::HubGuard,
    outgoing::{RequestMeta, encode},
    pool::{PoolKey, PoolLease},
    post::{self, RequestHead},
    reconnect::StreamState,
    session::HttpSession,
    shared::Shared,
    wire::Wire,
};
use pleiades_core::error::Error;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision};

#[derive(Clone, Copy)]
pub(crate) struct ProviderClient<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) identity: &'a Identity,
    pub(crate) declared: &'a DeclaredCapabilities,
}

/// The same for work that outlives its caller.
pub(crate) struct OwnedClient {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) identity: Identity,
    pub(crate) declared: DeclaredCapabilities,
}

/// Where a provider says what belongs to no call: the hub has it under a key.
pub(crate) enum Source {
    /// The GET stream that a legacy session keeps.
    Session(PoolLease<HttpSession>, watch::Receiver<StreamState>),
    Wire(PoolLease<Wire>),
}

impl OwnedClient {
    pub(crate) const fn borrow(&self) -> ProviderClient<'_> {
        ProviderClient {
            shared: &self.shared,
            endpoint: &self.endpoint,
            identity: &self.identity,
            declared: &self.declared,
        }
    }

    /// When a session or stream that is opened now has to be open.
    pub(crate) fn start_deadline(&self) -> Instant {
        Instant::now() + self.endpoint.start_timeout()
    }
}

impl ProviderClient<'_> {
    pub(crate) fn into_owned(self) -> OwnedClient {
        OwnedClient {
            shared: Arc::clone(self.shared),
            endpoint: Arc::clone(self.endpoint),
            identity: self.identity.clone(),
            declared: self.declared.clone(),
        }
    }

    /// One request, repeated only where it cannot run twice or may.
    pub(crate) async fn request(self, call: Call) -> Result<Raw, Error> {
        if self.shared.is_wired(self.endpoint) {
            self.request_wired(call).await
        } else {
            self.request_http(call).await
        }
    }

    /// The key of its session in a revision; of its wire, which settles on one itself, with `None`.
    pub(crate) fn key(self, revision: Option<Revision>) -> PoolKey {
        PoolKey::of(self.endpoint, self.identity, revision, self.declared.abilities)
    }

    /// The key under which the hub has what belongs to no call of a revision.
    pub(crate) fn hub_key(self, revision: Revision) -> PoolKey {
        self.key((!self.shared.is_wired(self.endpoint)).then_some(revision))
    }

    /// Where it says what belongs to no call, begun when there is none; `None`: nowhere but on streams of
    /// [`Self::open_subscription`].
    pub(crate) async fn source(self, revision: Revision, deadline: Instant) -> Result<Option<Source>, Error> {
        if self.shared.is_wired(self.endpoint) {
            return Ok(Some(Source::Wire(self.wire(deadline).await?)));
        }
        if revision.is_modern() {
            return Ok(None);
        }
        let session = self.session(revision, deadline).await?;
        let state = session.stream_state();
        Ok(Some(Source::Session(session, state)))
    }

    /// Registers a call whose caller hears events, in the session or wire of a key, until the guard is dropped.
    /// A question of the provider stops the clock meanwhile.
    pub(crate) fn register(
        self,
        call: &Call,
        key: &PoolKey,
        token: u64,
        deadline: Instant,
    ) -> Option<(Arc<Deadline>, HubGuard)> {
        let events = call.events.clone()?;
        let timer = Deadline::until(deadline);
        let recipient = (self.identity.session.as_ref(), events);
        let guard = self.shared.hubs.register_call(key, token, recipient, &timer);
        Some((timer, guard))
    }

    /// `subscriptions/listen` over a wire. Its answer ends the subscription and means nothing more: nobody waits
    /// for it.
    pub(crate) async fn subscribe_wire(
        self,
        wire: &Wire,
        revision: Revision,
        mut params: RawObject,
        deadline: Instant,
    ) -> Result<(), Error> {
        let meta = RequestMeta::without_progress(revision, self.declared);
        let request = encode(self.shared.next_id(), "subscriptions/listen", &mut params, meta);
        wire.notify(request.body, deadline).await
    }

    pub(crate) async fn open_subscription(
        self,
        revision: Revision,
        mut params: RawObject,
    ) -> Result<reqwest::Response, Error> {
        let method = "subscriptions/listen";
        let meta = RequestMeta::without_progress(revision, self.declared);
        let body = encode(self.shared.next_id(), method, &mut params, meta).body;
        let head = RequestHead {
            revision: Some(revision),
            method: Some(method),
            ..RequestHead::default()
        };
        let route = self.shared.clients.route(self.endpoint)?;
        let deadline = Instant::now() + self.endpoint.start_timeout();
        post::post(&route, &self.identity.signature, head, body.into(), deadline).await
    }
}

impl Source {
    pub(crate) fn key(&self) -> &PoolKey {
        match self {
            Self::Session(session, _) => session.key(),
            Self::Wire(wire) => wire.key(),
        }
    }

    /// Waits until one of these states is reached; the end of a wire is `Over`.
    pub(crate) async fn wait_for(&mut self, states: &[StreamState]) -> StreamState {
        match self {
            Self::Session(_, state) => {
                let reached = state.wait_for(|it| states.contains(it)).await;
                reached.map_or(StreamState::Over, |state| *state)
            }
            Self::Wire(wire) => {
                wire.over().cancelled().await;
                StreamState::Over
            }
        }
    }
}
