//! Hears of changed lists: the GET stream of a session, `subscriptions/listen`, what a wire brings.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{
    call::{Profile, ProviderChange},
    endpoint::{Endpoint, Identity, Transport},
    incoming::{self, is_type},
    outgoing::{RequestMeta, encode},
    pool::PoolKey,
    post::{self, RequestHead},
    reconnect::StreamBackoff,
    remote::ProviderClient,
    response::{LARGEST, compressed},
    session_stream::StreamState,
    shared::Shared,
    wired::WireClient,
};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{ClientCapabilities, DeclaredCapabilities, Message, Revision, message, sse};

/// Lists are read with everything declared, and listened to in the same session.
static ALL: DeclaredCapabilities = DeclaredCapabilities::all();
/// Changes waiting for the listener; one that does not listen loses nothing it could not ask for.
const WAITING: usize = 32;
/// A stream that is silent for so long is opened anew: the connection may be dead without a word.
const SILENT: Duration = Duration::from_secs(3600);

pub(crate) fn watch(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    identity: &Identity,
    profile: &Profile,
) -> mpsc::Receiver<ProviderChange> {
    let (tell, changes) = mpsc::channel(WAITING);
    if incoming::announced_changes(&profile.capabilities) == [false; 3] {
        return changes;
    }
    let listener = ListWatcher {
        shared: Arc::clone(shared),
        endpoint: Arc::clone(endpoint),
        identity: identity.clone(),
        profile: profile.clone(),
        tell: tell.clone(),
        opened: None,
        spoke: false,
    };
    let closing = shared.closing.clone();
    shared.control.spawn(async move {
        tokio::select! {
            () = closing.cancelled() => {}
            () = tell.closed() => {}
            () = listener.run() => {}
        }
    });
    changes
}

struct ListWatcher {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    identity: Identity,
    profile: Profile,
    tell: mpsc::Sender<ProviderChange>,
    /// When the stream under way was opened; nothing while there is none.
    opened: Option<Instant>,
    /// Whether it brought a change.
    spoke: bool,
}

/// How a stream came to its end.
enum StreamEnd {
    /// It will never bring anything: the provider offers none.
    Never,
    Closed,
}

impl ListWatcher {
    async fn run(mut self) {
        if let Transport::Stdio { .. } = self.endpoint.target {
            return self.run_process().await;
        }
        let modern = self.profile.revisions.contains(Revision::V2026_07_28);
        let mut pace = StreamBackoff::default();
        loop {
            (self.opened, self.spoke) = (None, false);
            let ended = if self.shared.is_wired(&self.endpoint) {
                self.run_wire().await
            } else if modern {
                self.run_modern().await
            } else {
                self.run_session().await
            };
            match ended {
                Ok(StreamEnd::Never) => return,
                Ok(StreamEnd::Closed) => {}
                Err(error) => {
                    let provider = &*self.endpoint.provider;
                    tracing::debug!(provider.name = provider, %error, "no stream of changes");
                }
            }
            let (opened, spoke) = (self.opened, self.spoke);
            if opened.is_some() {
                self.send(ProviderChange::Lost).await;
            }
            let lived = opened.map_or(Duration::ZERO, |opened| opened.elapsed());
            sleep(pace.next(lived, spoke)).await;
        }
    }

    async fn run_process(mut self) {
        let key = PoolKey::of(&self.endpoint, &self.identity, None, ClientCapabilities::ALL);
        let mut changes = self.shared.hubs.subscribe(&key);
        loop {
            match changes.recv().await {
                Ok(change) => self.send(change).await,
                Err(RecvError::Lagged(_)) => self.send(ProviderChange::Lost).await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn run_modern(&mut self) -> Result<StreamEnd, Error> {
        let Some(mut params) = incoming::subscription(&self.profile.capabilities) else {
            return Ok(StreamEnd::Never);
        };
        let (id, revision) = (self.shared.next_id(), Revision::V2026_07_28);
        let method = "subscriptions/listen";
        let manner = RequestMeta::without_progress(revision, &ALL);
        let body = encode(id, method, &mut params, manner).body;
        let head = RequestHead {
            revision: Some(revision),
            method: Some(method),
            ..RequestHead::default()
        };
        let route = self.shared.clients.route(&self.endpoint)?;
        let signature = &self.identity.signature;
        let response = post::post(&route, signature, head, body.into(), self.start_deadline()).await?;
        self.read_stream(response).await
    }

    /// The stream of the session that lists are read in; the session keeps it.
    async fn run_session(&mut self) -> Result<StreamEnd, Error> {
        let newest = self.profile.revisions.newest().unwrap_or(Revision::NEWEST_LEGACY);
        let remote = ProviderClient {
            shared: &self.shared,
            endpoint: &self.endpoint,
            identity: &self.identity,
            declared: &ALL,
        };
        let session = remote.session(newest, self.start_deadline()).await?;
        let mut state = session.stream_state();
        let mut changes = self.shared.hubs.subscribe(session.key());
        let begun = Instant::now();
        loop {
            let now = *state.borrow_and_update();
            match now {
                StreamState::Never => return Ok(StreamEnd::Never),
                StreamState::Over => {
                    self.opened = Some(begun);
                    return Ok(StreamEnd::Closed);
                }
                StreamState::Opening | StreamState::Open | StreamState::Broken => {}
            }
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Ok(change) => self.send(change).await,
                    Err(RecvError::Lagged(_)) => self.send(ProviderChange::Lost).await,
                    Err(RecvError::Closed) => return Ok(StreamEnd::Closed),
                },
                changed = state.changed() => if changed.is_err() {
                    return Ok(StreamEnd::Closed);
                },
            }
        }
    }

    /// The event stream of 2024-11-05 that lists are read over, kept for it.
    async fn run_wire(&mut self) -> Result<StreamEnd, Error> {
        let wired = WireClient {
            shared: &self.shared,
            endpoint: &self.endpoint,
            identity: &self.identity,
            declared: &ALL,
        };
        let wire = wired.wire(self.start_deadline()).await?;
        let over = wire.over();
        let mut changes = self.shared.hubs.subscribe(wire.key());
        let begun = Instant::now();
        loop {
            let change = tokio::select! {
                biased;
                change = changes.recv() => change,
                () = over.cancelled() => {
                    self.opened = Some(begun);
                    return Ok(StreamEnd::Closed);
                }
            };
            match change {
                // Told again when the stream is over.
                Ok(ProviderChange::Lost) => {}
                Ok(change) => self.send(change).await,
                Err(RecvError::Lagged(_)) => self.send(ProviderChange::Lost).await,
                Err(RecvError::Closed) => return Ok(StreamEnd::Closed),
            }
        }
    }

    fn start_deadline(&self) -> Instant {
        Instant::now() + self.endpoint.start_timeout()
    }

    async fn read_stream(&mut self, mut response: reqwest::Response) -> Result<StreamEnd, Error> {
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let message = "the provider is failing; try again later";
            return Err(Error::new(Code::UpstreamUnreachable, message));
        }
        if status == StatusCode::UNAUTHORIZED && self.identity.signature.settled().is_none() {
            // A credential that is renewed may do later.
            return Err(Error::new(
                Code::UpstreamAuth,
                "the provider refused the credential",
            ));
        }
        if !status.is_success() || !is_type(response.headers(), "text/event-stream") {
            return Ok(StreamEnd::Never);
        }
        if let Some(coding) = incoming::content_coding(response.headers()) {
            return Err(compressed(&coding));
        }
        self.opened = Some(Instant::now());
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                self.handle_event(&frame.data).await;
            }
        }
        Ok(StreamEnd::Closed)
    }

    async fn handle_event(&mut self, data: &str) {
        if let Ok(Message::Notification { method, .. }) = message::decode(data.as_bytes())
            && let Some(change) = ProviderChange::from_method(&method)
        {
            self.send(change).await;
        }
    }

    async fn send(&mut self, change: ProviderChange) {
        self.spoke |= change != ProviderChange::Lost;
        if self.tell.send(change).await.is_err() {
            tracing::trace!("nobody listens for changes any more");
        }
    }
}
