use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

const GOOD: &str =
    r#"{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt","scope":"a b"}"#;

/// P-256, made for these tests.
const EC: &str = include_str!("ec.pem");

fn answering(body: &str) -> ScriptedWeb {
    ScriptedWeb::default().says(TOKEN, 200, "application/json", body)
}

async fn redeemed(world: &ScriptedWeb, client: OAuthClient) -> Result<TokenResponse, OAuthError> {
    refresh(
        world,
        &connection(),
        &source(client),
        &Secret::new("rt-old"),
        None,
    )
    .await
}

#[tokio::test]
async fn a_code_is_redeemed_with_verifier_callback_and_resource() {
    let world = answering(GOOD);
    let source = source(client(ClientAuth::None, None));
    let (code, verifier) = (Secret::new("c0de"), Secret::new("ver1fier"));
    let it = exchange(
        &world,
        &connection(),
        &source,
        &code,
        Some(&verifier),
        "https://gw.example/cb",
    )
    .await
    .unwrap();
    let expected = TokenResponse {
        access: Secret::new("at"),
        refresh: Some(Secret::new("rt")),
        expires_in: Some(3600),
        scopes: Some(texts(&["a", "b"])),
        id_token: None,
    };
    assert_eq!(it, expected);
    let form = world.form();
    let pairs: Vec<(&str, &str)> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("client_id", "an id"),
            ("code", "c0de"),
            ("code_verifier", "ver1fier"),
            ("grant_type", "authorization_code"),
            ("redirect_uri", "https://gw.example/cb"),
            ("resource", UPSTREAM),
        ]
    );
    assert_eq!(world.header(header::AUTHORIZATION), None);
    assert_eq!(world.header(header::ACCEPT).as_deref(), Some("application/json"));
}

#[tokio::test]
async fn a_refresh_names_its_token_and_scopes_where_given() {
    let world = answering(GOOD);
    let source = source(client(ClientAuth::None, None));
    let scopes = texts(&["a", "b"]);
    refresh(
        &world,
        &connection(),
        &source,
        &Secret::new("rt-old"),
        Some(&scopes),
    )
    .await
    .unwrap();
    let form = world.form();
    assert_eq!(form["grant_type"], "refresh_token");
    assert_eq!(
        (form["refresh_token"].as_str(), form["scope"].as_str()),
        ("rt-old", "a b")
    );
}

#[tokio::test]
async fn basic_authentication_encodes_both_halves_first() {
    let world = answering(GOOD);
    let mut client = client(ClientAuth::Basic, Some("s:ecr et/+"));
    client.id = "https://id/ä".to_owned();
    redeemed(&world, client).await.unwrap();
    let header = world.header(header::AUTHORIZATION).unwrap();
    let pair = STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(pair).unwrap(),
        "https%3A%2F%2Fid%2F%C3%A4:s%3Aecr+et%2F%2B"
    );
    let form = world.form();
    assert!(!form.contains_key("client_id") && !form.contains_key("client_secret"));
    let seen = world.seen.lock();
    assert!(seen[0].headers()[header::AUTHORIZATION].is_sensitive());
}

#[tokio::test]
async fn post_authentication_puts_both_into_the_form() {
    let world = answering(GOOD);
    redeemed(&world, client(ClientAuth::Post, Some("s")))
        .await
        .unwrap();
    let form = world.form();
    assert_eq!(
        (form["client_id"].as_str(), form["client_secret"].as_str()),
        ("an id", "s")
    );
    assert_eq!(world.header(header::AUTHORIZATION), None);
}

#[tokio::test]
async fn a_descriptors_client_proves_itself_with_the_descriptors_secret_of_today() {
    let world = answering(GOOD);
    let today = Connection {
        client_secret: Some(Secret::new("today")),
        ..connection()
    };
    let client = OAuthClient {
        declared: true,
        ..client(ClientAuth::Post, Some("stale"))
    };
    let of = source(client);
    refresh(&world, &today, &of, &Secret::new("rt"), None)
        .await
        .unwrap();
    assert_eq!(world.form()["client_secret"], "today");
    let gone = refresh(&world, &connection(), &of, &Secret::new("rt"), None)
        .await
        .unwrap_err();
    assert_eq!((gone.kind, gone.sent), (OAuthErrorKind::Client, false));
}

fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.');
    let mut next = || {
        let part = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        serde_json::from_slice(&part).unwrap()
    };
    (next(), next())
}

#[tokio::test]
async fn a_private_key_signs_for_the_issuer_once_and_for_a_minute() {
    let world = answering(GOOD);
    let own = Connection {
        private_key: Some(Secret::new(EC)),
        ..connection()
    };
    let client = OAuthClient {
        declared: true,
        ..client(ClientAuth::PrivateKeyJwt, None)
    };
    let mut of = source(client);
    refresh(&world, &own, &of, &Secret::new("rt"), None)
        .await
        .unwrap();
    let first = world.form();
    assert_eq!(
        first["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let (head, claims) = parts(&first["client_assertion"]);
    assert_eq!(head["alg"], "ES256");
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("an id"), &json!("an id"))
    );
    assert_eq!(claims["aud"], ISSUER);
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        60
    );
    of.issuer = None;
    refresh(&world, &own, &of, &Secret::new("rt"), None)
        .await
        .unwrap();
    let (_, again) = parts(&world.form()["client_assertion"]);
    assert_eq!(again["aud"], TOKEN);
    assert_ne!(claims["jti"], again["jti"]);
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_the_operators_to_mend() {
    let own = Connection {
        private_key: Some(Secret::new(
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )),
        client_id: Some("own".to_owned()),
        grant: GrantType::ClientCredentials,
        ..connection()
    };
    let world = answering(GOOD);
    let trouble = client_credentials(&world, &own, &server(), None)
        .await
        .unwrap_err();
    assert_eq!(
        (trouble.kind, trouble.sent, world.fetched().len()),
        (OAuthErrorKind::Client, false, 0)
    );
}

#[tokio::test]
async fn client_credentials_go_out_with_resource_scope_and_audience() {
    let world = answering(GOOD);
    let own = Connection {
        client_id: Some("own".to_owned()),
        client_secret: Some(Secret::new("s")),
        audience: Some("https://api.example".to_owned()),
        grant: GrantType::ClientCredentials,
        ..connection()
    };
    client_credentials(&world, &own, &server(), Some(&texts(&["a"])))
        .await
        .unwrap();
    let form = world.form();
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(
        (form["resource"].as_str(), form["scope"].as_str()),
        (UPSTREAM, "a")
    );
    assert_eq!(form["audience"], "https://api.example");
    let header = world.header(header::AUTHORIZATION).unwrap();
    assert_eq!(header, format!("Basic {}", STANDARD.encode("own:s")));
    let nobody = client_credentials(&world, &connection(), &server(), None).await;
    assert_eq!(nobody.unwrap_err().kind, OAuthErrorKind::Client);
}

#[tokio::test]
async fn a_token_is_revoked_and_an_unknown_one_is_gone_already() {
    let of = source(client(ClientAuth::Post, Some("s")));
    let place = "https://as.example/revoke";
    for (status, body, good) in [
        (200, "", true),
        (200, "{}", true),
        (400, r#"{"error":"invalid_token"}"#, true),
        (400, r#"{"error":"unsupported_token_type"}"#, false),
        (401, "", false),
        (503, "", false),
    ] {
        let world = ScriptedWeb::default().says(place, status, "application/json", body);
        let done = revoke(&world, &connection(), &of, &Secret::new("rt")).await;
        assert_eq!(done.is_ok(), good, "{status} {body}");
        let form = world.form();
        assert_eq!(
            (form["token"].as_str(), form["client_secret"].as_str()),
            ("rt", "s")
        );
    }
    let world = ScriptedWeb::default();
    let none = TokenSource {
        revocation_endpoint: None,
        ..of
    };
    revoke(&world, &connection(), &none, &Secret::new("rt"))
        .await
        .unwrap();
    assert!(world.fetched().is_empty());
}

#[tokio::test]
async fn a_token_too_large_for_a_header_is_refused_when_it_is_issued() {
    for (length, is_taken) in [(16 * 1024, true), (16 * 1024 + 1, false)] {
        let body = format!(r#"{{"access_token":"{}"}}"#, "t".repeat(length));
        let answer = redeemed(&answering(&body), client(ClientAuth::None, None)).await;
        assert_eq!(answer.is_ok(), is_taken, "{length}");
        if let Err(trouble) = answer {
            assert!(trouble.message.contains("16 KiB") && trouble.cure.is_some());
        }
    }
}
