//! `requestState` under a signature: a client may carry it, and cannot change it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use ring::rand::SystemRandom;
use rmcp::ErrorData;
use serde_json::{Value, json};

use crate::Fallible;

/// Signs and opens the states of one process.
#[derive(Debug)]
pub(crate) struct States(Key);

impl States {
    pub(crate) fn new() -> Fallible<Self> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).map_err(|_unspecified| "no random key")?;
        Ok(Self(key))
    }

    /// A state that only the same tool or prompt opens.
    pub(crate) fn seal(&self, owner: &str, known: &Value) -> String {
        let text = json!({"owner": owner, "known": known}).to_string();
        let signature = sign(&self.0, text.as_bytes());
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(text),
            URL_SAFE_NO_PAD.encode(signature)
        )
    }

    /// # Errors
    ///
    /// Invalid params when the state is not ours, was changed, or belongs to another owner.
    pub(crate) fn open(&self, owner: &str, state: &str) -> Result<Value, ErrorData> {
        let opened = state.split_once('.').and_then(|(text, signature)| {
            let text = URL_SAFE_NO_PAD.decode(text).ok()?;
            let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
            verify(&self.0, &text, &signature).ok()?;
            serde_json::from_slice::<Value>(&text).ok()
        });
        opened
            .filter(|state| state["owner"] == owner)
            .map(|mut state| state["known"].take())
            .ok_or_else(|| ErrorData::invalid_params("`requestState` is not what this server gave out", None))
    }
}
