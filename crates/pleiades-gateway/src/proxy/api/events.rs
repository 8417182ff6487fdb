//! The events of the connect stream, one `data:` line each, and how they are written.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pingora_core::Result;
use pingora_proxy::Session;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::proxy::bridge;
use pleiades_core::telemetry::Metrics;
use pleiades_mcp::sse;

/// Between two signs of life: proxies close what is silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that wait to be written; there are six at most.
const QUEUE: usize = 8;

/// Sends one client's stream how connecting its server goes.
#[derive(Debug)]
pub(super) struct ConnectEvents {
    server: String,
    events: mpsc::Sender<Bytes>,
}

#[derive(Debug)]
pub(super) enum ConnectResult {
    Tools(Vec<Value>),
    /// A sentence for the person who connects.
    Failed(String),
}

impl ConnectEvents {
    /// One for a server, and the lines that it sends.
    pub(super) fn new(server: String) -> (Self, mpsc::Receiver<Bytes>) {
        let (events, lines) = mpsc::channel(QUEUE);
        (Self { server, events }, lines)
    }

    /// An event without further members.
    pub(super) async fn plain(&self, event: &str) {
        self.send(event, Map::new()).await;
    }

    /// The URL on which a person authorizes, and the id of the connection.
    pub(super) async fn authorization(&self, url: &str, session: &str) {
        let mut members = Map::new();
        members.insert("url".to_owned(), json!(url));
        members.insert("session_id".to_owned(), json!(session));
        self.send("authorization_url", members).await;
    }

    pub(super) async fn end(self, result: ConnectResult) {
        let mut members = Map::new();
        let event = match result {
            ConnectResult::Tools(tools) => {
                members.insert("tools".to_owned(), Value::Array(tools));
                "success"
            }
            ConnectResult::Failed(message) => {
                members.insert("message".to_owned(), json!(message));
                "error"
            }
        };
        self.send(event, members).await;
    }

    async fn send(&self, event: &str, mut members: Map<String, Value>) {
        members.insert("event".to_owned(), json!(event));
        members.insert("server_name".to_owned(), json!(self.server));
        // One line: clients of this stream read it by lines.
        let line = format!("data: {}\n\n", Value::Object(members));
        // A client that went away reads nothing more.
        self.events.send(line.into()).await.unwrap_or_default();
    }
}

/// Writes events until `work`, which sends them, is over; a client that goes away ends both.
pub(super) async fn pump(
    session: &mut Session,
    mut lines: mpsc::Receiver<Bytes>,
    work: impl Future<Output = ()>,
    metrics: &Arc<Metrics>,
) -> Result<()> {
    let _open = bridge::OpenStream::begin(metrics);
    tokio::pin!(work);
    let mut is_over = false;
    loop {
        let event = tokio::select! {
            biased;
            event = lines.recv() => event,
            () = &mut work, if !is_over => {
                is_over = true;
                continue;
            }
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(sse::COMMENT)),
            gone = session.read_body_or_idle(true) => return gone.map(|_| ()),
        };
        match event {
            Some(event) => session.write_response_body(Some(event), false).await?,
            None => return bridge::end_stream(session).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_event_is_one_data_line_that_names_the_server() {
        let (sender, mut lines) = ConnectEvents::new("a\nb".to_owned());
        sender.plain("connection_attempt").await;
        sender.authorization("https://x/?a=1", "id").await;
        sender.end(ConnectResult::Failed("no\nway".to_owned())).await;
        let mut events = Vec::new();
        while let Some(bytes) = lines.recv().await {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let line = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
            assert!(!line.contains('\n'));
            events.push(serde_json::from_str::<Value>(line).unwrap());
        }
        assert_eq!(
            events,
            [
                json!({ "event": "connection_attempt", "server_name": "a\nb" }),
                json!({ "event": "authorization_url", "server_name": "a\nb", "url": "https://x/?a=1", "session_id": "id" }),
                json!({ "event": "error", "server_name": "a\nb", "message": "no\nway" }),
            ]
        );
    }
}
