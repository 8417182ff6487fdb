//! Each sentence of `SECURITY.md`, "Connecting an account", over HTTP,
//! with an authorization server in process.

use std::sync::atomic::Ordering;

use reqwest::Method;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use url::Url;

use crate::world::browser::BrowserPage;
use crate::world::{Authority, Browser, TestClient, World, json as body};

const REVISION: &str = "2025-11-25";

fn descriptor(authority: &Authority) -> String {
    format!(
        "title: Tracker <b>\nupstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    )
}

async fn world(authority: &Authority, settings: &str) -> World {
    World::builder()
        .descriptor("tracker", &descriptor(authority))
        .settings(settings)
        .logged()
        .start()
        .await
}

/// The first line of the log of which this is true.
async fn logged(world: &World, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let find = || world.log().into_iter().find(&is_it);
    world.until(what, || async { find().is_some() }).await;
    find().unwrap()
}

fn sha256(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Settings with a key for each of two users.
fn keys() -> String {
    format!(
        "access:\n  api_keys:\n  - {{ name: a, tenant: acme, user: ada, sha256: {} }}\n  - {{ name: b, tenant: other, user: bob, sha256: {} }}\n",
        sha256("key-ada"),
        sha256("key-bob")
    )
}

/// The invitation that a call of a caller is answered with.
async fn invitation(world: &World, key: Option<&str>, arguments: Value) -> Value {
    let headers: Vec<(&str, &str)> = key.map(|key| ("x-api-key", key)).into_iter().collect();
    let client = TestClient::connect_with(world, "/mcp", REVISION, &headers).await;
    let called = client.call("use_tracker", arguments).await;
    let content = &called["structuredContent"];
    assert_eq!(content["status"], "needs_auth", "{called}");
    content["data"].clone()
}

async fn link(world: &World, key: Option<&str>) -> (String, String) {
    let data = invitation(world, key, json!({ "tool": "echo", "arguments": {} })).await;
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    (text("connect_url"), text("connection_id"))
}

async fn connection_state(world: &World, key: Option<&str>, id: &str) -> (u16, Value) {
    let mut request = world.http.get(format!("{}/v1/connections/{id}", world.base));
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), body(answer).await)
}

fn is_page(page: &BrowserPage, status: u16) {
    assert_eq!(page.status, status, "{}", page.body);
    assert!(page.header("content-type").starts_with("text/html"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"));
    assert!(!policy.contains("form-action") && !policy.contains("script"));
    let html = page.body.to_lowercase();
    assert!(!html.contains("<script") && !html.contains("javascript:"));
    for handler in [" onload=", " onclick=", " onerror=", " onsubmit="] {
        assert!(!html.contains(handler));
    }
    assert!(page.body.contains("<html lang=\"en\">") && page.body.contains("<h1>"));
    for name in ["ada", "bob", "acme"] {
        assert!(
            status == 200 || !page.body.contains(&format!("{name}<")),
            "{}",
            page.body
        );
    }
}

/// Whether the person is told what to do.
fn is_refused(page: &BrowserPage) {
    assert!((400..500).contains(&page.status), "{} {}", page.status, page.body);
    is_page(page, page.status);
    assert!(page.body.contains("ink"), "no cure in {}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_on_the_machine_connects_by_one_click() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, id) = link(&world, None).await;
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "pending");
    let browser = Browser::default();
    let page = browser.get(&url).await;
    is_page(&page, 200);
    assert!(page.body.contains("Tracker &lt;b&gt;") && !page.body.contains("Tracker <b>"));
    assert_eq!(page.body.matches("<form").count(), 1);
    assert!(!page.body.contains("type=\"password\"") && page.body.contains("method=\"post\""));
    assert_eq!(page.action().as_str(), url);

    let begun = browser.begin(&url, &[]).await;
    assert_eq!(begun.status, 303);
    let cookies: Vec<&str> = begun
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|it| it.to_str().unwrap())
        .collect();
    assert_eq!(cookies.len(), 1);
    assert!(cookies[0].contains("HttpOnly") && cookies[0].contains("SameSite=Lax"));
    assert!(!cookies[0].contains("Secure"), "the gateway is reached by http");
    let asked = Url::parse(&begun.location()).unwrap();
    assert!(asked.as_str().starts_with(&authority.url));

    let consented = browser.get(&begun.location()).await;
    let done = browser.get(&consented.location()).await;
    is_page(&done, 200);
    assert!(done.body.contains("ada"), "{}", done.body);
    let (_, content) = connection_state(&world, None, &id).await;
    assert_eq!(
        content,
        json!({ "state": "connected", "provider": "tracker", "accountId": "ada" })
    );

    // Each answer is good for once.
    let again = browser.get(&consented.location()).await;
    is_refused(&again);
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_page_consumes_and_stores_nothing() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, id) = link(&world, None).await;
    for method in [Method::GET, Method::HEAD, Method::GET, Method::HEAD] {
        let page = Browser::default().send(method.clone(), &url, None).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.body.is_empty(), method == Method::HEAD);
    }
    // What the page shows of the server is read as anybody may, and once.
    assert_eq!(authority.clients(), 0);
    for path in ["/register", "/authorize", "/token"] {
        assert!(authority.seen(path).is_empty(), "{path}");
    }
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "pending");
    let done = Browser::default().connect(&url, &[]).await;
    is_page(&done, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_exactly_the_links_principal_opens_it() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, &keys()).await;
    let (url, id) = link(&world, Some("key-ada")).await;
    let browser = Browser::default();
    let page = browser.get(&url).await;
    assert!(page.body.contains("<input type=\"password\" name=\"api_key\""));
    for fields in [
        vec![],
        vec![("api_key", "")],
        vec![("api_key", "wrong")],
        vec![("api_key", "key-bob")],
        vec![("api_key", "key-ada"), ("api_key", "key-bob")],
    ] {
        let refused = browser.begin(&url, &fields).await;
        is_refused(&refused);
        assert!(refused.headers.get("set-cookie").is_none());
    }
    assert_eq!(authority.clients(), 0, "nothing was begun");
    let done = browser.connect(&url, &[("api_key", "key-ada")]).await;
    is_page(&done, 200);

    assert_eq!(
        connection_state(&world, Some("key-ada"), &id).await.1["state"],
        "connected"
    );
    assert_eq!(connection_state(&world, Some("key-bob"), &id).await.0, 404);
    assert_eq!(connection_state(&world, None, &id).await.0, 401);
    assert_eq!(connection_state(&world, Some("key-ada"), "made-up").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_counts_only_from_the_page_of_this_link_in_this_browser() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let (other, _) = link(&world, None).await;
    let browser = Browser::default();
    let token = browser.get(&url).await.hidden("csrf");
    let foreign = browser.get(&other).await.hidden("csrf");
    is_refused(&browser.post(&url, &[]).await);
    is_refused(&browser.post(&url, &[("csrf", "made-up")]).await);
    is_refused(&browser.post(&url, &[("csrf", &foreign)]).await);
    is_refused(&Browser::default().post(&url, &[("csrf", &token)]).await);
    let stranger = Browser::default();
    stranger.get(&url).await;
    is_refused(&stranger.post(&url, &[("csrf", &token)]).await);

    // What browsers say of forms of other sites is believed.
    let mut crossing = Browser::default();
    crossing.headers.push(("sec-fetch-site", "cross-site".to_owned()));
    let token = crossing.get(&url).await.hidden("csrf");
    is_refused(&crossing.post(&url, &[("csrf", &token)]).await);
    let foreign = world
        .http
        .post(&url)
        .header("origin", "https://evil.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("csrf=x")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    assert!(
        foreign.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert_eq!(authority.clients(), 0, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_another_browser_connects_nothing_and_leaves_the_flow() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, id) = link(&world, None).await;
    let attacker = Browser::default();
    let begun = attacker.begin(&url, &[]).await;
    let answered = attacker.get(&begun.location()).await.location();
    // The authorization URL was forwarded: the victim consents, and its browser brings the answer.
    let victim = Browser::default();
    let refused = victim.get(&answered).await;
    is_refused(&refused);
    assert_eq!(refused.status, 403);
    assert!(authority.seen("/token").is_empty(), "no code was redeemed");
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "pending");
    is_page(&attacker.get(&answered).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_unknown_and_doubled_states_are_refused() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let (one, two) = (Browser::default(), Browser::default());
    let mut answers = Vec::new();
    for browser in [&one, &two] {
        let begun = browser.begin(&url, &[]).await;
        answers.push(browser.get(&begun.location()).await.location());
    }
    is_refused(&one.get(&answers[1]).await);
    is_refused(&two.get(&answers[0]).await);
    let callback = format!("{}/oauth/callback", world.base);
    for query in ["", "?code=x", "?state=made-up&code=x", "?state=a&state=b&code=x"] {
        is_refused(&one.get(&format!("{callback}{query}")).await);
    }
    assert!(authority.seen("/token").is_empty());
    is_page(&one.get(&answers[0]).await, 200);
    is_page(&two.get(&answers[1]).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_issuer_is_refused_without_a_word_of_it() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, id) = link(&world, None).await;
    *authority.knobs.named.lock() = Some("https://evil.example".to_owned());
    let browser = Browser::default();
    let page = browser.connect(&url, &[]).await;
    is_refused(&page);
    assert!(!page.body.contains("evil.example"));
    let begun = browser.begin(&url, &[]).await;
    let asked = Url::parse(&begun.location()).unwrap();
    let state = asked.query_pairs().find(|(key, _)| key == "state").unwrap().1;
    let forged = format!(
        "{}/oauth/callback?state={state}&iss=https%3A%2F%2Fevil.example&error=x&error_description=call+555",
        world.base
    );
    let page = browser.get(&forged).await;
    is_refused(&page);
    assert!(!page.body.contains("555"), "{}", page.body);
    // One that promised to name itself must.
    let begun = browser.begin(&url, &[]).await;
    let asked = Url::parse(&begun.location()).unwrap();
    let state = asked.query_pairs().find(|(key, _)| key == "state").unwrap().1;
    let silent = format!("{}/oauth/callback?state={state}&code=x", world.base);
    is_refused(&browser.get(&silent).await);
    assert!(authority.seen("/token").is_empty());
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "failed");
    // A link starts several flows.
    *authority.knobs.named.lock() = None;
    is_page(&browser.connect(&url, &[]).await, 200);
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "connected");
    assert_eq!(authority.clients(), 1, "one registration for all flows");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_does_not_name_itself_has_a_path_of_its_own() {
    let authority = Authority::start(&[REVISION]).await;
    authority.knobs.iss.store(false, Ordering::Relaxed);
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let browser = Browser::default();
    let begun = browser.begin(&url, &[]).await;
    let answered = browser.get(&begun.location()).await.location();
    assert!(answered.contains("/oauth/callback/tracker?"), "{answered}");
    let elsewhere = answered.replace("/oauth/callback/tracker", "/oauth/callback");
    is_refused(&browser.get(&elsewhere).await);
    assert!(authority.seen("/token").is_empty());
    is_page(&browser.connect(&url, &[]).await, 200);
    let registered: Value = serde_json::from_str(&authority.seen("/register")[0][0].1).unwrap();
    let uris = registered["redirect_uris"].as_array().unwrap();
    assert_eq!(uris.len(), 2, "{uris:?}");
    assert_eq!(registered["application_type"], "native");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_at_the_provider_is_told_and_the_link_still_opens() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, id) = link(&world, None).await;
    authority.knobs.denies.store(true, Ordering::Relaxed);
    let browser = Browser::default();
    let denied = browser.connect(&url, &[]).await;
    is_refused(&denied);
    assert!(denied.body.contains("<h1>Not connected</h1>"), "{}", denied.body);
    let (_, content) = connection_state(&world, None, &id).await;
    assert_eq!(content["state"], "failed");
    assert!(content["message"].is_string());
    authority.knobs.denies.store(false, Ordering::Relaxed);
    // The page offers a link of its own, which is the same connection's.
    let again = denied.link("Try again");
    is_page(&browser.connect(&again, &[]).await, 200);
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "connected");
    is_page(&browser.connect(&url, &[]).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_on_the_page_ends_the_connection_and_whoever_waits_hears_it() {
    let authority = Authority::start(&[REVISION]).await;
    for settings in [String::new(), keys()] {
        let key = (!settings.is_empty()).then_some("key-ada");
        let world = world(&authority, &settings).await;
        let (url, id) = link(&world, key).await;
        let browser = Browser::default();
        let page = browser.get(&url).await;
        assert!(
            page.body.contains("name=\"go\" value=\"cancel\""),
            "{}",
            page.body
        );
        // Only the page's own form cancels.
        is_refused(&browser.post(&url, &[("go", "cancel")]).await);
        assert_eq!(connection_state(&world, key, &id).await.1["state"], "pending");
        let cancelled = browser.begin(&url, &[("go", "cancel"), ("api_key", "")]).await;
        is_page(&cancelled, 200);
        assert!(
            cancelled.body.contains("<h1>Not connected</h1>"),
            "{}",
            cancelled.body
        );
        let (_, content) = connection_state(&world, key, &id).await;
        assert_eq!(content["state"], "failed", "{content}");
        assert!(
            content["message"].as_str().unwrap().contains("Cancel"),
            "{content}"
        );
        assert_eq!(authority.clients(), 0, "nobody was asked");
        let fields: &[(&str, &str)] = if key.is_some() {
            &[("api_key", "key-ada")]
        } else {
            &[]
        };
        let after_all = cancelled.link("after all");
        is_page(&browser.connect(&after_all, fields).await, 200);
        assert_eq!(connection_state(&world, key, &id).await.1["state"], "connected");
        authority.forget_clients();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_where_the_button_leads_for_whom_and_what_for() {
    let authority = Authority::start(&[REVISION]).await;
    let host = authority.url.trim_start_matches("http://").to_owned();
    let world = world(&authority, &keys()).await;
    let (url, _) = link(&world, Some("key-ada")).await;
    let page = Browser::default().get(&url).await;
    let here = world.base.trim_start_matches("http://");
    for fact in [
        &format!("<code>{host}</code>"),
        "<strong>ada</strong> of acme",
        "x-api-key",
        here,
    ] {
        assert!(page.body.contains(fact), "{fact}: {}", page.body);
    }
    let begun = Browser::default().begin(&url, &[("api_key", "key-ada")]).await;
    let asked = Url::parse(&begun.location()).unwrap();
    let scopes = asked.query_pairs().find(|(key, _)| key == "scope").unwrap().1;
    for scope in scopes.split(' ') {
        assert!(
            page.body.contains(&format!("<code>{scope}</code>")),
            "{scope}: {}",
            page.body
        );
    }
    drop(world);
    let world = self::world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let page = Browser::default().get(&url).await;
    assert!(page.body.contains("you, on this machine"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_wrong_key_the_page_shows_the_field_again_with_the_fault_and_names_nobody() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, &keys()).await;
    let (url, _) = link(&world, Some("key-ada")).await;
    let browser = Browser::default();
    let wrong = browser.begin(&url, &[("api_key", "key-bob")]).await;
    is_page(&wrong, 403);
    assert!(wrong.body.contains("aria-invalid=\"true\"") && wrong.body.contains("id=\"fault\""));
    assert!(
        !wrong.body.contains("of acme") && !wrong.body.contains("ada"),
        "{}",
        wrong.body
    );
    let is_it = |line: &Value| line["method"] == "oauth/connect" && line["http.status"] == 403;
    let line = logged(&world, "the line of the refusal", is_it).await;
    let error = line["error"].as_str().unwrap();
    assert!(error.ends_with('.') && wrong.body.contains(error), "{line}");
    // Its form is good.
    let csrf = wrong.hidden("csrf");
    let fields = [("csrf", csrf.as_str()), ("api_key", "key-ada")];
    let begun = browser.post(wrong.action().as_str(), &fields).await;
    assert_eq!(begun.status, 303, "{}", begun.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_old_changed_or_foreign_are_told_apart() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "connect: { link_ttl: 1s }\n").await;
    let (url, id) = link(&world, None).await;
    let browser = Browser::default();
    is_refused(
        &browser
            .get(&format!("{}/oauth/connect/made-up", world.base))
            .await,
    );
    let mut changed = url.clone();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.push(last);
    is_refused(&browser.get(&changed).await);
    world
        .until("the link to expire", || async {
            browser.get(&url).await.status == 410
        })
        .await;
    is_refused(&browser.get(&url).await);
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "expired");
    let odd = browser.send(Method::DELETE, &url, None).await;
    is_page(&odd, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_its_server_forgot_is_registered_anew() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let browser = Browser::default();
    let begun = browser.begin(&url, &[]).await;
    let answered = browser.get(&begun.location()).await.location();
    authority.forget_clients();
    is_refused(&browser.get(&answered).await);
    is_page(&browser.connect(&url, &[]).await, 200);
    assert_eq!(authority.seen("/register").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_asked_is_a_page_too() {
    let authority = Authority::start(&[REVISION]).await;
    authority.knobs.registers.store(false, Ordering::Relaxed);
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let browser = Browser::default();
    let page = browser.begin(&url, &[]).await;
    is_refused_by_provider(&page);
    assert!(page.headers.get("set-cookie").is_none());
}

fn is_refused_by_provider(page: &BrowserPage) {
    is_page(page, 424);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_document_is_there_only_where_others_can_reach_it() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let at = format!("{}/oauth/client-metadata.json", world.base);
    assert_eq!(world.http.get(&at).send().await.unwrap().status(), 404);
    drop(world);
    let settings = format!("public_url: https://mcp.example.com\n{}", keys());
    let world = self::world(&authority, &settings).await;
    let at = format!("{}/oauth/client-metadata.json", world.base);
    let answer = world.http.get(&at).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let document = body(answer).await;
    assert_eq!(
        document["client_id"],
        "https://mcp.example.com/oauth/client-metadata.json"
    );
    assert_eq!(
        document["redirect_uris"],
        json!([
            "https://mcp.example.com/oauth/callback",
            "https://mcp.example.com/oauth/callback/tracker"
        ])
    );
}

/// The page that follows: by login, then by the provider.
async fn log_in(browser: &Browser, url: &str) -> BrowserPage {
    let begun = browser.begin(url, &[]).await;
    assert_eq!(begun.status, 303, "{}", begun.body);
    let consented = browser.get(&begun.location()).await;
    browser.get(&consented.location()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_proves_the_opener_and_a_strangers_does_not() {
    let authority = Authority::start(&[REVISION]).await;
    let people = Authority::start(&[]).await;
    let settings = format!(
        "access:\n  local: {{ tenant: acme, user: ada@example.com }}\n  login: {{ issuer: \"{}\", client_id: gateway, \
         tenant: acme, user_claim: email }}\n",
        people.url
    );
    let world = world(&authority, &settings).await;
    let (url, id) = link(&world, None).await;
    let browser = Browser::default();
    let page = browser.get(&url).await;
    is_page(&page, 200);
    assert!(page.body.contains(">Log in to pleiades</button>") && !page.body.contains("type=\"password\""));

    people.sign_in("u-bob", "bob", "bob@example.com");
    let stranger = log_in(&browser, &url).await;
    is_refused(&stranger);
    assert_eq!(stranger.status, 403);
    assert!(!stranger.body.contains("bob@"), "the page names nobody");
    let line = logged(&world, "the refused login", |line| {
        line["message"] == "a login was refused"
    })
    .await;
    assert_eq!(
        (&line["level"], &line["oauth.claim"], &line["oauth.proved"]),
        (&json!("INFO"), &json!("email"), &json!("bob@example.com"))
    );
    assert!(
        line["cure"].as_str().unwrap().contains("the person of the link"),
        "{line}"
    );
    let line = logged(&world, "the line of the callback", |line| {
        line["method"] == "oauth/callback"
    })
    .await;
    assert_eq!(
        (&line["provider.name"], &line["principal.user"]),
        (&json!("tracker"), &json!("ada@example.com"))
    );
    assert!(
        stranger.body.contains("somebody else") && line["error"].as_str().unwrap().contains("somebody else")
    );
    assert!(browser.begin(&url, &[]).await.location().starts_with(&people.url));
    assert_eq!(authority.clients(), 0, "nothing was begun at the provider");

    people.sign_in("u-ada", "ada", "ada@example.com");
    // An attacker's login is finished in another browser.
    let begun = browser.begin(&url, &[]).await;
    let answered = browser.get(&begun.location()).await.location();
    is_refused(&Browser::default().get(&answered).await);

    let back = log_in(&browser, &url).await;
    assert_eq!(
        (back.status, back.location()),
        (303, url.clone()),
        "{}",
        back.body
    );
    let proven = browser.get(&url).await;
    assert!(proven.body.contains(">Continue to Tracker"));
    is_page(&browser.connect(&url, &[]).await, 200);
    assert_eq!(connection_state(&world, None, &id).await.1["state"], "connected");
    // The proof is this link's alone.
    let call = json!({ "tool": "echo", "arguments": { "text": "x" }, "accountId": "second" });
    let other = invitation(&world, None, call).await["connect_url"].clone();
    let page = browser.get(other.as_str().unwrap()).await;
    assert!(page.body.contains(">Log in to pleiades</button>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_opens_links_of_its_own_tenant_alone() {
    let authority = Authority::start(&[REVISION]).await;
    let people = Authority::start(&[]).await;
    people.sign_in("u-ada", "ada", "ada@example.com");
    for (proves, is_theirs) in [
        ("tenant: globex", false),
        ("tenant_claim: tid", false),
        // What no tenant is written for speaks for `default`.
        ("user_claim: sub", false),
        ("tenant: acme", true),
    ] {
        let settings = format!(
            "access:\n  local: {{ tenant: acme, user: u-ada }}\n  login: {{ issuer: \"{}\", client_id: gateway, {proves} }}\n",
            people.url
        );
        let world = world(&authority, &settings).await;
        let (url, _) = link(&world, None).await;
        let answered = log_in(&Browser::default(), &url).await;
        if is_theirs {
            assert_eq!(answered.status, 303, "{proves}: {}", answered.body);
        } else {
            is_refused(&answered);
            assert_eq!(answered.status, 403, "{proves}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_takes_the_answer() {
    let authority = Authority::start(&[REVISION]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "public_url: http://127.0.0.1:9\nvault: {{ file: {{ path: {} }} }}\n",
        folder.path().join("vault").display()
    );
    let one = world(&authority, &settings).await;
    let two = world(&authority, &settings).await;
    let (url, id) = link(&one, None).await;
    let at = |world: &World, url: &str| url.replace("http://127.0.0.1:9", &world.base);
    let browser = Browser::default();
    let begun = browser.begin(&at(&one, &url), &[]).await;
    let answered = browser.get(&begun.location()).await.location();
    browser.share(&one.base, &two.base);
    is_page(&browser.get(&at(&two, &answered)).await, 200);
    for world in [&one, &two] {
        assert_eq!(connection_state(world, None, &id).await.1["state"], "connected");
    }
    assert_eq!(authority.seen("/token").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_page_says_so_the_next_call_uses_the_account() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    is_page(&Browser::default().connect(&url, &[]).await, 200);
    let client = TestClient::connect(&world, "/mcp", REVISION).await;
    let arguments = json!({ "tool": "echo", "arguments": { "text": "hello" } });
    let called = client.call("use_tracker", arguments).await;
    let content = &called["structuredContent"];
    assert_eq!(content["status"], "ok", "{called}");
    assert_eq!(content["accountId"], "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_takes_an_accounts_place_only_when_that_is_confirmed() {
    let authority = Authority::start(&[REVISION]).await;
    let world = world(&authority, "").await;
    let (url, _) = link(&world, None).await;
    let browser = Browser::default();
    is_page(&browser.connect(&url, &[]).await, 200);

    // The same name, another person; and again, because the person says no first.
    authority.sign_in("u-eve", "ada", "eve@example.com");
    let asked = browser.connect(&url, &[]).await;
    is_page(&asked, 409);
    let state = asked.hidden("state");
    let shown = asked.url.query_pairs().find(|(key, _)| key == "state").unwrap().1;
    assert!(
        !asked.body.contains(&*shown),
        "what the server was shown stands on no page"
    );
    let at = asked.action();
    is_refused(
        &Browser::default()
            .post(at.as_str(), &[("state", &state), ("confirm", "yes")])
            .await,
    );
    let no = browser
        .post(at.as_str(), &[("state", &state), ("confirm", "no")])
        .await;
    is_refused(&no);
    assert_eq!(authority.seen("/revoke").len(), 1, "unused tokens are given back");

    let asked = browser.connect(&url, &[]).await;
    let fields = [("state", asked.hidden("state")), ("confirm", "yes".to_owned())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(key, value)| (*key, value.as_str())).collect();
    is_page(&browser.post(asked.action().as_str(), &fields).await, 200);
    is_refused(&browser.post(asked.action().as_str(), &fields).await);
}

/// A request at a path as a browser sends it.
async fn visit(world: &World, method: Method, path: &str, more: &[(&'static str, &str)]) -> BrowserPage {
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let mut browser = Browser::default();
    browser.headers.push(("accept", accept.to_owned()));
    for (name, value) in more {
        browser.headers.retain(|(known, _)| known != name);
        browser.headers.push((*name, (*value).to_owned()));
    }
    browser.send(method, &format!("{}{path}", world.base), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_at_a_view_gets_a_page_with_the_asked_url_alone_and_clients_do_not() {
    let authority = Authority::start(&[REVISION]).await;
    for settings in [String::new(), keys()] {
        let needs_key = !settings.is_empty();
        let world = world(&authority, &settings).await;
        for (path, target) in [
            ("/", "/mcp"),
            ("/mcp", "/mcp"),
            ("/tools/", "/tools"),
            ("/mcp/tracker", "/mcp/tracker"),
            ("/tools/tracker", "/tools/tracker"),
            ("/relay/tracker", "/relay/tracker"),
        ] {
            let page = visit(&world, Method::GET, path, &[]).await;
            is_page(&page, 200);
            let url = format!("&quot;url&quot;: &quot;{}{target}&quot;", world.base);
            assert!(page.body.contains(&url), "{path}: {}", page.body);
            assert_eq!(page.body.contains("x-api-key"), needs_key, "{path}");
            assert!(!page.body.contains("Tracker"), "nothing is named: {}", page.body);
            // One that is not there has the same page.
            let strange = visit(&world, Method::GET, &path.replace("tracker", "absent-one"), &[]).await;
            assert_eq!(strange.body.replace("absent-one", "tracker"), page.body, "{path}");
            let head = visit(&world, Method::HEAD, path, &[]).await;
            assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
            assert_eq!(head.header("content-type"), "text/html; charset=utf-8");
        }
        // Whatever a client says of itself makes it one.
        let key = if needs_key { "key-ada" } else { "any" };
        for more in [
            ("accept", "application/json, text/event-stream"),
            ("accept", "text/event-stream"),
            ("accept", "*/*"),
            ("accept", "text/html, application/json, text/event-stream"),
            ("x-api-key", key),
            ("authorization", "Bearer key-ada"),
            ("mcp-protocol-version", REVISION),
        ] {
            let answer = visit(&world, Method::GET, "/mcp", &[more]).await;
            assert!([401, 405].contains(&answer.status), "{more:?}: {}", answer.status);
            assert_eq!(answer.header("content-type"), "application/json", "{more:?}");
        }
        assert_eq!(
            visit(&world, Method::GET, "/", &[("accept", "*/*")]).await.status,
            404
        );
        assert_eq!(visit(&world, Method::GET, "/nothing", &[]).await.status, 404);
        assert_ne!(visit(&world, Method::POST, "/mcp", &[]).await.status, 200);
        assert_eq!(
            visit(&world, Method::GET, "/mcp", &[("host", "evil.example")])
                .await
                .status,
            403
        );
        // Through a proxy nobody is local: no page tells of a view that would refuse them.
        let proxied = visit(&world, Method::GET, "/mcp", &[("x-forwarded-for", "203.0.113.9")]).await;
        assert_eq!(proxied.status, if needs_key { 200 } else { 403 });
    }
}
