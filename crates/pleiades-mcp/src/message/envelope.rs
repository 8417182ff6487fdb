//! The envelope of a message: its members found in one pass, nothing inside them parsed.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Id, Message};
use crate::raw::{Raw, text};
use pleiades_core::error::RpcFault;

/// Most members of the envelope itself, so that the search for duplicates stays short.
const MAX_MEMBERS: usize = 32;

#[derive(Default)]
pub(super) struct RpcEnvelope<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    /// Names of other members.
    others: Vec<Box<str>>,
    /// The first name that came twice.
    twice: Option<Box<str>>,
    /// More than [`MAX_MEMBERS`].
    crowded: bool,
}

impl<'a> RpcEnvelope<'a> {
    /// The id as a JSON value for an answer to an invalid message.
    pub(super) fn usable_id(&self) -> Option<serde_json::Value> {
        let raw = self
            .id
            .filter(|raw| is_id(raw.get()) && self.twice.as_deref() != Some("id"))?;
        serde_json::from_str(raw.get())
            .ok()
            .filter(|value: &serde_json::Value| !value.is_f64())
    }

    /// Takes the id as it was sent: it goes back byte for byte.
    pub(super) fn keep_id(&mut self, sent: &'a str) {
        if let Ok(sent) = serde_json::from_str::<RpcEnvelope<'a>>(sent) {
            self.id = sent.id;
        }
    }

    pub(super) fn message(self) -> Result<Message, String> {
        if let Some(name) = self.twice {
            return Err(format!("`{name}` occurs twice in the message"));
        }
        if self.crowded {
            return Err(format!("the message has more than {MAX_MEMBERS} members"));
        }
        if self.jsonrpc.and_then(text).as_deref() != Some("2.0") {
            return Err("`jsonrpc` must be \"2.0\"".into());
        }
        let id = self.id.map(valid_id).transpose()?;
        match (self.method, self.result, self.error) {
            (Some(method), None, None) => call(id, method, self.params),
            (Some(_), _, _) => Err("a message with `method` cannot carry `result` or `error`".into()),
            (None, Some(_), Some(_)) => Err("a response carries `result` or `error`, not both".into()),
            (None, None, None) => Err("`method` is missing".into()),
            (None, result, error) => {
                let id = id.ok_or("a response needs the `id` of its request")?;
                let outcome = match (result, error) {
                    (Some(result), _) => Ok(result.to_owned()),
                    (None, error) => Err(error.map_or(Err("`error` is missing".into()), fault_of)?),
                };
                Ok(Message::Response { id, outcome })
            }
        }
    }
}

fn call(id: Option<Id>, method: &RawValue, params: Option<&RawValue>) -> Result<Message, String> {
    let method = text(method).ok_or("`method` must be a string")?.into_owned();
    let params = match params {
        Some(params) if params.get().starts_with('{') => Some(params.to_owned()),
        Some(_) => return Err("`params` must be an object".into()),
        None => None,
    };
    Ok(match id {
        Some(id) => Message::Request { id, method, params },
        None => Message::Notification { method, params },
    })
}

fn valid_id(raw: &RawValue) -> Result<Id, String> {
    if is_id(raw.get()) {
        return Ok(Id(raw.to_owned()));
    }
    Err("`id` must be a string or an integer".into())
}

/// Whether JSON text is a string or an integer written as one.
fn is_id(text: &str) -> bool {
    text.starts_with('"')
        || text
            .strip_prefix('-')
            .unwrap_or(text)
            .bytes()
            .all(|byte| byte.is_ascii_digit())
}

fn fault_of(raw: &RawValue) -> Result<RpcFault, String> {
    #[derive(Deserialize)]
    struct ErrorObject {
        code: i64,
        #[serde(default)]
        message: String,
        data: Option<Raw>,
    }
    let ErrorObject { code, message, data } = serde_json::from_str(raw.get())
        .map_err(|cause| format!("`error` must be an object with `code` and `message`: {cause}"))?;
    Ok(RpcFault { code, message, data })
}

enum MemberName {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    Other(Box<str>),
}

impl MemberName {
    fn as_str(&self) -> &str {
        match self {
            Self::Jsonrpc => "jsonrpc",
            Self::Id => "id",
            Self::Method => "method",
            Self::Params => "params",
            Self::Result => "result",
            Self::Error => "error",
            Self::Other(name) => name,
        }
    }
}

impl<'de> Deserialize<'de> for MemberName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberNameVisitor;
        impl Visitor<'_> for MemberNameVisitor {
            type Value = MemberName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E>(self, name: &str) -> Result<MemberName, E> {
                Ok(match name {
                    "jsonrpc" => MemberName::Jsonrpc,
                    "id" => MemberName::Id,
                    "method" => MemberName::Method,
                    "params" => MemberName::Params,
                    "result" => MemberName::Result,
                    "error" => MemberName::Error,
                    other => MemberName::Other(other.into()),
                })
            }
        }
        deserializer.deserialize_str(MemberNameVisitor)
    }
}

impl<'de> Deserialize<'de> for RpcEnvelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = RpcEnvelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RpcEnvelope<'de>, A::Error> {
        let mut envelope = RpcEnvelope::default();
        while let Some((name, value)) = map.next_entry::<MemberName, &'de RawValue>()? {
            envelope.take(name, value);
        }
        Ok(envelope)
    }
}

impl<'a> RpcEnvelope<'a> {
    /// Notes a member. Faults are only remembered, so that the rest is read and an id behind them is found.
    fn take(&mut self, name: MemberName, value: &'a RawValue) {
        let slot = match &name {
            MemberName::Jsonrpc => &mut self.jsonrpc,
            MemberName::Id => &mut self.id,
            MemberName::Method => &mut self.method,
            MemberName::Params => &mut self.params,
            MemberName::Result => &mut self.result,
            MemberName::Error => &mut self.error,
            MemberName::Other(other) => {
                if self.others.len() >= MAX_MEMBERS {
                    self.crowded = true;
                } else if self.others.contains(other) {
                    self.twice.get_or_insert_with(|| other.clone());
                } else {
                    self.others.push(other.clone());
                }
                return;
            }
        };
        if slot.replace(value).is_some() {
            self.twice.get_or_insert_with(|| name.as_str().into());
        }
    }
}
