// Trivial fast MCP streamable-HTTP upstream. Usage: fastup [addr] [ntools] [json|sse] [stateful|stateless] [threads]
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{convert::Infallible, sync::Arc};

#[derive(Deserialize)]
struct Msg<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}
#[derive(Deserialize)]
struct Init<'a> {
    #[serde(rename = "protocolVersion")]
    v: Option<&'a str>,
}
struct Cfg {
    tools: String,
    sse: bool,
    stateful: bool,
}
fn respond(c: &Cfg, code: StatusCode, body: String, sess: bool) -> Response<Full<Bytes>> {
    let (ct, b) = if c.sse {
        ("text/event-stream", format!("event: message\ndata: {body}\n\n"))
    } else {
        ("application/json", body)
    };
    let mut r = Response::builder().status(code).header("content-type", ct);
    if sess && c.stateful {
        r = r.header("mcp-session-id", "fixed-session");
    }
    r.body(Full::new(Bytes::from(b))).unwrap()
}
async fn handle(c: Arc<Cfg>, req: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if req.method() == Method::GET {
        return Ok(Response::builder().status(405).body(Full::default()).unwrap());
    }
    if req.method() == Method::DELETE {
        return Ok(Response::builder().status(200).body(Full::default()).unwrap());
    }
    let body = match req.into_body().collect().await {
        Ok(b) => b.to_bytes(),
        Err(_) => return Ok(Response::builder().status(400).body(Full::default()).unwrap()),
    };
    let m: Msg = match serde_json::from_slice(&body) {
        Ok(m) => m,
        Err(_) => return Ok(Response::builder().status(400).body(Full::default()).unwrap()),
    };
    let Some(id) = m.id else {
        return Ok(Response::builder().status(202).body(Full::default()).unwrap());
    };
    let id = id.get();
    let meth = m.method.unwrap_or("");
    let res = match meth {
        "initialize" => {
            let v = m.params.and_then(|p| serde_json::from_str::<Init>(p.get()).ok()).and_then(|i| i.v).unwrap_or("2025-06-18").to_string();
            let v = if v.as_str() > "2025-11-25" { "2025-11-25".to_string() } else { v };
            return Ok(respond(&c, StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{v}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"fastup","version":"0"}}}}}}"#), true));
        }
        "server/discover" => r#"{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25","2025-06-18"],"capabilities":{"tools":{}},"serverInfo":{"name":"fastup","version":"0"},"ttlMs":60000,"cacheScope":"public"}"#.to_string(),
        "tools/list" => c.tools.clone(),
        "tools/call" => r#"{"resultType":"complete","content":[{"type":"text","text":"hello from the fast upstream, a fixed answer of about one hundred bytes, for measuring proxies"}],"isError":false}"#.to_string(),
        "ping" => "{}".to_string(),
        _ => return Ok(respond(&c, StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#), false)),
    };
    Ok(respond(
        &c,
        StatusCode::OK,
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{res}}}"#),
        false,
    ))
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let addr = a.get(1).cloned().unwrap_or("127.0.0.1:9801".into());
    let n: usize = a.get(2).and_then(|x| x.parse().ok()).unwrap_or(1);
    let sse = a.get(3).map(|x| x == "sse").unwrap_or(false);
    let stateful = a.get(4).map(|x| x != "stateless").unwrap_or(true);
    let threads: usize = a.get(5).and_then(|x| x.parse().ok()).unwrap_or(1);
    let tools: Vec<String> = (0..n).map(|i| format!(r#"{{"name":"{}","description":"Tool number {i}: returns a greeting after validating its arguments against the declared schema.","inputSchema":{{"type":"object","properties":{{"name":{{"type":"string","description":"Who to greet"}},"count":{{"type":"integer"}}}},"required":["name"]}}}}"#, if i == 0 { "echo".to_string() } else { format!("tool_{i}") })).collect();
    let cfg = Arc::new(Cfg {
        tools: format!(
            r#"{{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[{}]}}"#,
            tools.join(",")
        ),
        sse,
        stateful,
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async move {
            let l = tokio::net::TcpListener::bind(&addr).await.unwrap();
            eprintln!("fastup on {addr}, {n} tools, sse={sse}, stateful={stateful}");
            loop {
                let Ok((s, _)) = l.accept().await else { continue };
                s.set_nodelay(true).ok();
                let c = cfg.clone();
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(
                            hyper_util::rt::TokioIo::new(s),
                            service_fn(move |r| handle(c.clone(), r)),
                        )
                        .await;
                });
            }
        });
}
