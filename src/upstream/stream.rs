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
    answer::LARGEST,
    asks::Request,
    call::Change,
    incoming::is_type,
    pool::Key,
    post::{self, Head},
    session::Session,
    shared::Shared,
};
use crate::error::Error;
use crate::mcp::{Message, message, sse};

/// The first pause before a stream is opened again, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);
/// The shortest pause that a provider may ask for.
const SOONEST: Duration = Duration::from_millis(10);
/// A stream that is silent for so long is opened anew: the connection may be dead without a word.
const SILENT: Duration = Duration::from_secs(3600);
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
        retry: None,
        opened: false,
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
    /// The pause that the provider asked for.
    retry: Option<Duration>,
    opened: bool,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = FIRST;
        loop {
            self.opened = false;
            let standing = match self.once().await {
                Ok(standing) => standing,
                Err(error) => {
                    tracing::debug!(%error, "no stream of a session");
                    Standing::Broken
                }
            };
            if self.opened {
                pause = FIRST;
                if let Some(shared) = self.shared.upgrade() {
                    shared.hubs.tell(&self.key, Change::Lost);
                }
            }
            say(&self.session, standing);
            if standing != Standing::Broken {
                return;
            }
            sleep(self.retry.map_or(pause, |asked| asked.clamp(SOONEST, LAST))).await;
            pause = (pause * 2).min(LAST);
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
        if status == StatusCode::NOT_FOUND && session.id.is_some() {
            shared.sessions.forget(&self.key, &session);
            return Ok(Standing::Over);
        }
        // A credential that is renewed may do later.
        let is_unsigned = status == StatusCode::UNAUTHORIZED && session.signature().settled().is_none();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || is_unsigned {
            return Ok(Standing::Broken);
        }
        if !status.is_success() || !is_type(response.headers(), "text/event-stream") {
            return Ok(Standing::Never);
        }
        self.opened = true;
        session.stands(Standing::Open);
        // A session that nobody uses must be free to end.
        drop((route, session, shared));
        self.read(response).await?;
        Ok(Standing::Broken)
    }

    async fn read(&mut self, mut response: reqwest::Response) -> Result<(), Error> {
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                self.retry = frame.retry.or(self.retry);
                if let Some(id) = frame.id.filter(|id| !id.is_empty()) {
                    self.after = HeaderValue::from_str(&id).ok();
                }
                self.event(&frame.data);
            }
        }
        Ok(())
    }

    fn event(&self, data: &str) {
        let Some(shared) = self.shared.upgrade() else {
            return;
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
            Ok(Message::Response { .. }) | Err(_) => {}
        }
    }
}
