//! The GET stream that a legacy session keeps: what a provider says and asks outside of calls.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Method, StatusCode};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    call::ProviderChange,
    incoming::{self, is_type},
    incoming_request::IncomingRequest,
    lost,
    pool::PoolKey,
    post::{self, RequestHead},
    reconnect::StreamBackoff,
    response::{self, LARGEST, SessionKind},
    session::HttpSession,
    shared::Shared,
    summary,
};
use pleiades_core::error::Error;
use pleiades_mcp::{Message, message, sse};

/// A stream that is silent for so long is opened anew: the connection may be dead without a word.
const SILENT: Duration = Duration::from_secs(3600);
/// How long the words of a refusal may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long the first call of a session waits for its stream to stand.
const HEAD_START: Duration = Duration::from_millis(250);

/// How the stream of a session fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamState {
    Opening,
    Open,
    /// It broke and is opened again.
    Broken,
    /// The provider offers none.
    Never,
    /// The session is gone.
    Over,
}

/// Opens the stream of a session and keeps it; returns once it stands, or soon after.
pub(crate) async fn keep(shared: &Arc<Shared>, session: &Arc<HttpSession>, key: &PoolKey) {
    let task = SessionStream {
        shared: Arc::downgrade(shared),
        session: Arc::downgrade(session),
        key: key.clone(),
        after: None,
        pace: StreamBackoff::default(),
        opened: None,
        was_open: false,
        spoke: false,
    };
    let (end, closing) = (session.end_of_stream(), shared.closing.clone());
    let state = session.stream_state();
    let over = Arc::downgrade(session);
    shared.control.spawn(async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = closing.cancelled() => {}
            () = task.run() => return,
        }
        set_state(&over, StreamState::Over);
    });
    timeout(HEAD_START, until_open(state)).await.ok();
}

async fn until_open(mut state: watch::Receiver<StreamState>) {
    state.wait_for(|state| *state != StreamState::Opening).await.ok();
}

fn set_state(session: &Weak<HttpSession>, state: StreamState) {
    if let Some(session) = session.upgrade() {
        session.set_stream_state(state);
    }
}

struct SessionStream {
    shared: Weak<Shared>,
    session: Weak<HttpSession>,
    key: PoolKey,
    /// The last event that came, to be continued after.
    after: Option<HeaderValue>,
    pace: StreamBackoff,
    /// When the stream under way was opened.
    opened: Option<Instant>,
    /// Whether any stream of the session was ever opened.
    was_open: bool,
    /// Whether the stream under way brought a message.
    spoke: bool,
}

impl SessionStream {
    async fn run(mut self) {
        loop {
            (self.opened, self.spoke) = (None, false);
            let state = match self.run_once().await {
                Ok(state) => state,
                Err(error) => {
                    tracing::debug!(%error, "no stream of a session");
                    StreamState::Broken
                }
            };
            if let (Some(_), Some(shared)) = (self.opened, self.shared.upgrade()) {
                shared.hubs.publish_change(&self.key, ProviderChange::Lost);
            }
            set_state(&self.session, state);
            if state != StreamState::Broken {
                return;
            }
            let lived = self.opened.map_or(Duration::ZERO, |opened| opened.elapsed());
            sleep(self.pace.next(lived, self.spoke)).await;
        }
    }

    /// One stream, to its end.
    async fn run_once(&mut self) -> Result<StreamState, Error> {
        let (Some(shared), Some(session)) = (self.shared.upgrade(), self.session.upgrade()) else {
            return Ok(StreamState::Over);
        };
        let endpoint = Arc::clone(session.endpoint());
        let route = shared.clients.route(&endpoint)?;
        let head = RequestHead {
            last_event: self.after.clone(),
            ..session.head()
        };
        let deadline = Instant::now() + endpoint.start_timeout();
        let opened = post::send_bodyless(&route, session.signature(), Method::GET, head, deadline).await;
        let response = opened?;
        let status = response.status();
        // A credential that is renewed may do later.
        let is_unsigned = status == StatusCode::UNAUTHORIZED && session.signature().settled().is_none();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || is_unsigned {
            return Ok(StreamState::Broken);
        }
        if !status.is_success() {
            if self
                .is_over(response, session.kind(), Instant::now() + LOOK)
                .await
            {
                shared.sessions.forget(&self.key, &session);
                return Ok(StreamState::Over);
            }
            return Ok(StreamState::Never);
        }
        if !is_type(response.headers(), "text/event-stream") {
            return Ok(StreamState::Never);
        }
        if let Some(coding) = incoming::content_coding(response.headers()) {
            return Err(response::compressed(&coding));
        }
        (self.opened, self.was_open) = (Some(Instant::now()), true);
        session.set_stream_state(StreamState::Open);
        // A session that nobody uses must be free to end.
        drop((route, session, shared));
        self.read(response).await?;
        Ok(StreamState::Broken)
    }

    /// Whether a refusal of the stream means the end of the session. A server that has no route for GET
    /// answers 404 as well, so that counts only where there was a stream before, or in words.
    async fn is_over(
        &self,
        response: reqwest::Response,
        session_kind: SessionKind,
        deadline: Instant,
    ) -> bool {
        let (status, headers) = (response.status(), response.headers().clone());
        if session_kind == SessionKind::None || status == StatusCode::METHOD_NOT_ALLOWED {
            return false;
        }
        let by_status = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if by_status && self.was_open {
            return session_kind == SessionKind::Named;
        }
        let body = response::read_start(response, deadline).await;
        let fault = incoming::read_fault(&body).map(|(fault, _)| fault);
        let spoken = !by_status || lost::says_lost(&summary::content_type(&headers), &body);
        spoken && response::is_lost(status, &headers, &body, fault.as_ref(), session_kind)
    }

    async fn read(&mut self, mut response: reqwest::Response) -> Result<(), Error> {
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                if let Some(retry) = frame.retry {
                    self.pace.set_retry(retry);
                }
                if let Some(id) = frame.id.filter(|id| !id.is_empty()) {
                    self.after = post::event_id(&id);
                }
                self.spoke |= self.handle_event(&frame.data);
            }
        }
        Ok(())
    }

    /// Hands a message on; whether it was one.
    fn handle_event(&self, data: &str) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        match message::decode(data.as_bytes()) {
            Ok(Message::Notification { method, params }) => match ProviderChange::from_method(&method) {
                Some(change) => shared.hubs.publish_change(&self.key, change),
                None => shared.hubs.publish(&self.key, &method, params.as_ref()),
            },
            Ok(Message::Request { id, method, params }) => {
                if let Some(session) = self.session.upgrade() {
                    let routed = shared.hubs.route_question(&self.key);
                    session.answer(
                        IncomingRequest { id, method, params },
                        routed.to.as_ref(),
                        routed.asking,
                    );
                }
            }
            Ok(Message::Response { .. }) | Err(_) => return false,
        }
        true
    }
}
