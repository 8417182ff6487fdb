//! One JSON-RPC 2.0 message: read strictly, written without parsing what is passed on.

use std::{fmt, hash};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::raw::{Raw, RawObject};
use crate::error::{Code, Error, RpcFault};

/// Deepest nesting of objects and arrays in a message (contracts section 2).
pub const MAX_DEPTH: usize = 128;

/// Most members of the envelope itself, so that the search for duplicates stays short.
const MAX_MEMBERS: usize = 32;

/// A request id exactly as the peer wrote it (a string or an integer), so that it goes back
/// byte for byte.
#[derive(Debug, Clone)]
pub struct Id(pub Raw);

impl Id {
    /// The id of a request of ours.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self(super::raw::raw(&number))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The number, when it is one of ours.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.0.get().parse().ok()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Id {}

impl hash::Hash for Id {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a peer sent.
#[derive(Debug, Clone)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// Its id.
        id: Id,
        /// Its method.
        method: String,
        /// Its parameters, unparsed.
        params: Option<Raw>,
    },
    /// Wants none.
    Notification {
        /// Its method.
        method: String,
        /// Its parameters, unparsed.
        params: Option<Raw>,
    },
    /// Answers a request of ours.
    Response {
        /// The id of our request.
        id: Id,
        /// Result, or the error.
        outcome: Result<Raw, RpcFault>,
    },
}

/// Reads one message.
///
/// # Errors
/// [`Code::Parse`] for anything that is not JSON in UTF-8 of at most [`MAX_DEPTH`] levels;
/// [`Code::InvalidRequest`] for JSON that is not one JSON-RPC 2.0 message with object parameters.
/// When the id could be read all the same, `data` is `{"id": …}`.
pub fn decode(bytes: &[u8]) -> Result<Message, Error> {
    let text = std::str::from_utf8(bytes)
        .map_err(|cause| Error::new(Code::Parse, "the message is not UTF-8").because(cause))?;
    if is_too_deep(bytes) {
        return Err(Error::new(Code::Parse, "the message is nested deeper than 128 levels"));
    }
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {}
        Some(_) => return Err(not_an_object(text)),
        None => return Err(Error::new(Code::Parse, "the message is empty, one JSON object is expected")),
    }
    let envelope: Envelope<'_> = serde_json::from_str(text)
        .map_err(|cause| Error::new(Code::Parse, "the message is not JSON").because(cause))?;
    let id = envelope.usable_id();
    envelope.message().map_err(|message| {
        let error = Error::new(Code::InvalidRequest, message);
        match id {
            Some(id) => error.data(serde_json::json!({ "id": id })),
            None => error,
        }
    })
}

/// The error object of a response whose id is null or missing, as servers send it for requests
/// they could not read (header checks, unknown sessions); `None` for anything else.
#[must_use]
pub fn fault_without_id(bytes: &[u8]) -> Option<RpcFault> {
    let text = std::str::from_utf8(bytes).ok()?;
    if is_too_deep(bytes) {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).ok()?;
    fault_of(envelope.error?).ok()
}

/// A request of ours.
#[must_use]
pub fn request(id: u64, method: &str, params: &RawObject) -> Vec<u8> {
    let mut out = head();
    out.extend_from_slice(b",\"id\":");
    write(&mut out, &id);
    out.extend_from_slice(b",\"method\":");
    write(&mut out, method);
    out.extend_from_slice(b",\"params\":");
    write(&mut out, params);
    out.push(b'}');
    out
}

/// A notification of ours.
#[must_use]
pub fn notification(method: &str, params: Option<&RawValue>) -> Vec<u8> {
    let mut out = head();
    out.extend_from_slice(b",\"method\":");
    write(&mut out, method);
    if let Some(params) = params {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params.get().as_bytes());
    }
    out.push(b'}');
    out
}

/// An answer.
#[must_use]
pub fn result(id: &Id, result: &RawValue) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + id.as_str().len() + result.get().len());
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(b",\"result\":");
    out.extend_from_slice(result.get().as_bytes());
    out.push(b'}');
    out
}

/// An error answer; the id is null when the request's could not be read.
#[must_use]
pub fn error(id: Option<&Id>, fault: &RpcFault) -> Vec<u8> {
    let mut out = head();
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id.map_or("null", Id::as_str).as_bytes());
    out.extend_from_slice(b",\"error\":{\"code\":");
    write(&mut out, &fault.code);
    out.extend_from_slice(b",\"message\":");
    write(&mut out, &fault.message);
    if let Some(data) = &fault.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.get().as_bytes());
    }
    out.extend_from_slice(b"}}");
    out
}

const HEAD: &[u8] = b"{\"jsonrpc\":\"2.0\"";

fn head() -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(HEAD);
    out
}

/// Appends JSON; strings, numbers and raw objects cannot fail to serialise into memory.
fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Whether the text nests deeper than [`MAX_DEPTH`]. Unparsed values skip the limit of the JSON
/// reader, so bytes are counted; most messages have too few brackets for the exact scan.
fn is_too_deep(bytes: &[u8]) -> bool {
    if bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// What is wrong with a text that is not an object.
fn not_an_object(text: &str) -> Error {
    if let Err(cause) = serde_json::from_str::<IgnoredAny>(text) {
        return Error::new(Code::Parse, "the message is not JSON").because(cause);
    }
    if text.trim_start().starts_with('[') {
        return Error::new(Code::InvalidRequest, "batches are not supported, send one message at a time");
    }
    Error::new(Code::InvalidRequest, "the message must be a JSON object")
}

/// A message's members, unparsed.
#[derive(Default)]
struct Envelope<'a> {
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

impl<'a> Envelope<'a> {
    /// The id as a JSON value for an answer to an invalid message.
    fn usable_id(&self) -> Option<serde_json::Value> {
        let raw = self.id.filter(|raw| is_id(raw.get()) && self.twice.as_deref() != Some("id"))?;
        serde_json::from_str(raw.get()).ok().filter(|value: &serde_json::Value| !value.is_f64())
    }

    fn message(self) -> Result<Message, String> {
        if let Some(name) = self.twice {
            return Err(format!("`{name}` occurs twice in the message"));
        }
        if self.crowded {
            return Err(format!("the message has more than {MAX_MEMBERS} members"));
        }
        if self.jsonrpc.and_then(super::raw::text).as_deref() != Some("2.0") {
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
    let method = super::raw::text(method).ok_or("`method` must be a string")?.into_owned();
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
        || text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
}

fn fault_of(raw: &RawValue) -> Result<RpcFault, String> {
    #[derive(Deserialize)]
    struct Fault {
        code: i64,
        #[serde(default)]
        message: String,
        data: Option<Raw>,
    }
    let Fault { code, message, data } = serde_json::from_str(raw.get())
        .map_err(|cause| format!("`error` must be an object with `code` and `message`: {cause}"))?;
    Ok(RpcFault { code, message, data })
}

/// A member's name.
enum Name {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    Other(Box<str>),
}

impl Name {
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

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl Visitor<'_> for Named {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "jsonrpc" => Name::Jsonrpc,
                    "id" => Name::Id,
                    "method" => Name::Method,
                    "params" => Name::Params,
                    "result" => Name::Result,
                    "error" => Name::Error,
                    other => Name::Other(other.into()),
                })
            }
        }
        deserializer.deserialize_str(Named)
    }
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Envelope<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some((name, value)) = map.next_entry::<Name, &'de RawValue>()? {
                    envelope.take(name, value);
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'a> Envelope<'a> {
    /// Notes a member. Faults are only remembered, so that the rest is read and an id behind
    /// them is found.
    fn take(&mut self, name: Name, value: &'a RawValue) {
        let slot = match &name {
            Name::Jsonrpc => &mut self.jsonrpc,
            Name::Id => &mut self.id,
            Name::Method => &mut self.method,
            Name::Params => &mut self.params,
            Name::Result => &mut self.result,
            Name::Error => &mut self.error,
            Name::Other(other) => {
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

#[cfg(test)]
mod tests;
