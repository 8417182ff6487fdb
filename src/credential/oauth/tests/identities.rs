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

fn issued(claims: Option<&Value>) -> Issued {
    Issued {
        access: Secret::new("at"),
        refresh: None,
        expires_in: None,
        scopes: None,
        id_token: claims.map(token),
    }
}

fn claims(more: &Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": "own", "sub": "s1", "exp": 4_000_000_000_u64 });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

fn with_userinfo() -> Server {
    Server {
        userinfo_endpoint: Some(USERINFO.to_owned()),
        ..server()
    }
}

async fn found(world: &World, server: &Server, more: Option<&Value>) -> Result<Identity, Trouble> {
    let claims = more.map(claims);
    identify_for(
        world,
        &connection(),
        server,
        Some("own"),
        &issued(claims.as_ref()),
    )
    .await
}

#[tokio::test]
async fn the_account_is_the_preferred_name_else_the_email_else_the_subject() {
    let world = World::default();
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
        let it = found(&world, &server(), Some(&more)).await.unwrap();
        assert_eq!(
            (it.account.as_deref(), it.label.as_deref()),
            (Some(account), label)
        );
        assert_eq!(it.subject.as_deref(), Some("s1"));
    }
    assert!(world.fetched().is_empty());
}

#[tokio::test]
async fn an_email_counts_as_verified_when_it_is_said_to_be() {
    for (said, verified) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!(null), false),
    ] {
        let more = json!({ "email": "a@x", "email_verified": said, "nonce": "n" });
        let it = found(&World::default(), &server(), Some(&more)).await.unwrap();
        assert_eq!(it.verified_email.is_some(), verified);
        assert_eq!(it.nonce.as_deref(), Some("n"));
    }
}

#[tokio::test]
async fn an_id_token_of_another_issuer_client_or_time_is_refused() {
    for more in [
        json!({ "iss": "https://evil.example" }),
        json!({ "aud": "another" }),
        json!({ "aud": ["a", "b"] }),
        json!({ "exp": 1 }),
    ] {
        let trouble = found(&World::default(), &server(), Some(&more))
            .await
            .unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::Metadata, "{more}");
    }
    let several = json!({ "aud": ["a", "own"] });
    assert!(found(&World::default(), &server(), Some(&several)).await.is_ok());
}

#[tokio::test]
async fn userinfo_is_asked_whenever_the_metadata_names_it() {
    let info = json!({ "sub": "s1", "preferred_username": "ann" });
    let world = World::default().json(USERINFO, &info);
    let it = found(&world, &with_userinfo(), Some(&json!({}))).await.unwrap();
    assert_eq!(it.account.as_deref(), Some("ann"));
    assert_eq!(world.fetched(), [USERINFO]);
    assert_eq!(world.header(header::AUTHORIZATION).as_deref(), Some("Bearer at"));
    let it = found(&world, &with_userinfo(), None).await.unwrap();
    assert_eq!(
        (it.account.as_deref(), it.subject.as_deref()),
        (Some("ann"), Some("s1"))
    );
}

#[tokio::test]
async fn userinfo_of_somebody_else_is_not_believed() {
    let info = json!({ "sub": "s2", "preferred_username": "eve", "email": "e@x", "email_verified": true });
    let world = World::default().json(USERINFO, &info);
    let it = found(&world, &with_userinfo(), Some(&json!({}))).await.unwrap();
    assert_eq!((it.account.as_deref(), it.verified_email), (Some("s1"), None));
}

#[tokio::test]
async fn userinfo_that_fails_matters_only_where_nobody_else_names_the_account() {
    let failing = World::default().says(USERINFO, 503, "text/html", "oh");
    assert!(found(&failing, &with_userinfo(), Some(&json!({}))).await.is_ok());
    let trouble = found(&failing, &with_userinfo(), None).await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Transient);
    let refusing = World::default().says(USERINFO, 403, "text/html", "no");
    let nobody = found(&refusing, &with_userinfo(), None).await.unwrap();
    assert_eq!(nobody, Identity::default());
}

#[tokio::test]
async fn what_is_no_token_names_nobody() {
    for text in ["", "a.b", "a.b.c.d.e", "a.!!!.c", "a.e30.c"] {
        let mut it = issued(None);
        it.id_token = Some(Secret::new(text));
        let found = identify(&World::default(), &connection(), &Server::default(), &it).await;
        assert_eq!(found.unwrap(), Identity::default(), "{text}");
    }
}
