use http::HeaderValue;

use super::*;

const LOCAL: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
const FAR: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)));
const ANN: &str = "0123456789-ann";
const BOB: &str = "0123456789-bob";

fn hex(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key of the local caller.
const OWN: &str = "0123456789-own";

fn access(keys: &[&str], is_local_named: bool) -> Access {
    let digests: Vec<String> = keys.iter().map(|key| hex(key)).collect();
    let operator = hex("operator");
    Access::new(Grants {
        local: Principal::new("default", "local"),
        local_key: is_local_named.then(|| Secret::new(OWN)),
        callers: keys
            .iter()
            .zip(&digests)
            .map(|(key, digest)| (*key, Principal::new("acme", *key), digest.as_str()))
            .collect(),
        operators: vec![("ops", &operator)],
        is_admin_local: true,
    })
    .unwrap()
}

fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn who(access: &Access, fields: &[(&'static str, &str)], peer: Option<IpAddr>) -> Result<String, Code> {
    let caller = access.identify(&head(fields), peer);
    caller
        .map(|caller| caller.principal.user.to_string())
        .map_err(|error| error.code)
}

const REFUSED: Result<String, Code> = Err(Code::Unauthenticated);

const CLOSED: Result<String, Code> = Err(Code::PolicyDenied);

fn at(address: &str) -> Option<IpAddr> {
    Some(address.parse().unwrap())
}

#[test]
fn without_keys_127_0_0_1_and_1_alone_are_local() {
    let open = access(&[], false);
    for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(who(&open, &[], at(here)).unwrap(), "local", "{here}");
    }
    assert_eq!(who(&open, &[("x-api-key", "whatever")], LOCAL).unwrap(), "local");
    for there in [
        "127.0.0.2",
        "127.0.0.6",
        "127.1.2.3",
        "127.255.255.254",
        "::ffff:127.0.0.6",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "10.0.0.1",
        "203.0.113.1",
    ] {
        assert_eq!(who(&open, &[], at(there)), CLOSED, "{there}");
    }
    assert_eq!(who(&open, &[], None), CLOSED);
}

#[test]
fn what_a_proxy_passes_on_is_never_the_local_callers() {
    let fields = [
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "mcp.example.com"),
        ("x-forwarded-proto", "https"),
        ("via", "1.1 squid"),
        ("x-real-ip", ""),
        ("cf-connecting-ip", "203.0.113.1"),
        ("true-client-ip", "203.0.113.1"),
        ("x-envoy-external-address", "203.0.113.1"),
        ("tailscale-user-login", "ann@example.com"),
    ];
    for field in fields {
        assert_eq!(who(&access(&[], false), &[field], LOCAL), CLOSED, "{field:?}");
        let brought = [field, ("authorization", "Bearer whatever")];
        assert_eq!(who(&access(&[], false), &brought, LOCAL), CLOSED, "{field:?}");
        for is_local_named in [false, true] {
            assert_eq!(
                who(&access(&[ANN], is_local_named), &[field], LOCAL),
                REFUSED,
                "{field:?}"
            );
            let keyed = [field, ("x-api-key", ANN)];
            assert_eq!(who(&access(&[ANN], is_local_named), &keyed, LOCAL).unwrap(), ANN);
        }
    }
}

#[test]
fn a_key_comes_in_either_header_from_anywhere() {
    let keyed = access(&[ANN, BOB], false);
    for peer in [LOCAL, FAR, None] {
        assert_eq!(who(&keyed, &[("x-api-key", ANN)], peer).unwrap(), ANN);
        for scheme in ["Bearer", "bearer", "BEARER  "] {
            let value = format!("{scheme} {BOB}");
            assert_eq!(who(&keyed, &[("authorization", &value)], peer).unwrap(), BOB);
        }
        let both = [("x-api-key", ANN), ("authorization", &*format!("Bearer {ANN}"))];
        assert_eq!(who(&keyed, &both, peer).unwrap(), ANN);
    }
}

#[test]
fn what_is_no_known_key_is_refused_even_where_local_callers_need_none() {
    let keyed = access(&[ANN, BOB], true);
    let wrong: [&[(&str, &str)]; 11] = [
        &[("x-api-key", "")],
        &[("x-api-key", "wrong")],
        &[("x-api-key", "0123456789-an")],
        &[("x-api-key", "0123456789-anna")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer0123456789-ann")],
        &[("authorization", "Basic 0123456789-ann")],
        &[("authorization", ANN)],
        &[("x-api-key", ANN), ("x-api-key", BOB)],
        &[("x-api-key", ANN), ("authorization", "Bearer 0123456789-bob")],
    ];
    for fields in wrong {
        let fields: Vec<(&'static str, &str)> = fields.to_vec();
        assert_eq!(who(&keyed, &fields, LOCAL), REFUSED, "{fields:?}");
    }
    assert_eq!(who(&keyed, &[("x-api-key", &hex(ANN))], LOCAL), REFUSED);
}

#[test]
fn with_keys_a_local_caller_proves_itself_by_its_own_where_it_is_written_out() {
    assert_eq!(who(&access(&[ANN], false), &[], LOCAL), REFUSED);
    assert_eq!(who(&access(&[ANN], false), &[("x-api-key", OWN)], LOCAL), REFUSED);
    let named = access(&[ANN], true);
    assert_eq!(who(&named, &[], LOCAL), REFUSED);
    let own = head(&[("x-api-key", OWN)]);
    for peer in [LOCAL, FAR] {
        let caller = named.identify(&own, peer).unwrap();
        assert_eq!(caller.principal, Principal::new("default", "local"));
        assert_eq!(caller.key.as_deref(), Some("access.local"));
    }
}

#[test]
fn a_guesser_waits_and_a_right_key_is_always_let_in() {
    // As after a restart in the middle of it: nothing is known of who was here before.
    let keyed = access(&[ANN, BOB], true);
    let guess = || who(&keyed, &[("x-api-key", "guess")], FAR);
    let refused = (0..1000)
        .map(|_| guess())
        .position(|it| it == Err(Code::RateLimited));
    assert!(refused.is_some());
    for (key, expected) in [(ANN, ANN), (BOB, BOB), (OWN, "local")] {
        assert_eq!(who(&keyed, &[("x-api-key", key)], FAR).unwrap(), expected);
        assert_eq!(
            keyed
                .identify_typed_key(key, FAR)
                .unwrap()
                .principal
                .user
                .as_ref(),
            expected
        );
    }
    let error = keyed.identify(&head(&[("x-api-key", "guess")]), FAR).unwrap_err();
    assert!(error.retry_after.is_some());
}

#[test]
fn guesses_in_one_place_count_in_no_other() {
    let keyed = access(&[ANN], false);
    let guess = head(&[("x-api-key", "guess")]);
    let limited = |ask: &dyn Fn() -> Code| (0..1000).any(|_| ask() == Code::RateLimited);
    assert!(limited(&|| keyed
        .identify_typed_key("guess", FAR)
        .unwrap_err()
        .code));
    assert_eq!(
        keyed.identify(&guess, FAR).unwrap_err().code,
        Code::Unauthenticated
    );
    assert_eq!(
        keyed.identify_operator(&guess, FAR).unwrap_err().code,
        Code::Unauthenticated
    );
    assert!(limited(&|| keyed.identify(&guess, FAR).unwrap_err().code));
    assert_eq!(
        keyed.identify_operator(&guess, FAR).unwrap_err().code,
        Code::Unauthenticated
    );
    assert!(limited(&|| keyed
        .identify_operator(&guess, FAR)
        .unwrap_err()
        .code));
    assert_eq!(
        &*keyed
            .identify_operator(&head(&[("x-api-key", "operator")]), FAR)
            .unwrap(),
        "ops"
    );
}

#[test]
fn callers_and_operators_have_keys_of_their_own() {
    let keyed = access(&[ANN], false);
    let admin = |key: &str| keyed.identify_operator(&head(&[("x-api-key", key)]), LOCAL);
    assert_eq!(&*admin("operator").unwrap(), "ops");
    assert_eq!(admin(ANN).unwrap_err().code, Code::Unauthenticated);
    assert_eq!(who(&keyed, &[("x-api-key", "operator")], LOCAL), REFUSED);
    assert_eq!(
        keyed
            .identify_operator(&HeaderMap::new(), LOCAL)
            .unwrap_err()
            .code,
        Code::Unauthenticated
    );
    assert_eq!(
        keyed.identify_typed_key(ANN, LOCAL).unwrap().principal,
        Principal::new("acme", ANN)
    );
    assert!(
        keyed.identify_typed_key("operator", LOCAL).is_err() && keyed.identify_typed_key("", LOCAL).is_err()
    );
}

#[test]
fn without_admin_keys_only_this_machine_is_let_in_by_a_loopback_listener() {
    let admin = |is_admin_local, fields: &[(&'static str, &str)], peer| {
        let access = Access::new(Grants {
            local: Principal::new("default", "local"),
            local_key: None,
            callers: Vec::new(),
            operators: Vec::new(),
            is_admin_local,
        });
        let asked = access.unwrap().identify_operator(&head(fields), peer);
        asked.map_err(|error| error.code)
    };
    assert_eq!(admin(true, &[], LOCAL).as_deref(), Ok("local"));
    assert_eq!(admin(false, &[], LOCAL), Err(Code::PolicyDenied));
    assert_eq!(admin(true, &[], at("127.0.0.6")), Err(Code::PolicyDenied));
    assert_eq!(admin(true, &[], None), Err(Code::PolicyDenied));
    for name in ["forwarded", "x-forwarded-proto", "via", "cf-ray"] {
        assert_eq!(
            admin(true, &[(name, "x")], LOCAL),
            Err(Code::PolicyDenied),
            "{name}"
        );
    }
}

#[test]
fn nothing_prints_a_digest() {
    let keyed = access(&[ANN], false);
    let printed = format!(
        "{keyed:?} {:?}",
        keyed.identify(&head(&[("x-api-key", ANN)]), FAR)
    );
    let start: String = hex(ANN).chars().take(8).collect();
    assert!(!printed.contains(&start), "{printed}");
    assert!(keys::parse_digest("00").is_none() && keys::parse_digest(&"0g".repeat(32)).is_none());
}
