//! A value that can be used but not printed, not serialised, and not left in memory.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use std::{borrow::Cow, fmt};

use zeroize::Zeroizing;

/// A secret string: redacted in `Debug`, never `Display` or `Serialize`, wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// Reveals the value; the only way to it, so that uses can be found by name.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is too short for a key of ours; what surrounds it does not count. The one rule for
    /// every key, wherever it comes from.
    #[must_use]
    pub fn is_short_key(&self) -> bool {
        is_short_key(&self.0)
    }
}

/// The least of any key that we seal, encrypt or sign with, in bytes: 256 bits (RFC 8725 section 3.5,
/// NIST SP 800-107). Shorter ones are found offline from one sealed text.
const LEAST_KEY: usize = 32;

/// [`Secret::is_short_key`] of a text that is still on its way to be one.
#[must_use]
pub fn is_short_key(text: &str) -> bool {
    text.trim().len() < LEAST_KEY
}

/// Message for a key that is too short.
pub const SHORT_KEY: &str = "a key has at least 32 bytes, and this one is shorter";
/// How to make a key that is long enough.
pub const KEY_CURE: &str = "make one with `openssl rand -base64 32`";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Of use to descriptors and settings alone: nothing else is read from text.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A secret: a reference `${NAME}`, `${file:/path}` or `${vault:path#key}`, not the value itself.",
            "minLength": 1,
            "x-check": "secret"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_32_bytes_whatever_surrounds_it() {
        assert!(is_short_key("tiger") && is_short_key(&"k".repeat(31)));
        assert!(is_short_key(&" ".repeat(40)) && is_short_key(&format!("{}\n", "k".repeat(31))));
        assert!(!is_short_key(&"k".repeat(32)) && !Secret::new("é".repeat(16)).is_short_key());
    }
}
