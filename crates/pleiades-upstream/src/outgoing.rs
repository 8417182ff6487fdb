//! Requests as bytes: parameters with the metadata of their revision.

use std::sync::LazyLock;

use http::HeaderValue;

use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, headers, message, raw::raw};

/// The key under which a modern request says its revision.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Who we are, to every provider.
pub(crate) static CLIENT: LazyLock<Raw> =
    LazyLock::new(|| raw(&serde_json::json!({"name": "pleiades", "version": env!("CARGO_PKG_VERSION")})));

static MODERN: LazyLock<Raw> = LazyLock::new(|| raw(Revision::V2026_07_28.as_str()));

/// The longest id of an event that is continued after, in bytes.
const LONGEST_EVENT: usize = 4096;

/// An event's id as a header; none that is too long to be sent along.
pub(crate) fn event_id(id: &str) -> Option<HeaderValue> {
    let id = Some(id).filter(|id| !id.is_empty() && id.len() <= LONGEST_EVENT)?;
    HeaderValue::from_str(id).ok()
}

#[derive(Debug)]
pub(crate) struct EncodedRequest {
    pub(crate) body: Vec<u8>,
    /// W3C trace context of `_meta`, for the HTTP headers of the same names.
    pub(crate) trace: TraceContext,
    /// `Mcp-Name`, modern requests only.
    pub(crate) name: Option<HeaderValue>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct TraceContext {
    pub(crate) parent: Option<HeaderValue>,
    pub(crate) state: Option<HeaderValue>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestMeta<'a> {
    pub(crate) revision: Revision,
    /// What may be asked of the caller: part of each modern request, and of `initialize`.
    pub(crate) declared: &'a DeclaredCapabilities,
    /// The progress token, when progress is wanted.
    pub(crate) progress: Option<u64>,
}

impl<'a> RequestMeta<'a> {
    pub(crate) const fn without_progress(revision: Revision, declared: &'a DeclaredCapabilities) -> Self {
        Self {
            revision,
            declared,
            progress: None,
        }
    }
}

pub(crate) fn encode(
    id: u64,
    method: &str,
    params: &mut RawObject,
    manner: RequestMeta<'_>,
) -> EncodedRequest {
    let revision = manner.revision;
    let trace = complete_meta(params, manner);
    let name = revision
        .is_modern()
        .then(|| headers::name_of(method, params).map(|name| headers::encode(&name)))
        .flatten();
    EncodedRequest {
        body: message::request(id, method, params),
        trace,
        name,
    }
}

/// Completes `_meta`; leaves parameters that need nothing alone.
fn complete_meta(params: &mut RawObject, manner: RequestMeta<'_>) -> TraceContext {
    let RequestMeta {
        revision,
        declared,
        progress: token,
    } = manner;
    let given = params.get("_meta");
    if given.is_none() && token.is_none() && !revision.is_modern() {
        return TraceContext::default();
    }
    let mut meta = given
        .and_then(|meta| RawObject::open(meta).ok())
        .unwrap_or_default();
    let trace = TraceContext {
        parent: header(&meta, "traceparent"),
        state: header(&meta, "tracestate"),
    };
    meta.remove("progressToken");
    if let Some(token) = token {
        meta.put("progressToken", &token);
    }
    if revision.is_modern() {
        meta.set(VERSION, MODERN.clone());
        meta.set(CLIENT_INFO, CLIENT.clone());
        meta.set(CAPABILITIES, declared.capabilities(revision));
    }
    if meta.is_empty() {
        params.remove("_meta");
    } else {
        params.set("_meta", meta.close());
    }
    trace
}

fn header(meta: &RawObject, key: &str) -> Option<HeaderValue> {
    let text: String = meta.read(key)?;
    HeaderValue::from_str(&text).ok()
}

pub(crate) fn initialize_params(revision: Revision, declared: &DeclaredCapabilities) -> RawObject {
    let mut params = RawObject::new();
    params.put("protocolVersion", revision.as_str());
    params.set("capabilities", declared.capabilities(revision));
    params.set("clientInfo", CLIENT.clone());
    params
}

/// Tells a provider that the answer to `id` is not waited for any more.
pub(crate) fn cancellation(id: u64) -> Vec<u8> {
    let params = raw(&serde_json::json!({"requestId": id, "reason": "no longer needed"}));
    message::notification("notifications/cancelled", Some(&params))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: serde_json::Value) -> RawObject {
        RawObject::open(&raw(&value)).unwrap()
    }

    fn written(
        id: u64,
        method: &str,
        params: &mut RawObject,
        revision: Revision,
        progress: bool,
    ) -> EncodedRequest {
        let declared = &DeclaredCapabilities::default();
        let manner = RequestMeta {
            revision,
            declared,
            progress: progress.then_some(id),
        };
        encode(id, method, params, manner)
    }

    fn params_of(outgoing: &EncodedRequest) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_slice(&outgoing.body).unwrap();
        body["params"].clone()
    }

    #[test]
    fn legacy_parameters_without_metadata_pass_untouched() {
        let mut params = object(serde_json::json!({"name": "a", "arguments": {"x": 1.50}}));
        let sent = written(7, "tools/call", &mut params, Revision::V2025_06_18, false);
        let body: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
        let expected = serde_json::json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": {"name": "a", "arguments": {"x": 1.5}},
        });
        assert_eq!(body, expected);
        assert!(sent.name.is_none());
    }

    #[test]
    fn the_callers_progress_token_never_goes_upstream() {
        let mut params = object(serde_json::json!({"_meta": {"progressToken": "theirs", "own": 1}}));
        let sent = written(7, "tools/list", &mut params.clone(), Revision::V2025_11_25, true);
        assert_eq!(
            params_of(&sent),
            serde_json::json!({"_meta": {"own": 1, "progressToken": 7}})
        );
        let sent = written(8, "tools/list", &mut params, Revision::V2025_11_25, false);
        assert_eq!(params_of(&sent), serde_json::json!({"_meta": {"own": 1}}));
    }

    #[test]
    fn a_modern_request_says_revision_client_and_capabilities_and_mirrors_its_name() {
        let mut params = object(serde_json::json!({"name": "a"}));
        let sent = written(7, "tools/call", &mut params, Revision::V2026_07_28, false);
        let meta = &params_of(&sent)["_meta"];
        assert_eq!(meta[VERSION], "2026-07-28");
        assert_eq!(meta[CLIENT_INFO]["name"], "pleiades");
        assert_eq!(meta[CAPABILITIES], serde_json::json!({}));
        assert_eq!(sent.name.unwrap(), "a");
    }

    #[test]
    fn trace_context_stays_in_the_metadata_and_is_returned_for_the_headers() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut params = object(serde_json::json!({"_meta": {"traceparent": parent, "tracestate": "a=b"}}));
        let sent = written(7, "tools/list", &mut params, Revision::V2025_06_18, false);
        assert_eq!(sent.trace.parent.as_ref().unwrap(), parent);
        assert_eq!(sent.trace.state.as_ref().unwrap(), "a=b");
        assert_eq!(params_of(&sent)["_meta"]["traceparent"], parent);
    }
}
