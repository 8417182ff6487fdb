use super::*;

fn read(header: &str) -> Challenge {
    challenge(401, Some(header))
}

#[test]
fn a_bearer_challenge_is_read_whole() {
    let it = challenge(
        403,
        Some(
            "Bearer error=\"insufficient_scope\", scope=\"files:read  files:write files:read\", \
             resource_metadata=\"https://mcp.example/.well-known/oauth-protected-resource?a=1,2\", \
             error_description=\"say \\\"please\\\", twice\"",
        ),
    );
    let expected = Challenge {
        status: 403,
        resource_metadata: Some("https://mcp.example/.well-known/oauth-protected-resource?a=1,2".to_owned()),
        scopes: Some(texts(&["files:read", "files:write"])),
        error: Some("insufficient_scope".to_owned()),
        description: Some("say \"please\", twice".to_owned()),
    };
    assert_eq!(it, expected);
}

#[test]
fn the_bearer_challenge_is_found_among_others() {
    for header in [
        "Basic realm=\"a, b\", Bearer scope=\"x\"",
        "Negotiate, Bearer scope=\"x\"",
        "Negotiate YWJj==, bearer Scope = \"x\"",
        "Digest realm=\"r\", qop=\"auth,auth-int\", nonce=\"n=\", BEARER scope=x",
        "Bearer scope=\"x\", Basic realm=\"Bearer scope=\\\"y\\\"\"",
        ", ,Bearer  scope=\"x\" , ",
        "DPoP algs=\"ES256\", Bearer scope=\"x\"",
        "Bearer scope=\"x\" error=\"invalid_token\"",
    ] {
        assert_eq!(read(header).scopes, Some(texts(&["x"])), "{header}");
    }
}

#[test]
fn of_several_the_one_that_names_metadata_counts() {
    let it = read("Bearer realm=\"old\", Bearer resource_metadata=\"https://a.example/\", scope=\"s\"");
    assert_eq!(it.resource_metadata.as_deref(), Some("https://a.example/"));
    assert_eq!(it.scopes, Some(texts(&["s"])));
}

#[test]
fn an_unquoted_url_is_taken_as_it_is() {
    let it = read("Bearer resource_metadata=https://a.example/x?y=z, scope=s");
    assert_eq!(it.resource_metadata.as_deref(), Some("https://a.example/x?y=z"));
}

#[test]
fn what_cannot_be_read_says_nothing_and_harms_nobody() {
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "=",
        "\"",
        "Bearer scope=\"",
        "Bearer scope=\"\"",
        "Basic realm=x",
        "Bearer =, =,",
        "\u{e4}\u{f6} Bearer",
        "Bearer scope=\"a\\",
    ] {
        let it = read(header);
        assert_eq!((it.status, it.resource_metadata), (401, None), "{header}");
    }
    assert_eq!(
        challenge(401, None),
        Challenge {
            status: 401,
            ..Challenge::default()
        }
    );
    let endless = "Bearer a=b,".repeat(100_000);
    assert_eq!(read(&endless).scopes, None);
}

#[test]
fn the_word_counts_and_not_the_status() {
    let quoted = [
        "Bearer error=\"invalid_token\"",
        "Bearer error=invalid_token",
        "Bearer error='invalid_token'",
        "bearer Error = \"Invalid_Token\"",
        "DPoP algs=\"ES256\", error=\"invalid_token\"",
        "Basic realm=\"x\", Bearer realm=\"a, b\", error=\"invalid_token\", error_description=\"over\"",
        "Bearer resource_metadata=\"https://a.example/\", Bearer error=\"invalid_token\"",
        "Negotiate, Bearer error=\"invalid_token\"",
        "error=\"invalid_token\"",
        "OAuth realm=\"x\", error=\"invalid_token\"",
    ];
    for status in [400, 401, 403] {
        for header in quoted {
            let token = challenge(status, Some(header));
            assert_eq!(
                (token.cause(), token.is_refusal()),
                (RefusalCause::Token, true),
                "{status} {header}"
            );
            let header = header
                .to_lowercase()
                .replace("invalid_token", "insufficient_scope");
            let scope = challenge(status, Some(&header));
            assert_eq!(
                (scope.cause(), scope.is_refusal()),
                (RefusalCause::Scope, true),
                "{status} {header}"
            );
        }
    }
}

#[test]
fn without_a_word_that_is_known_the_status_counts() {
    for header in [
        None,
        Some("Bearer"),
        Some("Basic realm=\"invalid_token\""),
        Some("Bearer error=\"odd\""),
    ] {
        let of = |status| challenge(status, header);
        assert_eq!(
            (of(401).cause(), of(403).cause()),
            (RefusalCause::Token, RefusalCause::Other),
            "{header:?}"
        );
        assert!(of(403).is_refusal() && !of(400).is_refusal() && !of(404).is_refusal());
        assert!(!challenge(500, Some("Bearer error=invalid_token")).is_refusal());
    }
}

#[test]
fn single_quotes_are_quotes() {
    let it = read("Bearer scope='a b', resource_metadata='https://a.example/x', error='insufficient_scope'");
    assert_eq!(it.scopes, Some(texts(&["a", "b"])));
    assert_eq!(it.resource_metadata.as_deref(), Some("https://a.example/x"));
    assert_eq!(it.cause(), RefusalCause::Scope);
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}
