//! Reading what a provider sends: messages, errors, headers, capabilities.

use std::borrow::Cow;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{call::ProviderEvent, scan::AnswerScan};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::text::one_line;
use pleiades_mcp::{Id, Message, Raw, RawObject, message, raw::raw};

/// The largest JSON body or single event that is read.
pub(crate) const LARGEST: usize = 32 * 1024 * 1024;

pub(crate) type RpcResult = Result<Raw, RpcFault>;

/// Whether an answer's id is that of our request.
pub(crate) fn is_for(id: &Id, ours: u64) -> bool {
    parse_id(&id.0) == Some(ours)
}

/// An id or token of ours as it comes back: a number, or the text that some servers make of it.
pub(crate) fn parse_id(raw: &RawValue) -> Option<u64> {
    let text = raw.get();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let digits = quoted.unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Why a message cannot be read, and which of our requests it would have answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnreadableMessage {
    pub(crate) ids: Vec<u64>,
    /// A clause about the message: "it is not UTF-8".
    pub(crate) why: String,
}

/// Reads a message as leniently as servers write it: `null` beside a result or an error is none, an array
/// of one message is that message, an error needs no words.
pub(crate) fn decode(bytes: &[u8]) -> Result<Message, UnreadableMessage> {
    message::decode(bytes).or_else(|error| lenient(bytes, &error))
}

fn lenient(bytes: &[u8], error: &Error) -> Result<Message, UnreadableMessage> {
    let unread = |why: String| {
        Err(UnreadableMessage {
            ids: AnswerScan::answers(bytes),
            why,
        })
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return unread("it is not UTF-8".to_owned());
    };
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let inner = inner.trim();
        if inner.starts_with('{')
            && let Ok(message) = decode(inner.as_bytes())
        {
            return Ok(message);
        }
        return unread("it is an array, where each message stands alone (no batches)".to_owned());
    }
    if let Some(message) = lenient_response(text) {
        return Ok(message);
    }
    unread(error.in_full())
}

/// A response of which either half is `null`, or whose error has no message.
fn lenient_response(text: &str) -> Option<Message> {
    #[derive(Deserialize)]
    struct LenientResponse<'a> {
        jsonrpc: &'a str,
        id: Raw,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Option<&'a RawValue>,
    }
    if message::is_too_deep(text.as_bytes()) {
        return None;
    }
    let envelope: LenientResponse<'_> = serde_json::from_str(text).ok()?;
    let id = Id(envelope.id);
    let given = |raw: &&RawValue| raw.get() != "null";
    let (result, error) = (envelope.result.filter(given), envelope.error.filter(given));
    let outcome = match (result, error) {
        _ if envelope.jsonrpc != "2.0" || envelope.method.is_some() => return None,
        (Some(result), None) => Ok(result.to_owned()),
        (None, Some(_)) => Err(read_fault(text.as_bytes())?.0),
        _ => return None,
    };
    Some(Message::Response { id, outcome })
}

/// Hands a notification to the call it belongs to. A caller that reads too slowly loses some:
/// progress must never hold up the answer.
pub(crate) fn notify(
    events: Option<&mpsc::Sender<ProviderEvent>>,
    token: u64,
    method: String,
    params: Option<Raw>,
) {
    let Some(events) = events else { return };
    if method != "notifications/progress" {
        return forward(events, method, params);
    }
    let Some(mut params) = params.and_then(|params| RawObject::open(&params).ok()) else {
        return;
    };
    let named = params.remove("progressToken").as_deref().and_then(parse_id);
    if named == Some(token) && events.try_send(ProviderEvent::Progress(params)).is_err() {
        tracing::trace!("a notification found no reader");
    }
}

/// Hands on a notification that belongs to no call; who reads too slowly loses some.
pub(crate) fn forward(events: &mpsc::Sender<ProviderEvent>, method: String, params: Option<Raw>) {
    let event = ProviderEvent::Notification { method, params };
    if events.try_send(event).is_err() {
        tracing::trace!("a notification found no reader");
    }
}

/// The progress token of a notification's parameters, when it is one of ours.
pub(crate) fn token(params: Option<&Raw>) -> Option<u64> {
    let params = RawObject::open(params?).ok()?;
    parse_id(params.get("progressToken")?)
}

/// A JSON-RPC error read as leniently as servers write it, with its id when that is ours to
/// compare: errors about a request that could not be read carry null or none.
pub(crate) fn read_fault(body: &[u8]) -> Option<(RpcFault, Option<u64>)> {
    #[derive(Deserialize)]
    struct ErrorResponse {
        error: ErrorFields,
        #[serde(default)]
        id: Option<Raw>,
        /// Beside one nobody can tell which of the two is meant.
        #[serde(default)]
        result: Option<Raw>,
    }
    #[derive(Deserialize)]
    struct ErrorFields {
        code: i64,
        #[serde(default)]
        message: String,
        #[serde(default)]
        data: Option<Raw>,
    }
    let ErrorResponse { error, id, result } = serde_json::from_slice(body).ok()?;
    if result.is_some_and(|result| result.get() != "null") {
        return None;
    }
    let ErrorFields { code, message, data } = error;
    Some((RpcFault { code, message, data }, id.as_deref().and_then(parse_id)))
}

/// The revisions that a refusal names as those it speaks: `data.supported` of -32022, and of the -32602 that
/// older revisions use (2025-11-25, lifecycle, "Error Handling").
pub(crate) fn supported(fault: &RpcFault) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct SupportedData {
        #[serde(alias = "supportedVersions", alias = "supported_versions")]
        supported: Vec<String>,
    }
    let data: SupportedData = serde_json::from_str(fault.data.as_ref()?.get()).ok()?;
    Some(data.supported)
}

/// A content type without its parameters, compared as RFC 9110 says.
pub(crate) fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(http::header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(expected)
}

/// `Retry-After` in seconds; the form with a date is not worth a clock.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<std::time::Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = value.trim().parse().ok()?;
    Some(std::time::Duration::from_secs(u64::min(seconds, 86_400)))
}

/// `subscriptions/listen` for what a provider says may change; `None` when that is nothing.
pub(crate) fn subscription(capabilities: &Raw) -> Option<RawObject> {
    let changing = announced_changes(capabilities);
    let names = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
    let wanted: serde_json::Map<_, _> = names
        .into_iter()
        .zip(changing)
        .filter(|(_, changes)| *changes)
        .map(|(name, _)| (name.to_owned(), true.into()))
        .collect();
    if wanted.is_empty() {
        return None;
    }
    let mut params = RawObject::new();
    params.set("notifications", raw(&wanted));
    Some(params)
}

/// Whether lists of tools, prompts, resources announce their changes.
pub(crate) fn announced_changes(capabilities: &Raw) -> [bool; 3] {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct ListCapability {
        #[serde(default)]
        list_changed: bool,
    }
    let capabilities = RawObject::open(capabilities).unwrap_or_default();
    ["tools", "prompts", "resources"].map(|part| {
        capabilities
            .read::<ListCapability>(part)
            .is_some_and(|part| part.list_changed)
    })
}

/// `WWW-Authenticate`, all lines of it (RFC 9110 section 5.3).
pub fn challenge(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(http::header::WWW_AUTHENTICATE).iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// Refuses a body in a coding: none was asked for, every request says `identity`.
pub(crate) fn refuse_coding(headers: &HeaderMap) -> Result<(), Error> {
    match content_coding(headers) {
        Some(coding) => Err(protocol_error(format!(
            "the provider's answer is compressed (`{coding}`), although `Accept-Encoding: identity` asks for none"
        ))),
        None => Ok(()),
    }
}

pub(crate) fn content_coding(headers: &HeaderMap) -> Option<String> {
    let coding = headers.get(http::header::CONTENT_ENCODING)?;
    let coding = one_line(&String::from_utf8_lossy(coding.as_bytes()), 32);
    (!coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).then_some(coding)
}

pub(crate) fn protocol_error(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::UpstreamProtocol, message).sent()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> (u64, Result<String, i64>) {
        let Message::Response { id, outcome } = decode(text.as_bytes()).unwrap() else {
            panic!("no response: {text}")
        };
        let outcome = outcome
            .map(|raw| raw.get().to_owned())
            .map_err(|fault| fault.code);
        (parse_id(&id.0).unwrap(), outcome)
    }

    #[test]
    fn answers_are_read_as_servers_write_them() {
        let one = Ok("1".to_owned());
        for text in [
            r#"{"jsonrpc":"2.0","id":"5","result":1}"#,
            r#"{"jsonrpc":"2.0","id":5,"result":1,"error":null}"#,
            r#"{"jsonrpc":"2.0","error":null,"id":"5","result":1}"#,
            r#"[{"jsonrpc":"2.0","id":5,"result":1}]"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":1,\"error\":null}",
        ] {
            assert_eq!(outcome(text), (5, one.clone()), "{text}");
        }
        let refused = r#"{"jsonrpc":"2.0","id":5,"result":null,"error":{"code":-1,"message":"no"}}"#;
        assert_eq!(outcome(refused), (5, Err(-1)));
        let null = r#"{"jsonrpc":"2.0","id":5,"result":null}"#;
        assert_eq!(outcome(null), (5, Ok("null".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_still_names_its_request() {
        for (text, ids, why) in [
            (
                &b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"caf\xe9\"}"[..],
                vec![7],
                "UTF-8",
            ),
            (
                br#"{"jsonrpc":"2.0","id":7,"result":1,"error":{"code":1,"message":"x"}}"#,
                vec![7],
                "not both",
            ),
            (br#"{"id":7,"result":1}"#, vec![7], "jsonrpc"),
            (
                br#"[{"jsonrpc":"2.0","id":7,"result":1},{"jsonrpc":"2.0","id":8,"result":1}]"#,
                vec![7, 8],
                "array",
            ),
            (
                br#"{"jsonrpc":"2.0","id":7,"result":{"a":NaN}}"#,
                vec![7],
                "not JSON",
            ),
            (b"a banner", vec![], "not JSON"),
        ] {
            let unread = decode(text).unwrap_err();
            assert_eq!(unread.ids, ids, "{unread:?}");
            assert!(unread.why.contains(why), "{unread:?}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_spoken_whatever_its_code() {
        let fault = |code, data: &str| RpcFault {
            code,
            message: String::new(),
            data: Some(RawValue::from_string(data.to_owned()).unwrap()),
        };
        let named = Some(vec!["2025-06-18".to_owned()]);
        for code in [-32022, -32602, -32000] {
            assert_eq!(
                supported(&fault(code, r#"{"supported":["2025-06-18"],"requested":"x"}"#)),
                named
            );
        }
        assert_eq!(
            supported(&fault(-32602, r#"{"supportedVersions":["2025-06-18"]}"#)),
            named
        );
        assert_eq!(supported(&fault(-32602, "{}")), None);
    }
}
