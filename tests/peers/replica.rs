//! A replica that does nothing but hand over: for the tests of the shared state against a real Redis.
//!
//! `replica URL NAME KEY` prints its name, then answers each line of its input, a JSON object, with a
//! line: `{"hand": TEXT, "to": REPLICA, "within_ms": N}` (with `"times": M` that often at once, waiting for
//! none), `{"end": N}`, `{"has_ended": N}`, `{"up": 0}`, `{"put": ID, "tenant": TENANT, "bytes": N, "share": N,
//! "ttl_ms": N}`, `{"get": ID}` (how many bytes it has).
//! A text that it is handed comes back with `echo ` before it, but for `never` (no answer), `hold` (no
//! answer before the line `{"release": 0}`) and `large` (more than may be handed over).

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a peer of the tests ends loudly, and JSON values answer null for what they do not have"
)]

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pleiades_core::secret::Secret;
use pleiades_core::telemetry::Metrics;
use pleiades_gateway::shared_state::{EntriesAway, EntryAddress, RedisConfig, Retention, SharedState};
use pleiades_mcp::seal::Sealer;
use serde_json::{Value, json};
use tokio::sync::watch;

const LARGE: usize = (1 << 20) + 1;
const LATER: u64 = 4_000_000_000;

fn digest(number: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    digest
}

async fn handled(message: Vec<u8>, mut released: watch::Receiver<u32>) -> Vec<u8> {
    match &*message {
        b"hold" => {
            released.changed().await.ok();
            b"released".to_vec()
        }
        b"never" => std::future::pending().await,
        b"large" => vec![b'x'; LARGE],
        other => [b"echo ", other].concat(),
    }
}

async fn hand(shared: &SharedState, order: &Value) -> Value {
    let text = order["hand"].as_str().unwrap_or_default();
    let body = match text {
        "too large" => vec![b'x'; LARGE],
        text => text.as_bytes().to_vec(),
    };
    let within = Duration::from_millis(order["within_ms"].as_u64().unwrap_or(30_000));
    let began = Instant::now();
    let delivered = shared
        .hand_over(order["to"].as_str().unwrap_or_default(), body, within)
        .await;
    let ms = began.elapsed().as_millis();
    match delivered {
        Ok(answer) => json!({ "answer": String::from_utf8_lossy(&answer), "ms": ms }),
        Err(why) => json!({ "refused": format!("{why:?}"), "ms": ms }),
    }
}

const fn address(id: &str) -> EntryAddress<'_> {
    EntryAddress {
        purpose: "test",
        owner: "somebody",
        id,
    }
}

async fn put(shared: &SharedState, id: &str, order: &Value) -> Value {
    let number = |key: &str| usize::try_from(order[key].as_u64().unwrap_or(0)).unwrap_or(0);
    let retention = Retention {
        tenant: order["tenant"].as_str().unwrap_or_default(),
        share: number("share"),
        ttl: Duration::from_millis(order["ttl_ms"].as_u64().unwrap_or(60_000)),
    };
    let value = vec![b'x'; number("bytes")];
    shared.put_entry(address(id), retention, value.into()).await;
    json!({})
}

async fn get(shared: &SharedState, id: &str) -> Value {
    match shared.entry(address(id)).await {
        Ok(value) => json!({ "bytes": value.map(|value| value.len()) }),
        Err(EntriesAway) => json!({ "refused": "Away" }),
    }
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("replica URL NAME KEY");
    let meeting = RedisConfig {
        url: Secret::new(argument()),
        name: argument(),
        sealer: Arc::new(Sealer::new(&[Secret::new(argument())])),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let metrics = Metrics::new();
    let shared = SharedState::redis(meeting, runtime.handle(), Arc::clone(&metrics)).expect("a Redis");
    let (release, released) = watch::channel(0);
    shared.serve(Box::new(move |message| {
        Box::pin(handled(message, released.clone()))
    }));
    let mut output = std::io::stdout();
    writeln!(output, "{}", json!({ "replica": shared.replica() })).expect("written");
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let number = |key: &str| order[key].as_u64();
        let answer = if let Some(end) = number("end") {
            shared.announce_end(digest(end), LATER);
            json!({})
        } else if let Some(end) = number("has_ended") {
            json!({ "has_ended": shared.has_ended(&digest(end)) })
        } else if number("release").is_some() {
            release.send_modify(|times| *times += 1);
            json!({})
        } else if number("up").is_some() {
            json!({ "up": metrics.render().contains("pleiades_shared_state_up 1") })
        } else if let Some(id) = order["put"].as_str() {
            runtime.block_on(put(&shared, id, &order))
        } else if let Some(id) = order["get"].as_str() {
            runtime.block_on(get(&shared, id))
        } else if let Some(times) = number("times") {
            for _ in 0..times {
                let (shared, order) = (Arc::clone(&shared), order.clone());
                runtime.spawn(async move { hand(&shared, &order).await });
            }
            json!({})
        } else {
            runtime.block_on(hand(&shared, &order))
        };
        writeln!(output, "{answer}").expect("written");
    }
}
