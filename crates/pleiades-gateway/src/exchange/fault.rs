//! From our error to a JSON-RPC error object, and the errors that several rooms have.

use std::time::Duration;

use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Revision, raw};
use pleiades_upstream::is_private_address;

/// JSON-RPC: the client has to open an address first (2025-11-25).
pub(crate) const URL_REQUIRED: i64 = -32042;

/// The JSON-RPC error a peer of this revision is told. Codes below -32000 are the
/// specification's; ours are positive and equal the HTTP status they would have.
#[must_use]
pub fn rpc_fault(error: &Error, revision: Revision) -> RpcFault {
    rpc_fault_of(error, revision, None)
}

/// The same with the id of the request, which over stdio has no other place.
#[must_use]
pub fn rpc_fault_of(error: &Error, revision: Revision, request_id: Option<&str>) -> RpcFault {
    if let Some(fault) = &error.rpc {
        return (**fault).clone();
    }
    let mut details = error.details();
    if let Some(id) = request_id {
        details.insert("request_id".to_owned(), id.into());
    }
    RpcFault {
        code: rpc_code(error.code, revision),
        message: error.message.to_string(),
        data: Some(raw::raw(&details)),
    }
}

/// The code that decides the HTTP status of an error. An upstream's own error stands as ours of the
/// same meaning where 2026-07-28 ties a status to it (streamable HTTP, "Error Codes").
pub(crate) fn status_code(error: &Error, revision: Revision) -> Code {
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

/// When a call of a provider that could not be reached is worth another try, where nothing else says so:
/// programs that read errors would try again at once.
const AWAY: Duration = Duration::from_secs(5);

/// The error with a time to try again, where nothing was sent because the provider cannot be reached for now.
pub(crate) fn paced(mut error: Error) -> Error {
    let is_away = matches!(error.code, Code::UpstreamUnreachable | Code::UpstreamTimeout);
    if is_away && !error.sent && error.rpc.is_none() && !is_private_address(&error) {
        error.retry_after.get_or_insert(AWAY);
    }
    error
}

pub(crate) fn unknown_provider(id: &str) -> Error {
    Error::new(
        Code::UnknownProvider,
        format!("no provider `{}` is loaded", printable(id)),
    )
}

pub(crate) fn malformed_answer(key: &str) -> Error {
    Error::new(
        Code::InvalidParams,
        format!(
            "the answer `{}` is none: `action` must be \"accept\", \"decline\" or \"cancel\"",
            printable(key)
        ),
    )
}

/// A peer's word as it may stand in an error: bounded, without what cannot be seen.
pub(crate) fn printable(text: &str) -> String {
    pleiades_core::text::printable(text, 128)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_providers_own_error_is_told_as_it_is() {
        let fault = RpcFault {
            code: -32001,
            message: "theirs".to_owned(),
            data: None,
        };
        let translated = rpc_fault(&Error::rpc(fault), Revision::V2025_11_25);
        assert_eq!((translated.code, translated.message.as_str()), (-32001, "theirs"));
    }

    #[test]
    fn a_resource_that_is_not_there_has_a_code_of_its_own_before_2026_07_28() {
        let error = Error::new(Code::ResourceNotFound, "no resource");
        assert_eq!(rpc_fault(&error, Revision::V2025_11_25).code, -32002);
        assert_eq!(rpc_fault(&error, Revision::V2026_07_28).code, -32602);
    }

    #[test]
    fn an_error_says_its_stable_code_and_when_to_come_back_unless_its_data_do() {
        let error = Error::new(Code::Busy, "busy").retry_after(Duration::from_millis(200));
        let data = rpc_fault(&error, Revision::V2025_11_25).data.expect("some");
        assert_eq!(data.get(), r#"{"code":"busy","retry_after":1}"#);
        let translated = error.data(json!({ "retry_after": 9 }));
        let data = rpc_fault(&translated, Revision::V2025_11_25).data.expect("some");
        assert_eq!(data.get(), r#"{"retry_after":9,"code":"busy"}"#);
    }

    #[test]
    fn over_stdio_the_id_of_a_request_stands_in_errors_of_ours_alone() {
        let data = |error: &Error| rpc_fault_of(error, Revision::V2025_11_25, Some("a-1")).data;
        let ours = data(&Error::new(Code::Busy, "busy")).expect("some");
        assert_eq!(ours.get(), r#"{"code":"busy","request_id":"a-1"}"#);
        let theirs = RpcFault {
            code: 1,
            message: String::new(),
            data: None,
        };
        assert!(data(&Error::rpc(theirs)).is_none());
    }

    #[test]
    fn a_provider_that_is_away_is_worth_another_try_later_and_never_at_once() {
        let after = |error| paced(error).retry_after.map(|after| after.as_secs());
        let away = || Error::new(Code::UpstreamUnreachable, "away");
        assert_eq!(after(away()), Some(5));
        assert_eq!(after(away().retry_after(Duration::from_secs(60))), Some(60));
        assert_eq!(after(away().sent()), None);
        assert_eq!(after(Error::new(Code::NeedsAuth, "no")), None);
        let lasting = pleiades_upstream::private_address(std::net::Ipv4Addr::LOCALHOST.into());
        assert_eq!(after(lasting), None, "until its descriptor is changed");
    }

    #[test]
    fn a_providers_missing_method_decides_the_status_of_2026_07_28_alone() {
        let fault = |code| RpcFault {
            code,
            message: String::new(),
            data: None,
        };
        let (missing, unknown) = (Error::rpc(fault(-32021)), Error::rpc(fault(-32601)));
        assert_eq!(
            status_code(&missing, Revision::V2026_07_28),
            Code::MissingCapability
        );
        assert_eq!(status_code(&unknown, Revision::V2026_07_28), Code::MethodNotFound);
        assert_eq!(status_code(&unknown, Revision::V2025_11_25), Code::UpstreamError);
    }
}
