//! What a client can do when it is asked back: elicitation, sampling, roots.
//!
//! A legacy client says it once, in `initialize`; one of 2026-07-28 with each request. What is
//! declared upstream is never more than what can be brought to that client.

use serde_json::{Map, Value, json, value::RawValue};

use super::{Raw, RawObject, Revision, raw};

/// The extension under which 2026-07-28 runs long calls (SEP-2663).
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// The client capabilities that the gateway can bridge, as a set: small, comparable, part of a session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClientCapabilities(u8);

impl ClientCapabilities {
    /// Nothing can be asked.
    pub const NONE: Self = Self(0);
    /// Elicitation by form.
    pub const FORM: Self = Self(1);
    /// Elicitation by URL (2025-11-25 and later).
    pub const URL: Self = Self(1 << 1);
    /// Sampling.
    pub(crate) const SAMPLING: Self = Self(1 << 2);
    /// Sampling with `includeContext`.
    pub(crate) const CONTEXT: Self = Self(1 << 3);
    /// Sampling with tools (2025-11-25 and later).
    pub const TOOLS: Self = Self(1 << 4);
    /// Roots.
    pub const ROOTS: Self = Self(1 << 5);
    /// Everything that can be passed on to some client; what lists are read with, so that a
    /// provider shows tools that ask back.
    pub const ALL: Self = Self(0b11_1111);

    /// Reads a client's capabilities object.
    #[must_use]
    pub fn of(capabilities: &RawValue) -> Self {
        let all = RawObject::open(capabilities).unwrap_or_default();
        let part = |name: &str| all.get(name).and_then(|raw| RawObject::open(raw).ok());
        let mut found = Self::NONE;
        if let Some(elicitation) = part("elicitation") {
            let has = |mode: &str| elicitation.get(mode).is_some();
            // Without a mode it is the form of 2025-06-18.
            if has("form") || !has("url") {
                found = found.with(Self::FORM);
            }
            if has("url") {
                found = found.with(Self::URL);
            }
        }
        if let Some(sampling) = part("sampling") {
            found = found.with(Self::SAMPLING);
            if sampling.get("context").is_some() {
                found = found.with(Self::CONTEXT);
            }
            if sampling.get("tools").is_some() {
                found = found.with(Self::TOOLS);
            }
        }
        if part("roots").is_some() {
            found = found.with(Self::ROOTS);
        }
        found
    }

    /// The union.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The difference.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing can be asked.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a number, for a sealed session.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From a number of [`ClientCapabilities::bits`]; unknown bits mean nothing.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// What of a client's abilities a provider may use: between generations elicitation alone is
    /// bridged, and nothing that one of the two revisions does not know.
    #[must_use]
    pub fn between(self, client: Revision, upstream: Revision) -> Self {
        let mut bridged = self;
        if client.is_modern() != upstream.is_modern() {
            bridged = Self(self.0 & Self::FORM.with(Self::URL).0);
        }
        if client.min(upstream) < Revision::V2025_11_25 {
            bridged = bridged.without(Self::URL).without(Self::TOOLS);
        }
        if upstream < Revision::V2025_06_18 {
            bridged = bridged.without(Self::FORM);
        }
        bridged
    }

    #[must_use]
    fn declare(self, revision: Revision) -> Raw {
        let mut all = Map::new();
        let (form, url) = (self.has(Self::FORM), self.has(Self::URL));
        if revision < Revision::V2025_11_25 {
            if form {
                all.insert("elicitation".to_owned(), json!({}));
            }
        } else if form || url {
            all.insert("elicitation".to_owned(), modes(&[("form", form), ("url", url)]));
        }
        if self.has(Self::SAMPLING) {
            let late = revision >= Revision::V2025_11_25;
            let modes = modes(&[
                ("context", late && self.has(Self::CONTEXT)),
                ("tools", late && self.has(Self::TOOLS)),
            ]);
            all.insert("sampling".to_owned(), modes);
        }
        if self.has(Self::ROOTS) {
            let changes = if revision.is_modern() {
                json!({})
            } else {
                json!({ "listChanged": true })
            };
            all.insert("roots".to_owned(), changes);
        }
        raw::raw(&all)
    }

    /// Whether a request of this method (and elicitation mode) may be put to such a client.
    #[must_use]
    pub fn takes(self, method: &str, params: Option<&RawValue>) -> bool {
        let mode = || {
            let params = params.and_then(|raw| RawObject::open(raw).ok());
            params.and_then(|params| params.read::<String>("mode"))
        };
        match method {
            "elicitation/create" if mode().as_deref() == Some("url") => self.has(Self::URL),
            "elicitation/create" => self.has(Self::FORM),
            "sampling/createMessage" => self.has(Self::SAMPLING),
            "roots/list" => self.has(Self::ROOTS),
            _ => false,
        }
    }
}

fn modes(of: &[(&str, bool)]) -> Value {
    let modes = of.iter().filter(|(_, on)| *on);
    Value::Object(modes.map(|(name, _)| ((*name).to_owned(), json!({}))).collect())
}

/// The client capabilities that one request declares upstream.
#[derive(Debug, Clone, Default)]
pub struct DeclaredCapabilities {
    /// What may be asked; part of the key of a legacy session.
    pub abilities: ClientCapabilities,
    /// The client's own object, between two peers of 2026-07-28.
    pub verbatim: Option<Raw>,
}

impl DeclaredCapabilities {
    /// Everything that some client can take: what lists are read with.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            abilities: ClientCapabilities::ALL,
            verbatim: None,
        }
    }

    /// The capabilities object for a revision.
    #[must_use]
    pub fn capabilities(&self, revision: Revision) -> Raw {
        match &self.verbatim {
            Some(verbatim) if revision.is_modern() => verbatim.clone(),
            _ => self.abilities.declare(revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const J: Revision = Revision::V2025_06_18;
    const L: Revision = Revision::V2025_11_25;
    const M: Revision = Revision::V2026_07_28;

    fn of(value: &Value) -> ClientCapabilities {
        ClientCapabilities::of(&raw::raw(value))
    }

    #[test]
    fn an_elicitation_without_a_mode_is_by_form() {
        assert_eq!(of(&json!({ "elicitation": {} })), ClientCapabilities::FORM);
        assert_eq!(
            of(&json!({ "elicitation": { "url": {} } })),
            ClientCapabilities::URL
        );
        assert_eq!(of(&json!({})), ClientCapabilities::NONE);
    }

    #[test]
    fn between_generations_only_elicitation_is_declared() {
        assert_eq!(
            ClientCapabilities::ALL.between(L, M),
            ClientCapabilities::FORM.with(ClientCapabilities::URL)
        );
        assert_eq!(ClientCapabilities::ALL.between(M, J), ClientCapabilities::FORM);
        assert_eq!(ClientCapabilities::ALL.between(M, M), ClientCapabilities::ALL);
        assert!(!ClientCapabilities::ALL.between(J, L).has(ClientCapabilities::URL));
        assert!(
            ClientCapabilities::ALL
                .between(J, L)
                .has(ClientCapabilities::SAMPLING)
        );
    }

    #[test]
    fn what_is_declared_is_read_back_as_the_same() {
        for revision in [L, M] {
            assert_eq!(
                ClientCapabilities::of(&ClientCapabilities::ALL.declare(revision)),
                ClientCapabilities::ALL
            );
        }
        assert_eq!(ClientCapabilities::NONE.declare(L).get(), "{}");
        assert_eq!(ClientCapabilities::FORM.declare(J).get(), r#"{"elicitation":{}}"#);
    }

    #[test]
    fn a_url_is_only_put_to_who_takes_urls() {
        let url = raw::raw(&json!({ "mode": "url" }));
        assert!(!ClientCapabilities::FORM.takes("elicitation/create", Some(&url)));
        assert!(ClientCapabilities::URL.takes("elicitation/create", Some(&url)));
        assert!(ClientCapabilities::FORM.takes("elicitation/create", None));
        assert!(!ClientCapabilities::ALL.takes("tools/list", None));
    }
}
