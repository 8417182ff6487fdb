//! A legacy session over HTTP: `initialize`, `notifications/initialized`, and its end.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, Reading},
    asks::Request,
    call::Event,
    endpoint::Endpoint,
    incoming::Outcome,
    outgoing,
    patience::Asking,
    pool::Member,
    post::{self, Head, SESSION},
    remote::Remote,
    shared::Shared,
    stream::Standing,
};
use crate::credential::Signature;
use crate::error::{Code, Error, RpcFault};
use crate::mcp::{RawObject, Revision, message};

/// How long a provider may take to take an answer.
const ERRAND: Duration = Duration::from_secs(10);
/// How long a provider may take to hear that a session has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a provider said to `initialize`, and the id it gave.
pub(crate) struct Session {
    pub(crate) id: Option<HeaderValue>,
    pub(crate) revision: Revision,
    pub(crate) greeting: RawObject,
    endpoint: Arc<Endpoint>,
    signature: Arc<Signature>,
    shared: Weak<Shared>,
    ended: AtomicBool,
    stream: watch::Sender<Standing>,
    /// Ends the GET stream.
    over: CancellationToken,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum Refusal {
    Error(Error),
    /// The provider knows no `initialize`, or not this revision.
    Rpc(RpcFault),
}

/// Opens a session, asking for `revision`; the provider may settle on another one that we know.
pub(crate) async fn open(
    remote: Remote<'_>,
    revision: Revision,
    deadline: Instant,
) -> Result<Arc<Session>, Refusal> {
    let Remote {
        shared,
        endpoint,
        behalf,
        declared,
    } = remote;
    let route = shared.clients.route(endpoint)?;
    let id = shared.next_id();
    let body = message::request(id, "initialize", &outgoing::greeting(revision, declared));
    let response = post::post(&route, &behalf.signature, Head::default(), body.into(), deadline).await?;
    let session = response.headers().get(SESSION).cloned();
    let reading = Reading {
        id,
        deadline,
        in_session: false,
        events: None,
        patience: None,
    };
    let outcome: Outcome = answer::read(response, &reading, |_| ())
        .await
        .map_err(Error::from)?;
    let (revision, greeting) = settled(&outcome.map_err(Refusal::Rpc)?)?;
    let session = Session {
        id: session,
        revision,
        greeting,
        endpoint: Arc::clone(endpoint),
        signature: Arc::clone(&behalf.signature),
        shared: Arc::downgrade(shared),
        ended: AtomicBool::new(false),
        stream: watch::Sender::new(Standing::Opening),
        over: CancellationToken::new(),
    };
    let body = message::notification("notifications/initialized", None);
    session.post(&route, body, deadline).await?;
    Ok(Arc::new(session))
}

/// The revision in the answer to `initialize`, and the answer opened.
pub(crate) fn settled(result: &crate::mcp::Raw) -> Result<(Revision, RawObject), Error> {
    let unusable = |message: &'static str| Error::new(Code::UpstreamProtocol, message).sent();
    let greeting = RawObject::open(result)
        .map_err(|error| unusable("the provider's answer to `initialize` is not an object").because(error))?;
    let revision = greeting
        .read::<String>("protocolVersion")
        .and_then(|text| Revision::parse(&text))
        .filter(|revision| !revision.is_modern())
        .ok_or_else(|| unusable("the provider settled on a revision that we do not speak"))?;
    Ok((revision, greeting))
}

impl Session {
    /// Posts what gets no answer: notifications, and answers to the provider's requests.
    pub(crate) async fn post(
        &self,
        route: &super::client::Route,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let head = self.head();
        let response = post::post(route, &self.signature, head, Bytes::from(body), deadline).await?;
        if response.status().is_client_error() || response.status().is_server_error() {
            tracing::debug!(
                provider.name = &*self.endpoint.provider,
                status = response.status().as_u16(),
                "a notification was refused",
            );
        }
        Ok(())
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            revision: Some(self.revision),
            session: self.id.as_ref(),
            ..Head::default()
        }
    }

    pub(crate) const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(crate) const fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// How its GET stream fares.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.stream.subscribe()
    }

    pub(crate) fn stands(&self, standing: Standing) {
        self.stream.send_replace(standing);
    }

    pub(crate) fn end_of_stream(&self) -> CancellationToken {
        self.over.clone()
    }

    /// Answers a request of the provider, once whoever takes it has; nobody waits for it here.
    pub(crate) fn answer(
        self: &Arc<Self>,
        request: Request,
        to: Option<&mpsc::Sender<Event>>,
        asking: Vec<Asking>,
    ) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let (session, closing, over) = (Arc::clone(self), shared.closing.clone(), self.over.clone());
        let errand = Arc::clone(&shared);
        let put = request.put(to);
        shared.detach(async move {
            let replied = async {
                let body = put.reply().await;
                drop(asking);
                let route = errand.clients.route(&session.endpoint).ok()?;
                session.post(&route, body, Instant::now() + ERRAND).await.err()
            };
            let failed = tokio::select! {
                failed = replied => failed,
                () = closing.cancelled() => None,
                () = over.cancelled() => None,
            };
            if let Some(error) = failed {
                tracing::debug!(provider.name = &*session.endpoint.provider, %error, "an answer was not delivered");
            }
        });
    }

    /// DELETE, best effort: whoever keeps sessions until they are told keeps a lot.
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
        let closed = post::bare(&route, &self.signature, Method::DELETE, self.head(), deadline).await;
        if let Err(error) = closed {
            tracing::debug!(provider.name = &*self.endpoint.provider, %error, "a session was not closed");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Member for Session {
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

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Error(error) => error,
            Refusal::Rpc(fault) => Self::rpc(fault),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("provider", &self.endpoint.provider)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
