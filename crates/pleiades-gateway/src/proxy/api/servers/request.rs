//! The request that opens the connect stream.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use url::Url;

use crate::catalog::Provider;
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;
use pleiades_upstream::Transport;

/// Longest name of a server, in bytes.
const MAX_NAME: usize = 256;

/// The body. Members that are not named here are for other kinds of servers, and ignored.
#[derive(Debug, Deserialize)]
struct Body {
    server_name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    server_url: String,
    auth_header: Option<String>,
    auth_token: Option<String>,
    custom_headers: Option<BTreeMap<String, String>>,
}

#[derive(Debug)]
pub(super) struct WantedServer {
    /// The client's name for it.
    pub(super) server_name: String,
    /// Whether the client says that it speaks the transport of 2024-11-05; `None` for a kind that is
    /// not served here.
    pub(super) sse: Option<bool>,
    pub(super) url: Url,
    /// The server's own credentials, by header.
    pub(super) headers: Vec<(String, Secret)>,
}

impl WantedServer {
    /// Reads a body. Errors: [`Code::InvalidParams`].
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        // The parser's words could repeat a token.
        let body: Body = serde_json::from_slice(body).map_err(|_cause| {
            invalid("the body is an object with `server_name`, `type` and `server_url`, and `auth_header`, `auth_token` and `custom_headers` where the server wants them")
        })?;
        if body.server_name.is_empty() || body.server_name.len() > MAX_NAME {
            return Err(invalid("`server_name` has 1 to 256 bytes"));
        }
        let url = Url::parse(&body.server_url).ok().filter(Url::has_host);
        let mut url = url.ok_or_else(|| invalid("`server_url` is not a URL"))?;
        url.set_fragment(None);
        let sse = match body.kind.as_deref() {
            Some("sse") => Some(true),
            Some("streamable_http") | None => Some(false),
            Some(_) => None,
        };
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut headers: Vec<(String, Secret)> = Vec::new();
        if let Some(token) = filled(body.auth_token) {
            let name = filled(body.auth_header).unwrap_or_else(|| "Authorization".to_owned());
            headers.push((name, Secret::new(token)));
        }
        for (name, value) in body.custom_headers.unwrap_or_default() {
            headers.push((name, Secret::new(value)));
        }
        Ok(Self {
            server_name: body.server_name,
            sse,
            url,
            headers,
        })
    }

    /// The loaded provider that this is: of its URL, and of its name where several have that.
    pub(super) fn find<'a>(
        &self,
        providers: impl Iterator<Item = &'a Arc<Provider>>,
    ) -> Option<&'a Arc<Provider>> {
        let mut best: Option<(u8, &Arc<Provider>)> = None;
        for provider in providers {
            let Transport::Http { url, .. } = &provider.endpoint.target else {
                continue;
            };
            let is_named = *provider.id == *self.server_name;
            let weight = match (compare(url, &self.url), is_named) {
                (UrlMatch::No, _) => continue,
                (UrlMatch::Nearly, named) => u8::from(named),
                (UrlMatch::Yes, named) => 2 + u8::from(named),
            };
            if best.is_none_or(|(least, _)| weight > least) {
                best = Some((weight, provider));
            }
        }
        best.map(|(_, provider)| provider)
    }
}

enum UrlMatch {
    No,
    /// But for a slash at the end.
    Nearly,
    Yes,
}

fn compare(loaded: &Url, wanted: &Url) -> UrlMatch {
    let mut loaded = loaded.clone();
    loaded.set_fragment(None);
    if loaded == *wanted {
        return UrlMatch::Yes;
    }
    let mut wanted = wanted.clone();
    for url in [&mut loaded, &mut wanted] {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
    }
    if loaded == wanted {
        UrlMatch::Nearly
    } else {
        UrlMatch::No
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(Code::InvalidParams, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<WantedServer, Error> {
        WantedServer::read(text.as_bytes())
    }

    #[test]
    fn absent_and_null_members_are_the_same() {
        let wanted = read(
            r#"{"server_name":"a","type":"streamable_http","server_url":"https://x/mcp",
            "auth_header":null,"auth_token":"","custom_headers":null,"command":"ignored"}"#,
        );
        let wanted = wanted.unwrap();
        assert_eq!((wanted.sse, wanted.headers.len()), (Some(false), 0));
        assert_eq!(
            read(r#"{"server_name":"a","type":"stdio","server_url":"https://x"}"#)
                .unwrap()
                .sse,
            None
        );
    }

    #[test]
    fn a_token_without_a_header_goes_into_authorization() {
        let wanted = read(
            r#"{"server_name":"a","type":"sse","server_url":"https://x","auth_token":"Bearer t",
            "custom_headers":{"X-Org":"acme"}}"#,
        );
        let wanted = wanted.unwrap();
        let names: Vec<&str> = wanted.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Authorization", "X-Org"]);
        assert!(!format!("{wanted:?}").contains("Bearer"));
    }

    #[test]
    fn bodies_that_name_no_server_are_refused_without_repeating_them() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"server_name":"","server_url":"https://x"}"#,
            r#"{"server_name":"a","server_url":"not a url"}"#,
            r#"{"server_name":"a","server_url":"mailto:a"}"#,
            r#"{"server_name":"a","server_url":"https://x","auth_token":["s3cret"]}"#,
        ] {
            let error = read(body).unwrap_err();
            assert!(!format!("{error:?}").contains("s3cret"), "{body}");
        }
    }

    #[test]
    fn urls_are_compared_as_urls() {
        let url = |text: &str| Url::parse(text).unwrap();
        let yes = |a: &str, b: &str| matches!(compare(&url(a), &url(b)), UrlMatch::Yes);
        assert!(yes("https://X.example:443/mcp", "HTTPS://x.example/mcp"));
        assert!(!yes("https://x.example/mcp", "https://x.example/mcp/"));
        assert!(matches!(
            compare(&url("https://x/mcp"), &url("https://x/mcp/")),
            UrlMatch::Nearly
        ));
        for other in [
            "http://x/mcp",
            "https://x/MCP",
            "https://x/mcp?a",
            "https://u@x/mcp",
            "https://y/mcp",
        ] {
            assert!(
                matches!(compare(&url("https://x/mcp"), &url(other)), UrlMatch::No),
                "{other}"
            );
        }
    }
}
