//! What real servers answer, and what it means for the grant.

use super::*;

async fn told(status: u16, kind: &'static str, body: &str) -> Result<Issued, Trouble> {
    let world = World::default().says(TOKEN, status, kind, body);
    let of = source(client(ClientAuth::Post, Some("client-secret-value")));
    let token = Secret::new("refresh-token-value");
    refresh(&world, &connection(), &of, &token, None).await
}

async fn json_told(status: u16, body: &Value) -> Result<Issued, Trouble> {
    told(status, "application/json", &body.to_string()).await
}

#[tokio::test]
async fn lifetimes_come_as_numbers_fractions_and_texts() {
    for (value, expected) in [
        (json!(3600), Some(3600)),
        (json!("3600"), Some(3600)),
        (json!(3599.9), Some(3599)),
        (json!("28800.0"), Some(28_800)),
        (json!(0), None),
        (json!(-1), None),
        (json!("soon"), None),
        (json!(null), None),
        (json!(1e300), Some(315_360_000)),
    ] {
        let it = json_told(200, &json!({ "access_token": "a", "expires_in": value })).await;
        assert_eq!(it.unwrap().expires_in, expected, "{value}");
    }
}

#[tokio::test]
async fn scopes_come_by_spaces_by_commas_and_as_lists() {
    for (value, expected) in [
        (json!("a b"), Some(texts(&["a", "b"]))),
        (json!("repo,user"), Some(texts(&["repo", "user"]))),
        (json!("a:b,c d"), Some(texts(&["a:b,c", "d"]))),
        (json!(["a", "b c"]), Some(texts(&["a", "b", "c"]))),
        (json!(""), None),
        (json!(null), None),
    ] {
        let it = json_told(200, &json!({ "access_token": "a", "scope": value })).await;
        assert_eq!(it.unwrap().scopes, expected, "{value}");
    }
}

#[tokio::test]
async fn a_form_is_an_answer_too() {
    let form = "access_token=gho_x&scope=repo%2Cuser&token_type=bearer&expires_in=28800&refresh_token=ghr_y";
    for kind in ["application/x-www-form-urlencoded; charset=utf-8", "text/plain"] {
        let it = told(200, kind, form).await.unwrap();
        assert_eq!(it.access.expose(), "gho_x");
        assert_eq!(
            (it.scopes, it.expires_in),
            (Some(texts(&["repo", "user"])), Some(28_800))
        );
    }
    let trouble = told(
        200,
        "text/plain",
        "error=bad_refresh_token&error_description=gone",
    )
    .await;
    assert_eq!(trouble.unwrap_err().kind, TroubleKind::Grant);
}

#[tokio::test]
async fn tokens_of_people_may_be_one_level_down() {
    let person = json!({ "id": "U1", "access_token": "xoxp", "scope": "a,b" });
    let it = json_told(200, &json!({ "ok": true, "authed_user": person }))
        .await
        .unwrap();
    assert_eq!(
        (it.access.expose(), it.scopes),
        ("xoxp", Some(texts(&["a", "b"])))
    );
    let both = json!({ "ok": true, "access_token": "xoxb", "authed_user": { "access_token": "xoxp" } });
    assert_eq!(json_told(200, &both).await.unwrap().access.expose(), "xoxb");
}

#[tokio::test]
async fn a_missing_type_is_bearer_and_a_foreign_one_is_refused() {
    assert!(json_told(200, &json!({ "access_token": "a" })).await.is_ok());
    assert!(
        json_told(200, &json!({ "access_token": "a", "token_type": "bot" }))
            .await
            .is_ok()
    );
    let foreign = json_told(200, &json!({ "access_token": "a", "token_type": "DPoP" })).await;
    assert_eq!(foreign.unwrap_err().kind, TroubleKind::Client);
    let unfit = json_told(200, &json!({ "access_token": "a\r\nb" })).await;
    assert_eq!(unfit.unwrap_err().kind, TroubleKind::Client);
}

#[tokio::test]
async fn only_a_refused_grant_is_final() {
    for (status, body) in [
        (400, json!({ "error": "invalid_grant" })),
        (401, json!({ "error": "invalid_grant" })),
        (200, json!({ "error": "bad_refresh_token" })),
        (200, json!({ "ok": false, "error": "invalid_refresh_token" })),
    ] {
        let trouble = json_told(status, &body).await.unwrap_err();
        assert_eq!((trouble.kind, trouble.sent), (TroubleKind::Grant, true), "{body}");
    }
}

#[tokio::test]
async fn what_is_failing_says_nothing_of_the_grant() {
    for (status, kind, body) in [
        (500, "application/json", r#"{"error":"invalid_grant"}"#),
        (503, "text/html", "<html>"),
        (429, "application/json", r#"{"error":"slow_down"}"#),
        (408, "text/plain", ""),
        (400, "application/json", r#"{"error":"temporarily_unavailable"}"#),
        (400, "application/json", r#"{"error":"slow_down"}"#),
        (400, "application/json", r#"{"error":"server_error"}"#),
        (200, "application/json", r#"{"ok":false,"error":"ratelimited"}"#),
        (200, "text/html", "<html>log in to the network</html>"),
        (403, "text/html", "<html>are you a robot</html>"),
        (404, "text/html", "<html>"),
        (302, "text/html", ""),
        (200, "application/json", "{}"),
        (200, "application/json", r#"{"access_token":""}"#),
        (200, "application/json", "[]"),
        (200, "application/json", ""),
    ] {
        let trouble = told(status, kind, body).await.unwrap_err();
        assert_eq!(
            (trouble.kind, trouble.sent),
            (TroubleKind::Transient, true),
            "{status} {body}"
        );
        let after = trouble.retry_after.map(|it| it.as_secs());
        assert_eq!(after, (status == 429).then_some(7));
    }
}

#[tokio::test]
async fn what_the_operator_has_to_mend_leaves_the_grant_alone() {
    for (status, error) in [
        (401, "invalid_client"),
        (400, "unauthorized_client"),
        (400, "invalid_scope"),
        (400, "invalid_target"),
        (400, "invalid_request"),
        (400, "unsupported_grant_type"),
        (200, "incorrect_client_credentials"),
        (400, "something_new"),
    ] {
        let trouble = json_told(status, &json!({ "error": error })).await.unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::Client, "{error}");
        assert!(trouble.cure.is_some() && trouble.message.contains(error));
        let registered = error != "something_new";
        assert_eq!(trouble.error.is_some(), registered);
    }
    for (status, body) in [
        (401, json!({ "message": "no" })),
        (200, json!({ "ok": false })),
        (400, json!({ "error": { "code": "whatever", "message": "m" } })),
    ] {
        assert_eq!(
            json_told(status, &body).await.unwrap_err().kind,
            TroubleKind::Client,
            "{body}"
        );
    }
}

#[tokio::test]
async fn whether_it_was_sent_is_told() {
    for sent in [false, true] {
        let world = World::default().down("as.example", sent);
        let of = source(client(ClientAuth::None, None));
        let trouble = refresh(&world, &connection(), &of, &Secret::new("rt"), None).await;
        let trouble = trouble.unwrap_err();
        assert_eq!((trouble.kind, trouble.sent), (TroubleKind::Transient, sent));
    }
}

#[tokio::test]
async fn no_message_repeats_what_was_sent() {
    for secret in ["refresh-token-value", "client-secret-value"] {
        for text in [
            secret.to_owned(),
            format!("the token {} is over", secret.split_at(12).0),
        ] {
            let said = json!({ "error": "invalid_grant", "error_description": text });
            let trouble = json_told(400, &said).await.unwrap_err();
            assert_eq!(trouble.message, "the token endpoint answered `invalid_grant`");
            assert_eq!(trouble.kind, TroubleKind::Grant);
        }
        let trouble = json_told(400, &json!({ "error": secret })).await.unwrap_err();
        assert!(!format!("{trouble:?}").contains(secret));
    }
}

#[tokio::test]
async fn a_description_is_shown_on_one_line_and_cut() {
    let long = format!("no\r\nsuch\u{1b} thing{}", "!".repeat(1000));
    let trouble = json_told(
        400,
        &json!({ "error": "invalid_grant", "error_description": long }),
    )
    .await;
    let message = trouble.unwrap_err().message;
    assert!(
        message.len() < 300 && !message.chars().any(char::is_control),
        "{message}"
    );
}

#[tokio::test]
async fn nothing_is_sent_to_an_endpoint_without_tls() {
    let world = World::default();
    let of = Source {
        token_endpoint: "http://as.example/token".to_owned(),
        ..source(client(ClientAuth::None, None))
    };
    let trouble = refresh(&world, &connection(), &of, &Secret::new("rt"), None)
        .await
        .unwrap_err();
    assert_eq!((trouble.kind, trouble.sent), (TroubleKind::Metadata, false));
    assert!(world.fetched().is_empty());
}
