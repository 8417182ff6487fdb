//! What real servers answer, and what it means for the grant.

use super::*;

async fn answer_of(status: u16, kind: &'static str, body: &str) -> Result<TokenResponse, OAuthError> {
    let world = ScriptedWeb::default().says(TOKEN, status, kind, body);
    let of = source(client(ClientAuth::Post, Some("client-secret-value")));
    let token = Secret::new("refresh-token-value");
    refresh(&world, &connection(), &of, &token, None).await
}

async fn json_answer(status: u16, body: &Value) -> Result<TokenResponse, OAuthError> {
    answer_of(status, "application/json", &body.to_string()).await
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
        let it = json_answer(200, &json!({ "access_token": "a", "expires_in": value })).await;
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
        let it = json_answer(200, &json!({ "access_token": "a", "scope": value })).await;
        assert_eq!(it.unwrap().scopes, expected, "{value}");
    }
}

#[tokio::test]
async fn a_form_is_an_answer_too() {
    let form = "access_token=gho_x&scope=repo%2Cuser&token_type=bearer&expires_in=28800&refresh_token=ghr_y";
    for kind in ["application/x-www-form-urlencoded; charset=utf-8", "text/plain"] {
        let it = answer_of(200, kind, form).await.unwrap();
        assert_eq!(it.access.expose(), "gho_x");
        assert_eq!(
            (it.scopes, it.expires_in),
            (Some(texts(&["repo", "user"])), Some(28_800))
        );
    }
    let trouble = answer_of(
        200,
        "text/plain",
        "error=bad_refresh_token&error_description=gone",
    )
    .await;
    assert_eq!(trouble.unwrap_err().kind, OAuthErrorKind::Grant);
}

#[tokio::test]
async fn tokens_of_people_may_be_one_level_down() {
    let person = json!({ "id": "U1", "access_token": "xoxp", "scope": "a,b" });
    let it = json_answer(200, &json!({ "ok": true, "authed_user": person }))
        .await
        .unwrap();
    assert_eq!(
        (it.access.expose(), it.scopes),
        ("xoxp", Some(texts(&["a", "b"])))
    );
    let both = json!({ "ok": true, "access_token": "xoxb", "authed_user": { "access_token": "xoxp" } });
    assert_eq!(json_answer(200, &both).await.unwrap().access.expose(), "xoxb");
}

#[tokio::test]
async fn a_missing_type_is_bearer_and_a_foreign_one_is_refused() {
    assert!(json_answer(200, &json!({ "access_token": "a" })).await.is_ok());
    assert!(
        json_answer(200, &json!({ "access_token": "a", "token_type": "bot" }))
            .await
            .is_ok()
    );
    let foreign = json_answer(200, &json!({ "access_token": "a", "token_type": "DPoP" })).await;
    assert_eq!(foreign.unwrap_err().kind, OAuthErrorKind::Client);
    let unfit = json_answer(200, &json!({ "access_token": "a\r\nb" })).await;
    assert_eq!(unfit.unwrap_err().kind, OAuthErrorKind::Client);
}

#[tokio::test]
async fn only_a_refused_grant_is_final() {
    for (status, body) in [
        (400, json!({ "error": "invalid_grant" })),
        (401, json!({ "error": "invalid_grant" })),
        (200, json!({ "error": "bad_refresh_token" })),
        (200, json!({ "ok": false, "error": "invalid_refresh_token" })),
        (400, json!({ "error": "INVALID_GRANT" })),
        (400, json!({ "error": "invalid-grant" })),
        (
            400,
            json!({ "error": { "code": "invalid_grant", "message": "gone" } }),
        ),
        (
            400,
            json!({ "status": "BAD_REFRESH_TOKEN", "message": "missing or unknown refresh token" }),
        ),
        (401, json!({ "errorCode": "invalid_grant" })),
    ] {
        let trouble = json_answer(status, &body).await.unwrap_err();
        assert_eq!(
            (trouble.kind, trouble.sent),
            (OAuthErrorKind::Grant, true),
            "{body}"
        );
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
        (502, "text/plain", "bad gateway"),
        (425, "text/plain", ""),
        (400, "application/json", r#"{"error":"Temporarily-Unavailable"}"#),
        (400, "application/json", r#"{"error":{"code":"SERVER_ERROR"}}"#),
        (403, "application/json", r#"{"code":"rate_limit_exceeded"}"#),
    ] {
        let trouble = answer_of(status, kind, body).await.unwrap_err();
        assert_eq!(
            (trouble.kind, trouble.sent),
            (OAuthErrorKind::Transient, true),
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
        let trouble = json_answer(status, &json!({ "error": error })).await.unwrap_err();
        assert_eq!(trouble.kind, OAuthErrorKind::Client, "{error}");
        assert!(trouble.cure.is_some() && trouble.message.contains(error));
        // Other names for a client that is not known mean the registered one.
        let word = match error {
            "incorrect_client_credentials" => "invalid_client",
            error => error,
        };
        assert_eq!(trouble.error.as_deref(), Some(word));
    }
    for (status, body) in [
        (401, json!({ "message": "no" })),
        (200, json!({ "ok": false })),
        (400, json!({ "error": { "code": "whatever", "message": "m" } })),
    ] {
        assert_eq!(
            json_answer(status, &body).await.unwrap_err().kind,
            OAuthErrorKind::Client,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_failure_records_whether_the_request_was_sent() {
    for sent in [false, true] {
        let world = ScriptedWeb::default().down("as.example", sent);
        let of = source(client(ClientAuth::None, None));
        let trouble = refresh(&world, &connection(), &of, &Secret::new("rt"), None).await;
        let trouble = trouble.unwrap_err();
        assert_eq!((trouble.kind, trouble.sent), (OAuthErrorKind::Transient, sent));
    }
}

#[tokio::test]
async fn no_message_repeats_what_was_sent() {
    for secret in ["refresh-token-value", "client-secret-value"] {
        for text in [
            secret.to_owned(),
            format!("the token {} is over", secret.split_at(12).0),
        ] {
            let text = json!({ "error": "invalid_grant", "error_description": text });
            let trouble = json_answer(400, &text).await.unwrap_err();
            assert_eq!(trouble.message, "the token endpoint answered `invalid_grant`");
            assert_eq!(trouble.kind, OAuthErrorKind::Grant);
        }
        let trouble = json_answer(400, &json!({ "error": secret })).await.unwrap_err();
        assert!(!format!("{trouble:?}").contains(secret));
    }
}

#[tokio::test]
async fn a_description_is_shown_on_one_line_and_cut() {
    let long = format!("no\r\nsuch\u{1b} thing{}", "!".repeat(1000));
    let trouble = json_answer(
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
    let world = ScriptedWeb::default();
    let of = TokenSource {
        token_endpoint: "http://as.example/token".to_owned(),
        ..source(client(ClientAuth::None, None))
    };
    let trouble = refresh(&world, &connection(), &of, &Secret::new("rt"), None)
        .await
        .unwrap_err();
    assert_eq!((trouble.kind, trouble.sent), (OAuthErrorKind::Metadata, false));
    assert!(world.fetched().is_empty());
}

/// Status and body; the error that is told, and words of the message.
const REFUSALS: [(u16, &str, Option<&str>, &str); 15] = [
    (
        400,
        r#"{"error":"invalid_request","error_description":"no such thing."}"#,
        Some("invalid_request"),
        "`invalid_request` (no such thing)",
    ),
    (
        400,
        r#"{"error":"interaction_required"}"#,
        Some("interaction_required"),
        "`interaction_required`",
    ),
    (
        401,
        r#"{"error":"invalid_token"}"#,
        Some("invalid_token"),
        "`invalid_token`",
    ),
    (
        403,
        r#"{"error":"access_denied"}"#,
        Some("access_denied"),
        "`access_denied`",
    ),
    (
        400,
        r#"{"status":"REVOKED_BY_OWNER","message":"ask again"}"#,
        Some("REVOKED_BY_OWNER"),
        "`REVOKED_BY_OWNER` (ask again)",
    ),
    (
        400,
        r#"{"status":"error","errors":[{"message":"no"}]}"#,
        None,
        "(no)",
    ),
    (
        422,
        r#"{"type":"about:blank","title":"Unprocessable","status":422}"#,
        None,
        "(Unprocessable)",
    ),
    (
        400,
        "refresh token is not known",
        None,
        "(refresh token is not known)",
    ),
    (200, r#"{"error":{"message":"over"}}"#, None, "(over)"),
    (
        200,
        r#"{"errcode":40030,"errmsg":"invalid refresh_token"}"#,
        None,
        "(invalid refresh_token)",
    ),
    (
        401,
        "<html>are you a robot</html>",
        None,
        "401 without saying why",
    ),
    (
        403,
        "<html>are you a robot</html>",
        None,
        "403 without saying why",
    ),
    (
        404,
        "<html>are you a robot</html>",
        None,
        "404 without saying why",
    ),
    (410, "", None, "410 without saying why"),
    (302, "", None, "302 without saying why"),
];

#[tokio::test]
async fn whatever_else_holds_no_token_is_a_refusal_with_the_servers_words() {
    for (status, body, error, words) in REFUSALS {
        let kind = if body.starts_with('{') {
            "application/json"
        } else {
            "text/html"
        };
        let trouble = answer_of(status, kind, body).await.unwrap_err();
        let is_refusal = trouble.kind == OAuthErrorKind::Client && trouble.sent && !trouble.unread;
        assert!(is_refusal, "{status} {body}: {trouble:?}");
        assert_eq!(trouble.error.as_deref(), error, "{status} {body}");
        assert!(trouble.message.contains(words), "{status} {body}: {trouble}");
    }
}

#[tokio::test]
async fn an_answer_that_succeeds_without_a_word_may_have_used_the_token_up() {
    for (kind, body) in [
        ("text/html", "<html>log in to the network</html>"),
        ("application/json", "{}"),
        ("application/json", r#"{"access_token":""}"#),
        ("application/json", r#"{"data":{"access_token":"elsewhere"}}"#),
        ("application/json", r#"{"access_token":"cut off"#),
        ("application/json", "[]"),
        ("application/json", ""),
    ] {
        let trouble = answer_of(200, kind, body).await.unwrap_err();
        assert_eq!(
            (trouble.kind, trouble.unread),
            (OAuthErrorKind::Client, true),
            "{body}"
        );
        assert!(trouble.message.contains("without a token"), "{trouble}");
    }
}

#[tokio::test]
async fn what_a_server_says_turns_no_text_around_and_hides_nothing() {
    let text =
        json!({ "error": "invalid_request", "error_description": "a\u{202e}b\u{200b}c\u{1b}[31m\u{feff}" });
    let trouble = json_answer(400, &text).await.unwrap_err();
    assert_eq!(trouble.description.as_deref(), Some("abc [31m"));
}

const REDIRECT: &str = "https://gw.example/oauth/callback/tracker";
/// Status, type and body of an answer to a code; what is said of it and what to do.
const CODE_ANSWERS: [(u16, &str, &str, &str, &str); 7] = [
    (
        200,
        "text/html",
        "<html>",
        "answered 200 (`text/html`) without `access_token`",
        "check `token_endpoint`",
    ),
    (
        404,
        "text/html",
        "<html>",
        "answered 404 (`text/html`)",
        "check `token_endpoint`",
    ),
    (
        302,
        "text/html",
        "",
        "redirects (302) to `https://as.example/oauth/token`",
        "write it as `token_endpoint`",
    ),
    (
        400,
        "application/json",
        r#"{"error":"invalid_grant","error_description":"Code verifier mismatch"}"#,
        "refused the code with `invalid_grant` (Code verifier mismatch)",
        "if it is refused again, compare the redirect URI `https://gw.example/oauth/callback/tracker` and `pkce`",
    ),
    (
        400,
        "application/json",
        r#"{"error":"bad_redirect_uri"}"#,
        "answered `bad_redirect_uri`",
        "register the redirect URI `https://gw.example/oauth/callback/tracker`",
    ),
    (
        401,
        "application/json",
        r#"{"error":"invalid_client"}"#,
        "answered `invalid_client`",
        "connecting again helps only after they are right",
    ),
    (500, "text/html", "<html>", "is failing (status 500)", ""),
];

#[tokio::test]
async fn a_code_failure_names_the_token_endpoint_and_callers_see_no_address() {
    for (status, kind, body, full, cure) in CODE_ANSWERS {
        let world = ScriptedWeb::default().says(TOKEN, status, kind, body).header_of(
            TOKEN,
            "location",
            "https://as.example/oauth/token",
        );
        let of = source(client(ClientAuth::None, None));
        let code = Secret::new("the-code-itself");
        let trouble = exchange(&world, &connection(), &of, &code, None, REDIRECT).await;
        let trouble = trouble.unwrap_err();
        let text = trouble.to_string();
        assert!(
            text.contains(&format!("the token endpoint `{TOKEN}` {full}")),
            "{text}"
        );
        assert!(
            trouble.cure.as_deref().unwrap_or_default().contains(cure),
            "{trouble:?}"
        );
        assert!(
            !trouble.for_callers().contains("://"),
            "{}",
            trouble.for_callers()
        );
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_not_reached_is_named_by_role_and_url() {
    let world = ScriptedWeb::default().down("as.example", false);
    let of = source(client(ClientAuth::None, None));
    let trouble = refresh(&world, &connection(), &of, &Secret::new("rt"), None).await;
    let trouble = trouble.unwrap_err();
    assert!(
        trouble
            .to_string()
            .contains(&format!("the token endpoint `{TOKEN}`")),
        "{trouble}"
    );
    assert!(!trouble.for_callers().contains("as.example"));
}
