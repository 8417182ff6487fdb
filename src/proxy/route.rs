//! Path -> what is asked for (contracts section 2).

use std::sync::Arc;

use super::api::{self, Place};
use crate::error::{Code, Error};
use crate::exchange::Scope;
use crate::telemetry::View;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Liveness.
    Health,
    /// Beside the protocol.
    Beside(Place),
    /// A view, or the relay of one provider.
    Mcp(Scope),
}

/// Reads a path. Whether the provider exists is not asked here.
///
/// # Errors
/// [`Code::UnknownPath`].
pub(super) fn route(path: &str) -> Result<Route, Error> {
    if let Some(place) = api::place(path) {
        return Ok(Route::Beside(place));
    }
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let (first, second, more) = (segments.next(), segments.next(), segments.next());
    let view = match (first, second, more) {
        (Some("health"), None, _) => return Ok(Route::Health),
        (Some("mcp"), _, None) => View::Meta,
        (Some("tools"), _, None) => View::Tool,
        (Some("relay"), Some(_), None) => View::Relay,
        _ => return Err(unknown()),
    };
    match second {
        None => Ok(Route::Mcp(Scope { view, provider: None })),
        Some(id) if is_id(id) => Ok(Route::Mcp(Scope {
            view,
            provider: Some(Arc::from(id)),
        })),
        Some(_) => Err(unknown()),
    }
}

/// The form of a provider id; `s_…` is reserved for one URL per user.
fn is_id(segment: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !segment.is_empty() && segment.len() <= 63 && segment.bytes().all(word) && !segment.starts_with("s_")
}

fn unknown() -> Error {
    Error::new(
        Code::UnknownPath,
        "nothing is here; the views are `/mcp`, `/tools` and `/relay/{provider}`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mcp(view: View, provider: Option<&str>) -> Option<Route> {
        Some(Route::Mcp(Scope {
            view,
            provider: provider.map(Arc::from),
        }))
    }

    #[test]
    fn each_view_has_a_union_and_a_path_per_provider() {
        assert_eq!(route("/mcp").ok(), mcp(View::Meta, None));
        assert_eq!(route("/mcp/sentry").ok(), mcp(View::Meta, Some("sentry")));
        assert_eq!(route("/tools").ok(), mcp(View::Tool, None));
        assert_eq!(route("/relay/a-b_2").ok(), mcp(View::Relay, Some("a-b_2")));
        assert_eq!(route("/health").ok(), Some(Route::Health));
    }

    #[test]
    fn everything_else_is_unknown() {
        for path in [
            "/",
            "",
            "/relay",
            "/relay/a/b",
            "/mcp/",
            "/mcp/s_x",
            "/mcp/A",
            "/tools/a/b",
            "/health/x",
            "/oauth/callback",
        ] {
            assert!(route(path).is_err(), "{path}");
        }
    }
}
