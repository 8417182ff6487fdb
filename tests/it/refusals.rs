//! What follows a refusal: of a renewal by the authorization server, of a token or a call by the
//! provider. Each sentence says what was seen, and a link is there where a person can mend it.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use pleiades_credential::manager::Reason;

use crate::world::authorization::{Authority, EndpointFault, field};
use crate::world::browser::Browser;
use crate::world::client::GENERATIONS;
use crate::world::{TestClient, World};

const REVISION: &str = "2025-06-18";

async fn start() -> (Authority, World, TestClient) {
    let authority = Authority::start(&GENERATIONS).await;
    let body = format!(
        "title: Tracker\nabout: issues\nupstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("tracker", &body).start().await;
    let client = TestClient::connect(&world, "/mcp/tracker", REVISION).await;
    (authority, world, client)
}

async fn connected() -> (Authority, World, TestClient) {
    let (authority, world, client) = start().await;
    let link = link(&call(&client).await);
    connect(&link.unwrap()).await;
    let first = call(&client).await;
    assert_eq!(status(&first), "ok", "{first}");
    (authority, world, client)
}

async fn call(client: &TestClient) -> Value {
    let arguments = json!({ "tool": "echo", "arguments": { "text": "hi" } });
    client.call("use_tracker", arguments).await["structuredContent"].clone()
}

async fn connect(url: &str) {
    let page = Browser::default().connect(url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
}

fn status(answer: &Value) -> &str {
    answer["status"].as_str().unwrap_or_default()
}

fn text(answer: &Value) -> &str {
    answer["text"].as_str().unwrap_or_default()
}

fn link(answer: &Value) -> Option<String> {
    answer["data"]["connect_url"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_refused_in_words_of_the_servers_own_gives_a_link_at_once_and_says_them() {
    for (code, body, words) in [
        (
            400,
            json!({ "error": "invalid_request", "error_description": "The token request is invalid." }),
            "`invalid_request` (The token request is invalid)",
        ),
        (
            400,
            json!({ "error": "interaction_required" }),
            "`interaction_required`",
        ),
        (
            403,
            json!({ "status": "BLOCKED", "message": "no" }),
            "`BLOCKED` (no)",
        ),
        (404, json!({}), "404"),
        (200, json!({ "error": { "message": "over" } }), "(over)"),
    ] {
        let (authority, _world, client) = connected().await;
        authority.expire();
        authority.fail("/token", EndpointFault::Says(code, body.clone()), 3);
        let refused = call(&client).await;
        assert_eq!(status(&refused), "token_expired", "{body}: {refused}");
        assert_eq!(refused["data"]["reason"], "refused", "{refused}");
        assert!(text(&refused).contains(words), "{body}: {refused}");
        let link = link(&refused).unwrap_or_else(|| panic!("{body}: {refused}"));
        authority.fail("/token", EndpointFault::Says(code, body), 0);
        connect(&link).await;
        assert_eq!(status(&call(&client).await), "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_refused_for_its_scope_is_made_without() {
    let (authority, _world, client) = connected().await;
    authority.expire();
    let body = json!({ "error": "invalid_request", "error_description": "scope parameter not supported" });
    authority.fail("/token", EndpointFault::Says(400, body), 1);
    assert_eq!(status(&call(&client).await), "ok");
    authority.expire();
    assert_eq!(status(&call(&client).await), "ok");
    let tokens = authority.seen("/token");
    let renewals = tokens
        .iter()
        .filter(|it| field(it, "grant_type").unwrap() == "refresh_token");
    let scopes: Vec<bool> = renewals.map(|it| field(it, "scope").is_some()).collect();
    assert_eq!(scopes, [true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_as_invalid_is_renewed_whatever_the_status() {
    for refusal in [
        (
            403,
            "Bearer error=\"invalid_token\", error_description=\"expired\"",
        ),
        (403, "Basic realm=\"a, b\", Bearer error=invalid_token"),
        (403, "DPoP algs=\"ES256\", error=\"invalid_token\""),
        (401, "Bearer error='invalid_token'"),
        (401, "Bearer"),
        (400, "bearer ERROR=\"Invalid_Token\""),
    ] {
        let (authority, _world, client) = connected().await;
        *authority.knobs.refuses.lock() = Some(refusal);
        authority.expire();
        let answer = call(&client).await;
        assert_eq!(
            (status(&answer), authority.refreshed()),
            ("ok", 1),
            "{refusal:?}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_lack_are_asked_for_whatever_the_status_and_no_token_is_renewed() {
    for (code, challenge) in [
        (403, "Bearer error=\"insufficient_scope\", scope=\"read admin\""),
        (401, "Bearer error=\"insufficient_scope\", scope=\"read admin\""),
        (401, "Bearer scope='read admin', error='insufficient_scope'"),
    ] {
        let (authority, _world, client) = connected().await;
        let denied = [("echo".to_owned(), (code, challenge, ""))];
        *authority.knobs.denies_tools.lock() = denied.into();
        let answer = call(&client).await;
        assert_eq!(status(&answer), "capability_miss", "{code} {challenge}: {answer}");
        assert_eq!(answer["data"]["missing_scopes"], json!(["admin"]), "{answer}");
        let link = link(&answer).unwrap();
        authority.knobs.denies_tools.lock().clear();
        connect(&link).await;
        let asked = authority.seen("/authorize");
        let scope = field(asked.last().unwrap(), "scope").unwrap();
        assert!(scope.split(' ').any(|it| it == "admin"), "{scope}");
        assert_eq!((status(&call(&client).await), authority.refreshed()), ("ok", 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_more_rights_would_not_mend_is_told_without_a_link() {
    for (denied, words) in [
        (
            (403, "Bearer error=\"insufficient_scope\", scope=\"read\"", ""),
            "which the account has",
        ),
        (
            (403, "Bearer error=\"insufficient_scope\"", ""),
            "refuses this to the account",
        ),
        (
            (403, "Basic realm=\"x\"", "<html>"),
            "refuses this to the account",
        ),
        (
            (401, "Bearer error=\"insufficient_scope\"", ""),
            "refuses this to the account",
        ),
    ] {
        let (authority, _world, client) = connected().await;
        *authority.knobs.denies_tools.lock() = [("echo".to_owned(), denied)].into();
        let answer = call(&client).await;
        assert_eq!(
            (status(&answer), link(&answer)),
            ("capability_miss", None),
            "{denied:?}: {answer}"
        );
        assert_eq!(answer["data"]["missing_scopes"], json!([]), "{answer}");
        assert!(text(&answer).contains(words), "{denied:?}: {answer}");
        assert_eq!(authority.refreshed(), 0, "it is not due");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_another_refusal_are_shown() {
    let (authority, _world, client) = connected().await;
    for (denied, words) in [
        ((400, "Bearer", "Token expired."), "Token expired"),
        (
            (
                400,
                "Bearer",
                "{\"error\":\"expired\",\"message\":\"the token has expired\"}",
            ),
            "the token has expired",
        ),
    ] {
        *authority.knobs.denies_tools.lock() = [("echo".to_owned(), denied)].into();
        let answer = call(&client).await;
        assert_eq!(status(&answer), "upstream_error", "{answer}");
        assert!(text(&answer).contains(words), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_never_taken_are_told_as_such_and_asked_for_three_times_at_most() {
    for refreshes in [true, false] {
        let (authority, world, client) = start().await;
        authority.knobs.takes.store(false, SeqCst);
        authority.knobs.refreshes.store(refreshes, SeqCst);
        let mut answer = call(&client).await;
        let mut authorizations = 0;
        while let Some(link) = link(&answer) {
            connect(&link).await;
            authorizations += 1;
            assert!(authorizations <= 3, "{answer}");
            answer = call(&client).await;
            assert_eq!(status(&answer), "token_expired", "{answer}");
            assert!(text(&answer).contains("`resource`"), "{answer}");
        }
        assert_eq!(authorizations, 3, "{answer}");
        assert!(text(&answer).contains("no further link"), "{answer}");
        // Neither does a second call without a reconnect bring one back.
        assert_eq!(link(&call(&client).await), None);
        authority.knobs.takes.store(true, SeqCst);
        if refreshes {
            // That its lists could not be read is remembered for a moment.
            let client = &client;
            world
                .until("the tokens to be taken", || async move {
                    status(&call(client).await) == "ok"
                })
                .await;
            authority.revoke_all();
            assert!(link(&call(client).await).is_some(), "a success begins anew");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn causes_are_counted_together() {
    let (authority, _world, client) = connected().await;
    let mut authorizations = 1;
    for at in 0..6 {
        let challenge = [
            "Bearer error=\"insufficient_scope\", scope=\"a\"",
            "Bearer error=\"invalid_token\"",
            "Bearer error=\"insufficient_scope\", scope=\"b\"",
        ][at % 3];
        *authority.knobs.denies_tools.lock() = [("echo".to_owned(), (403, challenge, ""))].into();
        let Some(link) = link(&call(&client).await) else {
            break;
        };
        connect(&link).await;
        authorizations += 1;
    }
    assert_eq!(authorizations, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_consent_without_a_refresh_token_keeps_the_first_ones() {
    let (authority, _world, client) = connected().await;
    let needs = [("echo".to_owned(), "admin".to_owned())];
    *authority.knobs.needs.lock() = needs.into();
    let link = link(&call(&client).await).unwrap();
    authority.knobs.refreshes.store(false, SeqCst);
    connect(&link).await;
    authority.knobs.refreshes.store(true, SeqCst);
    authority.knobs.needs.lock().clear();
    authority.expire();
    let renewed = call(&client).await;
    assert_eq!((status(&renewed), authority.refreshed()), ("ok", 1), "{renewed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_gave_nothing_to_renew_with_says_so_at_its_end() {
    let (authority, _world, client) = start().await;
    authority.knobs.refreshes.store(false, SeqCst);
    let wanted = link(&call(&client).await);
    connect(&wanted.unwrap()).await;
    assert_eq!(status(&call(&client).await), "ok");
    authority.expire();
    let over = call(&client).await;
    assert_eq!(
        (status(&over), &over["data"]["reason"]),
        ("token_expired", &json!("refused")),
        "{over}"
    );
    assert!(
        text(&over).contains("gave no refresh token") && link(&over).is_some(),
        "{over}"
    );
    assert!(!text(&over).contains(Reason::Refused.sentence()), "{over}");
}
