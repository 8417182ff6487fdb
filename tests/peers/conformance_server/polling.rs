//! A stream that ends before its answer, so that the client must come back for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::server::ServerState;

/// The tool whose stream ends after the event that names the place to resume at.
pub(crate) const TOOL: &str = "test_reconnection";

const LIMIT: usize = 4 << 20;
/// How long an answer waits for its client. The SDK forgets an answer that nobody is there to read.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sessions whose client came back for the rest of a stream.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    sessions: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Returned {
    fn note(&self, session: String) {
        self.sessions.lock().insert(session);
        self.news.notify_waiters();
    }

    /// Waits until the client of this request's session is back; a request without one goes on.
    pub(crate) async fn wait(&self, headers: &HeaderMap) {
        let Some(session) = session(headers) else { return };
        let back = async {
            loop {
                let news = self.news.notified();
                if self.sessions.lock().remove(&session) {
                    return;
                }
                news.await;
            }
        };
        drop(tokio::time::timeout(TIMEOUT, back).await);
    }
}

fn session(headers: &HeaderMap) -> Option<String> {
    let session = headers.get("mcp-session-id")?;
    session.to_str().ok().map(str::to_owned)
}

/// Cuts the stream of a call of [`TOOL`] within a session, and notes who comes back for it.
pub(crate) async fn close_early(
    State(shared): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(session) = session(request.headers()) else {
        return next.run(request).await;
    };
    let resumes = request.headers().contains_key("last-event-id");
    let (parts, body) = request.into_parts();
    let posted = parts.method == Method::POST;
    let body = to_bytes(body, LIMIT).await.unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if resumes {
        shared.returned.note(session);
        return response;
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let streams = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if posted && streams && message["params"]["name"] == TOOL {
        first_event(response).await
    } else {
        response
    }
}

async fn first_event(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let mut chunks = body.into_data_stream();
    let mut event = Vec::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        event.extend_from_slice(&chunk);
        if event.ends_with(b"\n\n") {
            break;
        }
    }
    Response::from_parts(parts, Body::from(event))
}
