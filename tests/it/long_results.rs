//! Long results are cut to a budget of tokens, and nothing of them is lost; how much of an answer stands in
//! `structuredContent`.

use serde_json::{Value, json};

use super::world::client::GENERATIONS;
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

const ROWS: usize = 300;

fn row(at: usize) -> Value {
    json!({ "id": at, "node_id": "MDU6SXNzdWU", "title": format!("Issue {at} of the web shop"), "state": "open",
        "user": { "login": "ann", "avatar_url": "https://a.example/1.png" }, "assignee": null,
        "html_url": format!("https://x.example/issues/{at}") })
}

/// A tool that answers with data, and with the same as text where its name says so.
fn listing(name: &str) -> Value {
    let rows: Vec<Value> = (0..ROWS).map(row).collect();
    let data = json!({ "total_count": ROWS, "items": rows });
    let text = json!([{ "type": "text", "text": data.to_string() }]);
    let result = match name {
        "as_text" => json!({ "content": text }),
        "as_both" => json!({ "content": text, "structuredContent": data }),
        _ => {
            json!({ "content": [{ "type": "text", "text": "a\u{1b}[2Jb" }, { "type": "image", "data": "aGk=",
            "mimeType": "image/png" }, { "type": "resource_link", "uri": "a://b", "name": "b" }],
            "structuredContent": { "n": 1 } })
        }
    };
    let mut tool = tool(name);
    tool["x-raw"] = result.to_string().into();
    tool
}

async fn fake() -> FakeServer {
    let tools = ["as_text", "as_both", "small"].map(listing);
    FakeServer::start_paged(&GENERATIONS, 1_000, tools.to_vec()).await
}

async fn answer(client: &TestClient, arguments: Value) -> Value {
    client.call("use_one", arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_data_in_text_and_in_structured_content_make_up_the_whole() {
    let fake = fake().await;
    let world = World::builder().provider("one", &fake).start().await;
    let client = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    for name in ["as_text", "as_both"] {
        let mut call = json!({ "tool": name, "arguments": {} });
        let (mut rows, mut pages) = (Vec::new(), 0);
        loop {
            let page = answer(&client, call).await["structuredContent"].take();
            assert_eq!(page["status"], "ok", "{page}");
            assert_eq!(
                page["data"]["total_count"], ROWS,
                "what is beside the list stands on each page"
            );
            let text = page["text"].as_str().unwrap();
            assert!(
                text.contains("id | title | state | user.login | html_url"),
                "{text}"
            );
            assert!(text.contains("avatar_url, node_id"), "{text}");
            assert_eq!(page["page"]["total"], ROWS);
            rows.extend(page["data"]["items"].as_array().unwrap().iter().cloned());
            pages += 1;
            match page.get("next") {
                Some(next) => call = next.clone(),
                None => break,
            }
            let (shown, handle) = (&page["page"]["shown"], page["resultId"].as_str().unwrap());
            let last = text.lines().last().unwrap();
            assert!(
                pages > 1 || last.starts_with(&format!("{shown} of {ROWS} items shown; more: ")),
                "{last}"
            );
            assert!(last.contains(handle) && last.ends_with(" min)"), "{last}");
        }
        assert!(pages > 3, "{pages}");
        assert!(rows == (0..ROWS).map(row).collect::<Vec<_>>(), "{name}");
    }
    let metrics = world.metrics().await;
    let cut = metrics
        .lines()
        .find(|line| line.starts_with("pleiades_result_tokens_cut_total{provider=\"one\"}"));
    assert!(cut.is_some_and(|line| !line.ends_with(" 0")), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_structured_content_is_for_the_address_the_settings_and_the_client_to_say() {
    let fake = fake().await;
    let settings = "facade: { structured: meta, structured_clients: { \"te?t\": off } }\n";
    let world = World::builder()
        .provider("one", &fake)
        .settings(settings)
        .start()
        .await;
    for (path, has_text, has_object) in [
        ("/mcp?structured=full", true, true),
        ("/mcp?structured=meta", false, true),
        ("/mcp?structured=loud", false, false),
        ("/mcp", false, false),
    ] {
        for revision in GENERATIONS {
            let client = TestClient::connect(&world, path, revision).await;
            let result = answer(&client, json!({ "tool": "small", "arguments": {} })).await;
            assert_eq!(result["content"][0]["text"], "a\\u001b[2Jb", "{path} {revision}");
            assert_eq!(result["content"][1]["type"], "image", "{path}");
            let uri = result["content"][2]["uri"].as_str();
            assert!(uri.is_some_and(|uri| uri.ends_with("a://b")), "{path}: {uri:?}");
            let object = result.get("structuredContent");
            if revision != "2026-07-28" || path.contains('?') && !path.ends_with("loud") {
                assert_eq!(object.is_some(), has_object, "{path} {revision}: {result}");
                assert_eq!(
                    object.is_some_and(|it| it.get("text").is_some()),
                    has_text,
                    "{path} {revision}"
                );
            }
            if let Some(object) = object {
                assert_eq!(
                    (&object["status"], &object["data"]["n"]),
                    (&json!("ok"), &json!(1))
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_view_cuts_where_results_is_written_and_off_cuts_nothing() {
    let fake = fake().await;
    let none = "auth: { none: {} }\n";
    let cut = "auth: { none: {} }\nfacade: { results: { max_tokens: 2000 } }\n";
    let off = "auth: { none: {} }\nfacade: { results: { max_tokens: off } }\n";
    let world = World::builder()
        .provider_with("plain", &fake, none)
        .provider_with("cut", &fake, cut)
        .provider_with("off", &fake, off)
        .start()
        .await;
    for id in ["plain", "cut", "off"] {
        world.until_state(id, "ready").await;
    }
    let call = json!({});
    for id in ["plain", "off"] {
        let client = TestClient::connect(&world, &format!("/tools/{id}"), "2025-11-25").await;
        let result = client.call("as_both", call.clone()).await;
        assert_eq!(
            result["structuredContent"]["items"].as_array().unwrap().len(),
            ROWS,
            "{id}"
        );
    }
    let client = TestClient::connect(&world, "/tools/cut", "2025-11-25").await;
    let result = client.call("as_both", call).await;
    let rows = result["structuredContent"]["items"].as_array().unwrap();
    assert!(
        !rows.is_empty() && rows.len() < 60 && rows[0] == row(0),
        "{}",
        rows.len()
    );
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.lines()
            .last()
            .unwrap()
            .starts_with(&format!("{} of {ROWS} items shown", rows.len())),
        "{text}"
    );
    let meta = TestClient::connect(&world, "/mcp/off", "2025-11-25").await;
    let whole = meta
        .call("use_off", json!({ "tool": "as_text", "arguments": {} }))
        .await;
    assert!(whole["structuredContent"].get("page").is_none());
    assert!(
        whole["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("\"id\":299")
    );
}
