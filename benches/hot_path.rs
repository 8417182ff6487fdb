//! The steps of a call that cost CPU on every request: reading the message, comparing its
//! headers, deciding what it means, opening the session's seal, reading an event, writing the
//! answer. Run with `cargo bench --bench hot_path`.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use pleiades_core::secret::Secret;
use pleiades_gateway::catalog::{Catalogue, OfflineProvider, Provider, Tool};
use pleiades_gateway::facade::{answer::MetaAnswer, plan};
use pleiades_mcp::{Message, RawObject, Revision, headers, message, raw, seal::Sealer, sse, translate};
use serde_json::json;

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"use_github","arguments":{"tool":"issue_read","arguments":{"method":"get","owner":"octocat","repo":"hello-world","issue_number":42}},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":3}}}"#;

fn object(value: &serde_json::Value) -> RawObject {
    RawObject::open(&raw::raw(value)).unwrap_or_default()
}

fn provider() -> Provider {
    OfflineProvider::bare("github")
}

fn catalogue() -> Catalogue {
    let tools = include_str!("../tests/data/meta_tools.jsonl")
        .lines()
        .filter_map(|line| {
            let raw: RawObject = serde_json::from_str(line)
                .ok()
                .filter(|raw: &RawObject| raw.text("server").as_deref() == Some("github"))?;
            let name = raw.text("name")?.into_owned();
            Some(Arc::new(Tool::new(&name, name.clone(), raw)))
        });
    Catalogue::of(tools.collect())
}

fn messages(c: &mut Criterion) {
    c.bench_function("message/decode", |b| b.iter(|| message::decode(black_box(CALL))));
    let result =
        raw::raw(&json!({ "content": [{ "type": "text", "text": "x".repeat(1000) }], "isError": false }));
    let id = message::Id::of(17);
    c.bench_function("message/result", |b| {
        b.iter(|| message::result(black_box(&id), black_box(&result)))
    });
    let Ok(Message::Request {
        params: Some(params), ..
    }) = message::decode(CALL)
    else {
        return;
    };
    c.bench_function("message/open_params", |b| {
        b.iter(|| RawObject::open(black_box(&params)))
    });
}

fn head(c: &mut Criterion) {
    let params = object(&json!({ "name": "use_github" }));
    let pairs = [
        ("mcp-method", "tools/call"),
        ("mcp-name", "use_github"),
        ("mcp-protocol-version", "2026-07-28"),
    ];
    let map: HeaderMap = pairs
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    c.bench_function("headers/check", |b| {
        b.iter(|| headers::check(black_box(&map), "tools/call", Some(&params)))
    });
}

fn plans(c: &mut Criterion) {
    let (provider, catalogue) = (provider(), catalogue());
    let arguments = json!({ "method": "get", "owner": "octocat", "repo": "hello-world", "issue_number": 42 });
    let exact = object(&json!({ "tool": "issue_read", "arguments": arguments }));
    c.bench_function("plan/exact", |b| {
        b.iter(|| plan::plan(&provider, &catalogue, black_box(&exact)))
    });
    let text = object(&json!({ "tool": "issueRead", "arguments": arguments.to_string() }));
    c.bench_function("plan/repaired", |b| {
        b.iter(|| plan::plan(&provider, &catalogue, black_box(&text)))
    });
    let empty = object(&json!({ "prompt": "read an issue" }));
    c.bench_function("plan/menu", |b| {
        b.iter(|| plan::plan(&provider, &catalogue, black_box(&empty)))
    });
}

fn answers(c: &mut Criterion) {
    let result = object(
        &json!({ "content": [{ "type": "text", "text": "x".repeat(1000) }], "structuredContent": { "a": 1 } }),
    );
    c.bench_function("answer/of_result_into_result", |b| {
        b.iter(|| {
            MetaAnswer::of_result(black_box(&result), Vec::new()).into_result(Revision::V2026_07_28, "t")
        });
    });
    c.bench_function("translate/legacy_to_modern", |b| {
        b.iter(|| {
            translate::result(
                "tools/call",
                black_box(result.clone()),
                Revision::V2025_06_18,
                Revision::V2026_07_28,
            )
        });
    });
}

fn seals(c: &mut Criterion) {
    let sealer = Sealer::new(&[Secret::new("0123456789abcdef0123456789abcdef")]);
    let token = sealer.seal("session", "acme/bot", u64::MAX, &[7; 120]);
    c.bench_function("seal/seal", |b| {
        b.iter(|| sealer.seal("session", "acme/bot", u64::MAX, black_box(&[7; 120])))
    });
    c.bench_function("seal/open", |b| {
        b.iter(|| sealer.open("session", "acme/bot", 0, black_box(&token)))
    });
}

fn events(c: &mut Criterion) {
    let frame = sse::frame(CALL);
    c.bench_function("sse/parse", |b| {
        b.iter(|| {
            let mut parser = sse::Parser::new(1 << 20);
            parser.push(black_box(&frame)).map(|()| parser.next())
        });
    });
}

criterion_group!(hot_path, messages, head, plans, answers, seals, events);
criterion_main!(hot_path);
