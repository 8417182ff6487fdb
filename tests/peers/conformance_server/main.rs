//! The server that the official conformance suite is run against, made with the official Rust SDK.
//!
//! `conformance_server ADDR [--only-modern | --only-legacy REVISION]` serves streamable HTTP at
//! `http://ADDR/mcp` and prints that URL; `conformance_server --stdio …` speaks on stdin and stdout.
//! It offers every tool, resource and prompt that the suite
//! asks for by name. What asks back does so in the way of the client's revision: by a request of its
//! own in a session, by a result of kind `input_required` without one. So each fixture serves every
//! generation of clients.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON values answer null for what they do not have"
)]

mod asking;
mod call;
mod cells;
mod content;
mod declared;
mod polling;
mod prompts;
mod resources;
mod rounds;
mod sealed;
mod server;
mod tasks;

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use rmcp::model::ProtocolVersion;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::server::{ConformanceServer, ServerState};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// When a client whose stream ended may come back.
const RETRY: Duration = Duration::from_millis(100);

/// What the command line asked for.
#[derive(Debug, Default)]
struct ConformanceOptions {
    address: Option<String>,
    stdio: bool,
    revisions: Option<Vec<ProtocolVersion>>,
}

fn main() -> Fallible<()> {
    let options = options(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

fn options(mut words: impl Iterator<Item = String>) -> Fallible<ConformanceOptions> {
    let mut options = ConformanceOptions::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--stdio" => options.stdio = true,
            "--only-modern" => options.revisions = Some(vec![ProtocolVersion::V_2026_07_28]),
            "--only-legacy" => {
                let revision = words.next().ok_or("`--only-legacy` needs a revision")?;
                options.revisions = Some(vec![typed(json!(revision))?]);
            }
            flag if flag.starts_with("--") => return Err(format!("unknown flag `{flag}`").into()),
            _ => options.address = Some(word),
        }
    }
    Ok(options)
}

async fn serve(options: ConformanceOptions) -> Fallible<()> {
    let shared = Arc::new(ServerState::new(options.revisions)?);
    if options.stdio {
        let running = ConformanceServer::new(shared)
            .serve(rmcp::transport::stdio())
            .await?;
        running.waiting().await?;
        return Ok(());
    }
    let origins = ["http://127.0.0.1:*", "http://localhost:*"];
    let config = StreamableHttpServerConfig::default()
        .with_allowed_origins(origins)
        .with_sse_retry(Some(RETRY));
    let mut manager = LocalSessionManager::default();
    manager.session_config.sse_retry = Some(RETRY);
    let sessions = Arc::clone(&shared);
    let service: StreamableHttpService<ConformanceServer, LocalSessionManager> = StreamableHttpService::new(
        move || Ok(ConformanceServer::new(Arc::clone(&sessions))),
        Arc::new(manager),
        config,
    );
    let router = axum::Router::new()
        .nest_service("/mcp", service)
        .layer(from_fn_with_state(shared, polling::close_early));
    let address = options.address.as_deref().unwrap_or("127.0.0.1:0");
    let listener = tokio::net::TcpListener::bind(address).await?;
    writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    std::io::stdout().flush()?;
    axum::serve(listener, router).await?;
    Ok(())
}

/// Builds a type of the SDK from the JSON that the specification shows.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|fault| ErrorData::internal_error(fault.to_string(), None))
}
