//! The wait for an answer, and when the answer becomes an event stream: with the first message that
//! precedes it, or when it takes so long that proxies on the way would think the connection dead.

use std::pin::{Pin, pin};
use std::task::{self, Poll};
use std::{sync::Arc, time::Duration};

use pingora_core::Result;
use pingora_proxy::Session;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::bridge::{self, KEEP_ALIVE};
use super::context::Context;
use super::resume::{AnswerStore, RETRY, TicketCell};
use crate::exchange::{Inlet, Reply, Word};
use pleiades_core::limit::load::{self, RequestLoad};
use pleiades_core::telemetry::Metrics;
use pleiades_upstream::StreamPause;

/// An answer that takes longer begins as a stream: proxies and clients give up
/// on a silent connection after 30 s and more. Whatever decides a status was decided long before: what
/// is found out later is sent on the stream, as a JSON-RPC error.
const LONG: Duration = Duration::from_secs(10);

/// The work on a message while its connection lasts. A legacy request outlives the connection,
/// because a disconnect is no cancellation there; a modern one ends with it.
///
/// Boxed, because a future of its size is moved more often than it is allocated.
pub(super) struct RunningWork {
    pub(super) work: Option<Pin<Box<dyn Future<Output = Reply> + Send>>>,
    pub(super) outlives: bool,
    pub(super) load: Option<Arc<RequestLoad>>,
}

impl Future for RunningWork {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Reply> {
        let is_large = self.load.as_ref().is_some_and(|load| load.is_large());
        let Some(work) = self.work.as_mut() else {
            return Poll::Ready(Reply::Accepted);
        };
        let mut poll = || work.as_mut().poll(context);
        let reply = std::task::ready!(if is_large {
            load::run_blocking(poll)
        } else {
            poll()
        });
        self.work = None;
        Poll::Ready(reply)
    }
}

impl Drop for RunningWork {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and nothing outlives that.
        if let (Some(work), true, Ok(runtime)) = (self.work.take(), self.outlives, Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

pub(super) enum WaitOutcome {
    /// The answer, of which nothing was written.
    Done(Reply),
    Streamed,
}

/// Opens the answer of a request as a stream, where it becomes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOpening<'a> {
    pub(super) context: &'a Context,
    /// Whether it is one before there is anything to send.
    pub(super) at_once: bool,
    /// Whether it becomes one without a message, when it takes long.
    pub(super) in_time: bool,
    /// The session that may come back for the answer, and where the work finds the ticket for it.
    pub(super) resumes: Option<(&'a Arc<str>, &'a TicketCell)>,
    pub(super) answers: &'a AnswerStore,
    pub(super) metrics: &'a Arc<Metrics>,
}

impl StreamOpening<'_> {
    async fn begin(self, session: &mut Session) -> Result<()> {
        bridge::begin_stream(session, self.context).await?;
        let Some((session_id, ticket)) = self.resumes else {
            return Ok(());
        };
        let id = &self.context.request_id;
        ticket.get_or_init(|| self.answers.begin(session_id, id));
        bridge::write_primer(session, id, RETRY).await
    }

    /// Whether the client may be sent away until its provider goes on. Only one that would rather
    /// have streams: a client that hardly knows them would take the end of this one for its answer.
    fn may_pause(self) -> bool {
        self.at_once && self.resumes.is_some()
    }

    /// Ends the stream as the provider ended its own, to be resumed after the time that it named.
    async fn pause(self, session: &mut Session, pause: StreamPause, inlet: Inlet) -> Result<WaitOutcome> {
        let retry = pause.retry;
        if let Some(ticket) = self.resumes.and_then(|(_, ticket)| ticket.get()) {
            ticket.park(pause, inlet);
        }
        bridge::write_primer(session, &self.context.request_id, retry).await?;
        bridge::end_stream(session).await?;
        Ok(WaitOutcome::Streamed)
    }

    /// The last notifications, then the answer, on a stream that has begun.
    async fn finish(
        self,
        session: &mut Session,
        reply: Reply,
        notices: Option<Inlet>,
    ) -> Result<WaitOutcome> {
        if let Some(mut inlet) = notices {
            while let Some(notice) = inlet.ready() {
                bridge::write_event(session, &notice).await?;
            }
        }
        match reply {
            Reply::Answer { body, .. } => bridge::write_event(session, &body).await?,
            Reply::Stream(mut messages) => {
                bridge::pump(session, &mut messages, std::future::pending(), self.metrics).await?;
                return Ok(WaitOutcome::Streamed);
            }
            Reply::Accepted => {}
        }
        bridge::end_stream(session).await?;
        Ok(WaitOutcome::Streamed)
    }
}

/// Waits for the reply. The first notification turns the answer into a stream, and so does a long
/// wait; without either it stays plain JSON, unless it is to be a stream at once.
pub(super) async fn wait(
    session: &mut Session,
    opening: StreamOpening<'_>,
    mut running: RunningWork,
    mut notices: Option<Inlet>,
) -> Result<WaitOutcome> {
    let mut streaming = opening.at_once;
    if streaming {
        opening.begin(session).await?;
    }
    let mut quiet = pin!(sleep(if streaming { KEEP_ALIVE } else { LONG }));
    loop {
        let next = async {
            match notices.as_mut() {
                Some(inlet) => inlet.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // First: what would be sent to a client that left is not lost to it, the request is cancelled.
            gone = session.read_body_or_idle(true) => {
                gone?;
            }
            word = next => match (word, notices.take()) {
                (Some(Word::Pause(pause)), Some(inlet)) if opening.may_pause() => {
                    return opening.pause(session, pause, inlet).await;
                }
                (Some(word), inlet) => {
                    notices = inlet;
                    // The client is not told of a pause: the provider is asked for the rest in its own time.
                    let Word::Message(notice) = word else { continue };
                    if !streaming {
                        opening.begin(session).await?;
                        streaming = true;
                    }
                    bridge::write_event(session, &notice).await?;
                    quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
                }
                (None, _) => {}
            },
            reply = &mut running => {
                let first = if streaming { None } else { notices.as_mut().and_then(Inlet::ready) };
                return match first {
                    None if !streaming => Ok(WaitOutcome::Done(reply)),
                    None => opening.finish(session, reply, notices).await,
                    Some(notice) => {
                        opening.begin(session).await?;
                        bridge::write_event(session, &notice).await?;
                        opening.finish(session, reply, notices).await
                    }
                };
            }
            () = &mut quiet, if streaming || opening.in_time => {
                if !streaming {
                    opening.begin(session).await?;
                    streaming = true;
                }
                bridge::write_comment(session).await?;
                quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::oneshot;

    use super::*;

    const HEAD: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    const COMMENT: &str = ":\n\n";

    async fn connected() -> (Session, DuplexStream) {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        client.write_all(HEAD).await.unwrap();
        let mut session = Session::new_h1(Box::new(server));
        session.as_downstream_mut().read_request().await.unwrap();
        (session, client)
    }

    fn answered() -> Reply {
        Reply::Answer {
            body: b"{}".to_vec(),
            code: None,
            retry_after: None,
            session: None,
        }
    }

    /// Waits in a task of its own for an answer that the test sends.
    async fn waiting(
        in_time: bool,
    ) -> (
        oneshot::Sender<Reply>,
        DuplexStream,
        tokio::task::JoinHandle<WaitOutcome>,
    ) {
        let (mut session, client) = connected().await;
        let (answer, reply) = oneshot::channel();
        let waiting = tokio::spawn(async move {
            let (context, answers, metrics) = (
                Context::new("r".to_owned()),
                AnswerStore::default(),
                Metrics::new(),
            );
            let opening = StreamOpening {
                context: &context,
                at_once: false,
                in_time,
                resumes: None,
                answers: &answers,
                metrics: &metrics,
            };
            let running = RunningWork {
                work: Some(Box::pin(async move { reply.await.unwrap() })),
                outlives: false,
                load: None,
            };
            wait(&mut session, opening, running, None).await.unwrap()
        });
        (answer, client, waiting)
    }

    async fn until(client: &mut DuplexStream, text: &str, end: &str) -> String {
        let mut all = text.to_owned();
        while !all.contains(end) {
            let mut bytes = [0; 1024];
            let read = client.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "ended after {all}");
            all.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_call_opens_its_stream_and_shows_that_it_lives() {
        let (answer, mut client, waiting) = waiting(true).await;
        let began = Instant::now();
        let text = until(&mut client, "", COMMENT).await;
        assert!(
            text.contains("text/event-stream") && text.contains("x-accel-buffering: no"),
            "{text}"
        );
        assert_eq!(began.elapsed().as_secs(), LONG.as_secs());
        for comments in 1..4_u32 {
            until(&mut client, "", COMMENT).await;
            assert_eq!(
                began.elapsed().as_secs(),
                (LONG + KEEP_ALIVE * comments).as_secs()
            );
        }
        answer.send(answered()).unwrap();
        until(&mut client, "", "data: {}").await;
        assert!(matches!(waiting.await.unwrap(), WaitOutcome::Streamed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_stream_waits_for_its_plain_answer() {
        let (answer, client, waiting) = waiting(false).await;
        sleep(LONG * 10).await;
        answer.send(answered()).unwrap();
        assert!(matches!(
            waiting.await.unwrap(),
            WaitOutcome::Done(Reply::Answer { .. })
        ));
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_stays_plain() {
        let (answer, client, waiting) = waiting(true).await;
        sleep(LONG / 2).await;
        answer.send(answered()).unwrap();
        assert!(matches!(
            waiting.await.unwrap(),
            WaitOutcome::Done(Reply::Answer { .. })
        ));
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_long_call_may_be_a_stream_itself() {
        let (answer, mut client, waiting) = waiting(true).await;
        let text = until(&mut client, "", COMMENT).await;
        let (sender, messages) = tokio::sync::mpsc::channel(1);
        assert!(answer.send(Reply::Stream(messages)).is_ok());
        sender.send(b"{\"told\":1}".to_vec()).await.unwrap();
        drop(sender);
        until(&mut client, &text, "told").await;
        assert!(matches!(waiting.await.unwrap(), WaitOutcome::Streamed));
    }
}
