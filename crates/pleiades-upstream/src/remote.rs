//! Requests over streamable HTTP: modern ones stand alone, legacy ones run in a pooled session.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    call::{Call, ProviderEvent, StreamPause},
    client::{CALL_PASSED, timed_out},
    deadline::Deadline,
    health::{self, PING},
    hub::QuestionRoute,
    incoming::{self, RpcResult},
    incoming_request::IncomingRequest,
    outgoing::{self, EncodedRequest, RequestMeta, encode},
    pool::PoolLease,
    post::{self, RequestHead},
    provider_client::ProviderClient,
    reconnect::StreamBackoff,
    refusal::SessionKind,
    response::{self, CallFailure, Reading, ResumePoint},
    session::{self, HttpSession},
    session_stream,
};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Raw, RawObject, Revision, message};

/// Pause before a connection that was refused is tried once more.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a stream that ended early is left alone when it does not say.
const RESUME: Duration = Duration::from_secs(1);
/// A message that nobody waits for.
pub(crate) const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Retries {
    reconnected: bool,
    renewed: bool,
    downgraded: bool,
}

impl ProviderClient<'_> {
    /// One request, sent again only where it cannot run twice or may.
    pub(super) async fn request_http(self, mut call: Call) -> Result<Raw, Error> {
        let deadline = Instant::from_std(call.deadline);
        let mut attempts = Retries::default();
        loop {
            let lease = if call.revision.is_modern() {
                None
            } else {
                Some(self.session(call.revision, deadline).await?)
            };
            match self.attempt(&mut call, lease.as_ref(), deadline).await {
                Ok(Ok(result)) => {
                    if let Some(lease) = lease {
                        lease.health.record_success();
                    }
                    return Ok(result);
                }
                Ok(Err(fault)) => match downgrade(&fault, call.revision) {
                    Some(revision) if !attempts.downgraded => {
                        attempts.downgraded = true;
                        call.revision = revision;
                    }
                    _ => Box::pin(self.handle_fault(&call, lease, fault, &mut attempts)).await?,
                },
                Err(failure) => Box::pin(self.recover(&call, lease, failure, &mut attempts)).await?,
            }
        }
    }

    /// One modern request, never answered in another revision: for detection. A broken connection is no
    /// answer, so it is asked again then.
    pub(crate) async fn request_once(self, mut call: Call) -> Result<RpcResult, Error> {
        let deadline = Instant::from_std(call.deadline);
        match self.attempt(&mut call, None, deadline).await {
            Err(CallFailure::Broken(error)) if error.sent => {
                tracing::debug!(provider.name = &*self.endpoint.provider, %error, "asked again");
                Ok(self.attempt(&mut call, None, deadline).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Decides whether a request that was answered with an error is repeated: when that says that the session
    /// is none, and `ping` agrees. A tool may say the like of sessions of its own.
    async fn handle_fault(
        self,
        call: &Call,
        lease: Option<PoolLease<HttpSession>>,
        fault: RpcFault,
        attempts: &mut Retries,
    ) -> Result<(), Error> {
        let Some(lease) = lease else {
            return Err(Error::rpc(fault));
        };
        if let Some(may_repeat) = lease.health.record_fault(call, &fault)
            && !self.answers_ping(&lease, Instant::from_std(call.deadline)).await
        {
            self.shared.sessions.discard(lease.key(), &lease);
            if may_repeat && !std::mem::replace(&mut attempts.renewed, true) {
                return Ok(());
            }
        }
        Err(Error::rpc(fault))
    }

    async fn answers_ping(self, lease: &HttpSession, deadline: Instant) -> bool {
        let deadline = deadline.min(Instant::now() + PING);
        let id = self.shared.next_id();
        let body = message::request(id, "ping", &RawObject::new());
        let signature = &self.identity.signature;
        let reading = Reading {
            session: lease.kind(),
            ..Reading::alone(id, deadline, signature)
        };
        let asked = async {
            let route = self.shared.clients.route(self.endpoint)?;
            let response = post::post(&route, signature, lease.head(), body.into(), deadline).await?;
            response::read(response, &reading, |_| ()).await
        };
        let lives = asked.await.is_ok_and(|outcome| health::is_alive(&outcome));
        if !lives {
            tracing::info!(
                provider.name = &*self.endpoint.provider,
                "a session that answers no ping is given up"
            );
        }
        lives
    }

    /// Drops a session that failed twice alike, unless it answers `ping`; whether it was dropped.
    async fn drop_if_dead(self, call: &Call, lease: &PoolLease<HttpSession>, error: &Error) -> bool {
        if !lease.health.record_error(error) {
            return false;
        }
        if error.code == Code::UpstreamTimeout {
            // Its caller has waited long enough.
            self.check_later(lease, call.revision);
            return false;
        }
        let dead = !self.answers_ping(lease, Instant::from_std(call.deadline)).await;
        if dead {
            self.shared.sessions.discard(lease.key(), lease);
        }
        dead
    }

    fn check_later(self, lease: &PoolLease<HttpSession>, revision: Revision) {
        let (session, key) = (Arc::clone(lease), self.key(Some(revision)));
        let client = self.into_owned();
        self.shared.detach(async move {
            let deadline = Instant::now() + PING;
            if !client.borrow().answers_ping(&session, deadline).await {
                client.shared.sessions.discard(&key, &session);
            }
        });
    }

    /// Decides whether a failed attempt is repeated; if so, returns when it is time.
    async fn recover(
        self,
        call: &Call,
        lease: Option<PoolLease<HttpSession>>,
        failure: CallFailure,
        attempts: &mut Retries,
    ) -> Result<(), Error> {
        let deadline = Instant::from_std(call.deadline);
        match failure {
            // The provider refused the session before it looked at the request, so nothing ran.
            CallFailure::SessionGone(error) => {
                if let Some(lease) = lease {
                    self.shared.sessions.discard(lease.key(), &lease);
                }
                if std::mem::replace(&mut attempts.renewed, true) {
                    return Err(error);
                }
            }
            CallFailure::Broken(error) => {
                let harmless = !error.sent || call.idempotent;
                if !harmless || std::mem::replace(&mut attempts.reconnected, true) {
                    if let Some(lease) = &lease {
                        self.drop_if_dead(call, lease, &error).await;
                    }
                    return Err(error);
                }
                if !error.sent && timeout_at(deadline, sleep(AGAIN)).await.is_err() {
                    return Err(error);
                }
            }
            CallFailure::Final(error) => {
                let dropped = match &lease {
                    Some(lease) => self.drop_if_dead(call, lease, &error).await,
                    None => false,
                };
                if !dropped || !call.idempotent || std::mem::replace(&mut attempts.renewed, true) {
                    return Err(error);
                }
            }
            failure @ CallFailure::Interrupted(_) => return Err(failure.into()),
        }
        Ok(())
    }

    async fn attempt(
        self,
        call: &mut Call,
        lease: Option<&PoolLease<HttpSession>>,
        deadline: Instant,
    ) -> Result<RpcResult, CallFailure> {
        let id = self.shared.next_id();
        let revision = lease.map_or(call.revision, |session| session.revision);
        // An id is a progress token too: both need only be unique among what is under way.
        let token = call.token.unwrap_or(id);
        let meta = RequestMeta {
            revision,
            declared: self.declared,
            progress: call.progress.then_some(token),
        };
        let EncodedRequest { body, trace, name } = encode(id, call.method, &mut call.params, meta);
        let session = lease.map(|lease| &***lease);
        let mut head = session.map_or_else(RequestHead::default, HttpSession::head);
        head.trace = trace;
        if session.is_none() {
            head.revision = Some(revision);
            head.method = Some(call.method);
            head.name = name;
            head.mirrored = &call.mirrored;
        }
        let mut pending = CancelOnDrop {
            client: self,
            session: lease,
            id,
            armed: true,
        };
        let registered = lease.and_then(|lease| self.register(call, lease.key(), token, deadline));
        let timer = registered.as_ref().map(|(timer, _)| timer);
        let reading = Reading {
            token,
            session: session.map_or(SessionKind::None, HttpSession::kind),
            events: call.events.as_ref(),
            timer: timer.map(|timer| &**timer),
            ..Reading::alone(id, deadline, &self.identity.signature)
        };
        let asked = |request: IncomingRequest| {
            if let Some(lease) = lease {
                let route = QuestionRoute {
                    to: call.events.clone(),
                    asking: timer.into_iter().map(Deadline::pause).collect(),
                };
                lease.answer(request, route);
            }
        };
        let outcome = self.exchange(lease, (head, body.into()), &reading, asked).await;
        pending.armed = matches!(&outcome, Err(CallFailure::Final(error)) if error.code == Code::UpstreamTimeout && error.sent);
        outcome
    }

    async fn exchange(
        self,
        lease: Option<&PoolLease<HttpSession>>,
        (head, body): (RequestHead<'_>, Bytes),
        reading: &Reading<'_>,
        asked: impl Fn(IncomingRequest),
    ) -> Result<RpcResult, CallFailure> {
        let route = &*self.shared.clients.route(self.endpoint)?;
        let signature = &self.identity.signature;
        let mut response = post::post(route, signature, head, body, reading.deadline).await?;
        let mut backoff = StreamBackoff::default();
        loop {
            let begun = Instant::now();
            let ResumePoint { after, retry } = match response::read(response, reading, &asked).await {
                Err(CallFailure::Interrupted(pause)) => pause,
                read => return read,
            };
            // An older provider may end a stream and expect to be asked for the rest of it.
            let Some(session) = lease else {
                return Err(CallFailure::Broken(response::stream_ended()));
            };
            backoff.set_retry(retry.unwrap_or(RESUME));
            // One that goes on ending without an answer is asked ever later.
            let retry = backoff.next(begun.elapsed(), false);
            let paused = reading.wait(pause_before_resume(reading.events, retry)).await;
            if paused.is_none() {
                return Err(CallFailure::Final(timed_out()));
            }
            let head = RequestHead {
                last_event: Some(after),
                ..session.head()
            };
            let deadline = reading.deadline();
            // What was asked is running already: a failure here is never one of connecting.
            let resumed = post::send_bodyless(route, signature, Method::GET, head, deadline).await;
            response = resumed.map_err(Error::sent)?;
            if !response.status().is_success() {
                let message = "the provider's stream ended before its answer and could not be resumed";
                let cause = format!("status {}", response.status().as_u16());
                let error = Error::new(Code::UpstreamUnreachable, message).because(cause);
                return Err(error.sent().into());
            }
        }
    }

    pub(crate) async fn session(
        self,
        revision: Revision,
        deadline: Instant,
    ) -> Result<PoolLease<HttpSession>, Error> {
        let key = self.key(Some(revision));
        if let Some(lease) = self.shared.sessions.ready(&key) {
            return Ok(lease);
        }
        let opening = async {
            let opened = session::open(self, revision, deadline).await;
            // Nothing of the call itself has been sent, whatever went wrong here.
            let session = opened.map_err(|refusal| {
                let mut error = Error::from(refusal);
                error.sent = false;
                error
            })?;
            session_stream::keep(self.shared, &session, &key).await;
            Ok(session)
        };
        let sessions = &self.shared.sessions;
        let leased = sessions.lease(&key, self.endpoint.idle, Box::pin(opening));
        let message = "the provider did not open a session in time";
        let leased = timeout_at(deadline, leased).await;
        let late = |_elapsed| Error::new(Code::UpstreamTimeout, message).because(CALL_PASSED);
        leased.map_err(late)?
    }

    pub(crate) fn notify(self, lease: &PoolLease<HttpSession>, body: Vec<u8>) {
        let (session, provider) = (Arc::clone(lease), Arc::clone(&self.endpoint.provider));
        self.shared.detach(async move {
            if let Err(error) = session.post(body, Instant::now() + NOTIFY_TIMEOUT).await {
                tracing::debug!(provider.name = &*provider, %error, "a message was not delivered");
            }
        });
    }
}

/// Leaves a stream alone that ended early, for as long as its provider asks. A caller that hears of
/// it may end its own stream the same way; then it is its return that counts.
async fn pause_before_resume(events: Option<&mpsc::Sender<ProviderEvent>>, retry: Duration) {
    let (resume, resumed) = oneshot::channel();
    if let Some(events) = events {
        let pause = ProviderEvent::Pause(StreamPause { retry, resume });
        events.try_send(pause).ok();
    }
    tokio::select! {
        Ok(()) = resumed => {}
        () = sleep(retry) => {}
    }
}

/// The code of 2026-07-28 for a revision that is not spoken.
const UNSUPPORTED: i64 = -32022;

/// The newest older revision that a provider names when it refuses a modern request.
fn downgrade(fault: &RpcFault, asked: Revision) -> Option<Revision> {
    if !asked.is_modern() || fault.code != UNSUPPORTED {
        return None;
    }
    let supported = incoming::supported(fault)?;
    let known = supported.iter().filter_map(|text| Revision::parse(text));
    known.filter(|revision| !revision.is_modern()).max()
}

/// Tells an older provider that an answer is not waited for any more. For a modern one closing
/// the stream says it, which dropping the response does.
struct CancelOnDrop<'a> {
    client: ProviderClient<'a>,
    session: Option<&'a PoolLease<HttpSession>>,
    id: u64,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let (true, Some(lease)) = (self.armed, self.session) {
            self.client.notify(lease, outgoing::cancellation(self.id));
        }
    }
}
