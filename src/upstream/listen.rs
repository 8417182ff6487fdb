//! Hears of changed lists: the GET stream of a session, `subscriptions/listen`, what a wire brings.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{
    answer::{LARGEST, coded},
    call::{Change, Profile},
    endpoint::{Behalf, Endpoint, Target},
    incoming::{self, is_type},
    outgoing::{Manner, outgoing},
    pace::Pace,
    pool::Key,
    post::{self, Head},
    remote::Remote,
    shared::Shared,
    stream::Standing,
    wired::Wired,
};
use crate::error::{Code, Error};
use crate::mcp::{Abilities, Declared, Message, Revision, message, sse};

/// Lists are read with everything declared, and listened to in the same session.
static ALL: Declared = Declared::all();
/// Changes waiting for the listener; one that does not listen loses nothing it could not ask for.
const WAITING: usize = 32;
/// A stream that is silent for so long is opened anew: the connection may be dead without a word.
const SILENT: Duration = Duration::from_secs(3600);

pub(crate) fn listen(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    behalf: &Behalf,
    profile: &Profile,
) -> mpsc::Receiver<Change> {
    let (tell, changes) = mpsc::channel(WAITING);
    if incoming::changing(&profile.capabilities) == [false; 3] {
        return changes;
    }
    let listener = Listener {
        shared: Arc::clone(shared),
        endpoint: Arc::clone(endpoint),
        behalf: behalf.clone(),
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

struct Listener {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    behalf: Behalf,
    profile: Profile,
    tell: mpsc::Sender<Change>,
    /// When the stream under way was opened; nothing while there is none.
    opened: Option<Instant>,
    /// Whether it brought a change.
    spoke: bool,
}

/// How a stream came to its end.
enum End {
    /// It will never bring anything: the provider offers none.
    Never,
    Closed,
}

impl Listener {
    async fn run(mut self) {
        if let Target::Stdio { .. } = self.endpoint.target {
            return self.process().await;
        }
        let modern = self.profile.revisions.contains(Revision::V2026_07_28);
        let mut pace = Pace::default();
        loop {
            (self.opened, self.spoke) = (None, false);
            let ended = if self.shared.is_wired(&self.endpoint) {
                self.wire().await
            } else if modern {
                self.subscribed().await
            } else {
                self.session().await
            };
            match ended {
                Ok(End::Never) => return,
                Ok(End::Closed) => {}
                Err(error) => {
                    let provider = &*self.endpoint.provider;
                    tracing::debug!(provider.name = provider, %error, "no stream of changes");
                }
            }
            let (opened, spoke) = (self.opened, self.spoke);
            if opened.is_some() {
                self.say(Change::Lost).await;
            }
            let lived = opened.map_or(Duration::ZERO, |opened| opened.elapsed());
            sleep(pace.pause(lived, spoke)).await;
        }
    }

    async fn process(mut self) {
        let key = Key::of(&self.endpoint, &self.behalf, None, Abilities::ALL);
        let mut changes = self.shared.hubs.subscribe(&key);
        loop {
            match changes.recv().await {
                Ok(change) => self.say(change).await,
                Err(RecvError::Lagged(_)) => self.say(Change::Lost).await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn subscribed(&mut self) -> Result<End, Error> {
        let Some(mut params) = incoming::subscription(&self.profile.capabilities) else {
            return Ok(End::Never);
        };
        let (id, revision) = (self.shared.next_id(), Revision::V2026_07_28);
        let method = "subscriptions/listen";
        let manner = Manner::quiet(revision, &ALL);
        let body = outgoing(id, method, &mut params, manner).body;
        let head = Head {
            revision: Some(revision),
            method: Some(method),
            ..Head::default()
        };
        let route = self.shared.clients.route(&self.endpoint)?;
        let signature = &self.behalf.signature;
        let response = post::post(&route, signature, head, body.into(), self.opening()).await?;
        self.stream(response).await
    }

    /// The stream of the session that lists are read in; the session keeps it.
    async fn session(&mut self) -> Result<End, Error> {
        let newest = self.profile.revisions.newest().unwrap_or(Revision::NEWEST_LEGACY);
        let remote = Remote {
            shared: &self.shared,
            endpoint: &self.endpoint,
            behalf: &self.behalf,
            declared: &ALL,
        };
        let session = remote.session(newest, self.opening()).await?;
        let mut standing = session.standing();
        let mut changes = self.shared.hubs.subscribe(session.key());
        let begun = Instant::now();
        loop {
            let now = *standing.borrow_and_update();
            match now {
                Standing::Never => return Ok(End::Never),
                Standing::Over => {
                    self.opened = Some(begun);
                    return Ok(End::Closed);
                }
                Standing::Opening | Standing::Open | Standing::Broken => {}
            }
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Ok(change) => self.say(change).await,
                    Err(RecvError::Lagged(_)) => self.say(Change::Lost).await,
                    Err(RecvError::Closed) => return Ok(End::Closed),
                },
                changed = standing.changed() => if changed.is_err() {
                    return Ok(End::Closed);
                },
            }
        }
    }

    /// The event stream of 2024-11-05 that lists are read over, kept for it.
    async fn wire(&mut self) -> Result<End, Error> {
        let wired = Wired {
            shared: &self.shared,
            endpoint: &self.endpoint,
            behalf: &self.behalf,
            declared: &ALL,
        };
        let wire = wired.wire(self.opening()).await?;
        let over = wire.over();
        let mut changes = self.shared.hubs.subscribe(wire.key());
        let begun = Instant::now();
        loop {
            let change = tokio::select! {
                biased;
                change = changes.recv() => change,
                () = over.cancelled() => {
                    self.opened = Some(begun);
                    return Ok(End::Closed);
                }
            };
            match change {
                // Told again when the stream is over.
                Ok(Change::Lost) => {}
                Ok(change) => self.say(change).await,
                Err(RecvError::Lagged(_)) => self.say(Change::Lost).await,
                Err(RecvError::Closed) => return Ok(End::Closed),
            }
        }
    }

    fn opening(&self) -> Instant {
        Instant::now() + self.endpoint.patience()
    }

    async fn stream(&mut self, mut response: reqwest::Response) -> Result<End, Error> {
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let message = "the provider is failing; try again later";
            return Err(Error::new(Code::UpstreamUnreachable, message));
        }
        if status == StatusCode::UNAUTHORIZED && self.behalf.signature.settled().is_none() {
            // A credential that is renewed may do later.
            return Err(Error::new(
                Code::UpstreamAuth,
                "the provider refused the credential",
            ));
        }
        if !status.is_success() || !is_type(response.headers(), "text/event-stream") {
            return Ok(End::Never);
        }
        if let Some(coding) = incoming::coding(response.headers()) {
            return Err(coded(&coding));
        }
        self.opened = Some(Instant::now());
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                self.event(&frame.data).await;
            }
        }
        Ok(End::Closed)
    }

    async fn event(&mut self, data: &str) {
        if let Ok(Message::Notification { method, .. }) = message::decode(data.as_bytes())
            && let Some(change) = Change::of(&method)
        {
            self.say(change).await;
        }
    }

    async fn say(&mut self, change: Change) {
        self.spoke |= change != Change::Lost;
        if self.tell.send(change).await.is_err() {
            tracing::trace!("nobody listens for changes any more");
        }
    }
}
