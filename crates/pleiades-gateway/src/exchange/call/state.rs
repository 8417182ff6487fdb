//! `requestState`: what a client of 2026-07-28 carries between the rounds of one call. Sealed to
//! the principal, the provider, the account and the call it belongs to, so that an answer can
//! never be steered elsewhere (multi-round-trip requests, SEP-2322).

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exchange::session::Tokens;
use pleiades_core::error::{Code, Error};
use pleiades_mcp::RawObject;

/// How long a client may take with its answer (seconds).
const LIFETIME_SECS: u64 = 3_600;
const PURPOSE: &str = "state";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallKey {
    #[serde(rename = "p")]
    pub(super) provider: String,
    /// Fingerprint of the account.
    #[serde(rename = "a")]
    pub(super) account: Option<[u8; 32]>,
    #[serde(rename = "m")]
    pub(super) method: String,
    /// Tool, prompt or resource.
    #[serde(rename = "n")]
    pub(super) name: String,
    /// Of the arguments, whatever order their members come in.
    #[serde(rename = "d")]
    pub(super) digest: [u8; 32],
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CallState {
    #[serde(rename = "u")]
    Upstream(String),
    /// The call became a task of its provider, which asks; its name there.
    #[serde(rename = "t")]
    Task(String),
    #[serde(rename = "k")]
    Parked {
        #[serde(rename = "r")]
        replica: String,
        #[serde(rename = "s")]
        slot: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    of: CallKey,
    state: CallState,
}

impl CallKey {
    pub(super) fn new(provider: &str, account: Option<[u8; 32]>, method: &str, params: &RawObject) -> Self {
        let name = params.text("name").or_else(|| params.text("uri"));
        Self {
            provider: provider.to_owned(),
            account,
            method: method.to_owned(),
            name: name.unwrap_or_default().into_owned(),
            digest: digest_of(params),
        }
    }
}

fn digest_of(params: &RawObject) -> [u8; 32] {
    let mut text = String::new();
    if let Some(arguments) = params.get("arguments") {
        match serde_json::from_str(arguments.get()) {
            Ok(arguments) => canonical(&arguments, &mut text),
            // JSON that no value holds (1e400) is what it is in these very letters.
            Err(_) => text.push_str(arguments.get()),
        }
    }
    let mut bytes = [0_u8; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

/// JSON with its members in order of their names. Depth is bounded by that of messages.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<_> = members.iter().collect();
            names.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in names {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

impl CallState {
    pub(super) fn seal(self, tokens: &Tokens, holder: &str, of: CallKey) -> String {
        tokens.seal(PURPOSE, holder, LIFETIME_SECS, &Sealed { of, state: self })
    }

    /// [`Code::CredentialStore`] while nothing opens; [`Code::InvalidParams`] when it is not this call's.
    pub(super) fn open(tokens: &Tokens, holder: &str, of: &CallKey, token: &str) -> Result<Self, Error> {
        tokens.ready()?;
        match tokens.open::<Sealed>(PURPOSE, holder, token) {
            Some(sealed) if sealed.of == *of => Ok(sealed.state),
            _ => Err(Error::new(
                Code::InvalidParams,
                "`requestState` was changed, has expired or belongs to another call; \
                 make the call again without it",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pleiades_mcp::raw;

    fn of(params: &Value) -> CallKey {
        CallKey::new(
            "one",
            None,
            "tools/call",
            &RawObject::open(&raw::raw(params)).unwrap(),
        )
    }

    #[test]
    fn the_order_of_arguments_makes_no_other_call_and_their_values_do() {
        let one = of(&json!({ "name": "t", "arguments": { "a": 1, "b": [{ "x": 1, "y": 2 }] } }));
        let same = of(&json!({ "name": "t", "arguments": { "b": [{ "y": 2, "x": 1 }], "a": 1 } }));
        let other = of(&json!({ "name": "t", "arguments": { "b": [{ "y": 2, "x": 2 }], "a": 1 } }));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_ne!(
            one,
            of(&json!({ "name": "u", "arguments": { "a": 1, "b": [{ "x": 1, "y": 2 }] } }))
        );
    }

    #[test]
    fn a_state_opens_for_its_own_call_and_caller_alone() {
        let tokens = crate::exchange::tests::tokens();
        let (mine, other) = (of(&json!({ "name": "t" })), of(&json!({ "name": "u" })));
        let token = CallState::Upstream("theirs".to_owned()).seal(&tokens, "ann", mine.clone());
        let open = |holder: &str, of: &CallKey| CallState::open(&tokens, holder, of, &token);
        assert!(matches!(open("ann", &mine).unwrap(), CallState::Upstream(state) if state == "theirs"));
        for error in [open("bob", &mine).unwrap_err(), open("ann", &other).unwrap_err()] {
            assert_eq!(error.code, Code::InvalidParams);
        }
    }

    #[test]
    fn a_call_by_another_account_or_of_another_provider_is_another_call() {
        let params = RawObject::new();
        let key = |provider: &str, account| CallKey::new(provider, account, "tools/call", &params);
        assert_ne!(key("one", None), key("two", None));
        assert_ne!(key("one", Some([1; 32])), key("one", Some([2; 32])));
    }

    #[test]
    fn arguments_that_no_value_holds_are_told_by_their_letters() {
        let key = |text: &str| {
            let params: RawObject = serde_json::from_str(text).unwrap();
            CallKey::new("one", None, "tools/call", &params)
        };
        assert_eq!(key(r#"{"arguments":1e400}"#), key(r#"{"arguments":1e400}"#));
        assert_ne!(key(r#"{"arguments":1e400}"#), key(r#"{"arguments":1e401}"#));
    }
}
