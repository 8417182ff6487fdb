//! How often one call allocates, and how much: each step that runs on every request, then a whole
//! `tools/call` in the tool and the meta view, from the bytes of the message to the bytes of the answer,
//! over HTTP to a server that does nothing. What that server allocates is not counted, nor is our listener.
//! Run with `cargo bench --bench allocations`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::missing_docs_in_private_items,
    reason = "a measurement may fail loudly, and prints"
)]

use std::{hint::black_box, sync::Arc, time::Duration};

use allocation_counter::measure;
use axum::{Router, body::Bytes, http::StatusCode, response::IntoResponse};
use http::HeaderMap;
use pleiades::app::{App, LoadScope, Services};
use pleiades_core::secret::Secret;
use pleiades_core::telemetry::View;
use pleiades_descriptor::settings::{Overrides, load};
use pleiades_gateway::exchange::{Arrived, Keys, Peer, Reply, Scope};
use pleiades_gateway::facade::answer::MetaAnswer;
use pleiades_mcp::{ClientCapabilities, RawObject, Revision, message, raw, seal::Sealer, sse};
use serde_json::{Value, json};

/// Calls whose counts are averaged; the first ones, which fill caches, are made before.
const CALLS: u64 = 200;

const TOOL: &[u8] =
    br#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"echo","arguments":{"name":"x"}}}"#;
const META: &[u8] = br#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"use_fast","arguments":{"tool":"echo","arguments":{"name":"x"}}}}"#;

fn row(name: &str, counted: allocation_counter::AllocationInfo, times: u64) {
    let (count, bytes) = (counted.count_total, counted.bytes_total);
    println!("{name:<40} {:>8} {:>10}", count / times, bytes / times);
}

fn steps() {
    let once = |name: &str, work: &mut dyn FnMut()| {
        work();
        row(name, measure(&mut *work), 1);
    };
    once("message/decode", &mut || drop(black_box(message::decode(TOOL))));
    once("message/open", &mut || {
        drop(black_box(message::decode(TOOL).map(Arrived::open)));
    });
    let content = json!({ "content": [{ "type": "text", "text": "x".repeat(100) }] });
    let result = RawObject::open(&raw::raw(&content)).unwrap_or_default();
    once("answer/of_result_into_result", &mut || {
        drop(black_box(
            MetaAnswer::of_result(&result, Vec::new()).into_result(Revision::V2025_06_18, "t"),
        ));
    });
    let sealer = Sealer::new(&[Secret::new("0123456789abcdef0123456789abcdef")]);
    let token = sealer.seal("session", "acme/bot", u64::MAX, &[7; 20]);
    once("seal/open", &mut || {
        drop(black_box(sealer.open("session", "acme/bot", 0, &token)));
    });
    once("sse/frame", &mut || drop(black_box(sse::frame(TOOL))));
}

/// A server of one tool, on a thread of its own, where nothing is counted.
fn upstream() -> u16 {
    let (sender, port) = std::sync::mpsc::channel();
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port");
            let port = listener.local_addr().expect("its address").port();
            sender.send(port).expect("somebody waits");
            axum::serve(listener, Router::new().fallback(answer))
                .await
                .expect("served");
        });
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    port.recv().expect("a port")
}

async fn answer(body: Bytes) -> impl IntoResponse {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match asked["method"].as_str() {
        Some("initialize") => json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "fast", "version": "0" } }),
        Some("tools/list") => json!({ "tools": [{ "name": "echo", "description": "Echoes.",
            "inputSchema": { "type": "object", "properties": { "name": { "type": "string" } } } }] }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "x".repeat(100) }] }),
        _ if asked["id"].is_null() => {
            return (
                StatusCode::ACCEPTED,
                [("content-type", "text/plain")],
                String::new(),
            );
        }
        _ => {
            let error =
                json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": -32601, "message": "no" } });
            return (
                StatusCode::OK,
                [("content-type", "application/json")],
                error.to_string(),
            );
        }
    };
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
    (
        StatusCode::OK,
        [("content-type", "application/json")],
        answer.to_string(),
    )
}

fn peer(parts: &Services) -> Peer {
    Peer {
        principal: parts.principal.clone(),
        revision: Revision::V2025_06_18,
        abilities: ClientCapabilities::NONE,
        capabilities: None,
        session: None,
        client: None,
        keys: Keys::Headers(HeaderMap::new()),
        trace: None,
        request_id: parts.ids.next(),
    }
}

async fn call(parts: &Services, scope: &Scope, body: &[u8]) -> bool {
    let Ok(arrived) = message::decode(body).map(Arrived::open) else {
        return false;
    };
    let snapshot = parts.exchange.snapshot(scope, &parts.principal);
    let (reply, _record) = parts
        .exchange
        .handle(&snapshot, (scope, &peer(parts)), arrived, None)
        .await;
    matches!(reply, Reply::Answer { code: None, body, .. } if body.windows(3).any(|it| it == b"xxx"))
}

fn whole(folder: &std::path::Path) {
    std::fs::create_dir(folder.join("providers.d")).expect("a folder");
    let descriptor = format!(
        "id: fast\nupstream: {{ url: \"http://127.0.0.1:{}/mcp\" }}\nauth: {{ none: {{}} }}\n",
        upstream()
    );
    std::fs::write(folder.join("providers.d/fast.yaml"), descriptor).expect("a file");
    let settings = format!(
        "providers: {}\nvault: {{ file: {{ path: {} }} }}\nseal: {{ keys: [\"0123456789abcdef0123456789abcdef\"] }}\n",
        folder.join("providers.d").display(),
        folder.join("vault.db").display()
    );
    std::fs::write(folder.join("pleiades.yaml"), settings).expect("a file");
    let loaded = load(Some(&folder.join("pleiades.yaml")), &Overrides::default());
    let app = App::build(loaded.settings, LoadScope::All).expect("an app");
    let parts = app.services();
    // One thread, so that all that a call allocates is counted where it is.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let provider: Arc<str> = "fast".into();
    for (name, view, body) in [("tool view", View::Tool, TOOL), ("meta view", View::Meta, META)] {
        let scope = Scope::new(view, Some(Arc::clone(&provider)));
        for _ in 0..20 {
            assert!(
                runtime.block_on(call(&parts, &scope, body)),
                "a call of the {name}"
            );
        }
        let counted = measure(|| {
            for _ in 0..CALLS {
                black_box(runtime.block_on(call(&parts, &scope, body)));
            }
        });
        row(&format!("a whole call, {name}"), counted, CALLS);
    }
    app.stop(Duration::from_secs(1));
}

fn main() {
    println!("{:<40} {:>8} {:>10}", "", "times", "bytes");
    steps();
    let folder = tempfile::tempdir().expect("a folder");
    whole(folder.path());
}
