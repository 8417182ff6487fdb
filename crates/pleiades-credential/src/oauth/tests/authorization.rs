use super::*;

const CALLBACK: &str = "https://gw.example/oauth/callback";

fn query(authorization: &Authorization) -> Vec<(String, String)> {
    authorization.url.query_pairs().into_owned().collect()
}

fn one(authorization: &Authorization, name: &str) -> Option<String> {
    let all: Vec<_> = query(authorization)
        .into_iter()
        .filter(|(key, _)| key == name)
        .collect();
    assert!(all.len() <= 1, "{name} stands there more than once");
    all.into_iter().next().map(|(_, value)| value)
}

fn asked(connection: &Connection, server: &AuthServer, wanted: &[&str]) -> Authorization {
    let client = client(ClientAuth::None, None);
    authorize(connection, server, &client, CALLBACK, &texts(wanted)).unwrap()
}

#[test]
fn the_request_carries_what_the_specification_asks_for() {
    let it = asked(&connection(), &server(), &["read", "write"]);
    let get = |name| one(&it, name);
    assert!(it.url.as_str().starts_with("https://as.example/authorize?"));
    assert_eq!(get("response_type").as_deref(), Some("code"));
    assert_eq!(get("client_id").as_deref(), Some("an id"));
    assert_eq!(get("redirect_uri").as_deref(), Some(CALLBACK));
    assert_eq!(get("scope").as_deref(), Some("read write"));
    assert_eq!(get("resource").as_deref(), Some(UPSTREAM));
    assert_eq!(get("state").as_deref(), Some(it.state.expose()));
    assert_eq!(it.state.expose().len(), 43, "256 bits");
    assert_eq!(get("code_challenge_method").as_deref(), Some("S256"));
    let verifier = it.verifier.as_ref().unwrap().expose();
    let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
    let challenge = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest);
    assert_eq!(get("code_challenge"), Some(challenge));
    assert_eq!(it.nonce, None);
}

#[test]
fn without_scopes_there_is_no_scope() {
    assert_eq!(one(&asked(&connection(), &server(), &[]), "scope"), None);
}

#[test]
fn the_resource_is_verbatim_what_it_calls_itself() {
    let server = AuthServer {
        resource: Some("https://MCP.example/team/mcp/".to_owned()),
        ..server()
    };
    let it = asked(&connection(), &server, &[]);
    assert_eq!(
        one(&it, "resource").as_deref(),
        Some("https://MCP.example/team/mcp/")
    );
}

#[test]
fn the_resource_can_be_set_or_left_out_and_has_no_idle_slash() {
    let of = |resource| {
        resource_of(&Connection {
            resource,
            ..connection()
        })
    };
    assert_eq!(of(ResourceParameter::Off), None);
    assert_eq!(
        of(ResourceParameter::Url("urn:x".to_owned())).as_deref(),
        Some("urn:x")
    );
    let bare = Connection {
        upstream: Url::parse("https://mcp.example/").unwrap(),
        ..connection()
    };
    assert_eq!(resource_of(&bare).as_deref(), Some("https://mcp.example"));
}

fn resource_of(connection: &Connection) -> Option<String> {
    super::super::authorize::resource(connection, &server())
}

#[test]
fn parameters_of_the_descriptor_are_added_and_override_nothing_of_ours() {
    let mut connection = connection();
    for (name, value) in [
        ("access_type", "offline"),
        ("state", "theirs"),
        ("client_id", "theirs"),
        ("resource", "theirs"),
    ] {
        connection.parameters.insert(name.to_owned(), value.to_owned());
    }
    connection.audience = Some("https://api.example".to_owned());
    let server = AuthServer {
        authorization_endpoint: "https://as.example/authorize?tenant=a&state=theirs&access_type=x#part"
            .to_owned(),
        ..server()
    };
    let it = asked(&connection, &server, &[]);
    assert_eq!(one(&it, "access_type").as_deref(), Some("offline"));
    assert_eq!(one(&it, "tenant").as_deref(), Some("a"));
    assert_eq!(one(&it, "audience").as_deref(), Some("https://api.example"));
    assert_eq!(one(&it, "state").as_deref(), Some(it.state.expose()));
    assert_eq!(one(&it, "client_id").as_deref(), Some("an id"));
    assert_eq!(one(&it, "resource").as_deref(), Some(UPSTREAM));
    assert_eq!(it.url.fragment(), None);
}

#[test]
fn openid_gets_a_nonce_and_offline_access_a_consent() {
    let it = asked(&connection(), &server(), &["openid", "offline_access"]);
    assert_eq!(one(&it, "nonce"), it.nonce);
    assert!(it.nonce.is_some());
    assert_eq!(one(&it, "prompt").as_deref(), Some("consent"));
    let mut own = connection();
    own.parameters.insert("prompt".to_owned(), "login".to_owned());
    let it = asked(&own, &server(), &["offline_access"]);
    assert_eq!(one(&it, "prompt").as_deref(), Some("login"));
}

#[test]
fn a_server_that_does_not_name_s256_is_refused_unless_the_descriptor_says_otherwise() {
    for methods in [None, Some(vec![]), Some(vec!["plain".to_owned()])] {
        let server = AuthServer {
            challenge_methods: methods,
            ..server()
        };
        let client = client(ClientAuth::None, None);
        let trouble = authorize(&connection(), &server, &client, CALLBACK, &[]).unwrap_err();
        assert_eq!(trouble.kind, OAuthErrorKind::Metadata);
        assert!(trouble.message.contains(ISSUER), "{trouble}");
        assert!(trouble.cure.unwrap().contains("`pkce: s256`"));
        let declared = Connection {
            pkce: Pkce::S256,
            ..connection()
        };
        let it = authorize(&declared, &server, &client, CALLBACK, &[]).unwrap();
        assert!(it.verifier.is_some() && it.url.as_str().contains("code_challenge_method=S256"));
        let off = Connection {
            pkce: Pkce::Off,
            ..connection()
        };
        let it = authorize(&off, &server, &client, CALLBACK, &[]).unwrap();
        assert_eq!(
            (it.verifier, it.url.as_str().contains("code_challenge")),
            (None, false)
        );
    }
}

#[test]
fn nobody_is_sent_to_what_is_no_https_url_but_on_loopback() {
    let to = |endpoint: &str| {
        let server = AuthServer {
            authorization_endpoint: endpoint.to_owned(),
            ..server()
        };
        authorize(
            &connection(),
            &server,
            &client(ClientAuth::None, None),
            CALLBACK,
            &[],
        )
    };
    for bad in [
        "",
        "javascript:alert(1)",
        "http://as.example/authorize",
        "data:text/html,x",
        "https://user:pass@as.example/authorize",
    ] {
        assert_eq!(to(bad).unwrap_err().kind, OAuthErrorKind::Metadata, "{bad}");
    }
    for good in ["http://localhost:9/a", "http://127.0.0.1:9/a", "http://[::1]:9/a"] {
        assert!(to(good).is_ok(), "{good}");
    }
}

#[test]
fn scopes_come_from_the_descriptor_else_the_challenge_else_the_resource() {
    let challenge = Challenge {
        scopes: Some(texts(&["challenged"])),
        ..Challenge::default()
    };
    let server = AuthServer {
        resource_scopes: Some(texts(&["a", "b"])),
        ..server()
    };
    let declared = texts(&["own"]);
    assert_eq!(
        scopes(Some(&declared), Some(&challenge), &server, &[], &[]),
        ["own"]
    );
    assert_eq!(scopes(None, Some(&challenge), &server, &[], &[]), ["challenged"]);
    assert_eq!(
        scopes(None, Some(&Challenge::default()), &server, &[], &[]),
        ["a", "b"]
    );
    assert!(scopes(None, None, &self::server(), &[], &[]).is_empty());
}

#[test]
fn what_was_asked_before_is_asked_again_beside_what_is_wanted() {
    let declared = texts(&["read"]);
    let all = scopes(
        Some(&declared),
        None,
        &server(),
        &texts(&["write", "read"]),
        &texts(&["old"]),
    );
    assert_eq!(all, ["read", "old", "write"]);
}

#[test]
fn offline_access_is_added_only_where_it_is_listed_undecided_and_not_alone() {
    let listing = AuthServer {
        scopes: Some(texts(&["offline_access"])),
        resource_scopes: Some(texts(&["a"])),
        ..server()
    };
    assert_eq!(scopes(None, None, &listing, &[], &[]), ["a", "offline_access"]);
    let declared = texts(&["a"]);
    assert_eq!(scopes(Some(&declared), None, &listing, &[], &[]), ["a"]);
    let silent = AuthServer {
        resource_scopes: None,
        ..listing.clone()
    };
    assert!(scopes(None, None, &silent, &[], &[]).is_empty());
    let unlisted = AuthServer {
        scopes: None,
        ..listing
    };
    assert_eq!(scopes(None, None, &unlisted, &[], &[]), ["a"]);
}

#[cfg(not(feature = "unchecked-iss"))]
#[test]
fn the_issuer_of_an_answer_is_compared_by_the_table() {
    let other = "https://as.example/";
    for (promised, given, good) in [
        (true, Some(ISSUER), true),
        (true, None, false),
        (true, Some(other), false),
        (false, Some(ISSUER), true),
        (false, Some(other), false),
        (false, Some(""), false),
        (false, None, true),
    ] {
        let checked = check_iss(Some(ISSUER), promised, given);
        assert_eq!(checked.is_ok(), good, "{promised} {given:?}");
    }
    assert!(
        check_iss(None, false, Some(other)).is_ok(),
        "there is nothing to compare with"
    );
    assert!(check_iss(None, true, None).is_err());
}
