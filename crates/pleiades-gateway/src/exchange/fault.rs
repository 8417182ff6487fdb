//! From our error to a JSON-RPC error object.

use serde_json::json;

use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Revision, raw};

/// The JSON-RPC error a peer of this revision is told. Codes below -32000 are the
/// specification's; ours are positive and equal the HTTP status they would have.
#[must_use]
pub fn rpc_fault(error: &Error, revision: Revision) -> RpcFault {
    if let Some(fault) = &error.rpc {
        return (**fault).clone();
    }
    RpcFault {
        code: rpc_code(error.code, revision),
        message: error.message.to_string(),
        data: data(error),
    }
}

/// The code that decides the HTTP status of an error. An upstream's own error stands as ours of the
/// same meaning where 2026-07-28 ties a status to it (streamable HTTP, "Error Codes").
pub(super) fn standing(error: &Error, revision: Revision) -> Code {
    match error.rpc.as_deref().map(|fault| fault.code) {
        Some(-32021) if revision.is_modern() => Code::MissingCapability,
        Some(-32601) if revision.is_modern() => Code::MethodNotFound,
        _ => error.code,
    }
}

const fn rpc_code(code: Code, revision: Revision) -> i64 {
    match code {
        Code::Parse => -32700,
        Code::InvalidRequest | Code::BadFraming | Code::UnknownQuestion => -32600,
        Code::MethodNotFound => -32601,
        Code::InvalidParams | Code::MissingMeta => -32602,
        Code::HeaderMismatch => -32020,
        Code::MissingCapability => -32021,
        Code::UnsupportedRevision => -32022,
        Code::ResourceNotFound if revision.is_modern() => -32602,
        Code::ResourceNotFound => -32002,
        Code::Internal => -32603,
        Code::Unauthenticated => 401,
        Code::HostRefused
        | Code::OriginRefused
        | Code::PolicyDenied
        | Code::NeedsAuth
        | Code::TokenExpired
        | Code::CapabilityMiss
        | Code::AccountAmbiguous
        | Code::UpstreamAuth => 403,
        Code::UnknownPath | Code::UnknownProvider | Code::UnknownSession => 404,
        Code::MethodNotAllowed => 405,
        Code::NotAcceptable => 406,
        Code::BodyTooSlow => 408,
        Code::TooLarge => 413,
        Code::TargetTooLong => 414,
        Code::UnsupportedMedia => 415,
        Code::RateLimited | Code::Busy | Code::BreakerOpen => 429,
        Code::HeadersTooLarge => 431,
        Code::CallGone => 410,
        Code::InputRequired => 428,
        Code::Cancelled => 499,
        Code::UpstreamUnreachable | Code::UpstreamProtocol | Code::UpstreamError => 502,
        Code::ShuttingDown | Code::CredentialStore => 503,
        Code::UpstreamTimeout | Code::CredentialTimeout => 504,
    }
}

/// Details: what the error carries, and when to try again.
fn data(error: &Error) -> Option<raw::Raw> {
    let mut data = error.data.clone().unwrap_or_else(|| json!({}));
    if let (Some(after), Some(object)) = (error.retry_after, data.as_object_mut()) {
        object
            .entry("retry_after")
            .or_insert_with(|| json!(after.as_secs().max(1)));
    }
    let empty = data.as_object().is_some_and(serde_json::Map::is_empty);
    (!empty).then(|| raw::raw(&data))
}
