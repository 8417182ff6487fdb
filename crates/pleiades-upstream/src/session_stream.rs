//! The GET stream of a legacy session: notifications and requests of the provider outside of calls.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Method, StatusCode};
use tokio::time::{Instant, timeout};

use super::{
    call::ProviderChange,
    event_stream::EventStream,
    incoming_request::IncomingRequest,
    outgoing,
    pool::PoolKey,
    post::{self, RequestHead},
    reconnect::{Attempt, Reconnect, StreamState, keep_open},
    refusal::{RefusedResponse, SessionKind},
    session::HttpSession,
    shared::Shared,
};
use pleiades_core::error::Error;
use pleiades_mcp::{Message, message};

/// How long the words of a refusal may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long the first call of a session waits for its stream to be open.
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens the stream of a session and keeps it; returns once it is open, or soon after.
pub(crate) async fn keep(shared: &Arc<Shared>, session: &Arc<HttpSession>, key: &PoolKey) {
    let stream = SessionStream {
        shared: Arc::downgrade(shared),
        session: Arc::downgrade(session),
        key: key.clone(),
        after: None,
        was_open: false,
    };
    let (end, closing) = (session.end_of_stream(), shared.closing.clone());
    let provider = Arc::clone(&session.endpoint.provider);
    let mut state = session.stream_state();
    let ended = Arc::downgrade(session);
    shared.control.spawn(async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = closing.cancelled() => {}
            () = keep_open(stream, &provider) => return,
        }
        set_state(&ended, StreamState::Over);
    });
    let opened = state.wait_for(|state| *state != StreamState::Opening);
    timeout(HEAD_START, opened).await.ok();
}

fn set_state(session: &Weak<HttpSession>, state: StreamState) {
    if let Some(session) = session.upgrade() {
        session.set_stream_state(state);
    }
}

/// Holds neither the session nor what all share: a session that nobody uses must be free to end.
struct SessionStream {
    shared: Weak<Shared>,
    session: Weak<HttpSession>,
    key: PoolKey,
    /// The last event that came, to be continued after.
    after: Option<HeaderValue>,
    was_open: bool,
}

impl Reconnect for SessionStream {
    async fn run_once(&mut self, attempt: &mut Attempt) -> Result<StreamState, Error> {
        let (Some(shared), Some(session)) = (self.shared.upgrade(), self.session.upgrade()) else {
            return Ok(StreamState::Over);
        };
        let route = shared.clients.route(&session.endpoint)?;
        let head = RequestHead {
            last_event: self.after.clone(),
            ..session.head()
        };
        let deadline = Instant::now() + session.endpoint.start_timeout();
        let signature = &session.signature;
        let response = post::send_bodyless(&route, signature, Method::GET, head, deadline).await?;
        let stream = match EventStream::accept(response, signature)? {
            Ok(stream) => stream,
            Err(refused) => {
                if !self.is_over(refused, session.kind()).await {
                    return Ok(StreamState::Never);
                }
                shared.sessions.discard(&self.key, &session);
                return Ok(StreamState::Over);
            }
        };
        (attempt.opened, self.was_open) = (Some(Instant::now()), true);
        session.set_stream_state(StreamState::Open);
        drop((route, session, shared));
        self.read(stream, attempt).await?;
        Ok(StreamState::Broken)
    }

    async fn ended(&mut self, state: StreamState, opened: bool) {
        if let (true, Some(shared)) = (opened, self.shared.upgrade()) {
            shared.hubs.publish_change(&self.key, ProviderChange::Lost);
        }
        set_state(&self.session, state);
    }
}

impl SessionStream {
    /// Whether a response without a stream means the end of the session. A server that has no route for GET
    /// answers 404 as well, so that counts only where there was a stream before, or in words.
    async fn is_over(&self, response: reqwest::Response, kind: SessionKind) -> bool {
        let status = response.status();
        if kind == SessionKind::None || status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED {
            return false;
        }
        let by_status = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if by_status && self.was_open {
            return kind == SessionKind::Named;
        }
        let refused = RefusedResponse::read(response, Instant::now() + LOOK).await;
        (!by_status || refused.says_lost()) && refused.ends_session(kind, refused.fault().as_ref())
    }

    async fn read(&mut self, mut stream: EventStream, attempt: &mut Attempt) -> Result<(), Error> {
        while let Some(frame) = stream.next().await? {
            if let Some(retry) = frame.retry {
                attempt.backoff.set_retry(retry);
            }
            if let Some(id) = frame.id.filter(|id| !id.is_empty()) {
                self.after = outgoing::event_id(&id);
            }
            attempt.spoke |= self.deliver(&frame.data);
        }
        Ok(())
    }

    /// Hands a message on; whether it was one.
    fn deliver(&self, data: &str) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        match message::decode(data.as_bytes()) {
            Ok(Message::Notification { method, params }) => {
                shared.hubs.publish(&self.key, &method, params.as_ref());
            }
            Ok(Message::Request { id, method, params }) => {
                if let Some(session) = self.session.upgrade() {
                    let request = IncomingRequest { id, method, params };
                    let route = request.route(&shared.hubs, &self.key);
                    session.answer(request, route);
                }
            }
            Ok(Message::Response { .. }) | Err(_) => return false,
        }
        true
    }
}
