//! The one validator of ID tokens (OpenID Connect Core section 3.1.3.7).
//!
//! Signatures are not checked: a token comes over TLS from the token endpoint itself (point 6). All else is: its form,
//! `alg`, `iss`, `aud`, `azp`, `exp`, `iat` and `nonce`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{failure, fetch};
use pleiades_core::{secret::Secret, time::unix_now};

/// An issuer's clock may be ahead of ours by less, in seconds. A token that has expired is refused without leeway.
const SKEW: u64 = 300;
/// Google's issuer, and what its tokens call it at times.
const GOOGLE: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// Stands in the issuer of Entra's metadata for the tenant that a token names.
const TENANT: &str = "{tenantid}";

pub(crate) type TokenClaims = Map<String, Value>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpectedToken<'a> {
    /// The issuer; `None` where the provider publishes none.
    pub issuer: Option<&'a str>,
    /// Whether `{tenantid}` in the issuer stands for the tenant of the token: any tenant is accepted then.
    pub any_tenant: bool,
    pub client: &'a str,
    pub nonce: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenError {
    /// A JWE, which has five parts (RFC 7516 section 3.1).
    #[error("it is encrypted, and no key for it was agreed on")]
    Encrypted,
    /// Not three parts of base64url without padding, or no JSON objects in them (RFC 7515 section 3.1).
    #[error("it is no JWT that can be read")]
    Unreadable,
    /// `alg` is missing, or `none`, which nobody registers for here.
    #[error("it is not signed")]
    Unsigned,
    #[error("it is of the issuer {found}, and {expected} was asked")]
    Issuer { found: String, expected: String },
    #[error("it is for the audience {0}, and not for our client")]
    Audience(String),
    /// `azp` names another client, or nobody where there are several audiences.
    #[error("it was issued to another client than ours (`azp`)")]
    AuthorizedParty,
    #[error("it expired at {0} (unix seconds)")]
    Expired(i64),
    #[error("it does not say when it expires")]
    NoExpiry,
    #[error("it was issued in the future, at {0} (unix seconds)")]
    NotYet(i64),
    #[error("it carries no nonce, though one was sent")]
    NoNonce,
    #[error("it carries the nonce of another sign-in")]
    Nonce,
}

/// The claims of an ID token, once every rule is met.
/// Errors: [`IdTokenError`]: the first rule that is not met. The nonce comes first: without PKCE it is all
/// that binds a code to its sign-in, whatever else is wrong with the token.
pub(crate) fn validate(token: &Secret, expected: ExpectedToken<'_>) -> Result<TokenClaims, IdTokenError> {
    if token.expose().split('.').count() == 5 {
        return Err(IdTokenError::Encrypted);
    }
    let (header, claims) = parts(token).ok_or(IdTokenError::Unreadable)?;
    check_nonce(&claims, expected.nonce)?;
    match fetch::text(&header, "alg") {
        Some(algorithm) if !algorithm.eq_ignore_ascii_case("none") => {}
        _ => return Err(IdTokenError::Unsigned),
    }
    check_issuer(&claims, expected)?;
    check_audience(&claims, expected.client)?;
    check_times(&claims, unix_now())?;
    Ok(claims)
}

/// The claims of a JWT of which nothing is checked, such as an answer of userinfo.
pub(super) fn unchecked_claims(token: &Secret) -> Option<TokenClaims> {
    parts(token).map(|(_, claims)| claims)
}

fn parts(token: &Secret) -> Option<(TokenClaims, TokenClaims)> {
    let mut parts = token.expose().split('.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let object = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some((object(header)?, object(payload)?))
}

fn check_nonce(claims: &TokenClaims, sent: Option<&str>) -> Result<(), IdTokenError> {
    let Some(sent) = sent else { return Ok(()) };
    match fetch::text(claims, "nonce") {
        None => Err(IdTokenError::NoNonce),
        Some(found) if found != sent => Err(IdTokenError::Nonce),
        Some(_) => Ok(()),
    }
}

fn check_issuer(claims: &TokenClaims, expected: ExpectedToken<'_>) -> Result<(), IdTokenError> {
    let Some(issuer) = expected.issuer else {
        return Ok(());
    };
    let found = fetch::text(claims, "iss").unwrap_or_default();
    let tenant = fetch::text(claims, "tid")
        .filter(|it| expected.any_tenant && it.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
    let ours = tenant.map_or_else(|| issuer.to_owned(), |tenant| issuer.replace(TENANT, &tenant));
    let is_google = GOOGLE.contains(&issuer) && GOOGLE.contains(&found.as_str());
    if found == ours || is_google {
        return Ok(());
    }
    Err(IdTokenError::Issuer {
        found: failure::quoted(&found),
        expected: failure::quoted(issuer),
    })
}

/// `aud` names our client; `azp`, which has to be there beside other audiences, names nobody else.
fn check_audience(claims: &TokenClaims, client: &str) -> Result<(), IdTokenError> {
    let audience = fetch::list(claims, "aud").unwrap_or_default();
    if !audience.iter().any(|it| it == client) {
        return Err(IdTokenError::Audience(failure::quoted(&audience.join(" "))));
    }
    let is_alone = audience.iter().all(|it| it == client);
    match claims.get("azp") {
        None if is_alone => Ok(()),
        Some(party) if party.as_str() == Some(client) => Ok(()),
        _ => Err(IdTokenError::AuthorizedParty),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "seconds are far below 2^52; in messages they are cut at the ends of the type"
)]
fn check_times(claims: &TokenClaims, now: u64) -> Result<(), IdTokenError> {
    let time = |key: &str| claims.get(key).and_then(Value::as_f64);
    let expires = time("exp").ok_or(IdTokenError::NoExpiry)?;
    if expires <= now as f64 {
        return Err(IdTokenError::Expired(expires as i64));
    }
    match time("iat") {
        Some(issued) if issued > now.saturating_add(SKEW) as f64 => Err(IdTokenError::NotYet(issued as i64)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://as.example";

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn token(header: &Value, claims: &Value) -> Secret {
        Secret::new(format!("{}.{}.c2ln", part(header), part(claims)))
    }

    /// Good claims, with some replaced; a null takes one out.
    fn claims(changed: &Value) -> Value {
        let mut claims = json!({
            "iss": ISSUER, "aud": "own", "sub": "s1", "nonce": "n", "exp": unix_now() + 60, "iat": unix_now()
        });
        for (key, value) in changed.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        claims
    }

    fn expected() -> ExpectedToken<'static> {
        ExpectedToken {
            issuer: Some(ISSUER),
            any_tenant: false,
            client: "own",
            nonce: Some("n"),
        }
    }

    fn check(changed: &Value, expected: ExpectedToken<'_>) -> Result<TokenClaims, IdTokenError> {
        validate(&token(&json!({ "alg": "RS256" }), &claims(changed)), expected)
    }

    fn refused(changed: &Value) -> IdTokenError {
        check(changed, expected()).unwrap_err()
    }

    #[test]
    fn a_good_token_gives_its_claims() {
        assert_eq!(check(&json!({}), expected()).unwrap()["sub"], "s1");
    }

    #[test]
    fn a_token_is_three_parts_of_unpadded_base64url_that_hold_objects() {
        let (header, payload) = (part(&json!({ "alg": "RS256" })), part(&claims(&json!({}))));
        let good = format!("{header}.{payload}.c2ln");
        assert!(validate(&Secret::new(good.as_str()), expected()).is_ok());
        for text in [
            String::new(),
            "nonsense".to_owned(),
            format!("{header}.{payload}"),
            format!("{good}.x"),
            format!("{header}.{payload}=.c2ln"),
            format!("{header}.{payload}==.c2ln"),
            format!("{header}=.{payload}.c2ln"),
            format!("{header}.{payload}\n.c2ln"),
            format!("x.{payload}.c2ln"),
            format!("{header}.!!!.c2ln"),
            format!("{header}.{}.c2ln", part(&json!([]))),
            format!("{}.{payload}.c2ln", part(&json!("alg"))),
        ] {
            let refused = validate(&Secret::new(text.as_str()), expected());
            assert_eq!(refused, Err(IdTokenError::Unreadable), "{text}");
        }
        let encrypted = validate(&Secret::new("a.b.c.d.e"), expected());
        assert_eq!(encrypted, Err(IdTokenError::Encrypted));
    }

    #[test]
    fn a_token_that_names_no_algorithm_or_none_is_refused() {
        for header in [
            json!({}),
            json!({ "alg": "" }),
            json!({ "alg": null }),
            json!({ "alg": ["RS256"] }),
            json!({ "alg": "none" }),
            json!({ "alg": "None" }),
        ] {
            let refused = validate(&token(&header, &claims(&json!({}))), expected());
            assert_eq!(refused, Err(IdTokenError::Unsigned), "{header}");
        }
    }

    #[test]
    fn the_issuer_is_compared_to_the_letter_but_for_googles_two_spellings() {
        for issuer in [
            "https://evil.example",
            "https://as.example/",
            "as.example",
            "HTTPS://as.example",
            "",
        ] {
            assert!(
                matches!(refused(&json!({ "iss": issuer })), IdTokenError::Issuer { .. }),
                "{issuer}"
            );
        }
        assert!(matches!(
            refused(&json!({ "iss": null })),
            IdTokenError::Issuer { .. }
        ));
        for asked in GOOGLE {
            let google = ExpectedToken {
                issuer: Some(asked),
                ..expected()
            };
            for issuer in GOOGLE {
                assert!(
                    check(&json!({ "iss": issuer }), google).is_ok(),
                    "{asked} {issuer}"
                );
            }
            for issuer in [
                "http://accounts.google.com",
                "https://accounts.google.com/",
                "google.com",
            ] {
                assert!(
                    check(&json!({ "iss": issuer }), google).is_err(),
                    "{asked} {issuer}"
                );
            }
        }
        let unknown = ExpectedToken {
            issuer: None,
            ..expected()
        };
        assert!(check(&json!({ "iss": "https://any.example" }), unknown).is_ok());
    }

    #[test]
    fn the_tenant_of_a_token_fills_the_issuer_of_every_tenant_where_any_is_accepted() {
        let every = ExpectedToken {
            issuer: Some("https://login.example/{tenantid}/v2.0"),
            any_tenant: true,
            ..expected()
        };
        let good = json!({ "iss": "https://login.example/0a-1f/v2.0", "tid": "0a-1f" });
        assert!(check(&good, every).is_ok());
        let one = ExpectedToken {
            any_tenant: false,
            ..every
        };
        assert!(check(&good, one).is_err());
        for bad in [
            json!({ "iss": "https://login.example/other/v2.0", "tid": "0a-1f" }),
            json!({ "iss": "https://login.example/0a-1f/v2.0" }),
            json!({ "iss": "https://login.example/x/../v2.0", "tid": "x/.." }),
        ] {
            assert!(check(&bad, every).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_audience_names_our_client() {
        for aud in [
            json!("another"),
            json!(["a", "b"]),
            json!([]),
            json!(null),
            json!(7),
            json!("own other"),
        ] {
            assert!(
                matches!(refused(&json!({ "aud": aud })), IdTokenError::Audience(_)),
                "{aud}"
            );
        }
        assert!(check(&json!({ "aud": ["own"] }), expected()).is_ok());
    }

    #[test]
    fn the_authorized_party_is_our_client_and_is_named_beside_other_audiences() {
        for changed in [
            json!({ "azp": "another" }),
            json!({ "azp": 7 }),
            json!({ "aud": ["a", "own"] }),
            json!({ "aud": ["a", "own"], "azp": "a" }),
        ] {
            assert_eq!(refused(&changed), IdTokenError::AuthorizedParty, "{changed}");
        }
        for changed in [
            json!({ "azp": "own" }),
            json!({ "aud": ["a", "own"], "azp": "own" }),
        ] {
            assert!(check(&changed, expected()).is_ok(), "{changed}");
        }
    }

    #[test]
    fn a_token_says_when_it_expires_and_is_refused_from_then_on() {
        for exp in [json!(null), json!("soon"), json!(format!("{}", unix_now() + 60))] {
            assert_eq!(refused(&json!({ "exp": exp })), IdTokenError::NoExpiry, "{exp}");
        }
        for exp in [json!(1), json!(-1), json!(unix_now()), json!(1.5)] {
            assert!(
                matches!(refused(&json!({ "exp": exp })), IdTokenError::Expired(_)),
                "{exp}"
            );
        }
    }

    #[test]
    fn a_token_of_a_clock_that_is_a_little_ahead_is_accepted_and_one_of_the_future_is_not() {
        let times = |iat: u64| json!({ "exp": unix_now() + 10_000, "iat": iat });
        assert!(check(&times(unix_now() + SKEW - 10), expected()).is_ok());
        let refused = refused(&times(unix_now() + SKEW + 60));
        assert!(matches!(refused, IdTokenError::NotYet(_)), "{refused}");
    }

    #[test]
    fn the_nonce_is_the_one_that_was_sent() {
        assert_eq!(refused(&json!({ "nonce": null })), IdTokenError::NoNonce);
        assert_eq!(refused(&json!({ "nonce": "" })), IdTokenError::NoNonce);
        assert_eq!(refused(&json!({ "nonce": "other" })), IdTokenError::Nonce);
        let unsent = ExpectedToken {
            nonce: None,
            ..expected()
        };
        assert!(check(&json!({ "nonce": null }), unsent).is_ok());
        // Whatever else is wrong, it is another sign-in's.
        assert_eq!(
            refused(&json!({ "nonce": "other", "aud": "a", "exp": 1 })),
            IdTokenError::Nonce
        );
    }
}
