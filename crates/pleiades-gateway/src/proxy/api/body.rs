//! Bodies of the API, and what refuses a request in its words.

use bytes::Bytes;
use http::{StatusCode, header};
use pingora_proxy::Session;

use super::route::ApiRoute;
use crate::proxy::respond::{self, Response};
use crate::proxy::{bridge, intake};
use pleiades_core::error::{Code, Error};
use pleiades_credential::vault::Fault;
use pleiades_mcp::Revision;

/// Largest body, in bytes: names and a token at most.
const MAX_BODY: usize = 64 * 1024;

/// Reads a bounded body. Errors: as [`bridge::read_small_body`].
pub(super) async fn read(session: &mut Session) -> Result<Bytes, Error> {
    bridge::read_small_body(session, MAX_BODY)
        .await
        .map_err(|error| match error.code {
            Code::TooLarge => Error::new(
                Code::TooLarge,
                format!("the body is larger than {MAX_BODY} bytes"),
            ),
            _ => error,
        })
}

/// Reads a bounded body of JSON, its head looked at first. Errors: as [`intake::check_media`] and [`read`].
pub(super) async fn read_json(session: &mut Session) -> Result<Bytes, Error> {
    intake::check_media(&session.req_header().headers)?;
    read(session).await
}

pub(super) fn refusal(error: &Error, route: &ApiRoute) -> Response {
    let status = match error.code {
        Code::InvalidParams => StatusCode::BAD_REQUEST,
        code => respond::relay_status(code, Revision::NEWEST_LEGACY),
    };
    let mut response = respond::refusal(status, error, None, Revision::NEWEST_LEGACY);
    if error.code == Code::MethodNotAllowed {
        response.headers.retain(|(name, _)| *name != header::ALLOW);
        response = response.header(header::ALLOW, route.methods());
    }
    response
}

pub(super) fn no_account() -> Error {
    Error::new(Code::UnknownPath, "no such account of yours")
}

/// A store that does not answer or says no, as callers see it; the operator reads the cause.
pub(super) fn unavailable(fault: Fault) -> Error {
    let after = fault.retry_after.unwrap_or(std::time::Duration::from_secs(5));
    Error::new(
        Code::CredentialStore,
        format!("{}; nothing was changed", fault.kind.caller_message()),
    )
    .retry_after(after)
    .because(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_methods_of_its_own_path() {
        let response = refusal(&ApiRoute::Connect.wrong_method(), &ApiRoute::Connect);
        let allowed: Vec<_> = response
            .headers
            .iter()
            .filter(|(name, _)| *name == header::ALLOW)
            .map(|(_, value)| value.to_str().unwrap())
            .collect();
        assert_eq!((response.status.as_u16(), allowed), (405, vec!["POST"]));
    }

    #[test]
    fn a_body_that_cannot_be_is_a_bad_request() {
        let error = Error::new(Code::InvalidParams, "no");
        assert_eq!(
            refusal(&error, &ApiRoute::Accounts).status,
            StatusCode::BAD_REQUEST
        );
    }
}
