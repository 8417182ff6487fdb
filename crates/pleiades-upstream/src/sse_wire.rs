//! The transport of 2024-11-05: an event stream that first names where messages are posted, and
//! then brings everything the provider says.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::{
    client::connection_error,
    endpoint::Endpoint,
    incoming::{self, is_type},
    pool::PoolKey,
    post::{self, RequestHead, timed_out},
    post_writer::PostWriter,
    response::{self, LARGEST, Reading, compressed, protocol_error},
    shared::Shared,
    summary::ResponseSummary,
    wire::{Wire, WireReader, WireState, WireWriter},
};
use pleiades_core::error::Error;
use pleiades_core::signature::Signature;
use pleiades_mcp::sse;

/// A stream that is silent for so long is dead: the connection may have gone without a word.
const SILENT: Duration = Duration::from_secs(3600);
/// Gateways on the way cut streams, often each minute; one that lived this long was of use.
const SOUND: Duration = Duration::from_secs(1);
/// The longest address that is taken.
const ADDRESS: usize = 8 * 1024;

/// Opens a stream and learns where its messages go. Runs on the control runtime, which drives it.
///
/// # Errors
/// `UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamAuth` (401, 403); `UpstreamProtocol` when
/// there is no such stream or it names another origin.
pub(crate) async fn connect(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    signature: &Arc<Signature>,
    key: &PoolKey,
    deadline: Instant,
) -> Result<Arc<Wire>, Error> {
    let route = shared.clients.route(endpoint)?;
    let response =
        post::send_bodyless(&route, signature, Method::GET, RequestHead::default(), deadline).await?;
    let mut stream = EventStream::of(response, signature, deadline).await?;
    let named = timeout_at(deadline, stream.endpoint())
        .await
        .map_err(|_elapsed| timed_out())??;
    let address = address(&route.url, &named)?;
    let life = WireState::new(shared, &endpoint.provider, key, SOUND);
    let wire = Arc::new_cyclic(|wire| {
        let reader = WireReader {
            life: Arc::clone(&life),
            wire: Weak::clone(wire),
        };
        let posts = PostWriter::new(address, endpoint, signature, reader);
        Wire::new(Arc::clone(&life), WireWriter::Posts(posts))
    });
    let reader = WireReader {
        life: Arc::clone(&life),
        wire: Arc::downgrade(&wire),
    };
    shared.control.spawn(async move {
        let ended = life.stop.run_until_cancelled(stream.read(&reader)).await;
        if let Some(why) = &ended {
            let provider = &*life.provider;
            tracing::debug!(
                provider.name = provider,
                error = why.as_ref().err().map(tracing::field::display),
                "the provider's stream ended"
            );
        }
        life.end(ended.is_none());
    });
    Ok(wire)
}

/// The address that a stream named, relative or whole: of the same origin or none, for the
/// credential goes there.
fn address(base: &Url, named: &str) -> Result<Url, Error> {
    let unusable = "the provider names no usable address for messages on its event stream";
    if named.len() > ADDRESS {
        return Err(protocol_error(unusable));
    }
    let mut address = base
        .join(named.trim())
        .map_err(|error| protocol_error(unusable).because(error))?;
    if address.origin() != base.origin() || !address.username().is_empty() || address.password().is_some() {
        let message = "the provider's event stream names another origin for its messages, which is never \
                       followed; put the address that the provider itself names in `upstream.url`";
        return Err(protocol_error(message));
    }
    address.set_fragment(None);
    Ok(address)
}

struct EventStream {
    response: reqwest::Response,
    parser: sse::Parser,
}

impl EventStream {
    async fn of(
        response: reqwest::Response,
        signature: &Signature,
        deadline: Instant,
    ) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            let reading = Reading::alone(0, deadline, signature);
            let refused = response::read_refusal(response, &reading).await?;
            return Err(refused.map_or_else(Error::rpc, |_| no_stream()));
        }
        if let Some(coding) = incoming::content_coding(response.headers()) {
            return Err(compressed(&coding));
        }
        if !is_type(response.headers(), "text/event-stream") {
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response::read_start(response, deadline).await;
            return Err(no_stream().because(ResponseSummary::of(status, &headers, &body)));
        }
        Ok(Self {
            response,
            parser: sse::Parser::new(LARGEST),
        })
    }

    /// The first event, which must say where messages go.
    async fn endpoint(&mut self) -> Result<String, Error> {
        match self.next().await? {
            Some(frame) if frame.event.as_deref() == Some("endpoint") => Ok(frame.data),
            Some(_) => Err(protocol_error(
                "the provider's event stream does not begin with an `endpoint` event",
            )),
            None => Err(protocol_error("the provider's event stream ended at once")),
        }
    }

    async fn next(&mut self) -> Result<Option<sse::Frame>, Error> {
        loop {
            if let Some(frame) = self.parser.next() {
                if frame.event.is_some() || !frame.data.is_empty() {
                    return Ok(Some(frame));
                }
                continue;
            }
            let Some(bytes) = self.response.chunk().await.map_err(connection_error)? else {
                return Ok(None);
            };
            self.parser.push(&bytes)?;
        }
    }

    /// Hears everything, to the end.
    async fn read(mut self, reader: &WireReader) -> Result<(), Error> {
        while let Ok(frame) = timeout(SILENT, self.next()).await {
            let Some(frame) = frame? else { break };
            if frame.event.as_deref().is_none_or(|event| event == "message") {
                reader.receive(frame.data.as_bytes());
            }
        }
        Ok(())
    }
}

fn no_stream() -> Error {
    protocol_error(
        "the provider offers no event stream at `upstream.url`, as the transport of 2024-11-05 begins",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(named: &str) -> Result<String, String> {
        let base = Url::parse("https://mcp.example.com/a/sse?x=1").unwrap();
        address(&base, named)
            .map(Into::into)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_may_be_relative_or_whole() {
        let cases = [
            (
                "/message?sessionId=1",
                "https://mcp.example.com/message?sessionId=1",
            ),
            ("message?s=1#x", "https://mcp.example.com/a/message?s=1"),
            ("?s=1", "https://mcp.example.com/a/sse?s=1"),
            ("https://mcp.example.com:443/m", "https://mcp.example.com/m"),
        ];
        for (named, expected) in cases {
            assert_eq!(from(named).unwrap(), expected, "{named}");
        }
    }

    #[test]
    fn an_address_elsewhere_is_refused() {
        for named in [
            "https://evil.example.com/message",
            "//evil.example.com/message",
            "\\\\evil.example.com/message",
            "http://mcp.example.com/message",
            "https://mcp.example.com:8443/message",
            "https://user:key@mcp.example.com/message",
            "file:///etc/passwd",
            "data:text/plain,x",
        ] {
            assert!(from(named).unwrap_err().contains("another origin"), "{named}");
        }
        assert!(from("https://").is_err() && from(&"x".repeat(9000)).is_err());
    }
}
