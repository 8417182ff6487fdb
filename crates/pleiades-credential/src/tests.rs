use super::*;

fn key() -> ClientKey {
    ClientKey {
        headers: vec![
            HeaderName::from_static("x-first-key"),
            HeaderName::from_static("x-second-key"),
        ],
        env: Some("FIRST_KEY".to_owned()),
        forward_as: http::header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
        companions: vec![(
            HeaderName::from_static("x-org"),
            HeaderName::from_static("the-org"),
        )],
        fallback: None,
    }
}

fn caller_keys(headers: &[(&'static str, &str)]) -> CallerKeys {
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), Secret::new(*value)))
        .collect();
    CallerKeys {
        headers,
        ..CallerKeys::default()
    }
}

fn need(key: ClientKey) -> ProviderAuth {
    ProviderAuth::ClientKey(Arc::new(key))
}

#[test]
fn the_first_header_present_wins_and_goes_out_prefixed_and_sensitive() {
    let both = caller_keys(&[("x-second-key", "two"), ("x-first-key", "one")]);
    let signature = need(key()).sign(&both).unwrap();
    let signed = signature.now();
    let (name, value) = &signed.headers[0];
    assert_eq!(
        (name.as_str(), value.as_bytes()),
        ("authorization", b"Bearer one".as_slice())
    );
    assert!(value.is_sensitive());
}

#[test]
fn a_key_that_already_has_the_prefix_gets_no_second_one() {
    let signature = need(key())
        .sign(&caller_keys(&[("x-first-key", "bearer one")]))
        .unwrap();
    assert_eq!(signature.now().headers[0].1.as_bytes(), b"Bearer one");
}

#[test]
fn a_missing_key_names_headers_and_variable() {
    let missing = need(key()).sign(&CallerKeys::default()).unwrap_err();
    assert_eq!(missing.headers, ["x-first-key", "x-second-key"]);
    assert_eq!(missing.env.as_deref(), Some("FIRST_KEY"));
}

#[test]
fn a_key_that_no_header_can_carry_counts_as_missing() {
    assert!(
        need(key())
            .sign(&caller_keys(&[("x-first-key", "a\nb")]))
            .is_err()
    );
}

#[test]
fn different_keys_and_companions_are_different_accounts() {
    let account =
        |headers: &[(&'static str, &str)]| need(key()).sign(&caller_keys(headers)).unwrap().account.unwrap();
    let one = account(&[("x-first-key", "one")]);
    assert_eq!(one, account(&[("x-first-key", "one")]));
    assert_ne!(one, account(&[("x-first-key", "two")]));
    assert_ne!(one, account(&[("x-first-key", "one"), ("x-org", "acme")]));
}

#[test]
fn the_fallback_signs_alike_for_all_and_takes_no_companion() {
    let mut key = key();
    key.fallback = Some(Secret::new("shared"));
    let signature = need(key).sign(&caller_keys(&[("x-org", "acme")])).unwrap();
    assert_eq!(signature.account, None);
    assert_eq!(signature.now().headers.len(), 1);
}

#[test]
fn over_stdio_the_variable_brings_the_key() {
    let mut caller_keys = CallerKeys::default();
    caller_keys
        .environment
        .insert("FIRST_KEY".to_owned(), Secret::new("one"));
    assert_eq!(
        need(key()).sign(&caller_keys).unwrap().now().headers[0]
            .1
            .as_bytes(),
        b"Bearer one"
    );
}

#[test]
fn unsigned_and_api_key_hand_out_one_shared_value() {
    let unsigned = ProviderAuth::None;
    let first = unsigned.sign(&CallerKeys::default()).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &unsigned.sign(&CallerKeys::default()).unwrap()
    ));
    let name = HeaderName::from_static("x-key");
    let keyed = Signature::of_header(name, &Secret::new("k")).unwrap();
    let keyed = ProviderAuth::ApiKey {
        field: "auth.api_key.value",
        signature: Arc::new(keyed),
    };
    let first = keyed.sign(&CallerKeys::default()).unwrap();
    assert!(Arc::ptr_eq(&first, &keyed.sign(&CallerKeys::default()).unwrap()));
    assert!(keyed.is_shared() && unsigned.is_shared() && !need(key()).is_shared());
}

#[test]
fn brings_lists_keys_and_companions() {
    let need = need(key());
    let names: Vec<_> = need.key_headers().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-first-key", "x-second-key", "x-org"]);
}
