//! A legacy session over HTTP: `initialize`, `notifications/initialized`, and its end.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    endpoint::Endpoint,
    health::SessionHealth,
    hub::QuestionRoute,
    incoming,
    incoming_request::IncomingRequest,
    outgoing,
    pool::Pooled,
    post::{self, RequestHead, SESSION},
    profile::MAX_INITIALIZE,
    provider_client::ProviderClient,
    reconnect::StreamState,
    refusal::SessionKind,
    response::{self, CallFailure, Reading},
    shared::Shared,
    summary::ResponseSummary,
};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::{signature::Signature, text::one_line};
use pleiades_mcp::{RawObject, Revision, message};

/// The longest id of a session that is kept, in bytes.
const LONGEST_ID: usize = 4096;
/// How long a provider may take to take an answer.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a provider may take to hear that a session has ended.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) struct HttpSession {
    pub(crate) id: Option<HeaderValue>,
    pub(crate) revision: Revision,
    pub(crate) initialize_result: RawObject,
    pub(crate) health: SessionHealth,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) signature: Arc<Signature>,
    shared: Weak<Shared>,
    ended: AtomicBool,
    stream: watch::Sender<StreamState>,
    /// Ends the GET stream.
    over: CancellationToken,
}

#[derive(Debug)]
pub(crate) enum HandshakeError {
    Error(Error),
    /// The provider knows no `initialize`, or not this revision.
    Rpc(RpcFault),
    /// It settled on a revision that we do not speak.
    Unspoken(Error),
}

/// Opens a session, asking for `revision`; the provider may settle on another one that we know. One that
/// refuses our newest is asked for older ones, unless the descriptor pins it.
pub(crate) async fn open(
    client: ProviderClient<'_>,
    revision: Revision,
    deadline: Instant,
) -> Result<Arc<HttpSession>, HandshakeError> {
    let refusal = match Box::pin(initialize(client, revision, deadline)).await {
        Err(refusal) => refusal,
        opened => return opened,
    };
    if client.endpoint.revision.is_some() || revision != Revision::NEWEST_LEGACY {
        return Err(refusal);
    }
    for older in refusal.older_revisions(revision) {
        match Box::pin(initialize(client, older, deadline)).await {
            Err(next) if !next.is_about_revision() => break,
            Err(_) => {}
            opened => return opened,
        }
    }
    Err(refusal)
}

/// One `initialize`, asked again when its connection broke: that changes nothing.
async fn initialize(
    client: ProviderClient<'_>,
    revision: Revision,
    deadline: Instant,
) -> Result<Arc<HttpSession>, HandshakeError> {
    let ProviderClient {
        shared,
        endpoint,
        identity,
        declared,
    } = client;
    let route = shared.clients.route(endpoint)?;
    let asking = || async {
        let id = shared.next_id();
        let body = message::request(id, "initialize", &outgoing::initialize_params(revision, declared));
        let head = RequestHead::default();
        let response = post::post(&route, &identity.signature, head, body.into(), deadline).await?;
        let session = response.headers().get(SESSION).cloned();
        let reading = Reading::alone(id, deadline, &identity.signature);
        let outcome = response::read(response, &reading, |_| ()).await?;
        Ok((session, outcome))
    };
    let (session, outcome) = match asking().await {
        Err(CallFailure::Broken(error)) if error.sent => asking().await.map_err(Error::from)?,
        answered => answered.map_err(Error::from)?,
    };
    let result = outcome.map_err(HandshakeError::Rpc)?;
    let is_long = |id: &HeaderValue| id.len() > LONGEST_ID;
    if session.as_ref().is_some_and(is_long) {
        let message = format!("the provider gave a session id of more than {LONGEST_ID} bytes");
        return Err(Error::new(Code::UpstreamProtocol, message).sent().into());
    }
    let (revision, initialize_result) = parse_initialize(&result)?;
    let session = HttpSession {
        id: session,
        revision,
        initialize_result,
        health: SessionHealth::new(),
        endpoint: Arc::clone(endpoint),
        signature: Arc::clone(&identity.signature),
        shared: Arc::downgrade(shared),
        ended: AtomicBool::new(false),
        stream: watch::Sender::new(StreamState::Opening),
        over: CancellationToken::new(),
    };
    let body = message::notification("notifications/initialized", None);
    let posted = session.post(body.clone(), deadline).await;
    match posted.map_err(CallFailure::from) {
        Err(CallFailure::Broken(_)) => session.post(body, deadline).await?,
        done => done.map_err(Error::from)?,
    }
    Ok(Arc::new(session))
}

pub(crate) fn parse_initialize(result: &pleiades_mcp::Raw) -> Result<(Revision, RawObject), HandshakeError> {
    let unusable = |message: String| Error::new(Code::UpstreamProtocol, message).sent();
    if result.get().len() > MAX_INITIALIZE {
        let message = "the provider's answer to `initialize` is larger than 256 KiB";
        return Err(unusable(message.to_owned()).into());
    }
    let greeting = RawObject::open(result).map_err(|error| {
        unusable("the provider's answer to `initialize` is not an object".to_owned()).because(error)
    })?;
    let Some(named) = greeting.text("protocolVersion").map(|text| one_line(&text, 40)) else {
        let message = "the provider's answer to `initialize` names no revision";
        return Err(unusable(message.to_owned()).into());
    };
    let spoken = Revision::parse(&named).filter(|revision| !revision.is_modern());
    let revision = spoken.ok_or_else(|| {
        let message = format!("the provider settled on the revision `{named}`, which we do not speak");
        HandshakeError::Unspoken(unusable(message))
    })?;
    Ok((revision, greeting))
}

impl HandshakeError {
    /// Which revisions to ask for after this refusal of one, in order: the newest that the refusal names and we
    /// speak, then the two that servers commonly know. None when it is not about the revision, or names only
    /// what has no `initialize`.
    pub(crate) fn older_revisions(&self, asked: Revision) -> Vec<Revision> {
        if !self.is_about_revision() {
            return Vec::new();
        }
        let (named, words) = match self {
            Self::Rpc(fault) => (incoming::supported(fault), fault.message.clone()),
            Self::Error(error) | Self::Unspoken(error) => (None, error.root().unwrap_or_default()),
        };
        let named = named.unwrap_or_default();
        let is_named = |revision: &Revision| {
            let text = revision.as_str();
            named.iter().any(|name| name == text) || words.contains(text)
        };
        let is_older = |revision: &Revision| !revision.is_modern() && *revision != asked;
        let ours = Revision::ALL.into_iter().rev().filter(is_older);
        let mut others: Vec<Revision> = ours.filter(is_named).take(1).collect();
        if !named.is_empty() && others.is_empty() {
            return others;
        }
        for usual in [Revision::V2025_06_18, Revision::V2025_03_26] {
            if usual != asked && !others.contains(&usual) {
                others.push(usual);
            }
        }
        others
    }

    /// Whether it may be about the revision. Of a refusal in HTTP's own words that depends on its status: neither
    /// the path, nor the credential, nor a failure that passes.
    fn is_about_revision(&self) -> bool {
        let Self::Error(error) = self else { return true };
        let status = ResponseSummary::status(error).map(|status| status.as_u16());
        status
            .is_some_and(|status| matches!(status, 400 | 406 | 409 | 412 | 422 | 426 | 428 | 500 | 501 | 505))
    }
}

impl HttpSession {
    /// Posts what gets no answer: notifications, and answers to the provider's requests.
    pub(crate) async fn post(&self, body: Vec<u8>, deadline: Instant) -> Result<(), Error> {
        let route = Shared::upgrade(&self.shared)?.clients.route(&self.endpoint)?;
        let head = self.head();
        let response = post::post(&route, &self.signature, head, Bytes::from(body), deadline).await?;
        if response.status().is_client_error() || response.status().is_server_error() {
            tracing::debug!(
                provider.name = &*self.endpoint.provider,
                http.status = response.status().as_u16(),
                "a notification was refused",
            );
        }
        Ok(())
    }

    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            revision: Some(self.revision),
            session: self.id.as_ref(),
            ..RequestHead::default()
        }
    }

    pub(crate) const fn kind(&self) -> SessionKind {
        match self.id {
            Some(_) => SessionKind::Named,
            None => SessionKind::Nameless,
        }
    }

    pub(crate) fn stream_state(&self) -> watch::Receiver<StreamState> {
        self.stream.subscribe()
    }

    pub(crate) fn set_stream_state(&self, state: StreamState) {
        self.stream.send_replace(state);
    }

    pub(crate) fn end_of_stream(&self) -> CancellationToken {
        self.over.clone()
    }

    /// Answers a request of the provider, once whoever takes it has; nobody waits for it here.
    pub(crate) fn answer(self: &Arc<Self>, request: IncomingRequest, route: QuestionRoute) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let session = Arc::clone(self);
        shared.answer(request, route, self.over.clone(), move |body| async move {
            session.post(body, Instant::now() + NOTIFY_TIMEOUT).await
        });
    }

    /// DELETE, best effort: a server may keep each session until then.
    pub(crate) async fn close(&self) {
        self.over.cancel();
        if self.ended.swap(true, Ordering::AcqRel) || self.id.is_none() {
            return;
        }
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let Ok(route) = shared.clients.route(&self.endpoint) else {
            return;
        };
        let deadline = Instant::now() + FAREWELL;
        let closed =
            post::send_bodyless(&route, &self.signature, Method::DELETE, self.head(), deadline).await;
        if let Err(error) = closed {
            tracing::debug!(provider.name = &*self.endpoint.provider, %error, "a session was not closed");
        }
    }
}

impl Drop for HttpSession {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Pooled for HttpSession {
    fn end(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            let session = Arc::clone(self);
            shared.detach(async move { session.close().await });
        }
    }

    fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<HandshakeError> for Error {
    fn from(refusal: HandshakeError) -> Self {
        match refusal {
            HandshakeError::Error(error) | HandshakeError::Unspoken(error) => error,
            HandshakeError::Rpc(fault) => Self::rpc(fault),
        }
    }
}
