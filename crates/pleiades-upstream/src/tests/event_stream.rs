//! The transport of 2024-11-05, against a provider that speaks nothing else.

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;

use super::fake::{FakeHttpProvider, RecordedRequest, fault, json_body, result, status};
use super::*;
use pleiades_core::error::Code;

const L: Revision = Revision::V2025_11_25;
const OLD: Revision = Revision::V2024_11_05;

/// The streams that were opened, each with its way in; a closed one is `None`.
#[derive(Clone, Default)]
struct OpenStreams(Arc<Mutex<Vec<Option<mpsc::Sender<String>>>>>);

impl OpenStreams {
    /// A new stream that says where messages go, by its number.
    fn open(&self) -> Response {
        let mut all = self.0.lock();
        self.named(&format!("/message?s={}", all.len()), &mut all)
    }

    fn named(&self, address: &str, all: &mut Vec<Option<mpsc::Sender<String>>>) -> Response {
        let (say, frames) = mpsc::channel(64);
        say.try_send(format!(": hello\n\nevent: endpoint\ndata: {address}\n\n"))
            .unwrap();
        all.push(Some(say));
        let frames = futures_util::stream::unfold(frames, |mut frames| async {
            let text = frames.recv().await?;
            Some((Ok::<_, std::io::Error>(text), frames))
        });
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(Body::from_stream(frames))
            .unwrap()
    }

    fn elsewhere(&self, address: &str) -> Response {
        self.named(address, &mut self.0.lock())
    }

    /// Says something on the newest stream.
    fn say(&self, message: &Value) -> Response {
        if let Some(Some(say)) = self.0.lock().last() {
            say.try_send(format!("event: message\ndata: {message}\n\n")).ok();
        }
        status(StatusCode::ACCEPTED)
    }

    fn answer(&self, seen: &RecordedRequest, result: &Value) -> Response {
        self.say(&json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result}))
    }

    fn end(&self) {
        if let Some(last) = self.0.lock().last_mut() {
            *last = None;
        }
    }

    /// Waits until nobody reads the stream of this number any more.
    async fn left(&self, number: usize) {
        let say = self.0.lock()[number].clone().unwrap();
        soon(say.closed()).await;
    }
}

struct EventStreamWorld {
    fake: FakeHttpProvider,
    streams: OpenStreams,
    upstreams: Arc<Upstreams>,
    endpoint: Arc<Endpoint>,
}

/// A provider that is spoken to; `special` answers what is not the handshake of 2024-11-05.
async fn world(
    special: impl Fn(&RecordedRequest, &OpenStreams) -> Option<Response> + Clone + Send + Sync + 'static,
) -> EventStreamWorld {
    let streams = OpenStreams::default();
    let own = streams.clone();
    let fake = FakeHttpProvider::start(move |seen, _| {
        if let Some(response) = special(seen, &own) {
            return response;
        }
        match seen.method() {
            _ if seen.verb == Method::GET => own.open(),
            _ if !seen.path.starts_with("/message") => status(StatusCode::METHOD_NOT_ALLOWED),
            "initialize" => {
                let capabilities = json!({"tools": {"listChanged": true}});
                let greeting = json!({"protocolVersion": "2024-11-05", "capabilities": capabilities});
                own.answer(seen, &greeting)
            }
            "" => status(StatusCode::ACCEPTED),
            method if method.starts_with("notifications/") => status(StatusCode::ACCEPTED),
            _ => own.answer(seen, &json!({"said": seen.body["params"]})),
        }
    })
    .await;
    let endpoint = Arc::new(endpoint(1, old(&fake.url)));
    EventStreamWorld {
        fake,
        streams,
        upstreams: upstreams(),
        endpoint,
    }
}

fn old(url: &Url) -> Transport {
    let Transport::Http { url, .. } = at(url) else {
        unreachable!()
    };
    Transport::Http {
        url,
        headers: vec![(
            HeaderName::from_static("x-own"),
            HeaderValue::from_static("descriptor"),
        )],
        tls: None,
        allow_private: false,
        allow_loopback: true,
        sse: true,
    }
}

impl EventStreamWorld {
    async fn ask(&self, call: Call) -> Result<Raw, Error> {
        soon(self.upstreams.request(&self.endpoint, &identity(), call)).await
    }

    fn gets(&self) -> usize {
        self.fake
            .seen()
            .iter()
            .filter(|seen| seen.verb == Method::GET)
            .count()
    }
}

#[tokio::test]
async fn one_stream_brings_the_answers_to_what_is_posted_where_it_says() {
    let world = world(|_, _| None).await;
    let header = (
        HeaderName::from_static("authorization"),
        HeaderValue::from_static("Bearer key"),
    );
    let identity = signed_by(Signature::fixed(vec![header], None));
    let profile = soon(world.upstreams.probe(&world.endpoint, &identity))
        .await
        .unwrap();
    assert_eq!(profile.revisions, [OLD].into_iter().collect());
    let (one, two) = tokio::join!(
        world.upstreams.request(&world.endpoint, &identity, tool(L)),
        world.upstreams.request(&world.endpoint, &identity, list(L)),
    );
    assert_eq!(value(&one.unwrap())["said"]["name"], "act");
    assert_eq!(value(&two.unwrap())["said"], json!({}));
    let seen = world.fake.seen();
    let begun: Vec<_> = seen
        .iter()
        .take(3)
        .map(|seen| (seen.path.as_str(), seen.method()))
        .collect();
    let there = "/message?s=0";
    assert_eq!(
        begun,
        [
            ("/mcp", ""),
            (there, "initialize"),
            (there, "notifications/initialized")
        ]
    );
    assert!(
        seen.iter()
            .all(|seen| seen.header("authorization") == "Bearer key")
    );
    assert!(seen.iter().all(|seen| seen.header("x-own") == "descriptor"));
    assert_eq!((seen.len(), world.upstreams.sessions()), (5, 1));
}

#[tokio::test]
async fn a_stream_that_breaks_fails_a_tool_call_and_repeats_a_list_on_a_new_one() {
    let world = world(|seen, streams| {
        let first = seen.path.ends_with("s=0") && !seen.method().starts_with("notifications/");
        (first && seen.method() != "initialize").then(|| {
            streams.end();
            status(StatusCode::ACCEPTED)
        })
    })
    .await;
    let profile = soon(world.upstreams.probe(&world.endpoint, &identity()))
        .await
        .unwrap();
    let mut changes = world
        .upstreams
        .watch_lists(&world.endpoint, &identity(), &profile);
    let error = world.ask(tool(L)).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, true));
    assert_eq!(soon(changes.recv()).await, Some(ProviderChange::Lost));
    assert_eq!(world.fake.count("tools/call"), 1);
    world.ask(tool(L)).await.unwrap();
    assert_eq!((world.gets(), world.fake.count("tools/call")), (2, 2));

    let again = super::event_stream::world(|seen, streams| {
        (seen.path.ends_with("s=0") && seen.method() == "tools/list").then(|| {
            streams.end();
            status(StatusCode::ACCEPTED)
        })
    })
    .await;
    again.ask(list(L)).await.unwrap();
    assert_eq!((again.gets(), again.fake.count("tools/list")), (2, 2));
}

#[tokio::test]
async fn a_forgotten_stream_is_opened_again_once_even_for_a_tool_call() {
    let first = world(|seen, _| {
        (seen.path.ends_with("s=0") && seen.method() == "tools/call").then(|| status(StatusCode::NOT_FOUND))
    })
    .await;
    first.ask(tool(L)).await.unwrap();
    assert_eq!((first.gets(), first.fake.count("tools/call")), (2, 2));

    let all = world(|seen, _| (seen.method() == "tools/call").then(|| status(StatusCode::NOT_FOUND))).await;
    let error = all.ask(tool(L)).await.unwrap_err();
    assert_eq!(error.code, Code::UpstreamUnreachable);
    assert_eq!((all.gets(), all.fake.count("tools/call")), (2, 2));
}

#[tokio::test]
async fn a_refused_message_fails_its_call_at_once() {
    let cases = [
        (401, json!({}), Code::UpstreamAuth),
        (403, json!({}), Code::UpstreamAuth),
        (500, json!({}), Code::UpstreamUnreachable),
        (418, json!({}), Code::UpstreamProtocol),
        (302, json!({}), Code::UpstreamProtocol),
        (
            400,
            json!({"error": {"code": -32600, "message": "no"}}),
            Code::UpstreamError,
        ),
    ];
    for (code, body, expected) in cases {
        let world =
            world(move |seen, _| (seen.method() == "tools/call").then(|| json_body(code, &body))).await;
        let error = world.ask(tool(L)).await.unwrap_err();
        assert_eq!((error.code, world.gets()), (expected, 1), "{code}");
        world.ask(list(L)).await.unwrap();
        assert_eq!(world.gets(), 1, "{code}: the stream stands");
    }
}

#[tokio::test]
async fn an_answer_in_the_response_of_a_post_is_understood() {
    let world = world(|seen, _| match seen.method() {
        "tools/call" => Some(result(seen, &json!({"here": 1}))),
        "tools/list" => Some(fault(seen, 200, -32000, &Value::Null)),
        _ => None,
    })
    .await;
    assert_eq!(value(&world.ask(tool(L)).await.unwrap()), json!({"here": 1}));
    assert_eq!(world.ask(list(L)).await.unwrap_err().code, Code::UpstreamError);
}

#[tokio::test]
async fn messages_never_go_to_another_origin() {
    let other = FakeHttpProvider::start(|_, _| status(StatusCode::ACCEPTED)).await;
    let address = other.url.to_string();
    let world =
        world(move |seen, streams| (seen.verb == Method::GET).then(|| streams.elsewhere(&address))).await;
    let error = world.ask(list(L)).await.unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert!(error.to_string().contains("another origin"), "{error}");
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_response_that_is_no_such_stream_is_reported() {
    let cases = [
        (StatusCode::OK, Code::UpstreamProtocol),
        (StatusCode::UNAUTHORIZED, Code::UpstreamAuth),
        (StatusCode::TEMPORARY_REDIRECT, Code::UpstreamProtocol),
        (StatusCode::NOT_FOUND, Code::UpstreamProtocol),
    ];
    for (answer, expected) in cases {
        let world = world(move |_, _| Some(status(answer))).await;
        let error = world.ask(list(L)).await.unwrap_err();
        assert_eq!((error.code, error.sent), (expected, false), "{answer}");
    }
    let world = world(|_, _| Some(super::fake::stream(&[json!({"event": "other"})], true))).await;
    let error = world.ask(list(L)).await.unwrap_err();
    assert!(error.to_string().contains("`endpoint`"), "{error}");
}

#[tokio::test]
async fn a_provider_that_takes_no_post_is_detected_by_its_stream() {
    let world = world(|_, _| None).await;
    let auto = Arc::new(endpoint(2, at(&world.fake.url)));
    assert!(!world.upstreams.is_wired(&auto));
    let profile = soon(world.upstreams.probe(&auto, &identity())).await.unwrap();
    assert_eq!(profile.revisions, [OLD].into_iter().collect());
    assert!(world.upstreams.is_wired(&auto));
    soon(world.upstreams.request(&auto, &identity(), tool(L)))
        .await
        .unwrap();
    assert_eq!(world.gets(), 1);
    world.upstreams.retire(&[2; 32]);
    assert!(!world.upstreams.is_wired(&auto));
}

#[tokio::test]
async fn questions_and_progress_come_on_the_stream() {
    let world = world(|seen, streams| match seen.method() {
        "tools/call" => {
            let token = &seen.body["params"]["_meta"]["progressToken"];
            streams.say(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}));
            let params = json!({"message": "who?", "requestedSchema": {"type": "object", "properties": {}}});
            let id = format!("about {}", seen.body["id"]);
            streams.say(&json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params}));
            Some(status(StatusCode::ACCEPTED))
        }
        _ => {
            let call: u64 = seen.body["id"].as_str()?.strip_prefix("about ")?.parse().ok()?;
            Some(streams.say(&json!({"jsonrpc": "2.0", "id": call, "result": seen.body["result"]})))
        }
    })
    .await;
    let (events, mut heard) = mpsc::channel(8);
    let call = Call {
        progress: true,
        token: None,
        events: Some(events),
        ..tool(L)
    };
    let answering = async {
        let Some(ProviderEvent::Progress(progress)) = heard.recv().await else {
            panic!("no progress")
        };
        assert_eq!(value(&progress.close()), json!({"progress": 1}));
        let Some(ProviderEvent::Request(ask)) = heard.recv().await else {
            panic!("no question")
        };
        ask.answer.send(Ok(raw(&json!({"action": "decline"})))).unwrap();
    };
    let (answer, ()) = Box::pin(soon(async { tokio::join!(world.ask(call), answering) })).await;
    assert_eq!(value(&answer.unwrap()), json!({"action": "decline"}));
}

#[tokio::test]
async fn a_deadline_cancels_the_call_and_leaves_the_stream_alone() {
    let world = world(|seen, _| (seen.method() == "tools/call").then(|| status(StatusCode::ACCEPTED))).await;
    world.ask(list(L)).await.unwrap();
    let call = Call {
        deadline: Instant::now() + Duration::from_millis(50),
        ..tool(L)
    };
    let error = world.ask(call).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamTimeout, true));
    let notified = world
        .fake
        .saw(|seen| seen.method() == "notifications/cancelled")
        .await;
    let asked = world.fake.saw(|seen| seen.method() == "tools/call").await;
    assert_eq!(notified.body["params"]["requestId"], asked.body["id"]);
    world.ask(list(L)).await.unwrap();
    assert_eq!(world.gets(), 1);
}

#[tokio::test]
async fn an_idle_stream_is_closed_and_the_next_call_opens_another() {
    let world = world(|_, _| None).await;
    world.ask(tool(L)).await.unwrap();
    let later = tokio::time::Instant::now() + world.endpoint.idle;
    world.upstreams.shared.streams.reap(later);
    world.streams.left(0).await;
    assert_eq!(world.upstreams.sessions(), 0);
    world.ask(tool(L)).await.unwrap();
    assert_eq!(world.gets(), 2);
}
