//! Scalars with a spelling of their own: durations, sizes, globs, secrets, URLs.

use std::{borrow::Cow, fmt, ops::Deref, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, de::Visitor};
use url::Url;

/// A duration written `<integer>(ms|s|m|h)`. Dereferences to [`Duration`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// Milliseconds.
    #[must_use]
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// Seconds.
    #[must_use]
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Reads `<integer>(ms|s|m|h)`; anything else, or what overflows, is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let factor = match unit {
            "ms" => return Some(Self::millis(number)),
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        Some(Self::secs(number.checked_mul(factor)?))
    }
}

impl Deref for Span {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// In the largest unit that divides it, as a person would write it.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.as_millis());
        if self.0.subsec_nanos() != 0 {
            return write!(f, "{millis}ms");
        }
        match seconds {
            0 => f.write_str("0s"),
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 && s > 300 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a duration"))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: an integer and `ms`, `s`, `m` or `h`, such as `30s`.",
            "pattern": "^([0-9]+(ms|s|m|h)|.*\\$\\{.+\\}.*)$",
            "x-check": "duration"
        })
    }
}

/// A number of tokens, or `off`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimit(pub Option<u32>);

impl<'de> Deserialize<'de> for TokenLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;

        impl Visitor<'_> for LimitVisitor {
            type Value = TokenLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens or `off`")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<TokenLimit, E> {
                let number = u32::try_from(number).map_err(E::custom)?;
                Ok(TokenLimit(Some(number)))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<TokenLimit, E> {
                let number = u32::try_from(number).map_err(E::custom)?;
                Ok(TokenLimit(Some(number)))
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<TokenLimit, E> {
                match word {
                    "off" => Ok(TokenLimit(None)),
                    _ => Err(E::custom("neither a number nor `off`")),
                }
            }
        }

        deserializer.deserialize_any(LimitVisitor)
    }
}

impl Serialize for TokenLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => serializer.serialize_u32(number),
            None => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for TokenLimit {
    fn schema_name() -> Cow<'static, str> {
        "TokenLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of tokens, 100 to 4294967295, or `off`.",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": u32::MAX },
                { "const": "off" }
            ]
        })
    }
}

/// A number of bytes written `<integer>(B|KiB|MiB|GiB)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Reads `<integer>(B|KiB|MiB|GiB)`; anything else, or what overflows, is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift).map(Self)
    }

    /// The number as a length of memory, capped at what this machine can address.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0B"),
            n if n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a size"))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes: an integer and `B`, `KiB`, `MiB` or `GiB`, such as `8MiB`.",
            "pattern": "^([0-9]+(B|KiB|MiB|GiB)|.*\\$\\{.+\\}.*)$",
            "x-check": "size"
        })
    }
}

/// A pattern over tool names: `*` any characters, `?` exactly one; all others stand for themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(pub String);

impl Glob {
    /// Whether a name matches the whole pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        wildmatch::WildMatch::new(&self.0).matches(name)
    }
}

impl Glob {
    /// The first character that no name or pattern of a tool has. One `:` may stand between the name of an
    /// operation and the pattern of names that it is given.
    #[must_use]
    pub fn illegal(text: &str) -> Option<char> {
        let is_legal =
            |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.' | '/' | '*' | '?');
        let illegal = |part: &str| part.chars().find(|it| !is_legal(*it));
        match text.split_once(':') {
            Some((operation, name)) if !operation.is_empty() && !name.is_empty() => {
                illegal(operation).or_else(|| illegal(name))
            }
            Some(_) => Some(':'),
            None => illegal(text),
        }
    }

    /// The operation and the pattern of names that it is given, of a pattern `OPERATION:GLOB`.
    #[must_use]
    pub fn through(&self) -> Option<(&str, &str)> {
        self.0.split_once(':')
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A pattern: `*` stands for any characters, `?` for exactly one.",
            "minLength": 1,
            "x-check": "glob"
        })
    }
}

/// Several globs; a name matches when one of them does.
pub type Globs = Vec<Glob>;

/// What `${…}` in a descriptor may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct References {
    /// Globs over names of environment variables that `${NAME}` may read. `PLEIADES_*` can never be
    /// read, whatever stands here.
    pub env: Vec<String>,
    /// Globs over absolute paths that `${file:/path}` may read; `*` does not cross a `/`. Links are
    /// followed before the path is compared.
    pub files: Vec<String>,
    /// Globs over paths within the mount of `vault.hashicorp` that `${vault:path#key}` may read; `*` does
    /// not cross a `/`. The gateway's own prefix can never be read, whatever stands here.
    pub vault: Vec<String>,
}

impl Default for References {
    fn default() -> Self {
        Self {
            env: vec!["*".to_owned()],
            files: vec!["/run/secrets/*".to_owned()],
            vault: Vec::new(),
        }
    }
}

/// Reads an optional URL; meaning has refused bad ones before.
pub(crate) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = Cow::<'_, str>::deserialize(deserializer)?;
    Url::parse(&text).map(Some).map_err(D::Error::custom)
}
