//! Takes the gateway's own credentials out of what a provider says of a failure: some repeat them.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::Error;

/// What is shorter may be a part of any word, in bytes.
const SECRET: usize = 6;
/// How names of headers and variables show that their value is a credential.
const NAMES: [&str; 8] = [
    "key", "token", "secret", "pass", "auth", "cred", "cookie", "session",
];
/// Stands for a credential.
const HIDDEN: &str = "…";

/// Texts that nobody is shown.
#[derive(Default)]
pub struct SecretMask(Vec<String>);

impl SecretMask {
    /// Adds a credential, also without the scheme before it (`Bearer`).
    pub fn hide(&mut self, value: &str) {
        let bare = value.rsplit(' ').next().unwrap_or_default();
        for secret in [value, bare] {
            if secret.len() >= SECRET && !self.0.iter().any(|known| known == secret) {
                self.0.push(secret.to_owned());
            }
        }
        // The longest first: replacing a part of it would leave the rest.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Adds the value of a header or variable whose name says that it is a credential.
    pub fn hide_named(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if NAMES.iter().any(|part| name.contains(part)) {
            self.hide(value);
        }
    }

    /// A text without them.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let hide = |text: Cow<'a, str>, secret: &String| match text.contains(secret.as_str()) {
            true => Cow::Owned(text.replace(secret.as_str(), HIDDEN)),
            false => text,
        };
        self.0.iter().fold(Cow::Borrowed(text), hide)
    }

    /// A JSON value without them; `None` when there are none in it.
    #[must_use]
    pub fn json(&self, raw: &RawValue) -> Option<Box<RawValue>> {
        let Ok(mut value) = serde_json::from_str::<Value>(raw.get()) else {
            // Some numbers fit no value (1e400).
            return match self.text(raw.get()) {
                Cow::Owned(text) => RawValue::from_string(text.clone())
                    .or_else(|_| to_raw_value(&text))
                    .ok(),
                Cow::Borrowed(_) => None,
            };
        };
        self.value(&mut value)
            .then(|| to_raw_value(&value).ok())
            .flatten()
    }

    /// An error without them, as callers are shown it.
    #[must_use]
    pub fn error(&self, mut error: Error) -> Error {
        if let Cow::Owned(message) = self.text(&error.message) {
            error.message = message.into();
        }
        if let Some(data) = &mut error.data {
            self.value(data);
        }
        if let Some(fault) = error.rpc.as_deref_mut() {
            fault.message = self.text(&fault.message).into_owned();
            if let Some(masked) = fault.data.as_deref().and_then(|data| self.json(data)) {
                fault.data = Some(masked);
            }
        }
        error
    }

    /// Whether there was one. The depth is that of the parser, which is bounded.
    fn value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.text(text) {
                Cow::Owned(masked) => {
                    *text = masked;
                    true
                }
                Cow::Borrowed(_) => false,
            },
            Value::Array(items) => {
                let mut any = false;
                for item in items {
                    any |= self.value(item);
                }
                any
            }
            Value::Object(entries) => {
                let mut any = entries
                    .keys()
                    .any(|name| matches!(self.text(name), Cow::Owned(_)));
                if any {
                    let old = std::mem::take(entries);
                    let masked = old
                        .into_iter()
                        .map(|(name, value)| (self.text(&name).into_owned(), value));
                    entries.extend(masked);
                }
                for item in entries.values_mut() {
                    any |= self.value(item);
                }
                any
            }
            Value::Number(number) => {
                let text = number.to_string();
                let is_secret = matches!(self.text(&text), Cow::Owned(_));
                if is_secret {
                    *value = HIDDEN.into();
                }
                is_secret
            }
            Value::Null | Value::Bool(_) => false,
        }
    }
}

impl std::fmt::Debug for SecretMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SecretMask").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RpcFault;

    fn mask() -> SecretMask {
        let mut mask = SecretMask::default();
        mask.hide("Bearer abc/def+123");
        mask.hide("short");
        mask.hide_named("X-API-Key", "hunter22");
        mask.hide_named("REGION", "frankfurt");
        mask
    }

    #[test]
    fn a_credential_is_taken_out_with_and_without_its_scheme_and_by_the_name_of_its_header() {
        let mask = mask();
        let text = "quota of Bearer abc/def+123 (abc/def+123, hunter22) in frankfurt, in short";
        assert_eq!(mask.text(text), "quota of … (…, …) in frankfurt, in short");
        assert_eq!(format!("{mask:?}"), "SecretMask(3)");
    }

    #[test]
    fn json_is_masked_however_it_is_escaped_and_kept_as_it_came_without_a_credential() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let found = mask().json(&raw(r#"{"k":["Bearer abc\/def+123",{"hunter22":1}],"n":null}"#));
        assert_eq!(found.unwrap().get(), r#"{"k":["…",{"…":1}],"n":null}"#);
        assert!(mask().json(&raw(r#"{"k": 1.50}"#)).is_none());
        let found = mask().json(&raw(r#"[1e400,"hunter22"]"#));
        assert_eq!(found.unwrap().get(), r#"[1e400,"…"]"#);
    }

    #[test]
    fn the_error_of_a_provider_is_masked_in_its_message_and_data() {
        let data = to_raw_value(&serde_json::json!({ "used": "hunter22" })).unwrap();
        let error = Error::rpc(RpcFault {
            code: -32000,
            message: "no quota for hunter22".to_owned(),
            data: Some(data),
        });
        let fault = mask().error(error).rpc.unwrap();
        assert_eq!(fault.message, "no quota for …");
        assert_eq!(fault.data.unwrap().get(), r#"{"used":"…"}"#);
    }
}
