//! A stream that ends before its answer, so that the client must come back for it.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::Value;

/// The tool whose stream ends after the event that names the place to resume at.
pub(crate) const TOOL: &str = "test_reconnection";

const LIMIT: usize = 4 << 20;

/// Cuts the stream of a call of [`TOOL`] within a session. The session keeps the answer for a GET
/// with `Last-Event-ID`.
pub(crate) async fn close_early(request: Request, next: Next) -> Response {
    let in_session = request.headers().contains_key("mcp-session-id");
    if request.method() != "POST" || !in_session {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LIMIT).await.unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let streams = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if message["params"]["name"] == TOOL && streams {
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
