//! Paths beside the protocol.

use std::sync::Arc;

use pleiades_core::error::{Code, Error};

#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ApiRoute {
    /// `/v1/accounts`.
    Accounts,
    /// `/v1/accounts/{provider}/{account}`; the account as it was written, still encoded.
    Account(Arc<str>, String),
    /// `/oauth/refresh/{provider}`.
    Refresh(Arc<str>),
    /// `/v1/tools/mcp/servers/connect`.
    Connect,
}

impl ApiRoute {
    /// Its name in the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Account(..) => "account",
            Self::Refresh(_) => "refresh",
            Self::Connect => "connect",
        }
    }

    /// `Allow`.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::Accounts => "GET, HEAD",
            Self::Account(..) => "PUT, DELETE",
            Self::Refresh(_) | Self::Connect => "POST",
        }
    }

    pub(super) fn wrong_method(&self) -> Error {
        Error::new(Code::MethodNotAllowed, self.methods())
    }
}

/// Reads a path. An account's name may hold slashes: whatever follows the provider is its name.
pub(in crate::proxy) fn parse(path: &str) -> Option<ApiRoute> {
    if path == "/v1/tools/mcp/servers/connect" {
        return Some(ApiRoute::Connect);
    }
    if path == "/v1/accounts" {
        return Some(ApiRoute::Accounts);
    }
    if let Some(provider) = path.strip_prefix("/oauth/refresh/") {
        return is_id(provider).then(|| ApiRoute::Refresh(Arc::from(provider)));
    }
    let rest = path.strip_prefix("/v1/accounts/")?;
    let (provider, account) = rest.split_once('/').unwrap_or((rest, ""));
    is_id(provider).then(|| ApiRoute::Account(Arc::from(provider), account.to_owned()))
}

/// The form of a provider id, and of a connection's name.
pub(in crate::proxy) fn is_id(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_routes_and_nothing_else() {
        assert_eq!(parse("/v1/accounts"), Some(ApiRoute::Accounts));
        assert_eq!(parse("/v1/tools/mcp/servers/connect"), Some(ApiRoute::Connect));
        assert_eq!(parse("/oauth/refresh/a-b"), Some(ApiRoute::Refresh("a-b".into())));
        assert_eq!(
            parse("/v1/accounts/p/me%40x"),
            Some(ApiRoute::Account("p".into(), "me%40x".to_owned()))
        );
        for path in [
            "/v1",
            "/v1/accountsx",
            "/v1/accounts/",
            "/oauth/refresh/",
            "/oauth/refresh/a/b",
            "/v1/accounts/P/x",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_slash_belongs_to_the_name_of_the_account() {
        assert_eq!(
            parse("/v1/accounts/p/team/me"),
            Some(ApiRoute::Account("p".into(), "team/me".to_owned()))
        );
    }

    #[test]
    fn each_route_allows_its_own_methods() {
        let methods = |path: &str| parse(path).unwrap().methods();
        assert_eq!(methods("/v1/accounts"), "GET, HEAD");
        assert_eq!(methods("/v1/accounts/p/a"), "PUT, DELETE");
        assert_eq!(methods("/oauth/refresh/p"), "POST");
        assert_eq!(
            parse("/v1/accounts").unwrap().wrong_method().code,
            Code::MethodNotAllowed
        );
    }
}
