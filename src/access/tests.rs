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

fn access(keys: &[&str], is_local_named: bool) -> Access {
    let digests: Vec<String> = keys.iter().map(|key| hex(key)).collect();
    let operator = hex("operator");
    Access::new(Grants {
        local: Principal::new("default", "local"),
        is_local_named,
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

#[test]
fn without_keys_a_loopback_caller_is_local_and_nobody_else_is_let_in() {
    let open = access(&[], false);
    assert_eq!(who(&open, &[], LOCAL).unwrap(), "local");
    assert_eq!(who(&open, &[], Some("::1".parse().unwrap())).unwrap(), "local");
    assert_eq!(
        who(&open, &[], Some("::ffff:127.0.0.1".parse().unwrap())).unwrap(),
        "local"
    );
    assert_eq!(who(&open, &[("x-api-key", "whatever")], LOCAL).unwrap(), "local");
    assert_eq!(who(&open, &[], FAR), REFUSED);
    assert_eq!(who(&open, &[], None), REFUSED);
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
fn with_keys_a_local_caller_needs_one_unless_it_is_written_out() {
    assert_eq!(who(&access(&[ANN], false), &[], LOCAL), REFUSED);
    let named = access(&[ANN], true);
    assert_eq!(who(&named, &[], LOCAL).unwrap(), "local");
    assert_eq!(who(&named, &[], FAR), REFUSED);
    // What a proxy on this machine passes on is not local.
    assert_eq!(who(&named, &[("x-forwarded-for", "203.0.113.1")], LOCAL), REFUSED);
    assert_eq!(who(&named, &[("forwarded", "for=203.0.113.1")], LOCAL), REFUSED);
}

#[test]
fn a_guesser_waits_and_whoever_shares_its_address_does_not() {
    let keyed = access(&[ANN, BOB], false);
    assert_eq!(who(&keyed, &[("x-api-key", ANN)], FAR).unwrap(), ANN);
    let guess = || who(&keyed, &[("x-api-key", "guess")], FAR);
    let first_refused = (0..1000)
        .map(|_| guess())
        .position(|it| it == Err(Code::RateLimited));
    assert!(first_refused.is_some());
    assert_eq!(who(&keyed, &[("x-api-key", ANN)], FAR).unwrap(), ANN);
    assert_eq!(who(&keyed, &[("x-api-key", BOB)], FAR), Err(Code::RateLimited));
    assert_eq!(who(&keyed, &[("x-api-key", BOB)], LOCAL).unwrap(), BOB);
    let error = keyed.identify(&head(&[("x-api-key", "guess")]), FAR).unwrap_err();
    assert!(error.retry_after.is_some());
}

#[test]
fn callers_and_operators_have_keys_of_their_own() {
    let keyed = access(&[ANN], false);
    let admin = |key: &str| keyed.admin(&head(&[("x-api-key", key)]), LOCAL);
    assert_eq!(&*admin("operator").unwrap(), "ops");
    assert_eq!(admin(ANN).unwrap_err().code, Code::Unauthenticated);
    assert_eq!(who(&keyed, &[("x-api-key", "operator")], LOCAL), REFUSED);
    assert_eq!(
        keyed.admin(&HeaderMap::new(), LOCAL).unwrap_err().code,
        Code::Unauthenticated
    );
    assert_eq!(keyed.by_key(ANN).unwrap(), Principal::new("acme", ANN));
    assert_eq!(keyed.by_key("operator"), None);
    assert_eq!(keyed.by_key(""), None);
}

#[test]
fn without_admin_keys_only_a_loopback_listener_is_open() {
    let admin = |is_admin_local| {
        let access = Access::new(Grants {
            local: Principal::new("default", "local"),
            is_local_named: false,
            callers: Vec::new(),
            operators: Vec::new(),
            is_admin_local,
        });
        access
            .unwrap()
            .admin(&HeaderMap::new(), LOCAL)
            .map_err(|error| error.code)
    };
    assert_eq!(admin(true).as_deref(), Ok("local"));
    assert_eq!(admin(false), Err(Code::PolicyDenied));
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
    assert!(keys::digest("00").is_none() && keys::digest(&"0g".repeat(32)).is_none());
}
