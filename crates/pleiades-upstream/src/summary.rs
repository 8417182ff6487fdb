//! A response in place of an answer as the operator is shown it: status, type and a short, cleaned line. It is
//! the cause of an error and no part of an answer: it may name addresses. Only why a request itself is refused
//! is passed on to whoever made it.

use std::{error, fmt};

use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};
use url::Url;

use pleiades_core::error::Error;
use pleiades_core::text::{is_hidden, line_without_tokens, one_line};
use pleiades_core::www_authenticate::Challenge;

/// Longest line that is shown, in characters.
const LONGEST: usize = 160;
/// Bytes of a body that are looked into for its words.
const EXAMINED: usize = 8 * 1024;

/// A refusal, or something that is not MCP.
#[derive(Debug)]
pub(crate) struct ResponseSummary {
    status: StatusCode,
    /// Type of the body, without parameters.
    kind: String,
    line: String,
    /// Where a redirect leads, without what may be secret.
    to: Option<String>,
    /// What a challenge says of the credential: its word for the error, and the description.
    challenge: Option<String>,
}

impl ResponseSummary {
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let kind = content_type(headers);
        let line = line_without_tokens(&first_words(&kind, body), LONGEST);
        Self {
            status,
            kind,
            line,
            to: None,
            challenge: None,
        }
    }

    /// The same with what a challenge says.
    pub(crate) fn challenged(mut self, challenge: &Challenge) -> Self {
        let words = [challenge.error.as_deref(), challenge.description.as_deref()];
        let words: Vec<String> = words
            .into_iter()
            .flatten()
            .map(|words| line_without_tokens(words, LONGEST))
            .collect();
        self.challenge = (!words.is_empty()).then(|| words.join(": "));
        self
    }

    pub(crate) fn redirect(status: StatusCode, headers: &HeaderMap, from: &Url) -> Self {
        Self {
            to: redirect_target(headers, from),
            ..Self::of(status, headers, b"")
        }
    }

    /// Whether it is a page for people, as firewalls and proxies show.
    pub(crate) fn is_page(&self) -> bool {
        self.kind == "text/html"
    }

    pub(crate) fn status(error: &Error) -> Option<StatusCode> {
        let summary: &Self = error.source.as_ref()?.downcast_ref()?;
        Some(summary.status)
    }

    /// Status and type alone: for answers.
    pub(crate) fn describe(&self) -> String {
        match self.kind.as_str() {
            "" => format!("status {}", self.status.as_u16()),
            kind => format!("status {}, {kind}", self.status.as_u16()),
        }
    }
}

impl fmt::Display for ResponseSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())?;
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        if let Some(words) = &self.challenge {
            return write!(f, ": {words}");
        }
        if !self.line.is_empty() {
            write!(f, ": {}", self.line)?;
        }
        Ok(())
    }
}

impl error::Error for ResponseSummary {}

/// The type of a body, without parameters, cleaned: it is the text of others too.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    one_line(value.unwrap_or_default(), 64).to_ascii_lowercase()
}

/// The longest text of a provider that is shown, and the longest word of it, in characters: a longer word may
/// be the credential that it was sent.
const MAX_REASON: usize = 200;
const WORD: usize = 40;

/// What the body of a refusal says to whoever made the request: a member of an object that usually holds them, else the
/// text itself, when it is no page. On one line, and cut.
pub(crate) fn reason(body: &[u8]) -> Option<String> {
    const MEMBERS: [&str; 5] = ["error_description", "message", "detail", "title", "error"];
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => {
            let inner = fields.get("error").and_then(Value::as_object).unwrap_or(&fields);
            let of = |fields: &Map<String, Value>| {
                let texts = MEMBERS.iter().filter_map(|member| fields.get(*member)?.as_str());
                texts.map(str::to_owned).find(|text| !text.trim().is_empty())
            };
            of(inner).or_else(|| of(&fields))?
        }
        Ok(Value::String(text)) => text,
        Ok(_) => return None,
        Err(_) => std::str::from_utf8(body)
            .ok()
            .filter(|text| !text.trim_start().starts_with('<'))?
            .to_owned(),
    };
    let text: String = text
        .chars()
        .map(|each| if each.is_control() { ' ' } else { each })
        .filter(|each| !is_hidden(*each))
        .collect();
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let last = words.last();
        let follows = last.is_some_and(|last| last.eq_ignore_ascii_case("bearer"));
        words.push(if follows || word.len() > WORD { "…" } else { word });
    }
    let text: String = words.join(" ").chars().take(MAX_REASON).collect();
    let text = text.trim_end_matches('.').trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Where a redirect leads: scheme, host and path, since queries and names in it may be secret.
#[must_use]
pub fn redirect_target(headers: &HeaderMap, from: &Url) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let mut to = from.join(location.trim()).ok()?;
    let is_web = matches!(to.scheme(), "http" | "https");
    if !is_web || to.set_username("").is_err() || to.set_password(None).is_err() {
        return None;
    }
    to.set_query(None);
    to.set_fragment(None);
    Some(one_line(to.as_str(), LONGEST))
}

/// The first words of a body, without markup.
pub(crate) fn first_words(kind: &str, body: &[u8]) -> String {
    let body = body.get(..EXAMINED).unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let lower = text.to_ascii_lowercase();
    let is_page = kind == "text/html" || lower.starts_with("<!doctype html") || lower.starts_with("<html");
    if !is_page {
        let mut lines = text.lines().map(str::trim);
        return lines.find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    }
    match between(text, &lower, "<title", "</title") {
        Some(title) if !title.trim().is_empty() => title.trim().to_owned(),
        _ => visible(text, &lower),
    }
}

/// What stands in the first element of a name; `lower` is `text` in lower case, byte for byte.
fn between<'a>(text: &'a str, lower: &str, open: &str, close: &str) -> Option<&'a str> {
    let at = lower.find(open)?;
    let start = at + lower.get(at..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find(close)?;
    text.get(start..end)
}

/// The text of a page up to about a line: no tags, no scripts, no styles.
fn visible(text: &str, lower: &str) -> String {
    let mut shown = String::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if shown.trim().len() > LONGEST {
            break;
        }
        let Some(tag) = rest.find('<') else {
            shown.push_str(rest);
            break;
        };
        shown.push_str(rest.get(..tag).unwrap_or_default());
        shown.push(' ');
        let from = at + tag;
        let hidden = ["<script", "<style", "<head"]
            .into_iter()
            .find(|name| lower.get(from..).is_some_and(|rest| rest.starts_with(name)));
        let end = match hidden {
            Some(name) => format!("</{}", name.trim_start_matches('<')),
            None => ">".to_owned(),
        };
        match lower.get(from..).and_then(|rest| rest.find(&end)) {
            Some(length) => at = from + length + end.len(),
            None => break,
        }
    }
    shown.trim_start_matches(['>', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        headers
    }

    #[test]
    fn a_refusal_is_shown_by_status_type_and_its_first_line() {
        let shown = |kind, body: &str| {
            ResponseSummary::of(StatusCode::BAD_REQUEST, &headers(kind), body.as_bytes()).to_string()
        };
        assert_eq!(
            shown("text/plain; charset=utf-8", "\n Bad\trequest \u{1b}[1m\nmore"),
            "status 400, text/plain: Bad request [1m"
        );
        let page = "<!DOCTYPE html><html><head><Title>Attention\nRequired!</title></head>";
        assert_eq!(
            shown("text/html", page),
            "status 400, text/html: Attention Required!"
        );
        let page =
            "<html><head><style>x{}</style></head><body><script>let a</script><h1>No <b>entry</b></h1>";
        assert_eq!(shown("text/html", page), "status 400, text/html: No entry");
        let long = shown("text/plain", &"x".repeat(100_000));
        assert!(long.chars().count() < 200, "{long}");
        assert_eq!(shown("", ""), "status 400");
    }

    #[test]
    fn a_challenge_says_more_than_the_body_beside_it() {
        let header = "Bearer error=\"invalid_token\", error_description=\"token abcdefgh12345678 is over\"";
        let challenge = pleiades_core::www_authenticate::challenge(401, Some(header));
        let summary = ResponseSummary::of(StatusCode::UNAUTHORIZED, &headers("text/plain"), b"no");
        assert_eq!(
            summary.challenged(&challenge).to_string(),
            "status 401, text/plain: invalid_token: token … is over"
        );
    }

    #[test]
    fn the_target_of_a_redirect_is_whole_and_shows_no_secret() {
        let from = Url::parse("https://a.example/mcp").unwrap();
        for (location, shown) in [
            ("/mcp/?key=secret#x", Some("https://a.example/mcp/")),
            ("https://me:secret@b.example/m", Some("https://b.example/m")),
            ("javascript:alert(1)", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            let summary = ResponseSummary::redirect(StatusCode::PERMANENT_REDIRECT, &headers, &from);
            assert_eq!(summary.to.as_deref(), shown);
            assert!(!summary.to_string().contains("secret"));
        }
    }

    #[test]
    fn what_a_refusal_says_in_words_is_shown_and_no_credential_with_it() {
        let secret = "x".repeat(41);
        let named = format!("token {secret} has expired.");
        for (body, expected) in [
            ("Token expired.", Some("Token expired")),
            (r#"{"message":"Token expired"}"#, Some("Token expired")),
            (r#"{"error":{"code":7,"message":"over"}}"#, Some("over")),
            (
                r#"{"error":"invalid_grant","error_description":"a\r\nb"}"#,
                Some("a b"),
            ),
            (r#"{"error":"no_such_thing"}"#, Some("no_such_thing")),
            ("a\u{202e}b\u{1b}[31m", Some("ab [31m")),
            ("Bearer short is over", Some("Bearer … is over")),
            (&named, Some("token … has expired")),
            ("<html>no</html>", None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(reason(body.as_bytes()).as_deref(), expected, "{body}");
        }
        assert_eq!(reason("a ".repeat(500).as_bytes()).unwrap().chars().count(), 199);
    }
}
