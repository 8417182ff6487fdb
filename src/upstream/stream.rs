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
    answer::{self, Held, LARGEST},
    asks::Request,
    call::Change,
    incoming::{self, is_type},
    lost,
    pace::Pace,
    pool::Key,
    post::{self, Head},
    said,
    session::Session,
    shared::Shared,
};
use crate::error::Error;
use crate::mcp::{Message, message, sse};

/// A stream that is silent for so long is opened anew: the connection may be dead without a word.
const SILENT: Duration = Duration::from_secs(3600);
/// How long the words of a refusal may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long the first call of a session waits for its stream to stand.
const HEAD_START: Duration = Duration::from_millis(250);

/// How the stream of a session fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
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
pub(crate) async fn keep(shared: &Arc<Shared>, session: &Arc<Session>, key: &Key) {
    let keeper = Keeper {
        shared: Arc::downgrade(shared),
        session: Arc::downgrade(session),
        key: key.clone(),
        after: None,
        pace: Pace::default(),
        opened: None,
        stood: false,
        spoke: false,
    };
    let (end, closing) = (session.end_of_stream(), shared.closing.clone());
    let standing = session.standing();
    let over = Arc::downgrade(session);
    shared.control.spawn(async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = closing.cancelled() => {}
            () = keeper.run() => return,
        }
        say(&over, Standing::Over);
    });
    timeout(HEAD_START, stands(standing)).await.ok();
}

async fn stands(mut standing: watch::Receiver<Standing>) {
    standing
        .wait_for(|standing| *standing != Standing::Opening)
        .await
        .ok();
}

fn say(session: &Weak<Session>, standing: Standing) {
    if let Some(session) = session.upgrade() {
        session.stands(standing);
    }
}

struct Keeper {
    shared: Weak<Shared>,
    session: Weak<Session>,
    key: Key,
    /// The last event that came, to be continued after.
    after: Option<HeaderValue>,
    pace: Pace,
    /// When the stream under way was opened.
    opened: Option<Instant>,
    /// Whether any stream of the session was ever opened.
    stood: bool,
    /// Whether the stream under way brought a message.
    spoke: bool,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            (self.opened, self.spoke) = (None, false);
            let standing = match self.once().await {
                Ok(standing) => standing,
                Err(error) => {
                    tracing::debug!(%error, "no stream of a session");
                    Standing::Broken
                }
            };
            if let (Some(_), Some(shared)) = (self.opened, self.shared.upgrade()) {
                shared.hubs.tell(&self.key, Change::Lost);
            }
            say(&self.session, standing);
            if standing != Standing::Broken {
                return;
            }
            let lived = self.opened.map_or(Duration::ZERO, |opened| opened.elapsed());
            sleep(self.pace.pause(lived, self.spoke)).await;
        }
    }

    /// One stream, to its end.
    async fn once(&mut self) -> Result<Standing, Error> {
        let (Some(shared), Some(session)) = (self.shared.upgrade(), self.session.upgrade()) else {
            return Ok(Standing::Over);
        };
        let endpoint = Arc::clone(session.endpoint());
        let route = shared.clients.route(&endpoint)?;
        let head = Head {
            last_event: self.after.clone(),
            ..session.head()
        };
        let deadline = Instant::now() + endpoint.patience();
        let opened = post::bare(&route, session.signature(), Method::GET, head, deadline).await;
        let response = opened?;
        let status = response.status();
        // A credential that is renewed may do later.
        let is_unsigned = status == StatusCode::UNAUTHORIZED && session.signature().settled().is_none();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || is_unsigned {
            return Ok(Standing::Broken);
        }
        if !status.is_success() {
            if self
                .is_over(response, session.held(), Instant::now() + LOOK)
                .await
            {
                shared.sessions.forget(&self.key, &session);
                return Ok(Standing::Over);
            }
            return Ok(Standing::Never);
        }
        if !is_type(response.headers(), "text/event-stream") {
            return Ok(Standing::Never);
        }
        if let Some(coding) = incoming::coding(response.headers()) {
            return Err(answer::coded(&coding));
        }
        (self.opened, self.stood) = (Some(Instant::now()), true);
        session.stands(Standing::Open);
        // A session that nobody uses must be free to end.
        drop((route, session, shared));
        self.read(response).await?;
        Ok(Standing::Broken)
    }

    /// Whether a refusal of the stream means the end of the session. A server that has no route for GET
    /// answers 404 as well, so that counts only where there was a stream before, or in words.
    async fn is_over(&self, response: reqwest::Response, held: Held, deadline: Instant) -> bool {
        let (status, headers) = (response.status(), response.headers().clone());
        if held == Held::None || status == StatusCode::METHOD_NOT_ALLOWED {
            return false;
        }
        let by_status = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if by_status && self.stood {
            return held == Held::Named;
        }
        let body = answer::beginning(response, deadline).await;
        let fault = incoming::fault(&body).map(|(fault, _)| fault);
        let spoken = !by_status || lost::says(&said::kind(&headers), &body);
        spoken && answer::is_lost(status, &headers, &body, fault.as_ref(), held)
    }

    async fn read(&mut self, mut response: reqwest::Response) -> Result<(), Error> {
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                if let Some(retry) = frame.retry {
                    self.pace.ask(retry);
                }
                if let Some(id) = frame.id.filter(|id| !id.is_empty()) {
                    self.after = post::event(&id);
                }
                self.spoke |= self.event(&frame.data);
            }
        }
        Ok(())
    }

    /// Hands a message on; whether it was one.
    fn event(&self, data: &str) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        match message::decode(data.as_bytes()) {
            Ok(Message::Notification { method, params }) => match Change::of(&method) {
                Some(change) => shared.hubs.tell(&self.key, change),
                None => shared.hubs.notice(&self.key, &method, params.as_ref()),
            },
            Ok(Message::Request { id, method, params }) => {
                if let Some(session) = self.session.upgrade() {
                    let routed = shared.hubs.route(&self.key);
                    session.answer(Request { id, method, params }, routed.to.as_ref(), routed.asking);
                }
            }
            Ok(Message::Response { .. }) | Err(_) => return false,
        }
        true
    }
}
