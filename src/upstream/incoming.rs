//! What a provider says: which part of it belongs to a request, which is asked of us.

use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::call::Event;
use crate::error::RpcFault;
use crate::mcp::raw::raw;
use crate::mcp::{Id, Raw, RawObject};

/// The answer to one request: its result, or the provider's error.
pub(crate) type Outcome = Result<Raw, RpcFault>;

/// Whether an answer's id is that of our request.
pub(crate) fn is_for(id: &Id, ours: u64) -> bool {
    number(&id.0) == Some(ours)
}

/// An id or token of ours as it comes back.
pub(crate) fn number(raw: &Raw) -> Option<u64> {
    raw.get().parse().ok()
}

/// Hands a notification to the call it belongs to. A caller that reads too slowly loses some:
/// progress must never hold up the answer.
pub(crate) fn notify(events: Option<&mpsc::Sender<Event>>, token: u64, method: String, params: Option<Raw>) {
    let Some(events) = events else { return };
    let event = if method == "notifications/progress" {
        let Some(mut params) = params.and_then(|params| RawObject::open(&params).ok()) else {
            return;
        };
        if params.remove("progressToken").as_ref().and_then(number) != Some(token) {
            return;
        }
        Event::Progress(params)
    } else {
        Event::Notice { method, params }
    };
    if events.try_send(event).is_err() {
        tracing::trace!("a notification found no reader");
    }
}

/// The progress token of a notification's parameters, when it is one of ours.
pub(crate) fn token(params: Option<&Raw>) -> Option<u64> {
    let params = RawObject::open(params?).ok()?;
    params.read("progressToken")
}

/// A JSON-RPC error read as leniently as servers write it, with its id when that is ours to
/// compare: errors about a request that could not be read carry null or none.
pub(crate) fn fault(body: &[u8]) -> Option<(RpcFault, Option<u64>)> {
    #[derive(Deserialize)]
    struct Envelope {
        error: Fault,
        #[serde(default)]
        id: Option<Raw>,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: i64,
        #[serde(default)]
        message: String,
        #[serde(default)]
        data: Option<Raw>,
    }
    let Envelope { error, id } = serde_json::from_slice(body).ok()?;
    let Fault { code, message, data } = error;
    Some((RpcFault { code, message, data }, id.as_ref().and_then(number)))
}

/// `data.supported` of error -32022.
pub(crate) fn supported(fault: &RpcFault) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    if fault.code != -32022 {
        return None;
    }
    let data: Data = serde_json::from_str(fault.data.as_ref()?.get()).ok()?;
    Some(data.supported)
}

/// A content type without its parameters, compared as RFC 9110 says.
pub(crate) fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(expected)
}

/// `Retry-After` in seconds; the form with a date is not worth a clock.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<std::time::Duration> {
    let seconds = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(std::time::Duration::from_secs(u64::min(seconds, 86_400)))
}

/// `subscriptions/listen` for what a provider says may change; `None` when that is nothing.
pub(crate) fn subscription(capabilities: &Raw) -> Option<RawObject> {
    let changing = changing(capabilities);
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
pub(crate) fn changing(capabilities: &Raw) -> [bool; 3] {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        #[serde(default)]
        list_changed: bool,
    }
    let capabilities = RawObject::open(capabilities).unwrap_or_default();
    ["tools", "prompts", "resources"].map(|part| {
        capabilities
            .read::<Part>(part)
            .is_some_and(|part| part.list_changed)
    })
}
