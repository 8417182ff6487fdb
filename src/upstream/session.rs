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
use tokio::time::Instant;

use super::{
    answer::{self, Reading},
    endpoint::{Behalf, Endpoint},
    incoming::Outcome,
    outgoing,
    pool::Member,
    post::{self, Head, SESSION},
    shared::Shared,
};
use crate::credential::Signature;
use crate::error::{Code, Error, RpcFault};
use crate::mcp::{RawObject, Revision, message};

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
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    behalf: &Behalf,
    revision: Revision,
    deadline: Instant,
) -> Result<Arc<Session>, Refusal> {
    let route = shared.clients.route(endpoint)?;
    let id = shared.next_id();
    let body = message::request(id, "initialize", &outgoing::greeting(revision));
    let response = post::post(&route, &behalf.signature, Head::default(), body.into(), deadline).await?;
    let session = response.headers().get(SESSION).cloned();
    let reading = Reading {
        id,
        deadline,
        in_session: false,
        progress: None,
    };
    let outcome: Outcome = answer::read(response, &reading, |_, _| ())
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

    /// DELETE, best effort: whoever keeps sessions until they are told keeps a lot.
    pub(crate) async fn close(&self) {
        if self.id.is_none() || self.ended.swap(true, Ordering::AcqRel) {
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
