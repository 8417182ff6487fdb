//! Plans and dry runs: several calls in one call of the meta tool, through the real program.

use serde_json::{Value, json};

use crate::connecting::{self, asking};
use crate::world::client::{GENERATIONS, events};
use crate::world::provider::{FakeServer, tool};
use crate::world::{TestClient, World};

const REST: &str = "auth: { none: {} }\n";

/// An operation that only reads, with a result of its own.
fn read(name: &str, result: Value) -> Value {
    let mut read = tool(name);
    read["annotations"] = json!({ "readOnlyHint": true });
    read["x-raw"] = json!(result.to_string());
    read
}

fn tools() -> Vec<Value> {
    let text =
        |text: &str| json!({ "content": [{ "type": "text", "text": text }], "resultType": "complete" });
    let mut structured = text("in words");
    structured["structuredContent"] =
        json!({ "items": [{ "number": 7, "a/b": { "~": ["deep"] } }, { "number": 8 }] });
    let mut failing = text("no luck");
    failing["isError"] = json!(true);
    let mut get = read("get", text("got"));
    get["inputSchema"] = json!({ "type": "object", "required": ["number"], "properties": {
        "number": { "type": "integer" }, "note": { "type": "string" } } });
    let mut create = tool("create");
    create["inputSchema"] = json!({ "type": "object", "properties": {
        "text": { "type": "string" }, "count": { "type": "integer" },
        "tags": { "type": "array", "items": { "type": "string" } }, "extra": { "type": "object" } } });
    let mut meet = tool("meet");
    meet["annotations"] = json!({ "readOnlyHint": true });
    meet["x-meets"] = json!(true);
    let mut asks = tool("asks");
    asks["annotations"] = json!({ "readOnlyHint": true });
    asks["x-asks"] = json!({ "message": "who", "requestedSchema": { "type": "object", "properties": {} } });
    let rows: Vec<Value> = (0..2_000)
        .map(|at| json!({ "id": at, "title": format!("row number {at}") }))
        .collect();
    let mut long = text("long");
    long["structuredContent"] = json!({ "rows": rows });
    let long = read("long", long);
    vec![
        read("list", structured),
        read("json", text(r#"[{"id":"x1"}]"#)),
        read("plain", text("just words")),
        read("lost", failing),
        get,
        meet,
        create,
        tool("fail"),
        asks,
        long,
    ]
}

struct Scene {
    fake: FakeServer,
    world: World,
    client: TestClient,
}

async fn scene(revision: &'static str) -> Scene {
    scene_with(revision, REST).await
}

async fn scene_with(revision: &'static str, rest: &str) -> Scene {
    let fake = FakeServer::start_paged(&[revision], 1_000, tools()).await;
    let world = World::builder()
        .provider_with("fake", &fake, rest)
        .logged()
        .start()
        .await;
    let client = TestClient::connect(&world, "/mcp/fake", revision).await;
    Scene { fake, world, client }
}

fn call(id: &str, tool: &str, arguments: Value) -> Value {
    json!({ "id": id, "tool": tool, "arguments": arguments })
}

impl Scene {
    async fn plan(&self, calls: Value) -> Value {
        self.client
            .call("use_fake", json!({ "options": { "calls": calls } }))
            .await
    }

    /// What the provider was called with, in order.
    fn sent(&self) -> Vec<(String, Value)> {
        let seen = self.fake.seen("tools/call").into_iter();
        seen.map(|seen| {
            let params = &seen.body["params"];
            (
                params["name"].as_str().unwrap_or_default().to_owned(),
                params["arguments"].clone(),
            )
        })
        .collect()
    }

    fn marks(&self) -> Vec<String> {
        self.fake.knobs.marks.lock().clone()
    }
}

fn answer(result: &Value) -> &Value {
    &result["structuredContent"]
}

fn status(result: &Value) -> &str {
    answer(result)["status"].as_str().unwrap_or_default()
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

fn reference(from: &str, path: &str) -> Value {
    json!({ "$from": from, "path": path })
}

#[tokio::test(flavor = "multi_thread")]
async fn references_of_every_depth_reach_the_provider_as_what_they_read() {
    for revision in GENERATIONS {
        let scene = scene(revision).await;
        let result = scene
            .plan(json!([
                call("a", "list", json!({})),
                call("b", "json", json!({})),
                call("c", "plain", json!({})),
                call("d", "get", json!({ "number": reference("a", "/items/0/number") })),
                call("e", "create", json!({
                    "text": reference("c", ""),
                    "tags": ["first", reference("a", "/items/0/a~1b/~0/0"), reference("b", "/0/id")],
                    "extra": { "whole": [reference("b", "")], "more": { "n": reference("a", "/items/1") } },
                })),
            ]))
            .await;
        assert_eq!(
            (status(&result), &result["isError"]),
            ("ok", &json!(false)),
            "{result}"
        );
        let data = &answer(&result)["data"];
        assert_eq!(data["a"]["status"], "ok");
        assert_eq!(data["a"]["data"]["items"][1]["number"], 8);
        assert_eq!(
            (&data["c"]["text"], &data["d"]["text"]),
            (&json!("just words"), &json!("got"))
        );
        for shown in ["`a` list: ok", "`e` create: ok", "just words", "All 5 calls"] {
            assert!(text(&result).contains(shown), "{shown}: {}", text(&result));
        }
        let sent = scene.sent();
        assert!(
            sent.contains(&("get".to_owned(), json!({ "number": 7 }))),
            "{sent:?}"
        );
        let created = json!({ "text": "just words", "tags": ["first", "deep", "x1"],
            "extra": { "whole": [[{ "id": "x1" }]], "more": { "n": { "number": 8 } } } });
        assert_eq!(sent.last(), Some(&("create".to_owned(), created)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_run_beside_each_other_and_writes_one_after_the_other() {
    for revision in GENERATIONS {
        let scene = scene(revision).await;
        let result = scene
            .plan(json!([
                call("one", "meet", json!({ "text": "1" })),
                call("two", "meet", json!({ "text": "2" })),
                call("w1", "create", json!({ "text": "3" })),
                call("w2", "create", json!({ "text": "4" })),
                call("after", "list", json!({})),
            ]))
            .await;
        assert_eq!(status(&result), "ok", "{result}");
        let marks = scene.marks();
        assert_eq!(
            marks[4..],
            [
                "+create 3",
                "-create 3",
                "+create 4",
                "-create 4",
                "+list ",
                "-list "
            ],
            "{marks:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_stops_the_plan_and_what_was_not_run_is_named() {
    for revision in GENERATIONS {
        let scene = scene(revision).await;
        let result = scene
            .plan(json!([
                call("a", "list", json!({})),
                call("b", "lost", json!({})),
                call("c", "create", json!({ "text": "never" })),
            ]))
            .await;
        assert_eq!(
            (status(&result), &result["isError"]),
            ("partial", &json!(false)),
            "{result}"
        );
        let data = &answer(&result)["data"];
        assert_eq!(data["a"]["status"], "ok");
        assert_eq!(
            (&data["b"]["status"], &data["b"]["text"]),
            (&json!("upstream_error"), &json!("no luck"))
        );
        assert_eq!(data["c"]["status"], "not_run");
        assert!(
            text(&result).contains("`c` create: not run, because `b` failed"),
            "{}",
            text(&result)
        );
        assert!(
            !scene.marks().iter().any(|mark| mark.contains("create")),
            "{:?}",
            scene.marks()
        );
        let result = scene
            .plan(json!([
                call("w", "fail", json!({})),
                call("x", "create", json!({ "text": "never" }))
            ]))
            .await;
        assert_eq!(status(&result), "partial", "{result}");
        assert!(
            text(&result).contains("a write: look what of it was carried out"),
            "{}",
            text(&result)
        );
        assert!(!scene.marks().iter().any(|mark| mark.contains("create")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_beside_a_failure_is_waited_for() {
    let scene = scene("2025-11-25").await;
    let result = scene
        .plan(json!([
            call("lost", "lost", json!({})),
            call("one", "meet", json!({ "text": "1" })),
            call("two", "meet", json!({ "text": "2" })),
        ]))
        .await;
    let data = &answer(&result)["data"];
    assert_eq!(status(&result), "partial");
    for id in ["one", "two"] {
        assert_eq!(data[id]["status"], "ok", "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_gives_nothing_or_the_wrong_thing_fails_its_call_before_it_is_sent() {
    let scene = scene("2025-11-25").await;
    for (number, mention) in [
        (
            reference("a", "/items/9/number"),
            "`a` gave nothing at `/items/9/number`",
        ),
        (reference("a", "/items"), "arguments.number"),
    ] {
        let result = scene
            .plan(json!([
                call("a", "list", json!({})),
                call("b", "get", json!({ "number": number }))
            ]))
            .await;
        assert_eq!(status(&result), "partial", "{result}");
        let data = &answer(&result)["data"];
        assert_eq!(
            (&data["a"]["status"], &data["b"]["status"]),
            (&json!("ok"), &json!("invalid_arguments"))
        );
        assert!(data["b"]["text"].as_str().unwrap().contains(mention), "{result}");
    }
    assert!(
        scene.sent().iter().all(|(name, _)| name == "list"),
        "{:?}",
        scene.sent()
    );
    // What is lossless is repaired, as in a single call.
    let result = scene
        .plan(json!([
            call("b", "json", json!({})),
            call("n", "plain", json!({})),
            call("g", "create", json!({ "count": "3", "text": reference("n", "") })),
        ]))
        .await;
    assert_eq!(status(&result), "ok", "{result}");
    assert_eq!(
        scene.sent().last().unwrap().1,
        json!({ "count": 3, "text": "just words" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_does_not_fit_runs_nothing_and_names_every_fault() {
    for revision in GENERATIONS {
        let scene = scene(revision).await;
        let list = || call("a", "list", json!({}));
        let eleven: Vec<Value> = (0..11)
            .map(|at| call(&format!("c{at}"), "list", json!({})))
            .collect();
        for (calls, status_word, mentions) in [
            (json!(eleven), "invalid_arguments", vec!["11 calls", "at most 10"]),
            (json!([]), "invalid_arguments", vec!["options.calls is empty"]),
            (
                json!([list(), list()]),
                "invalid_arguments",
                vec!["calls.1", "`a`"],
            ),
            (
                json!([{ "tool": "list" }]),
                "invalid_arguments",
                vec!["calls.0: needs an `id`"],
            ),
            (
                json!([call("a b", "list", json!({}))]),
                "invalid_arguments",
                vec!["`id` must be"],
            ),
            (
                json!(["list"]),
                "invalid_arguments",
                vec!["calls.0: expected an object"],
            ),
            (
                json!([{ "id": "a" }]),
                "invalid_arguments",
                vec!["names no operation"],
            ),
            (
                json!([
                    list(),
                    call("b", "get", json!({ "number": "x" })),
                    call("c", "creat", json!({}))
                ]),
                "unknown_tool",
                vec![
                    "`b`: arguments.number",
                    "`c`: fake has no operation `creat`",
                    "`create`",
                ],
            ),
            (
                json!([
                    call("a", "get", json!({ "number": reference("b", "/n") })),
                    call("b", "list", json!({}))
                ]),
                "invalid_arguments",
                vec!["`b`, which stands after it"],
            ),
            (
                json!([call("a", "get", json!({ "number": reference("a", "/n") }))]),
                "invalid_arguments",
                vec!["refers to the call itself"],
            ),
            (
                json!([call("a", "get", json!({ "number": reference("z", "/n") }))]),
                "invalid_arguments",
                vec!["no call of the plan has this id"],
            ),
            (
                json!([
                    list(),
                    call("b", "get", json!({ "note": reference("a", ""), "nubmer": 1 }))
                ]),
                "invalid_arguments",
                vec!["arguments.number: missing", "arguments.nubmer"],
            ),
            (
                json!([
                    list(),
                    call("b", "get", json!({ "number": reference("a", "items") }))
                ]),
                "invalid_arguments",
                vec!["begin with `/`"],
            ),
            (
                json!([{ "id": "a", "tool": "list", "arguments": {}, "accountId": "x" }]),
                "invalid_arguments",
                vec!["`accountId` belongs to the whole plan"],
            ),
        ] {
            let result = scene.plan(calls.clone()).await;
            assert_eq!(status(&result), status_word, "{calls}: {result}");
            for mention in mentions {
                assert!(text(&result).contains(mention), "{mention}: {}", text(&result));
            }
            assert!(text(&result).starts_with("Nothing was run"), "{}", text(&result));
        }
        assert!(scene.sent().is_empty(), "{:?}", scene.sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_a_plan_is_counted_limited_and_logged_as_a_single_one() {
    let rest = format!("{REST}limits: {{ rate: [{{ per: caller, requests: 3, every: 1h }}] }}\n");
    let scene = scene_with("2025-11-25", &rest).await;
    let calls: Vec<Value> = (0..4)
        .map(|at| call(&format!("c{at}"), "create", json!({ "text": "x" })))
        .collect();
    let result = scene.plan(json!(calls)).await;
    assert_eq!(status(&result), "partial", "{result}");
    let data = &answer(&result)["data"];
    assert_eq!(data["c2"]["status"], "ok");
    assert_eq!(data["c3"]["status"], "rate_limited");
    assert_eq!(data["c3"]["data"]["rule"], "rate_caller");
    assert!(
        text(&result).contains("a write: nothing of it was sent"),
        "{}",
        text(&result)
    );
    let metrics = scene.world.metrics().await;
    for line in [
        r#"pleiades_tool_calls_total{outcome="ok",provider="fake",tool="create"} 3"#,
        r#"pleiades_tool_calls_total{outcome="rate_limited",provider="fake",tool="create"} 1"#,
        r#"pleiades_calls_total{outcome="partial",provider="fake",view="meta"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    let id = answer(&result)["telemetryId"].as_str().unwrap();
    scene
        .world
        .until("each call has its line", || async {
            let lines = scene.world.log();
            let own = lines.iter().filter(|line| line["request.id"] == id);
            own.filter(|line| line["plan.call"].is_string()).count() == 4
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_a_plan_keep_to_the_providers_concurrency() {
    let rest = format!("{REST}limits: {{ concurrency: 1 }}\n");
    let scene = scene_with("2025-11-25", &rest).await;
    let calls: Vec<Value> = (0..5)
        .map(|at| call(&format!("c{at}"), "list", json!({})))
        .collect();
    let result = scene.plan(json!(calls)).await;
    assert_eq!(status(&result), "ok", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_called_and_reaches_nobody() {
    for revision in GENERATIONS {
        let rest = format!(
            "{REST}limits: {{ concurrency: 4, rate: [{{ per: tool, requests: 1, every: 1h }}], breaker: {{}} }}\n"
        );
        let scene = scene_with(revision, &rest).await;
        scene.client.tools().await;
        let before = scene.fake.knobs.seen.lock().len();
        let single =
            json!({ "tool": "create", "arguments": { "count": "3" }, "options": { "dryRun": true } });
        for _ in 0..3 {
            let result = scene.client.call("use_fake", single.clone()).await;
            assert_eq!(
                (status(&result), &result["isError"]),
                ("ok", &json!(false)),
                "{result}"
            );
            let expected = json!({ "dry_run": true, "calls": [{ "id": "call", "tool": "create",
                "arguments": { "count": 3 }, "write": true, "rules": ["rate_tool", "breaker", "concurrency"] }] });
            assert_eq!(answer(&result)["data"], expected);
            assert!(text(&result).starts_with("Nothing was run"), "{}", text(&result));
        }
        let calls = json!([
            call("a", "list", json!({})),
            call("b", "get", json!({ "number": reference("a", "/n") }))
        ]);
        let plan = json!({ "options": { "calls": calls, "dryRun": true } });
        let result = scene.client.call("use_fake", plan).await;
        let listed = &answer(&result)["data"]["calls"];
        assert_eq!(
            (&listed[1]["id"], &listed[1]["write"]),
            (&json!("b"), &json!(false)),
            "{result}"
        );
        assert_eq!(listed[1]["arguments"]["number"], reference("a", "/n"));
        let wrong = json!({ "tool": "get", "arguments": {}, "options": { "dryRun": true } });
        let result = scene.client.call("use_fake", wrong).await;
        assert_eq!(status(&result), "invalid_arguments", "{result}");
        assert_eq!(scene.fake.knobs.seen.lock().len(), before, "nobody was asked");
        let result = scene
            .client
            .call(
                "use_fake",
                json!({ "tool": "create", "arguments": { "count": 3 } }),
            )
            .await;
        assert_eq!(status(&result), "ok", "nothing was charged: {result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_cancels_the_calls_of_its_plan() {
    let mut tools = tools();
    let mut wait = tool("wait");
    wait["annotations"] = json!({ "readOnlyHint": true });
    tools.push(wait);
    let fake = FakeServer::start_paged(&["2026-07-28"], 1_000, tools).await;
    let world = World::builder().provider("fake", &fake).start().await;
    let client = TestClient::connect(&world, "/mcp/fake", "2026-07-28").await;
    let calls = json!([
        call("a", "wait", json!({})),
        call("b", "wait", json!({})),
        call("c", "create", json!({}))
    ]);
    let arguments = json!({ "options": { "calls": calls } });
    let knobs = std::sync::Arc::clone(&fake.knobs);
    let waiting = || knobs.waiting.load(std::sync::atomic::Ordering::SeqCst);
    {
        let asked = client.send(
            "tools/call",
            json!({ "name": "use_fake", "arguments": arguments }),
        );
        let both = world.until("both reads wait", || async { waiting() == 2 });
        tokio::select! {
            _ = asked => panic!("answered"),
            () = both => {}
        }
    }
    world
        .until("both were cancelled", || async { waiting() == 0 })
        .await;
    assert!(!fake.knobs.marks.lock().iter().any(|mark| mark.contains("create")));
}

/// The questions of a stream until there are so many.
async fn questions(stream: &mut reqwest::Response, text: &mut String, count: usize) -> Vec<Value> {
    loop {
        let all = events(text).into_iter();
        let asked: Vec<Value> = all
            .filter(|message| message["method"] == "elicitation/create")
            .collect();
        if asked.len() >= count {
            return asked;
        }
        let chunk = stream
            .chunk()
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("it ended: {text}"));
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_a_plan_reach_a_legacy_client_one_after_the_other() {
    for revision in ["2025-06-18", "2025-11-25"] {
        let scene = scene(revision).await;
        let client = asking(&scene.world, "/mcp/fake", revision).await;
        let calls = json!([
            call("a", "asks", json!({ "text": "1" })),
            call("b", "asks", json!({ "text": "2" }))
        ]);
        let params = json!({ "name": "use_fake", "arguments": { "options": { "calls": calls } } });
        let mut stream = client.send("tools/call", params).await;
        let mut text = String::new();
        for at in 0..2 {
            let asked = questions(&mut stream, &mut text, at + 1).await;
            assert_eq!(asked.len(), at + 1, "one at a time");
            let answer = json!({ "jsonrpc": "2.0", "id": asked[at]["id"], "result": { "action": "accept", "content": {} } });
            let taken = client.post().body(answer.to_string()).send().await.unwrap();
            assert_eq!(taken.status(), 202, "{revision}");
        }
        text.push_str(&stream.text().await.unwrap());
        let all = events(&text);
        let result = &all.last().unwrap()["result"];
        assert_eq!(status(result), "ok", "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_within_a_plan_of_a_modern_client_is_declined_and_its_call_fails() {
    let scene = scene("2025-11-25").await;
    let client = asking(&scene.world, "/mcp/fake", "2026-07-28").await;
    let calls = json!([call("a", "asks", json!({})), call("b", "create", json!({}))]);
    let arguments = json!({ "arguments": { "options": { "calls": calls } } });
    let result = connecting::call(&client, "use_fake", arguments).await["result"].clone();
    assert_eq!(status(&result), "partial", "{result}");
    let why = answer(&result)["data"]["a"]["text"].as_str().unwrap();
    assert!(why.contains("Make this call alone"), "{why}");
    assert_eq!(answer(&result)["data"]["b"]["status"], "not_run");
    let answers = scene.fake.seen("response");
    assert_eq!(answers.len(), 1);
    assert_eq!(
        answers[0].body["result"]["action"], "cancel",
        "{:?}",
        answers[0].body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_a_plan_share_its_tokens_and_each_has_a_handle_for_the_rest() {
    for revision in GENERATIONS {
        let scene = scene(revision).await;
        let calls: Vec<Value> = (0..10)
            .map(|at| call(&format!("c{at}"), "long", json!({})))
            .collect();
        let result = scene.plan(json!(calls)).await;
        assert_eq!(status(&result), "ok", "{result}");
        let data = &answer(&result)["data"];
        let tokens = pleiades_core::tokens::estimate(text(&result))
            + pleiades_core::tokens::estimate(&data.to_string());
        assert!(tokens <= 8_800, "{tokens}");
        let handle = &data["c3"]["resultId"];
        assert!(
            data["c3"]["data"]["rows"].is_array() && data["c3"]["page"]["next"] == 2,
            "{}",
            data["c3"]
        );
        let select = json!({ "options": { "result": handle, "select": "/rows/1999/id" } });
        let read = scene.client.call("use_fake", select).await;
        assert_eq!(answer(&read)["data"], 1999, "{read}");
        let whole = json!([
            call("a", "long", json!({})),
            call(
                "b",
                "get",
                json!({
            "number": reference("a", "/rows/1998/id") })
            )
        ]);
        assert_eq!(
            status(&scene.plan(whole).await),
            "ok",
            "references read all of a result"
        );
        assert_eq!(scene.sent().last().unwrap().1, json!({ "number": 1998 }));
    }
}
