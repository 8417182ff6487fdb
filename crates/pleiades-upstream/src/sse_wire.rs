//! The transport of 2024-11-05: an event stream that first names where messages are posted, and
//! then brings everything the provider says.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{Method, StatusCode};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    client::timed_out,
    endpoint::Endpoint,
    event_stream::EventStream,
    incoming::{is_type, protocol_error, refuse_coding},
    pool::PoolKey,
    post::{self, RequestHead},
    post_writer::PostWriter,
    refusal::RefusedResponse,
    response::{self, Reading},
    shared::Shared,
    wire::{Wire, WireReader, WireState, WireWriter},
};
use pleiades_core::{error::Error, signature::Signature};

/// Gateways on the way cut streams, often each minute; one that lived this long was of use.
const SOUND: Duration = Duration::from_secs(1);
/// The longest address that is taken.
const ADDRESS: usize = 8 * 1024;

/// Opens a stream and learns where its messages go. Runs on the control runtime, which drives it.
/// Errors: `UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamAuth` (401, 403); `UpstreamProtocol` when there
/// is no such stream or it names another origin.
pub(crate) async fn connect(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    signature: &Arc<Signature>,
    key: &PoolKey,
    deadline: Instant,
) -> Result<Arc<Wire>, Error> {
    let route = shared.clients.route(endpoint)?;
    let head = RequestHead::default();
    let response = post::send_bodyless(&route, signature, Method::GET, head, deadline).await?;
    let mut stream = accept(response, signature, deadline).await?;
    let named = timeout_at(deadline, message_address(&mut stream)).await;
    let named = named.map_err(|_elapsed| timed_out())??;
    let address = address(&route.url, &named)?;
    let state = WireState::new(shared, &endpoint.provider, key, SOUND);
    let wire = Arc::new_cyclic(|wire| {
        let reader = WireReader {
            state: Arc::clone(&state),
            wire: Weak::clone(wire),
        };
        let posts = PostWriter::new(address, endpoint, signature, reader);
        Wire::new(Arc::clone(&state), WireWriter::Posts(posts))
    });
    let reader = WireReader {
        state: Arc::clone(&state),
        wire: Arc::downgrade(&wire),
    };
    shared.control.spawn(async move {
        let ended = state.stop.run_until_cancelled(read(stream, &reader)).await;
        if let Some(why) = &ended {
            tracing::debug!(
                provider.name = &*state.provider,
                error = why.as_ref().err().map(tracing::field::display),
                "the provider's stream ended"
            );
        }
        state.end(ended.is_none());
    });
    Ok(wire)
}

async fn accept(response: Response, signature: &Signature, deadline: Instant) -> Result<EventStream, Error> {
    if response.status() != StatusCode::OK {
        let reading = Reading::alone(0, deadline, signature);
        let refused = response::read_refusal(response, &reading).await?;
        return Err(refused.map_or_else(Error::rpc, |_| no_stream()));
    }
    refuse_coding(response.headers())?;
    if !is_type(response.headers(), "text/event-stream") {
        let summary = RefusedResponse::read(response, deadline).await.summary();
        return Err(no_stream().because(summary));
    }
    Ok(EventStream::new(response))
}

async fn message_address(stream: &mut EventStream) -> Result<String, Error> {
    while let Some(frame) = stream.next().await? {
        match frame.event.as_deref() {
            Some("endpoint") => return Ok(frame.data),
            // It sets an id or a time and is no event.
            None if frame.data.is_empty() => {}
            _ => {
                let message = "the provider's event stream does not begin with an `endpoint` event";
                return Err(protocol_error(message));
            }
        }
    }
    Err(protocol_error("the provider's event stream ended at once"))
}

async fn read(mut stream: EventStream, reader: &WireReader) -> Result<(), Error> {
    while let Some(frame) = stream.next().await? {
        if frame.event.as_deref().is_none_or(|event| event == "message") {
            reader.receive(frame.data.as_bytes());
        }
    }
    Ok(())
}

/// The address that a stream named, relative or whole: of the same origin or none, for the
/// credential goes there.
fn address(base: &Url, named: &str) -> Result<Url, Error> {
    let unusable = "the provider names no usable address for messages on its event stream";
    if named.len() > ADDRESS {
        return Err(protocol_error(unusable));
    }
    let joined = base.join(named.trim());
    let mut address = joined.map_err(|error| protocol_error(unusable).because(error))?;
    if address.origin() != base.origin() || !address.username().is_empty() || address.password().is_some() {
        let message = "the provider's event stream names another origin for its messages, which is never \
                       followed; put the address that the provider itself names in `upstream.url`";
        return Err(protocol_error(message));
    }
    address.set_fragment(None);
    Ok(address)
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
