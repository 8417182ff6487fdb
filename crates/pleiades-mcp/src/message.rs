//! One JSON-RPC 2.0 message: read strictly, written without parsing what is passed on.

mod envelope;

use std::{borrow::Cow, fmt, hash};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::envelope::RpcEnvelope;
use super::raw::{Raw, RawObject, repair_surrogates};
use pleiades_core::error::{Code, Error, RpcFault};

/// Deepest nesting of objects and arrays in a message.
pub const MAX_DEPTH: usize = 128;

/// A request id exactly as the peer wrote it (a string or an integer), so that it goes back byte for byte.
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

/// A message as a peer sent it.
#[derive(Debug, Clone)]
pub enum Message {
    /// A call that wants an answer.
    Request {
        /// Its id.
        id: Id,
        /// Its method.
        method: String,
        /// Its parameters, unparsed.
        params: Option<Raw>,
    },
    /// A message that wants none.
    Notification {
        /// Its method.
        method: String,
        /// Its parameters, unparsed.
        params: Option<Raw>,
    },
    /// The answer to a request of ours.
    Response {
        /// The id of our request.
        id: Id,
        /// Result, or the error.
        outcome: Result<Raw, RpcFault>,
    },
}

/// Reads one message. Half characters in it are read as U+FFFD ([`repair_surrogates`]).
///
/// # Errors
/// [`Code::Parse`] for anything that is not JSON in UTF-8 of at most [`MAX_DEPTH`] levels;
/// [`Code::InvalidRequest`] for JSON that is not one JSON-RPC 2.0 message with object parameters.
/// When the id could be read all the same, `data` is `{"id": …}`.
pub fn decode(bytes: &[u8]) -> Result<Message, Error> {
    let text = std::str::from_utf8(bytes)
        .map_err(|cause| Error::new(Code::Parse, "the message is not UTF-8").because(cause))?;
    if is_too_deep(bytes) {
        return Err(Error::new(
            Code::Parse,
            "the message is nested deeper than 128 levels",
        ));
    }
    let whole = repair_surrogates(text);
    let (sent, text) = (text, &*whole);
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {}
        Some(_) => return Err(not_an_object(text)),
        None => {
            return Err(Error::new(
                Code::Parse,
                "the message is empty, one JSON object is expected",
            ));
        }
    }
    let mut envelope: RpcEnvelope<'_> = serde_json::from_str(text)
        .map_err(|cause| Error::new(Code::Parse, "the message is not JSON").because(cause))?;
    if matches!(whole, Cow::Owned(_)) {
        envelope.keep_id(sent);
    }
    let id = envelope.usable_id();
    envelope.message().map_err(|message| {
        let error = Error::new(Code::InvalidRequest, message);
        match id {
            Some(id) => error.data(serde_json::json!({ "id": id })),
            None => error,
        }
    })
}

/// Splits the error of [`decode`] from the id of the message it is about.
#[must_use]
pub fn split_id(error: Error) -> (Error, Option<Id>) {
    let id = error
        .data
        .as_ref()
        .and_then(|data| data.get("id"))
        .map(|id| Id(super::raw::raw(id)));
    (Error { data: None, ..error }, id)
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

/// A request of ours to a client, under a sealed id.
#[must_use]
pub fn client_request(id: &Id, method: &str, params: &RawObject) -> Vec<u8> {
    let mut out = head();
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(b",\"method\":");
    write(&mut out, method);
    if !params.is_empty() {
        out.extend_from_slice(b",\"params\":");
        write(&mut out, params);
    }
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
#[must_use]
pub fn is_too_deep(bytes: &[u8]) -> bool {
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

fn not_an_object(text: &str) -> Error {
    if let Err(cause) = serde_json::from_str::<IgnoredAny>(text) {
        return Error::new(Code::Parse, "the message is not JSON").because(cause);
    }
    if text.trim_start().starts_with('[') {
        return Error::new(
            Code::InvalidRequest,
            "batches are not supported, send one message at a time",
        );
    }
    Error::new(Code::InvalidRequest, "the message must be a JSON object")
}

#[cfg(test)]
mod tests;
