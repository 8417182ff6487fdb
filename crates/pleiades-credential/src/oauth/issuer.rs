//! The one place that compares the issuer of an authorization response (RFC 9207).

use super::OAuthError;

/// Whether an authorization response comes from the server that was asked.
///
/// Called before anything else of it is looked at, with `iss` as form-decoded, for error responses too.
/// Compared byte by byte, without any normalisation.
///
/// | promised | `iss` | |
/// |---|---|---|
/// | yes | there | compared |
/// | yes | missing | refused |
/// | no | there | compared, where an issuer is known |
/// | no | missing | goes on |
///
/// A build with the feature `unchecked-iss` compares nothing: the control of the conformance suite,
/// which must turn red then. It is not part of any release.
/// Errors: [`super::OAuthErrorKind::Metadata`]; nothing of the response may be shown or used.
pub(crate) fn check_iss(
    expected: Option<&str>,
    promised: bool,
    given: Option<&str>,
) -> Result<(), OAuthError> {
    if cfg!(feature = "unchecked-iss") {
        return Ok(());
    }
    match (expected, given) {
        (Some(expected), Some(given)) if expected != given => Err(refused(
            "the answer comes from another authorization server than the one that was asked",
        )),
        (_, None) if promised => Err(refused(
            "the answer does not say which authorization server it comes from, though the server's metadata \
             promises it",
        )),
        _ => Ok(()),
    }
}

fn refused(why: &str) -> OAuthError {
    OAuthError::metadata(why).cure("start again; when it stays so, tell the provider (RFC 9207)")
}
