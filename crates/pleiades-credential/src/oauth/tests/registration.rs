use super::*;

const REGISTER: &str = "https://as.example/register";
const CALLBACK: &str = "https://gw.example/oauth/callback";

fn world(answer: &Value) -> ScriptedWeb {
    ScriptedWeb::default().says(REGISTER, 201, "application/json", &answer.to_string())
}

fn taking(methods: &[&str]) -> AuthServer {
    AuthServer {
        auth_methods: Some(texts(methods)),
        ..server()
    }
}

async fn registered(
    world: &ScriptedWeb,
    server: &AuthServer,
) -> Result<super::super::register::Registration, OAuthError> {
    registration(world, &connection(), server, &redirects(CALLBACK), None).await
}

#[tokio::test]
async fn a_registration_names_every_callback_and_both_grants() {
    let world = world(&json!({ "client_id": "c", "client_secret": "s" }));
    let server = AuthServer {
        resource_scopes: Some(texts(&["a", "b"])),
        ..server()
    };
    let it = registered(&world, &server).await.unwrap();
    let expected = OAuthClient {
        id: "c".to_owned(),
        auth: ClientAuth::Basic,
        secret: Some(Secret::new("s")),
        declared: false,
    };
    assert_eq!((it.client, it.secret_expires_at), (expected, None));
    let posted = world.posted();
    assert_eq!(posted["application_type"], "web");
    assert_eq!(
        posted["grant_types"],
        json!(["authorization_code", "refresh_token"])
    );
    assert_eq!(posted["response_types"], json!(["code"]));
    assert_eq!(
        posted["redirect_uris"],
        json!([CALLBACK, format!("{CALLBACK}/first")])
    );
    assert_eq!(posted["scope"], "a b");
    assert_eq!(posted["token_endpoint_auth_method"], "client_secret_basic");
    assert!(posted["client_name"].is_string());
}

#[tokio::test]
async fn a_loopback_callback_over_http_is_a_native_application() {
    let world = world(&json!({ "client_id": "c" }));
    for (callback, kind) in [
        ("http://127.0.0.1:9/cb", "native"),
        ("http://localhost:9/cb", "native"),
        ("https://localhost:9/cb", "web"),
    ] {
        registration(&world, &connection(), &server(), &redirects(callback), None)
            .await
            .unwrap();
        assert_eq!(world.posted()["application_type"], kind);
    }
}

#[tokio::test]
async fn the_best_method_that_the_server_takes_is_asked_for() {
    let world = world(&json!({ "client_id": "c", "client_secret": "s" }));
    for (methods, asked) in [
        (
            vec!["none", "client_secret_basic", "client_secret_post"],
            "client_secret_post",
        ),
        (vec!["none", "client_secret_basic"], "client_secret_basic"),
        (vec!["none", "client_secret_post"], "client_secret_post"),
        (vec!["private_key_jwt", "none"], "none"),
        (vec!["client_secret_post"], "client_secret_post"),
    ] {
        registered(&world, &taking(&methods)).await.unwrap();
        assert_eq!(world.posted()["token_endpoint_auth_method"], asked);
    }
    let none = registered(&world, &taking(&["tls_client_auth"]))
        .await
        .unwrap_err();
    assert_eq!(none.kind, OAuthErrorKind::Client);
}

#[tokio::test]
async fn what_the_server_answers_counts_and_not_what_was_asked() {
    let answer = json!({
        "client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post",
        "client_secret_expires_at": 4_000_000_000_u64,
    });
    let it = registered(&world(&answer), &server()).await.unwrap();
    assert_eq!(it.client.auth, ClientAuth::Post);
    assert_eq!(it.secret_expires_at, Some(4_000_000_000));
    let answer = json!({
        "client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "none",
        "client_secret_expires_at": 0,
    });
    let it = registered(&world(&answer), &server()).await.unwrap();
    assert_eq!(
        (it.client.auth, it.client.secret, it.secret_expires_at),
        (ClientAuth::None, None, None)
    );
    let it = registered(&world(&json!({ "client_id": "c" })), &server())
        .await
        .unwrap();
    assert_eq!(
        it.client.auth,
        ClientAuth::None,
        "there is no secret to prove it with"
    );
}

#[tokio::test]
async fn a_refused_registration_is_the_operators_and_a_failing_one_nobodys() {
    let refusal = json!({ "error": "invalid_redirect_uri", "error_description": "not\nthis one." });
    let world = ScriptedWeb::default().says(REGISTER, 400, "application/json", &refusal.to_string());
    let trouble = registered(&world, &server()).await.unwrap_err();
    assert_eq!(trouble.kind, OAuthErrorKind::Client);
    assert_eq!(trouble.error.as_deref(), Some("invalid_redirect_uri"));
    assert_eq!(
        trouble.message,
        format!("the registration at `{REGISTER}` was refused: invalid_redirect_uri (not this one)")
    );
    let world = ScriptedWeb::default().says(REGISTER, 503, "text/html", "oh");
    assert_eq!(
        registered(&world, &server()).await.unwrap_err().kind,
        OAuthErrorKind::Transient
    );
    let nobody = AuthServer {
        registration_endpoint: None,
        ..server()
    };
    assert_eq!(
        registered(&ScriptedWeb::default(), &nobody)
            .await
            .unwrap_err()
            .kind,
        OAuthErrorKind::Client
    );
    let world = ScriptedWeb::default().says(REGISTER, 200, "text/html", "<html>");
    assert_eq!(
        registered(&world, &server()).await.unwrap_err().kind,
        OAuthErrorKind::Client
    );
}

#[test]
fn the_descriptors_client_comes_first() {
    let own = Connection {
        client_id: Some("own".to_owned()),
        client_secret: Some(Secret::new("s")),
        ..connection()
    };
    let auth = |server: &AuthServer| known_client(&own, server, &redirects(CALLBACK)).unwrap().auth;
    assert_eq!(auth(&server()), ClientAuth::Basic);
    assert_eq!(auth(&taking(&["client_secret_post", "none"])), ClientAuth::Post);
    assert_eq!(
        auth(&taking(&["none", "client_secret_basic", "client_secret_post"])),
        ClientAuth::Basic
    );
    // Servers of the Python SDK name it first, and take nothing else of a client that holds a secret.
    assert_eq!(
        auth(&taking(&["client_secret_post", "client_secret_basic"])),
        ClientAuth::Post
    );
    let it = known_client(&own, &server(), &redirects(CALLBACK)).unwrap();
    assert_eq!((it.id.as_str(), it.declared, it.secret), ("own", true, None));
    let public = Connection {
        client_id: Some("own".to_owned()),
        ..connection()
    };
    assert_eq!(
        known_client(&public, &server(), &redirects(CALLBACK))
            .unwrap()
            .auth,
        ClientAuth::None
    );
}

#[test]
fn a_document_is_for_servers_that_take_such() {
    let takes = AuthServer {
        metadata_documents: true,
        ..server()
    };
    let document = "https://gw.example/oauth/client-metadata.json".to_owned();
    let with = Redirects {
        document: Some(document.clone()),
        ..redirects(CALLBACK)
    };
    let it = known_client(&connection(), &takes, &with).unwrap();
    assert_eq!((it.id, it.auth, it.declared), (document, ClientAuth::None, false));
    assert_eq!(known_client(&connection(), &server(), &with), None);
    assert_eq!(known_client(&connection(), &takes, &redirects(CALLBACK)), None);
}

#[test]
fn the_descriptors_document_gives_way_to_registration_where_it_is_not_taken() {
    let own = Connection {
        client_id: Some("https://doc.example/client.json".to_owned()),
        token_auth: Some(ClientAuth::None),
        ..connection()
    };
    let takes = AuthServer {
        metadata_documents: true,
        ..server()
    };
    let known = |server: &AuthServer| known_client(&own, server, &redirects(CALLBACK)).map(|it| it.id);
    assert_eq!(known(&takes).as_deref(), Some("https://doc.example/client.json"));
    assert_eq!(known(&server()), None);
    let alone = AuthServer {
        registration_endpoint: None,
        ..server()
    };
    assert_eq!(known(&alone).as_deref(), Some("https://doc.example/client.json"));
}

#[test]
fn our_document_names_itself() {
    let url = "https://gw.example/oauth/client-metadata.json";
    let document = client_document(url, "Ours", &[CALLBACK.to_owned()]);
    assert_eq!(document["client_id"], url);
    assert_eq!(document["client_name"], "Ours");
    assert_eq!(document["redirect_uris"], json!([CALLBACK]));
    assert_eq!(document["token_endpoint_auth_method"], "none");
}

fn scopes_of(world: &ScriptedWeb) -> Vec<Option<String>> {
    let seen = world.seen.lock();
    let posted = seen
        .iter()
        .map(|it| serde_json::from_slice::<Value>(it.body()).unwrap());
    posted.map(|it| it["scope"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_registration_names_the_descriptors_scopes_else_the_advertised_ones() {
    let advertised = AuthServer {
        resource_scopes: Some(texts(&["read", "write"])),
        scopes: Some(texts(&["openid", "offline_access", "read"])),
        ..server()
    };
    let ours = texts(&["read"]);
    for (server, declared, expected) in [
        (&advertised, Some(ours.as_slice()), Some("read")),
        (&advertised, None, Some("read write offline_access openid")),
        (&advertised, Some(&[][..]), None),
        (&server(), None, None),
        (&server(), Some(ours.as_slice()), Some("read")),
    ] {
        let world = world(&json!({ "client_id": "c" }));
        let redirects = redirects(CALLBACK);
        let it = registration(&world, &connection(), server, &redirects, declared).await;
        assert!(it.is_ok());
        assert_eq!(scopes_of(&world), [expected.map(str::to_owned)]);
    }
}

#[tokio::test]
async fn a_registration_that_is_refused_with_scopes_is_tried_once_without() {
    let scoped = AuthServer {
        resource_scopes: Some(texts(&["read"])),
        ..server()
    };
    let refusal = json!({ "error": "invalid_client_metadata" }).to_string();
    for status in [400, 403, 200] {
        let world = world(&json!({ "client_id": "c" })).once(REGISTER, status, &refusal);
        assert!(registered(&world, &scoped).await.is_ok(), "{status}");
        assert_eq!(scopes_of(&world), [Some("read".to_owned()), None], "{status}");
    }
    for (status, server, times) in [
        (403, &scoped, 2),
        (403, &server(), 1),
        (401, &scoped, 1),
        (503, &scoped, 1),
    ] {
        let world = ScriptedWeb::default().says(REGISTER, status, "application/json", &refusal);
        assert!(registered(&world, server).await.is_err());
        assert_eq!(world.fetched().len(), times, "{status}");
    }
}

#[tokio::test]
async fn a_server_without_metadata_is_reported_as_such() {
    let guessed = discover(&ScriptedWeb::default(), &connection(), None)
        .await
        .unwrap();
    let redirects = redirects(CALLBACK);
    let trouble = registration(&ScriptedWeb::default(), &connection(), &guessed, &redirects, None)
        .await
        .unwrap_err();
    for part in [
        "no OAuth metadata",
        "answered 404",
        "https://mcp.example/register",
    ] {
        assert!(trouble.message.contains(part), "{trouble}");
    }
    assert!(trouble.cure.unwrap().contains("`api_key`"));
}

#[tokio::test]
async fn a_server_that_registers_nobody_says_which_redirect_uri_to_register() {
    let nobody = AuthServer {
        registration_endpoint: None,
        ..server()
    };
    let trouble = registered(&ScriptedWeb::default(), &nobody).await.unwrap_err();
    assert!(trouble.message.contains("`registration_endpoint`") && trouble.message.contains(ISSUER));
    assert!(trouble.cure.unwrap().contains(&format!("`{CALLBACK}`")));
}

#[tokio::test]
async fn whether_a_client_is_known_is_asked_with_a_code_that_cannot_exist() {
    let asked = |world: ScriptedWeb| async move {
        check_client(
            &world,
            &connection(),
            &source(client(ClientAuth::None, None)),
            CALLBACK,
        )
        .await
    };
    let says = |error: &str| json!({ "error": error }).to_string();
    let always = |error: &str| ScriptedWeb::default().says(TOKEN, 400, "application/json", &says(error));
    for gone in [
        "invalid_client",
        "unauthorized_client",
        "INVALID_CLIENT",
        "unknown_client",
    ] {
        assert_eq!(asked(always(gone)).await, ClientCheck::No, "{gone}");
    }
    // A server that looks at the code alone says the same of a client that cannot exist.
    assert_eq!(asked(always("invalid_grant")).await, ClientCheck::Unclear);
    let looks = always("invalid_client").once(TOKEN, 400, &says("invalid_grant"));
    assert_eq!(asked(looks).await, ClientCheck::Yes);
    assert_eq!(
        asked(ScriptedWeb::default().says(TOKEN, 503, "text/html", "oh")).await,
        ClientCheck::Unclear
    );
    assert_eq!(
        asked(ScriptedWeb::default().down("as.example", false)).await,
        ClientCheck::Unclear
    );
}
