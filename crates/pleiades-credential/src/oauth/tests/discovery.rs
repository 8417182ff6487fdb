use super::*;

const AT_PATH: &str = "https://mcp.example/.well-known/oauth-protected-resource/team/mcp";
const AT_ROOT: &str = "https://mcp.example/.well-known/oauth-protected-resource";
const RFC: &str = "https://as.example/.well-known/oauth-authorization-server";
const OPENID: &str = "https://as.example/.well-known/openid-configuration";

fn resource(servers: &[&str]) -> Value {
    json!({ "resource": UPSTREAM, "authorization_servers": servers, "scopes_supported": ["read", "write"] })
}

async fn found(world: &ScriptedWeb) -> Result<AuthServer, OAuthError> {
    discover(world, &connection(), None).await
}

fn kind(result: Result<AuthServer, OAuthError>) -> OAuthErrorKind {
    result.unwrap_err().kind
}

#[tokio::test]
async fn the_path_form_is_asked_first_and_then_the_root_is_left_alone() {
    let world = ScriptedWeb::default()
        .json(AT_PATH, &resource(&[ISSUER]))
        .json(AT_ROOT, &resource(&["https://other.example"]))
        .json(RFC, &metadata(ISSUER));
    let server = found(&world).await.unwrap();
    assert_eq!(world.fetched(), [AT_PATH, RFC]);
    assert_eq!(server.issuer.as_deref(), Some(ISSUER));
    assert_eq!(server.resource.as_deref(), Some(UPSTREAM));
    assert_eq!(server.resource_scopes, Some(texts(&["read", "write"])));
}

#[tokio::test]
async fn the_challenge_says_where_and_nothing_else_is_asked() {
    let place = "https://elsewhere.example/prm.json";
    let world = ScriptedWeb::default()
        .json(place, &resource(&[ISSUER]))
        .json(RFC, &metadata(ISSUER));
    let challenge = challenge(401, Some(&format!("Bearer resource_metadata=\"{place}\"")));
    discover(&world, &connection(), Some(&challenge)).await.unwrap();
    assert_eq!(world.fetched(), [place, RFC]);
}

#[tokio::test]
async fn a_challenge_that_names_nothing_usable_falls_back_to_the_well_known_places() {
    let world = ScriptedWeb::default()
        .json(AT_PATH, &resource(&[ISSUER]))
        .json(RFC, &metadata(ISSUER));
    for place in [
        "http://mcp.example/prm",
        "file:///etc/passwd",
        "nonsense",
        "https://u:p@mcp.example/",
    ] {
        let challenge = challenge(401, Some(&format!("Bearer resource_metadata=\"{place}\"")));
        discover(&world, &connection(), Some(&challenge)).await.unwrap();
    }
    assert_eq!(world.fetched(), [AT_PATH, RFC].repeat(4));
}

#[tokio::test]
async fn the_root_is_asked_when_nothing_is_at_the_path() {
    let world = ScriptedWeb::default()
        .says(AT_PATH, 200, "text/html", "<html>the app</html>")
        .json(
            AT_ROOT,
            &json!({ "resource": "https://mcp.example", "authorization_servers": [ISSUER] }),
        )
        .json(RFC, &metadata(ISSUER));
    let server = found(&world).await.unwrap();
    assert_eq!(world.fetched(), [AT_PATH, AT_ROOT, RFC]);
    assert_eq!(server.resource.as_deref(), Some("https://mcp.example"));
}

#[tokio::test]
async fn another_resource_is_refused_before_any_server_is_asked() {
    for other in [
        "https://evil.example/team/mcp",
        "https://mcp.example/team/mc",
        "https://mcp.example/team/mcp/more",
        "https://mcp.example/other",
        "http://mcp.example/team/mcp",
        "https://mcp.example:8443/team/mcp",
        "https://mcp.example/team/mcp#part",
        "nonsense",
    ] {
        let world = ScriptedWeb::default()
            .json(
                AT_PATH,
                &json!({ "resource": other, "authorization_servers": [ISSUER] }),
            )
            .json(RFC, &metadata(ISSUER));
        assert_eq!(kind(found(&world).await), OAuthErrorKind::Metadata, "{other}");
        assert_eq!(world.fetched(), [AT_PATH], "{other}");
    }
}

#[tokio::test]
async fn a_resource_may_be_the_endpoint_or_what_it_is_part_of() {
    for same in [
        "https://MCP.example/team/mcp",
        "https://mcp.example/team/mcp/",
        "https://mcp.example/team",
        "https://mcp.example/",
        "https://mcp.example:443",
    ] {
        let world = ScriptedWeb::default()
            .json(
                AT_PATH,
                &json!({ "resource": same, "authorization_servers": [ISSUER] }),
            )
            .json(RFC, &metadata(ISSUER));
        assert_eq!(found(&world).await.unwrap().resource.as_deref(), Some(same));
    }
}

#[tokio::test]
async fn an_issuer_with_a_path_is_looked_for_in_three_places_in_order() {
    let issuer = "https://as.example/tenant1";
    let three = [
        "https://as.example/.well-known/oauth-authorization-server/tenant1",
        "https://as.example/.well-known/openid-configuration/tenant1",
        "https://as.example/tenant1/.well-known/openid-configuration",
    ];
    for last in 1..=3 {
        let world = ScriptedWeb::default()
            .json(AT_PATH, &resource(&[issuer]))
            .json(three[last - 1], &metadata(issuer));
        found(&world).await.unwrap();
        assert_eq!(world.fetched()[1..], three[..last]);
    }
}

#[tokio::test]
async fn an_issuer_without_a_path_is_looked_for_in_two() {
    let world = ScriptedWeb::default()
        .json(AT_PATH, &resource(&[ISSUER]))
        .json(OPENID, &metadata(ISSUER));
    found(&world).await.unwrap();
    assert_eq!(world.fetched(), [AT_PATH, RFC, OPENID]);
}

#[tokio::test]
async fn a_document_of_another_issuer_is_discarded_but_for_the_slash_behind_an_empty_path() {
    for (used, stated) in [
        (ISSUER, "https://AS.example"),
        (ISSUER, "https://evil.example"),
        (ISSUER, "http://as.example"),
        (ISSUER, "https://as.example:8443/"),
        (ISSUER, "https://as.example//"),
        (ISSUER, "https://as.example/?x"),
        ("https://as.example/app", "https://as.example/app/"),
        ("https://as.example/app/", "https://as.example/app"),
        ("https://as.example/app", ISSUER),
    ] {
        let mut document = metadata(ISSUER);
        document["issuer"] = json!(stated);
        let path = used.trim_start_matches(ISSUER).trim_end_matches('/');
        let world = ScriptedWeb::default()
            .json(AT_PATH, &resource(&[used]))
            .json(&format!("{RFC}{path}"), &document);
        let trouble = found(&world).await.unwrap_err();
        assert_eq!(trouble.kind, OAuthErrorKind::Metadata, "{used} {stated}");
        let text = trouble.to_string();
        assert!(
            text.contains(&format!("`{used}`")) && text.contains(&format!("`{stated}`")),
            "{text}"
        );
        assert!(trouble.cure.unwrap().contains("`issuer`"));
    }
    let slashed = "https://as.example/";
    for (used, stated) in [(ISSUER, slashed), (slashed, ISSUER), (slashed, slashed)] {
        let mut document = metadata(ISSUER);
        document["issuer"] = json!(stated);
        let world = ScriptedWeb::default()
            .json(AT_PATH, &resource(&[used]))
            .json(RFC, &document);
        // What the server calls itself: the `iss` of its answers is compared with that.
        assert_eq!(
            found(&world).await.unwrap().issuer.as_deref(),
            Some(stated),
            "{used}"
        );
    }
}

#[tokio::test]
async fn the_first_usable_server_is_taken() {
    let world = ScriptedWeb::default()
        .json(
            AT_PATH,
            &resource(&["http://plain.example", "https://bare.example", ISSUER]),
        )
        .json(RFC, &metadata(ISSUER));
    assert_eq!(found(&world).await.unwrap().issuer.as_deref(), Some(ISSUER));
}

#[tokio::test]
async fn a_place_that_fails_is_passed_over_and_transient_only_when_none_has_a_document() {
    for status in [500, 501, 502, 503, 504, 429, 408] {
        let failing = || {
            ScriptedWeb::default()
                .json(AT_PATH, &resource(&[ISSUER]))
                .says(RFC, status, "text/html", "oh")
        };
        let world = failing().json(OPENID, &metadata(ISSUER));
        assert!(found(&world).await.is_ok(), "{status}");
        let world = failing();
        let trouble = found(&world).await.unwrap_err();
        assert_eq!(trouble.kind, OAuthErrorKind::Transient, "{status}");
        assert!(trouble.message.contains(RFC), "{trouble}");
        assert_eq!(trouble.retry_after.is_some(), status == 429);
        assert_eq!(world.fetched(), [AT_PATH, RFC, OPENID]);
        // A document that is there and wrong says more than a place that fails.
        let mut other = metadata(ISSUER);
        other["issuer"] = json!("https://other.example");
        let world = failing().json(OPENID, &other);
        assert_eq!(kind(found(&world).await), OAuthErrorKind::Metadata, "{status}");
    }
    let world = ScriptedWeb::default().down("mcp.example", false);
    assert_eq!(kind(found(&world).await), OAuthErrorKind::Transient);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_never_answers_is_passed_over_too() {
    let world = ScriptedWeb::default()
        .json(AT_PATH, &resource(&[ISSUER]))
        .hanging(RFC)
        .json(OPENID, &metadata(ISSUER));
    assert!(found(&world).await.is_ok());
}

#[tokio::test]
async fn a_resource_document_that_is_missing_is_asked_for_at_the_next_place() {
    for status in [500, 501, 502] {
        let world = ScriptedWeb::default()
            .says(AT_PATH, status, "text/html", "oh")
            .json(AT_ROOT, &resource(&[ISSUER]))
            .json(RFC, &metadata(ISSUER));
        assert!(found(&world).await.is_ok(), "{status}");
        assert_eq!(world.fetched(), [AT_PATH, AT_PATH, AT_ROOT, RFC], "{status}");
        let origin = "https://mcp.example/.well-known/oauth-authorization-server";
        let world = ScriptedWeb::default()
            .says(AT_PATH, status, "text/html", "oh")
            .json(origin, &metadata("https://mcp.example"));
        assert!(found(&world).await.is_ok(), "{status}");
        // Nothing is guessed while it may be there.
        let world = ScriptedWeb::default().says(AT_PATH, status, "text/html", "oh");
        assert_eq!(kind(found(&world).await), OAuthErrorKind::Transient, "{status}");
    }
}

#[tokio::test]
async fn a_resource_that_is_overloaded_is_asked_twice_and_sends_nobody_to_a_lesser_document() {
    for status in [503, 504, 429] {
        let world = ScriptedWeb::default()
            .says(AT_PATH, status, "text/html", "oh")
            .json(AT_ROOT, &resource(&["https://lesser.example"]));
        assert_eq!(kind(found(&world).await), OAuthErrorKind::Transient, "{status}");
        assert!(world.fetched().iter().all(|url| url == AT_PATH), "{status}");
    }
    let world = ScriptedWeb::default()
        .once(AT_PATH, 503, "oh")
        .json(AT_PATH, &resource(&[ISSUER]))
        .json(RFC, &metadata(ISSUER));
    assert!(found(&world).await.is_ok());
}

#[tokio::test]
async fn a_document_behind_a_byte_order_mark_is_read() {
    let marked = format!("\u{feff}{}", metadata(ISSUER));
    let world = ScriptedWeb::default()
        .says(
            AT_PATH,
            200,
            "application/json",
            &format!("\u{feff}{}", resource(&[ISSUER])),
        )
        .says(RFC, 200, "application/json", &marked);
    assert_eq!(found(&world).await.unwrap().issuer.as_deref(), Some(ISSUER));
}

#[tokio::test]
async fn what_was_there_instead_of_a_document_is_named() {
    let nothing = || {
        ScriptedWeb::default()
            .json(AT_PATH, &resource(&[ISSUER]))
            .says(RFC, 307, "text/html", "")
            .header_of(RFC, "location", "https://as.example/elsewhere")
            .says(OPENID, 200, "text/html", "<html>")
    };
    let trouble = found(&nothing()).await.unwrap_err();
    for part in [
        ISSUER,
        RFC,
        "redirects (307)",
        "https://as.example/elsewhere",
        OPENID,
        "no JSON object",
    ] {
        assert!(trouble.message.contains(part), "{part}: {trouble}");
    }
    assert!(trouble.message.contains("has moved"), "{trouble}");
    assert!(trouble.cure.unwrap().contains("`authorization_server_metadata`"));
    let bare = ScriptedWeb::default().json(AT_PATH, &resource(&[ISSUER]));
    let trouble = found(&bare).await.unwrap_err();
    assert!(trouble.message.contains("publishes no metadata"), "{trouble}");
    assert!(trouble.cure.unwrap().contains("`token_endpoint` and `client_id`"));
    let world = ScriptedWeb::default()
        .says(AT_PATH, 301, "text/html", "")
        .header_of(AT_PATH, "location", "https://mcp.example/docs");
    let challenge = Challenge {
        resource_metadata: Some(AT_PATH.to_owned()),
        ..Challenge::default()
    };
    let guessed = discover(&world, &connection(), Some(&challenge)).await.unwrap();
    let guessed = guessed.unpublished.unwrap();
    let stated = guessed.describe();
    assert!(stated.starts_with("its OAuth metadata has moved: "), "{stated}");
    let target = "redirects (301) to `https://mcp.example/docs`";
    assert_eq!(stated.matches(target).count(), 1, "{stated}");
    let nothing = found(&ScriptedWeb::default()).await.unwrap().unpublished.unwrap();
    assert!(!nothing.has_moved() && nothing.describe().starts_with("it publishes no OAuth metadata: "));
    let world = ScriptedWeb::default()
        .json(AT_PATH, &json!({}))
        .json(AT_ROOT, &resource(&[ISSUER]))
        .json(RFC, &json!({}))
        .json(OPENID, &metadata(ISSUER));
    assert!(found(&world).await.is_ok(), "an empty object is no document");
}

#[tokio::test]
async fn another_resource_is_named_beside_the_endpoint_and_the_operator_may_vouch_for_it() {
    let other = "http://mcp.example/team/mcp";
    let world = || {
        ScriptedWeb::default()
            .json(
                AT_PATH,
                &json!({ "resource": other, "authorization_servers": [ISSUER] }),
            )
            .json(RFC, &metadata(ISSUER))
    };
    let trouble = found(&world()).await.unwrap_err();
    for part in [other, UPSTREAM, AT_PATH] {
        assert!(trouble.message.contains(&format!("`{part}`")), "{trouble}");
    }
    assert!(trouble.cure.unwrap().contains("`resource`"));
    let vouched = Connection {
        resource: ResourceParameter::Url(other.to_owned()),
        ..connection()
    };
    let server = discover(&world(), &vouched, None).await.unwrap();
    assert_eq!(server.resource.as_deref(), Some(other));
}

#[tokio::test]
async fn what_is_found_of_the_descriptors_issuer_is_taken_for_it() {
    let declared = |issuer: &str| Connection {
        issuer: Some(issuer.to_owned()),
        ..connection()
    };
    let issuer = "https://login.example/common/v2.0";
    let mut template = metadata(ISSUER);
    template["issuer"] = json!("https://login.example/{tenantid}/v2.0");
    let place = "https://login.example/common/v2.0/.well-known/openid-configuration";
    let world = || {
        ScriptedWeb::default()
            .json(AT_PATH, &resource(&[issuer]))
            .json(place, &template)
    };
    let trouble = found(&world()).await.unwrap_err();
    assert!(
        trouble.cure.unwrap().contains("of your own tenant"),
        "{}",
        trouble.message
    );
    let server = discover(&world(), &declared(issuer), None).await.unwrap();
    assert_eq!(server.issuer.as_deref(), Some(issuer));
    // The issuer that a document names, and the document where the resource says.
    let elsewhere = ScriptedWeb::default()
        .json(AT_PATH, &resource(&["https://as.example/app"]))
        .json(&format!("{RFC}/app"), &metadata(ISSUER));
    assert_eq!(kind(found(&elsewhere).await), OAuthErrorKind::Metadata);
    let server = discover(&elsewhere, &declared(ISSUER), None).await.unwrap();
    assert_eq!(server.issuer.as_deref(), Some(ISSUER));
    let other = discover(&elsewhere, &declared("https://third.example"), None).await;
    assert_eq!(kind(other), OAuthErrorKind::Metadata, "nobody named that one");
    // The upstream's own origin serves the metadata of an issuer on another host.
    let origin = "https://mcp.example/.well-known/oauth-authorization-server";
    let proxied = ScriptedWeb::default().json(origin, &metadata(ISSUER));
    let trouble = found(&proxied).await.unwrap_err();
    assert!(trouble.message.contains(&format!("`{ISSUER}`")), "{trouble}");
    assert!(discover(&proxied, &declared(ISSUER), None).await.is_ok());
}

#[tokio::test]
async fn the_document_that_the_descriptor_names_is_taken_as_it_stands() {
    let place = "https://docs.example/as.json";
    let named = Connection {
        metadata: Some(Url::parse(place).unwrap()),
        ..connection()
    };
    let world = ScriptedWeb::default()
        .json(place, &metadata(ISSUER))
        .json(AT_PATH, &resource(&["https://other.example"]));
    let server = discover(&world, &named, None).await.unwrap();
    assert_eq!(server.issuer.as_deref(), Some(ISSUER));
    assert_eq!(server.resource.as_deref(), Some(UPSTREAM));
    assert!(server.registration_endpoint.is_some());
    assert!(!world.fetched().iter().any(|url| url.contains("other.example")));
    let nothing = discover(&ScriptedWeb::default(), &named, None).await.unwrap_err();
    assert_eq!(nothing.kind, OAuthErrorKind::Metadata);
    assert!(nothing.message.contains(place), "{nothing}");
    let failing = ScriptedWeb::default().says(place, 503, "text/html", "oh");
    assert_eq!(
        kind(discover(&failing, &named, None).await),
        OAuthErrorKind::Transient
    );
}

#[tokio::test]
async fn allow_private_is_for_the_upstream_and_what_the_descriptor_names() {
    let private = Connection {
        reach: AddressPolicy {
            private: true,
            loopback: true,
            ..AddressPolicy::default()
        },
        ..connection()
    };
    let world = ScriptedWeb::default()
        .json(AT_PATH, &resource(&[ISSUER]))
        .json(RFC, &metadata(ISSUER));
    let server = discover(&world, &private, None).await.unwrap();
    registration(
        &world,
        &private,
        &server,
        &redirects("https://gw.example/cb"),
        None,
    )
    .await
    .ok();
    let reach_of = |url: &str| {
        let reaches = world.reaches.lock();
        let found = reaches.iter().find(|(it, _)| it == url).unwrap();
        (found.1.private, found.1.loopback)
    };
    assert_eq!(reach_of(AT_PATH), (true, true));
    assert_eq!(reach_of(RFC), (false, false), "the resource named it");
    assert_eq!(reach_of("https://as.example/register"), (false, false));
    let text = Connection {
        issuer: Some(ISSUER.to_owned()),
        ..private
    };
    let world = ScriptedWeb::default().json(RFC, &metadata(ISSUER));
    discover(&world, &text, None).await.unwrap();
    let reaches = world.reaches.lock();
    assert!(reaches.iter().find(|(it, _)| it == RFC).unwrap().1.private);
}

#[tokio::test]
async fn without_a_resource_document_the_origin_is_asked() {
    let rfc = "https://mcp.example/.well-known/oauth-authorization-server";
    let mut document = metadata("https://mcp.example");
    document["token_endpoint"] = json!("https://elsewhere.example/token");
    let world = ScriptedWeb::default().json(rfc, &document);
    let server = found(&world).await.unwrap();
    assert_eq!(world.fetched(), [AT_PATH, AT_ROOT, rfc]);
    assert_eq!(server.token_endpoint, "https://elsewhere.example/token");
    assert_eq!(server.resource, None);
}

#[tokio::test]
async fn without_any_document_the_fixed_paths_of_the_origin_are_used() {
    let world = ScriptedWeb::default();
    let server = found(&world).await.unwrap();
    assert_eq!(
        world.fetched(),
        [
            AT_PATH,
            AT_ROOT,
            "https://mcp.example/.well-known/oauth-authorization-server",
            "https://mcp.example/.well-known/openid-configuration",
        ]
    );
    assert_eq!(server.authorization_endpoint, "https://mcp.example/authorize");
    assert_eq!(server.token_endpoint, "https://mcp.example/token");
    assert_eq!(
        server.registration_endpoint.as_deref(),
        Some("https://mcp.example/register")
    );
    let used = client(ClientAuth::None, None);
    let authorization = authorize(&connection(), &server, &used, "https://gw.example/cb", &[]).unwrap();
    assert!(authorization.verifier.is_some());
}

#[tokio::test]
async fn a_named_server_without_metadata_is_no_reason_to_guess() {
    let world = ScriptedWeb::default().json(AT_PATH, &resource(&[ISSUER]));
    assert_eq!(kind(found(&world).await), OAuthErrorKind::Metadata);
    assert_eq!(world.fetched(), [AT_PATH, RFC, OPENID]);
}

#[tokio::test]
async fn endpoints_of_the_descriptor_need_no_look_at_anything() {
    let world = ScriptedWeb::default();
    let connection = Connection {
        authorization_endpoint: Some(Url::parse("https://login.example/authorize").unwrap()),
        token_endpoint: Some(Url::parse("https://login.example/token").unwrap()),
        ..connection()
    };
    let server = discover(&world, &connection, None).await.unwrap();
    assert!(world.fetched().is_empty());
    assert_eq!(server.issuer, None);
    let used = client(ClientAuth::None, None);
    assert!(authorize(&connection, &server, &used, "https://gw.example/cb", &[]).is_ok());
}

#[tokio::test]
async fn client_credentials_need_no_authorization_endpoint() {
    let connection = Connection {
        grant: GrantType::ClientCredentials,
        token_endpoint: Some(Url::parse(TOKEN).unwrap()),
        ..connection()
    };
    let world = ScriptedWeb::default();
    let server = discover(&world, &connection, None).await.unwrap();
    assert_eq!(
        (server.token_endpoint.as_str(), world.fetched().len()),
        (TOKEN, 0)
    );
}

#[tokio::test]
async fn the_issuer_of_the_descriptor_is_asked_before_any_that_is_named() {
    let connection = Connection {
        issuer: Some(ISSUER.to_owned()),
        ..connection()
    };
    let elsewhere = ScriptedWeb::default()
        .json(AT_PATH, &resource(&["https://other.example"]))
        .json(RFC, &metadata(ISSUER));
    let server = discover(&elsewhere, &connection, None).await.unwrap();
    assert_eq!(elsewhere.fetched(), [AT_PATH, RFC]);
    assert_eq!(
        (server.issuer.as_deref(), server.resource.as_deref()),
        (Some(ISSUER), Some(UPSTREAM))
    );
    let silent = ScriptedWeb::default()
        .down("mcp.example", false)
        .json(RFC, &metadata(ISSUER));
    assert!(discover(&silent, &connection, None).await.is_ok());
    let nothing = ScriptedWeb::default();
    assert_eq!(
        kind(discover(&nothing, &connection, None).await),
        OAuthErrorKind::Metadata
    );
}

#[tokio::test]
async fn a_public_provider_sends_nobody_to_loopback() {
    let home = "http://127.0.0.1:9/prm";
    let world = ScriptedWeb::default();
    let challenged = challenge(401, Some(&format!("Bearer resource_metadata=\"{home}\"")));
    discover(&world, &connection(), Some(&challenged)).await.unwrap();
    let reaches = world.reaches.lock();
    let loopback = |url: &str| reaches.iter().find(|(it, _)| it == url).unwrap().1.loopback;
    assert!(!loopback(home));
    assert!(loopback(AT_PATH), "the operator named it, wherever it is");
}

#[tokio::test]
async fn a_provider_at_home_may_have_its_server_at_home() {
    let connection = Connection {
        upstream: Url::parse("http://localhost:7/mcp").unwrap(),
        ..connection()
    };
    let place = "http://localhost:7/.well-known/oauth-protected-resource/mcp";
    let issuer = "http://127.0.0.1:9";
    let world = ScriptedWeb::default()
        .json(
            place,
            &json!({ "resource": "http://localhost:7/mcp", "authorization_servers": [issuer] }),
        )
        .json(
            "http://127.0.0.1:9/.well-known/oauth-authorization-server",
            &metadata(issuer),
        );
    discover(&world, &connection, None).await.unwrap();
    assert!(world.reaches.lock().iter().all(|(_, reach)| reach.loopback));
}

#[tokio::test]
async fn endpoints_that_are_not_https_count_as_missing() {
    let mut document = metadata(ISSUER);
    document["token_endpoint"] = json!("http://as.example/token");
    let world = ScriptedWeb::default()
        .json(AT_PATH, &resource(&[ISSUER]))
        .json(RFC, &document);
    assert_eq!(kind(found(&world).await), OAuthErrorKind::Metadata);
}
