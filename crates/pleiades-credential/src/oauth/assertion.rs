//! `private_key_jwt` (RFC 7523 section 2.2): a signed word about ourselves, short-lived and used once.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::OAuthError;
use pleiades_core::{random, secret::Secret, time::unix_now};

pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long it is good for, in seconds.
const LIFE: u64 = 60;

/// An assertion of this client for an audience: the issuer, or the token endpoint of a server that has none.
/// Errors: [`super::OAuthErrorKind::Client`] when the key is none that can sign.
pub(super) fn assertion(client: &str, audience: &str, key: &Secret) -> Result<Secret, OAuthError> {
    let now = unix_now();
    let claims = json!({
        "iss": client,
        "sub": client,
        "aud": audience,
        "iat": now,
        "exp": now.saturating_add(LIFE),
        "jti": random::token::<32>()?,
    });
    signed(&claims, key.expose().as_bytes())
        .map(Secret::new)
        .ok_or_else(|| {
            OAuthError::client("the descriptor's `private_key` cannot sign")
                .cure("it must be PEM of PKCS 8: RSA of at least 2048 bits, P-256, P-384 or Ed25519")
        })
}

fn signed(claims: &serde_json::Value, pem: &[u8]) -> Option<String> {
    let sign = |algorithm, key: &EncodingKey| encode(&Header::new(algorithm), claims, key).ok();
    if let Ok(key) = EncodingKey::from_rsa_pem(pem)
        && let Some(token) = sign(Algorithm::RS256, &key)
    {
        return Some(token);
    }
    if let Ok(key) = EncodingKey::from_ec_pem(pem) {
        // A curve signs with its own algorithm and no other.
        let either = sign(Algorithm::ES256, &key).or_else(|| sign(Algorithm::ES384, &key));
        if either.is_some() {
            return either;
        }
    }
    let key = EncodingKey::from_ed_pem(pem).ok()?;
    sign(Algorithm::EdDSA, &key)
}
