//! The body of a response as a stream of events: read alike wherever one is read.

use std::time::Duration;

use futures_util::FutureExt;
use http::StatusCode;
use reqwest::Response;
use tokio::time::timeout;

use super::{
    client::connection_error,
    incoming::{LARGEST, is_type, refuse_coding},
};
use pleiades_core::error::{Code, Error};
use pleiades_core::signature::Signature;
use pleiades_mcp::sse;

/// A stream that is silent for so long is dead: its connection may be gone without a word.
const SILENT: Duration = Duration::from_secs(3600);
/// How long a stream may take to end after its answer.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct EventStream {
    response: Response,
    parser: sse::Parser,
}

#[derive(Debug)]
pub(crate) enum StreamError {
    Broken(Error),
    Malformed(Error),
}

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        Self {
            response,
            parser: sse::Parser::new(LARGEST),
        }
    }

    /// The stream of what a provider says outside of calls; the response itself when the provider offers
    /// none. Errors: when it may offer one later.
    pub(crate) fn accept(response: Response, signature: &Signature) -> Result<Result<Self, Response>, Error> {
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let message = "the provider is failing; try again later";
            let cause = format!("status {}", status.as_u16());
            return Err(Error::new(Code::UpstreamUnreachable, message).because(cause));
        }
        // A credential that is renewed may do later.
        if status == StatusCode::UNAUTHORIZED && signature.settled().is_none() {
            let message = "the provider refused the credential";
            return Err(Error::new(Code::UpstreamAuth, message));
        }
        if !status.is_success() || !is_type(response.headers(), "text/event-stream") {
            return Ok(Err(response));
        }
        refuse_coding(response.headers())?;
        Ok(Ok(Self::new(response)))
    }

    /// The next event that is complete already.
    pub(crate) fn frame(&mut self) -> Option<sse::Frame> {
        self.parser.next()
    }

    /// Bytes of events that are not complete or not taken yet.
    pub(crate) fn buffered(&self) -> usize {
        self.parser.buffered()
    }

    /// Waits for more bytes; `false` at the end of the stream.
    pub(crate) async fn fill(&mut self) -> Result<bool, StreamError> {
        let chunk = self.response.chunk().await;
        let broken = |error: reqwest::Error| {
            let error = error.with_url(self.response.url().clone());
            StreamError::Broken(connection_error(error))
        };
        let Some(bytes) = chunk.map_err(broken)? else {
            return Ok(false);
        };
        self.parser.push(&bytes).map_err(StreamError::Malformed)?;
        Ok(true)
    }

    /// The next event; `None` at the end of the stream, or when it is silent for too long.
    pub(crate) async fn next(&mut self) -> Result<Option<sse::Frame>, Error> {
        loop {
            if let Some(frame) = self.frame() {
                return Ok(Some(frame));
            }
            match timeout(SILENT, self.fill()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return Ok(None),
                Ok(Err(StreamError::Broken(error) | StreamError::Malformed(error))) => return Err(error),
            }
        }
    }

    /// Reads the stream to the end that follows its answer, so that the connection can be used again;
    /// dropped before it, the connection would be closed after every call.
    pub(crate) fn drain(mut self) {
        if let Some(Ok(None) | Err(_)) = self.response.chunk().now_or_never() {
            return;
        }
        tokio::spawn(async move {
            let rest = async { while let Ok(Some(_)) = self.response.chunk().await {} };
            timeout(LINGER, rest).await.ok();
        });
    }
}
