//! The paths of the public listener.

use std::sync::Arc;

use super::api::route::{self as api, ApiRoute, is_id};
use crate::exchange::{Names, Scope};
use crate::facade::form::AnswerForm;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_core::text::{printable, without_tokens};
use pleiades_credential::access::framing;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    /// A path beside the protocol.
    Api(ApiRoute),
    /// A view, or the relay of one provider.
    Mcp(Scope),
    OAuth(OAuthRoute),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OAuthRoute {
    Connect(String),
    /// The redirect URI of authorization servers; by a provider's own path, where its issuer
    /// does not name itself.
    Callback(Option<Arc<str>>),
    ClientMetadata,
    ConnectionStatus(String),
}

/// Whether a path is for people in browsers, whose refusals are pages.
pub(super) fn is_for_people(path: &str) -> bool {
    path.starts_with("/oauth/connect/") || path == "/oauth/callback" || path.starts_with("/oauth/callback/")
}

/// Reads a path, of which a final slash names the same, how names are to be shown (`?names=safe`,
/// `?names=dotted`), and how much of answers is to stand in `structuredContent` (`?structured=full`, `meta`,
/// `off`). Whether the provider exists is not asked here. Errors: [`Code::UnknownPath`].
pub(super) fn route(path: &str, query: Option<&str>) -> Result<Route, Error> {
    let route = by_path(path).map_err(|error| error.because(format!("`{}`", shown(path))))?;
    Ok(match route {
        Route::Mcp(mut scope) => {
            scope.names = query.and_then(names_style);
            scope.structured = query.and_then(answer_form);
            Route::Mcp(scope)
        }
        other => other,
    })
}

fn names_style(query: &str) -> Option<Names> {
    query
        .split('&')
        .find_map(|pair| match pair.strip_prefix("names=")? {
            "safe" => Some(Names::Safe),
            "dotted" => Some(Names::Dotted),
            _ => None,
        })
}

fn answer_form(query: &str) -> Option<AnswerForm> {
    let pairs = query.split('&');
    let mut words = pairs.filter_map(|pair| pair.strip_prefix("structured="));
    words.find_map(AnswerForm::parse)
}

/// The path of a view as it is written into a client's configuration; of `/` it is the meta view of all.
pub(super) fn view_path(path: &str) -> Option<String> {
    if matches!(path, "" | "/") {
        return Some("/mcp".to_owned());
    }
    match by_path(path) {
        Ok(Route::Mcp(_)) => Some(framing::without_final_slash(path).to_owned()),
        _ => None,
    }
}

fn by_path(path: &str) -> Result<Route, Error> {
    let path = framing::without_final_slash(path);
    if let Some(route) = api::parse(path) {
        return Ok(Route::Api(route));
    }
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let (first, second, more) = (segments.next(), segments.next(), segments.next());
    let view = match (first, second, more) {
        (Some("health"), None, _) => return Ok(Route::Health),
        (Some("oauth" | "v1"), _, _) => return oauth_route(path).map(Route::OAuth).ok_or_else(unknown),
        (Some("mcp"), _, None) => View::Meta,
        (Some("tools"), _, None) => View::Tool,
        (Some("relay"), Some(_), None) => View::Relay,
        _ => return Err(unknown()),
    };
    match second {
        None => Ok(Route::Mcp(Scope::new(view, None))),
        Some(id) if is_provider(id) => Ok(Route::Mcp(Scope::new(view, Some(Arc::from(id))))),
        Some(_) => Err(unknown()),
    }
}

fn oauth_route(path: &str) -> Option<OAuthRoute> {
    let one = |rest: &str| (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned());
    if let Some(link) = path.strip_prefix("/oauth/connect/") {
        return one(link).map(OAuthRoute::Connect);
    }
    if let Some(id) = path.strip_prefix("/v1/connections/") {
        return one(id).map(OAuthRoute::ConnectionStatus);
    }
    match path.strip_prefix("/oauth/")? {
        "callback" => Some(OAuthRoute::Callback(None)),
        "client-metadata.json" => Some(OAuthRoute::ClientMetadata),
        other => {
            let provider = other.strip_prefix("callback/").filter(|id| is_provider(id))?;
            Some(OAuthRoute::Callback(Some(Arc::from(provider))))
        }
    }
}

/// The form of a provider id in a view's path; `s_…` is reserved for one URL per user.
fn is_provider(segment: &str) -> bool {
    is_id(segment) && !segment.starts_with("s_")
}

/// An unknown path as the log shows it: a segment may be somebody's key.
fn shown(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.starts_with("s_") {
        true => "s_…".into(),
        false => without_tokens(segment),
    });
    printable(&segments.collect::<Vec<_>>().join("/"), 128)
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

    fn route(path: &str) -> Result<Route, Error> {
        super::route(path, None)
    }

    #[test]
    fn an_unknown_path_is_in_the_log_without_what_may_be_a_key() {
        let cause = |path| route(path).unwrap_err().cause();
        assert_eq!(cause("/wrong/way"), "`/wrong/way`");
        assert_eq!(cause("/mcp/s_abc/x"), "`/mcp/s_…/x`");
        assert_eq!(cause("/oauth/0123456789abcdef/x"), "`/oauth/…/x`");
    }

    #[test]
    fn how_names_are_shown_stands_in_the_query() {
        let names = |query| match super::route("/tools", query) {
            Ok(Route::Mcp(scope)) => scope.names,
            _ => panic!("a view"),
        };
        assert_eq!(names(Some("names=dotted")), Some(Names::Dotted));
        assert_eq!(names(Some("a=b&names=safe")), Some(Names::Safe));
        for query in [None, Some(""), Some("names=loud"), Some("xnames=dotted")] {
            assert_eq!(names(query), None);
        }
    }

    fn mcp(view: View, provider: Option<&str>) -> Option<Route> {
        Some(Route::Mcp(Scope::new(view, provider.map(Arc::from))))
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
    fn the_broker_has_paths_of_its_own() {
        let oauth_route = |path: &str| match route(path) {
            Ok(Route::OAuth(found)) => Some(found),
            _ => None,
        };
        assert_eq!(
            oauth_route("/oauth/connect/abc"),
            Some(OAuthRoute::Connect("abc".to_owned()))
        );
        assert_eq!(oauth_route("/oauth/callback"), Some(OAuthRoute::Callback(None)));
        assert_eq!(
            oauth_route("/oauth/callback/sentry"),
            Some(OAuthRoute::Callback(Some(Arc::from("sentry"))))
        );
        assert_eq!(
            oauth_route("/oauth/client-metadata.json"),
            Some(OAuthRoute::ClientMetadata)
        );
        assert_eq!(
            oauth_route("/v1/connections/x"),
            Some(OAuthRoute::ConnectionStatus("x".to_owned()))
        );
    }

    #[test]
    fn a_final_slash_names_the_same() {
        for path in [
            "/mcp",
            "/mcp/sentry",
            "/tools",
            "/tools/sentry",
            "/relay/sentry",
            "/health",
            "/oauth/connect/abc",
            "/oauth/callback",
            "/oauth/callback/sentry",
            "/oauth/client-metadata.json",
            "/oauth/refresh/sentry",
            "/v1/connections/x",
            "/v1/accounts",
            "/v1/accounts/sentry/me",
            "/v1/tools/mcp/servers/connect",
        ] {
            let (with, without) = (route(&format!("{path}/")), route(path));
            assert!(without.is_ok(), "{path}");
            assert_eq!(with.ok(), without.ok(), "{path}");
        }
    }

    #[test]
    fn the_address_for_a_client_is_that_of_the_view_without_its_final_slash() {
        for (path, expected) in [
            ("/", Some("/mcp")),
            ("/mcp", Some("/mcp")),
            ("/tools/", Some("/tools")),
            ("/relay/any/", Some("/relay/any")),
            ("/relay", None),
            ("/health", None),
            ("/oauth/callback", None),
            ("/v1/accounts", None),
            ("/mcp/s_x", None),
        ] {
            assert_eq!(view_path(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn everything_else_is_unknown() {
        for path in [
            "/",
            "",
            "/relay",
            "/relay/a/b",
            "/mcp//",
            "/mcp/s_x",
            "/mcp/A",
            "/tools/a/b",
            "/health/x",
            "/oauth",
            "/oauth/callback//",
            "/oauth/callback/a/b",
            "/oauth/connect/",
            "/oauth/connect/a/b",
            "/v1/connections/",
        ] {
            assert!(route(path).is_err(), "{path}");
        }
    }
}
