use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

const USERINFO: &str = "https://as.example/me";

fn token(claims: &Value) -> Secret {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Secret::new(format!(
        "{}.{}.c2ln",
        part(&json!({ "alg": "RS256" })),
        part(claims)
    ))
}

fn issued(claims: Option<&Value>) -> TokenResponse {
    TokenResponse {
        access: Secret::new("at"),
        refresh: None,
        expires_in: None,
        scopes: None,
        id_token: claims.map(token),
    }
}

fn claims(more: &Value) -> Value {
    let mut claims =
        json!({ "iss": ISSUER, "aud": "own", "sub": "s1", "nonce": "n", "exp": 4_000_000_000_u64 });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

fn with_userinfo() -> AuthServer {
    AuthServer {
        userinfo_endpoint: Some(USERINFO.to_owned()),
        ..server()
    }
}

async fn found(world: &ScriptedWeb, server: &AuthServer, more: Option<&Value>) -> AccountProfile {
    let claims = more.map(claims);
    let issued = issued(claims.as_ref());
    identify(world, &connection(), server, ("own", Some("n")), &issued).await
}

#[tokio::test]
async fn the_account_is_the_preferred_name_else_the_email_else_the_subject() {
    let world = ScriptedWeb::default();
    for (more, account, label) in [
        (
            json!({ "preferred_username": "ann", "email": "a@x", "name": "Ann" }),
            "ann",
            Some("a@x"),
        ),
        (json!({ "email": "a@x", "name": "Ann" }), "a@x", Some("a@x")),
        (json!({ "name": "Ann" }), "s1", Some("Ann")),
        (json!({}), "s1", None),
    ] {
        let it = found(&world, &server(), Some(&more)).await;
        assert_eq!(
            (it.account.as_deref(), it.label.as_deref()),
            (Some(account), label)
        );
        assert_eq!(it.subject.as_deref(), Some("s1"));
    }
    assert!(world.fetched().is_empty());
}

#[tokio::test]
async fn an_email_counts_as_verified_only_when_its_claim_is_true() {
    for (flag, verified) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!(null), false),
    ] {
        let more = json!({ "email": "a@x", "email_verified": flag });
        let it = found(&ScriptedWeb::default(), &server(), Some(&more)).await;
        assert_eq!(it.verified_email.is_some(), verified);
    }
}

#[tokio::test]
async fn an_id_token_that_fails_its_check_is_dropped_and_userinfo_names_the_account() {
    let info = json!({ "sub": "s9", "preferred_username": "ada" });
    let several = json!({ "aud": ["a", "own"], "azp": "own" });
    let it = found(&ScriptedWeb::default(), &server(), Some(&several)).await;
    assert_eq!(it.subject.as_deref(), Some("s1"));
    for more in [
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": null }),
        json!({ "aud": "another" }),
        json!({ "aud": ["a", "b"] }),
        json!({ "aud": ["a", "own"] }),
        json!({ "azp": "another" }),
        json!({ "exp": 1 }),
        json!({ "nonce": null }),
        json!({ "nonce": "of another sign-in" }),
    ] {
        let world = ScriptedWeb::default().json(USERINFO, &info);
        let it = found(&world, &with_userinfo(), Some(&more)).await;
        assert_eq!(it.account.as_deref(), Some("ada"), "{more}");
        assert_eq!(it.is_foreign, more["nonce"].is_string(), "{more}");
        let nobody = found(&ScriptedWeb::default(), &server(), Some(&more)).await;
        assert_eq!((nobody.account, nobody.subject), (None, None), "{more}");
    }
}

#[tokio::test]
async fn an_encrypted_or_unreadable_id_token_is_no_reason_not_to_ask_userinfo() {
    let world = ScriptedWeb::default().json(USERINFO, &json!({ "sub": "s9" }));
    for text in ["", "a.b", "a.b.c.d.e", "nonsense", "a.!!!.c", "a.e30.c"] {
        let mut unread = issued(None);
        unread.id_token = Some(Secret::new(text));
        for (server, account) in [(with_userinfo(), Some("s9")), (server(), None)] {
            let it = identify(&world, &connection(), &server, ("own", Some("n")), &unread).await;
            assert_eq!(it.account.as_deref(), account, "{text}");
        }
    }
}

#[tokio::test]
async fn a_server_of_every_tenant_names_accounts_of_any() {
    let server = AuthServer {
        issuer: Some("https://login.example/{tenantid}/v2.0".to_owned()),
        ..server()
    };
    let more = json!({ "iss": "https://login.example/0a-1f/v2.0", "tid": "0a-1f" });
    let it = found(&ScriptedWeb::default(), &server, Some(&more)).await;
    assert_eq!(it.account.as_deref(), Some("s1"));
}

#[tokio::test(start_paused = true)]
async fn userinfo_that_never_answers_takes_no_good_id_token_with_it() {
    let world = ScriptedWeb::default().hanging(USERINFO);
    let it = found(&world, &with_userinfo(), Some(&json!({}))).await;
    assert_eq!(it.account.as_deref(), Some("s1"));
    assert_eq!(
        found(&world, &with_userinfo(), None).await,
        AccountProfile::default()
    );
}

#[tokio::test]
async fn userinfo_is_asked_whenever_the_metadata_names_it() {
    let info = json!({ "sub": "s1", "preferred_username": "ann" });
    let world = ScriptedWeb::default().json(USERINFO, &info);
    let it = found(&world, &with_userinfo(), Some(&json!({}))).await;
    assert_eq!(it.account.as_deref(), Some("ann"));
    assert_eq!(world.fetched(), [USERINFO]);
    assert_eq!(world.header(header::AUTHORIZATION).as_deref(), Some("Bearer at"));
    let it = found(&world, &with_userinfo(), None).await;
    assert_eq!(
        (it.account.as_deref(), it.subject.as_deref()),
        (Some("ann"), Some("s1"))
    );
}

#[tokio::test]
async fn userinfo_of_somebody_else_is_not_believed() {
    let info = json!({ "sub": "s2", "preferred_username": "eve", "email": "e@x", "email_verified": true });
    let world = ScriptedWeb::default().json(USERINFO, &info);
    let it = found(&world, &with_userinfo(), Some(&json!({}))).await;
    assert_eq!((it.account.as_deref(), it.verified_email), (Some("s1"), None));
}

#[tokio::test]
async fn userinfo_that_fails_leaves_an_account_without_a_name_and_never_without_a_connection() {
    for (status, body) in [
        (503, "oh"),
        (403, "no"),
        (302, ""),
        (200, "garbage"),
        (200, "a.b.c.d.e"),
    ] {
        let failing = ScriptedWeb::default().says(USERINFO, status, "text/html", body);
        let it = found(&failing, &with_userinfo(), Some(&json!({}))).await;
        assert_eq!(it.account.as_deref(), Some("s1"), "{status}");
        assert_eq!(
            found(&failing, &with_userinfo(), None).await,
            AccountProfile::default(),
            "{status}"
        );
    }
}
