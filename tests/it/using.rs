//! Accounts from the first call of a stranger to their end: connected, chosen, told, refused, revoked,
//! against a real flow.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::connecting::{asking, call};
use crate::world::authorization::{Authority, EndpointFault, Meets};
use crate::world::browser::Browser;
use crate::world::client::{self, GENERATIONS};
use crate::world::{TestClient, World};

/// A gateway in front of one provider; anybody on loopback is the one user.
async fn world(authority: &Authority, more: &str) -> World {
    builder(authority, more).start().await
}

fn builder(authority: &Authority, more: &str) -> crate::world::Builder {
    let body = format!(
        "title: Tracker\nabout: issues\nupstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n{more}",
        authority.resource
    );
    World::builder().descriptor("tracker", &body)
}

fn data(result: &Value) -> &Value {
    &result["structuredContent"]["data"]
}

fn status(result: &Value) -> &str {
    result["structuredContent"]["status"].as_str().unwrap_or_default()
}

/// Calls until it is asked to connect, and does.
async fn connect(client: &TestClient, arguments: Value) {
    let name = client.tools().await.remove(0);
    let result = client.call(&name, arguments).await;
    let url = data(&result)["connect_url"]
        .as_str()
        .unwrap_or_else(|| panic!("{result}"));
    let page = Browser::default().connect(url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
}

fn echo(more: Value) -> Value {
    let mut arguments = json!({ "tool": "echo", "arguments": { "text": "hi" } });
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        arguments[key] = value;
    }
    arguments
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_connects_and_the_next_call_runs_and_names_its_account() {
    for revision in GENERATIONS {
        let authority = Authority::start(&GENERATIONS).await;
        let world = world(&authority, "").await;
        let meta = TestClient::connect(&world, "/mcp/tracker", revision).await;
        let tools = TestClient::connect(&world, "/tools/tracker", revision).await;
        connect(&tools, json!({})).await;
        assert!(tools.tools().await.contains(&"echo".to_owned()));
        assert!(!tools.tools().await.contains(&"connect".to_owned()));
        let result = meta.call("use_tracker", echo(json!({}))).await;
        assert_eq!(status(&result), "ok", "{result}");
        assert_eq!(result["structuredContent"]["accountId"], "ada");
        assert!(result["structuredContent"].get("accounts").is_none());
        let result = tools.call("echo", json!({ "text": "hi" })).await;
        assert_eq!(result["_meta"]["pleiades/accountId"], "ada", "{result}");
        let state = world.status("tracker").await;
        assert_eq!(
            (&state["state"], &state["accounts"]),
            (&json!("ready"), &json!({ "ok": 1 }))
        );
        let listed = meta.result("tools/list", json!({})).await;
        assert!(listed["tools"][0]["inputSchema"]["properties"]["tool"]["enum"].is_array());
    }
}

/// Makes an account the default, or takes that from it.
async fn default_is(world: &World, account: &str, is_default: bool) {
    let url = format!("{}/v1/accounts/tracker/{account}", world.base);
    let body = json!({ "default": is_default }).to_string();
    let sent = world
        .http
        .put(url)
        .header("content-type", "application/json")
        .body(body);
    assert_eq!(sent.send().await.unwrap().status(), 200);
}

fn names_both(text: &Value, how: &str) {
    let text = text.as_str().unwrap();
    assert!(text.contains("`ada`, `bob`") && text.contains(how), "{text}");
}

/// A request to the relay, by an account.
async fn relay(world: &World, account: Option<&str>) -> (Value, u16) {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } } });
    let mut request = world
        .http
        .post(format!("{}/relay/tracker", world.base))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(body.to_string());
    if let Some(account) = account {
        request = request.header("pleiades-account", account);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: "));
    (serde_json::from_str(data.unwrap_or(&text)).unwrap(), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_accounts_one_is_named_remembered_or_asked_for() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let meta = TestClient::connect(&world, "/mcp/tracker", "2025-11-25").await;
    connect(&meta, json!({})).await;
    authority.sign_in("u-bob", "bob", "bob@example.com");
    let unknown = meta
        .call("use_tracker", echo(json!({ "accountId": "bob" })))
        .await;
    assert_eq!(status(&unknown), "needs_auth", "{unknown}");
    assert_eq!(unknown["structuredContent"]["accounts"][0]["accountId"], "ada");
    assert_eq!(unknown["structuredContent"]["accounts"][0]["provider"], "tracker");
    connect(&meta, json!({ "accountId": "bob" })).await;
    // Another session has named none, and nobody has chosen: the first stays.
    let other = TestClient::connect(&world, "/mcp/tracker", "2025-11-25").await;
    let first = other.call("use_tracker", echo(json!({}))).await;
    assert_eq!(first["structuredContent"]["accountId"], "ada", "{first}");
    default_is(&world, "ada", false).await;
    let torn = other.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&torn), "account_ambiguous", "{torn}");
    assert_eq!(torn["structuredContent"]["accounts"].as_array().unwrap().len(), 2);
    names_both(&torn["content"][0]["text"], "as `accountId`");
    let tools = TestClient::connect(&world, "/tools/tracker", "2025-11-25").await;
    let torn = tools.call("echo", json!({ "text": "hi" })).await;
    names_both(
        &torn["content"][0]["text"],
        "`pleiades/accountId` in the call's `_meta`",
    );
    let (relayed, _) = relay(&world, None).await;
    names_both(&relayed["error"]["message"], "in the header `Pleiades-Account`");
    let (relayed, _) = relay(&world, Some("bob")).await;
    assert!(relayed.get("error").is_none(), "{relayed}");
    let menu = other
        .call("use_tracker", json!({ "prompt": "what is there" }))
        .await;
    assert_eq!(status(&menu), "menu", "{menu}");
    // A name is remembered by its session alone.
    let named = meta
        .call("use_tracker", echo(json!({ "accountId": "bob" })))
        .await;
    assert_eq!(named["structuredContent"]["accountId"], "bob", "{named}");
    let again = meta.call("use_tracker", echo(json!({}))).await;
    assert_eq!(again["structuredContent"]["accountId"], "bob");
    assert_eq!(
        again["structuredContent"]["accounts"].as_array().unwrap().len(),
        2
    );
    let torn = other.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&torn), "account_ambiguous");
    // Headers and `_meta` name one in the tool view.
    let headed = TestClient::connect_with(
        &world,
        "/tools/tracker",
        "2026-07-28",
        &[("Pleiades-Account", "ada")],
    )
    .await;
    let result = headed.call("echo", json!({ "text": "hi" })).await;
    assert_eq!(result["_meta"]["pleiades/accountId"], "ada", "{result}");
    let params =
        json!({ "name": "echo", "arguments": { "text": "hi" }, "_meta": { "pleiades/accountId": "bob" } });
    let result = headed.result("tools/call", params).await;
    assert_eq!(result["_meta"]["pleiades/accountId"], "bob", "{result}");
    for seen in authority.open.seen("tools/call") {
        assert!(!seen.body.to_string().contains("pleiades/"), "{}", seen.body);
        assert!(seen.headers.get("pleiades-account").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_after_a_second_account_asks_which_one_is_used_and_changes_nothing_by_itself() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let meta = TestClient::connect(&world, "/mcp/tracker", "2025-11-25").await;
    let used = async || {
        let other = TestClient::connect(&world, "/mcp/tracker", "2025-11-25").await;
        let result = other.call("use_tracker", echo(json!({}))).await;
        result["structuredContent"]["accountId"].clone()
    };
    let link = async |account: &str| {
        let result = meta
            .call("use_tracker", echo(json!({ "accountId": account })))
            .await;
        data(&result)["connect_url"].as_str().unwrap().to_owned()
    };
    let page = Browser::default().connect(&link("ada").await, &[]).await;
    assert!(page.body.contains("Calls that name no account use it") && !page.body.contains("<form"));
    authority.sign_in("u-bob", "bob", "bob@example.com");
    let browser = Browser::default();
    let page = browser.connect(&link("bob").await, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(
        page.body.contains("go on using <strong>ada</strong>"),
        "{}",
        page.body
    );
    assert_eq!(used().await, "ada");
    let (action, state) = (page.action(), page.hidden("state"));
    let answer = [("state", state.as_str()), ("default", "new")];
    let stranger = Browser::default().post(action.as_str(), &answer).await;
    assert_eq!(stranger.status, 403, "{}", stranger.body);
    let made_up = [("state", "made-up"), ("default", "new")];
    assert!(browser.post(action.as_str(), &made_up).await.status >= 400);
    // The callback counts once, but the question is still there.
    let again = browser.get(page.url.as_str()).await;
    assert_eq!(again.status, 410);
    assert!(!again.hidden("state").is_empty(), "{}", again.body);
    assert_eq!(used().await, "ada");
    let chosen = browser.post(action.as_str(), &answer).await;
    assert_eq!(chosen.status, 200, "{}", chosen.body);
    assert!(chosen.body.contains("<strong>bob</strong>"), "{}", chosen.body);
    assert_eq!(used().await, "bob");
    assert_eq!(browser.post(action.as_str(), &answer).await.status, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_of_a_client_of_2026_07_28_waits_for_the_connection() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let client = asking(&world, "/mcp/tracker", "2026-07-28").await;
    let asked = call(&client, "use_tracker", json!({ "arguments": echo(json!({})) })).await["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let retry = json!({
        "arguments": echo(json!({})), "requestState": asked["requestState"],
        "inputResponses": { "connect": { "action": "accept" } }
    });
    let url = asked["inputRequests"]["connect"]["params"]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let connected = async {
        let page = Browser::default().connect(&url, &[]).await;
        assert_eq!(page.status, 200, "{}", page.body);
    };
    let (answer, ()) = tokio::join!(call(&client, "use_tracker", retry), connected);
    let result = &answer["result"];
    assert_eq!(status(result), "ok", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_2025_11_25_hears_that_its_account_is_connected() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let client = asking(&world, "/tools/tracker", "2025-11-25").await;
    let mut stream = client.stream().await;
    let error = call(&client, "connect", json!({})).await["error"].clone();
    let asked = error["data"]["elicitations"][0].clone();
    let page = Browser::default()
        .connect(asked["url"].as_str().unwrap(), &[])
        .await;
    assert_eq!(page.status, 200, "{}", page.body);
    let notice = client::until_method(&mut stream, "notifications/elicitation/complete").await;
    assert_eq!(notice["params"]["elicitationId"], asked["elicitationId"]);
    let result = client.call("echo", json!({ "text": "hi" })).await;
    assert_eq!(result["_meta"]["pleiades/accountId"], "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_change_for_who_listens_when_an_account_comes_and_goes() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let client = TestClient::connect(&world, "/tools/tracker", "2025-11-25").await;
    let mut stream = client.stream().await;
    connect(&client, json!({})).await;
    client::until_method(&mut stream, "notifications/tools/list_changed").await;
    assert!(client.tools().await.contains(&"echo".to_owned()));
    let mut stream = client.stream().await;
    let account = format!("{}/v1/accounts/tracker/ada", world.base);
    assert_eq!(world.http.delete(account).send().await.unwrap().status(), 204);
    client::until_method(&mut stream, "notifications/tools/list_changed").await;
    assert_eq!(client.tools().await, ["connect"]);
    assert_eq!(world.status("tracker").await["state"], "needs_auth");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_named_and_may_be_asked_for_once() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let meta = TestClient::connect(&world, "/mcp/tracker", "2025-06-18").await;
    connect(&meta, json!({})).await;
    authority
        .knobs
        .needs
        .lock()
        .insert("echo".to_owned(), "admin".to_owned());
    let result = meta.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "capability_miss", "{result}");
    assert_eq!(data(&result)["missing_scopes"], json!(["admin"]));
    let url = data(&result)["connect_url"].as_str().unwrap();
    let page = Browser::default().connect(url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let result = meta.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "ok", "{result}");
    // Others still run, and what was asked for and not given is not asked for again.
    *authority.knobs.needs.lock() = [("echo".to_owned(), "never".to_owned())].into();
    let result = meta
        .call("use_tracker", json!({ "tool": "structured", "arguments": {} }))
        .await;
    assert_eq!(status(&result), "ok", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_account_was_revoked_elsewhere_is_made_by_the_one_that_is_used_now() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    for (view, name) in [("/mcp/tracker", "use_tracker"), ("/tools/tracker", "echo")] {
        let meta = TestClient::connect(&world, "/mcp/tracker", "2025-11-25").await;
        authority.sign_in("u-ada", "ada", "ada@example.com");
        if view == "/mcp/tracker" {
            connect(&meta, json!({})).await;
        }
        authority.sign_in("u-bob", "bob", "bob@example.com");
        connect(&meta, json!({ "accountId": "bob" })).await;
        default_is(&world, "bob", true).await;
        let client = TestClient::connect(&world, view, "2025-11-25").await;
        let arguments = match view {
            "/mcp/tracker" => echo(json!({})),
            _ => json!({ "text": "hi" }),
        };
        let account = |result: &Value| result["_meta"]["pleiades/accountId"].clone();
        let called = client.call(name, arguments.clone()).await;
        let before = (account(&called), called["structuredContent"]["accountId"].clone());
        assert!(before.0 == "bob" || before.1 == "bob", "{called}");
        // Not known to the gateway: another process, which does not find it.
        let args = ["accounts", "revoke", "tracker", "bob"];
        let (code, _, err) = crate::accounts::command(&world, &args, None).await;
        assert_eq!(code, Some(0), "{err}");
        authority.expire();
        let called = client.call(name, arguments).await;
        let after = (account(&called), called["structuredContent"]["accountId"].clone());
        assert!(after.0 == "ada" || after.1 == "ada", "{called}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_ended_at_its_provider_is_told_as_ended() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let meta = TestClient::connect(&world, "/mcp/tracker", "2025-06-18").await;
    connect(&meta, json!({})).await;
    authority.expire();
    let result = meta.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "ok", "renewed after a 401: {result}");
    authority.revoke_all();
    let result = meta.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "token_expired", "{result}");
    assert!(data(&result)["connect_url"].is_string(), "{result}");
    assert_eq!(data(&result)["reason"], "refused");
}

fn with(key: &'static str) -> [(&'static str, &'static str); 1] {
    [("x-api-key", key)]
}

/// Two users of a tenant, and what the second sees once the first is connected.
async fn soft(is_private: bool) -> (World, TestClient) {
    let authority = Authority::start(&GENERATIONS).await;
    authority
        .open
        .knobs
        .is_private
        .store(is_private, Ordering::Relaxed);
    let keys = "access:\n  api_keys:\n    \
        - { name: a, tenant: acme, user: ann, sha256: a82937400c2cc11407f5bb2f9af56eded40d3002f15bdf996f5b70917bf8edb1 }\n    \
        - { name: b, tenant: acme, user: bob, sha256: f031fc74d10cf0c1284dc15f679c18b1e8e05f9d1966adefba6c6463cdcef658 }\n    \
        - { name: c, tenant: other, user: cas, sha256: 6cf9253570d4b3a6ece8c8576bb4729e9b424947b9cae810c2918724e9bbf169 }\n\
        facade: { exposure: soft }\n";
    let world = builder(&authority, "").settings(keys).start().await;
    let ann = TestClient::connect_with(&world, "/tools/tracker", "2025-11-25", &with("key-ann")).await;
    assert_eq!(ann.tools().await, ["connect"], "nobody has seen anything yet");
    let result = ann.call("connect", json!({})).await;
    let url = data(&result)["connect_url"].as_str().unwrap();
    let page = Browser::default().connect(url, &[("api_key", "key-ann")]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(ann.tools().await.contains(&"echo".to_owned()));
    let bob = TestClient::connect_with(&world, "/tools/tracker", "2025-11-25", &with("key-bob")).await;
    (world, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_exposure_shows_a_tenant_its_own_last_lists_and_no_other_tenant_anything() {
    let (world, bob) = soft(false).await;
    assert!(bob.tools().await.contains(&"echo".to_owned()));
    let result = bob.call("echo", json!({ "text": "hi" })).await;
    assert_eq!(status(&result), "needs_auth", "{result}");
    let cas = TestClient::connect_with(&world, "/tools/tracker", "2025-11-25", &with("key-cas")).await;
    assert_eq!(cas.tools().await, ["connect"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_a_provider_calls_private_are_shown_to_no_other_user() {
    let (_world, bob) = soft(true).await;
    assert_eq!(bob.tools().await, ["connect"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_per_account_is_each_accounts_own() {
    let authority = Authority::start(&GENERATIONS).await;
    let limits = "limits: { rate: [{ per: account, requests: 1, every: 1h }] }\n";
    let world = world(&authority, limits).await;
    let meta = TestClient::connect(&world, "/mcp/tracker", "2025-06-18").await;
    connect(&meta, json!({})).await;
    authority.sign_in("u-bob", "bob", "bob@example.com");
    connect(&meta, json!({ "accountId": "bob" })).await;
    for account in ["ada", "bob"] {
        let first = meta
            .call("use_tracker", echo(json!({ "accountId": account })))
            .await;
        assert_eq!(status(&first), "ok", "{first}");
        let second = meta
            .call("use_tracker", echo(json!({ "accountId": account })))
            .await;
        assert_eq!(status(&second), "rate_limited", "{second}");
        assert_eq!(data(&second)["rule"], "rate_account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_for_a_passing_reason_is_made_again_and_many_callers_make_one() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let client = TestClient::connect(&world, "/mcp/tracker", GENERATIONS[0]).await;
    connect(&client, echo(json!({}))).await;
    let failing = json!({ "error": "temporarily_unavailable" });
    authority.fail("/token", EndpointFault::Says(503, failing), 1);
    authority.expire();
    let calls = (0..8).map(|_| client.call("use_tracker", echo(json!({}))));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(status(&result), "ok", "{result}");
    }
    assert_eq!((authority.refreshed(), authority.most_redeemed()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_asked_for_again_and_then_said_to_be_interrupted() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let client = TestClient::connect(&world, "/mcp/tracker", GENERATIONS[0]).await;
    connect(&client, echo(json!({}))).await;
    // The account's lists are read: what follows is about the call alone.
    let first = client.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&first), "ok", "{first}");
    authority.fail("/token", EndpointFault::Loses, 1);
    authority.expire();
    let result = client.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "token_expired", "{result}");
    assert_eq!(data(&result)["reason"], "interrupted", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_its_client_is_registered_at_and_connected_anew() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = world(&authority, "").await;
    let client = TestClient::connect(&world, "/mcp/tracker", GENERATIONS[0]).await;
    connect(&client, echo(json!({}))).await;
    authority.forget_clients();
    authority.expire();
    let result = client.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "token_expired", "{result}");
    let url = data(&result)["connect_url"].as_str().unwrap_or_default();
    let page = Browser::default().connect(url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let result = client.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "ok", "{result}");
}

/// A gateway with a connected account whose lists nobody has read: its provider's descriptor was
/// changed since.
async fn unread(authority: &Authority) -> World {
    let world = world(authority, "").await;
    let client = TestClient::connect(&world, "/mcp/tracker", GENERATIONS[0]).await;
    connect(&client, echo(json!({}))).await;
    // Reading them at once is over, too.
    let first = client.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&first), "ok", "{first}");
    let body = format!(
        "id: tracker\ntitle: Another\nabout: issues\nupstream: {{ url: \"{}\", timeouts: {{ call: 29s }} }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    std::fs::write(world.providers().join("tracker.yaml"), body).unwrap();
    let is_read = || async { world.status("tracker").await["title"] == "Another" };
    world.until("the descriptor to be read", is_read).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_ends_while_its_lists_are_read_is_told_as_ended() {
    for revision in GENERATIONS {
        for path in ["/mcp/tracker", "/tools/tracker"] {
            let authority = Authority::start(&GENERATIONS).await;
            let world = unread(&authority).await;
            let client = TestClient::connect(&world, path, revision).await;
            authority.meet("tools/list", Meets::Revocation);
            let (name, arguments) = match path {
                "/mcp/tracker" => ("use_tracker", echo(json!({}))),
                _ => ("echo", json!({ "text": "hi" })),
            };
            let result = client.call(name, arguments.clone()).await;
            assert_eq!(status(&result), "token_expired", "{path} {revision}: {result}");
            let url = data(&result)["connect_url"].as_str().unwrap_or_default();
            let page = Browser::default().connect(url, &[]).await;
            assert_eq!(page.status, 200, "{}", page.body);
            let result = client.call(name, arguments).await;
            assert_eq!(
                result["content"][0]["text"], "echo: hi",
                "{path} {revision}: {result}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_while_the_lists_are_read_is_renewed() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = unread(&authority).await;
    let client = TestClient::connect(&world, "/mcp/tracker", GENERATIONS[0]).await;
    authority.meet("tools/list", Meets::Expiry);
    let result = client.call("use_tracker", echo(json!({}))).await;
    assert_eq!(status(&result), "ok", "{result}");
    assert_eq!(authority.refreshed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_cannot_be_read_are_said_as_that_and_read_again() {
    let authority = Authority::start(&GENERATIONS).await;
    let world = unread(&authority).await;
    let meta = TestClient::connect(&world, "/mcp/tracker", GENERATIONS[0]).await;
    let tools = TestClient::connect(&world, "/tools/tracker", GENERATIONS[0]).await;
    authority.meet("tools/list", Meets::Status(400));
    for asked in [echo(json!({})), json!({ "tool": "echo" }), json!({})] {
        let result = meta.call("use_tracker", asked.clone()).await;
        assert_eq!(status(&result), "upstream_error", "{asked}: {result}");
    }
    let result = tools.call("echo", json!({ "text": "hi" })).await;
    assert_eq!(status(&result), "upstream_error", "{result}");
    authority.knobs.meets.lock().clear();
    let runs = || async { status(&meta.call("use_tracker", echo(json!({}))).await) == "ok" };
    world.until("the lists to be read again", runs).await;
    let result = meta
        .call("use_tracker", json!({ "tool": "nothing", "arguments": {} }))
        .await;
    assert_eq!(status(&result), "unknown_tool", "{result}");
}
