//! Recognises refusals that mean that a session is unknown, by the words that servers use for it.
//!
//! The specification has one sign of it, 404 (2025-11-25, "Session Management"); SDKs have many. The words
//! below are those of the official ones and of others that are common; a field test kept their list.

use http::StatusCode;

use super::summary::first_words;
use pleiades_core::error::RpcFault;

/// Bytes of a refusal that are looked into.
const EXAMINED: usize = 4 * 1024;
/// How near words have to stand to belong together, in bytes.
const BEFORE: usize = 64;
const AFTER: usize = 80;
const METHOD_NOT_FOUND: i64 = -32601;

/// Words for a session that is unknown or has ended, separated by `|`.
const GONE: &str = "not found|notfound|not be found|not find|n't find|no valid|not valid|invalid|unknown|\
    unrecogni|not recogni|expired|terminated|closed|ended|not exist|notexist|n't exist|no such|\
    no longer|not known|gone|lost|missing|required|is require|not provided|not set|not active|\
    inactive|no active|no session|not open|timed out|timeout|stale|not established|deleted|\
    destroyed|does not match|not match|without a|include a valid|re initiali|reinitiali|\
    only be created";
/// Words for an initialisation that did not happen.
const NOT: &str = "not |n't |uninitiali|before|first|must|expect|require|needs|never|without|please";
/// What was not initialised: a program may have other things to initialise.
const SUBJECTS: &str = "server|session|client|connection|mcp|protocol|transport|request|handshake|message";

/// What a refusal without status 200 means for the session that its request named.
pub(crate) fn ends_session(status: StatusCode, kind: &str, body: &[u8], fault: Option<&RpcFault>) -> bool {
    // An unknown method is the one thing a known session may be answered 404 for.
    if fault.is_some_and(|fault| fault.code == METHOD_NOT_FOUND) {
        return false;
    }
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => true,
        // A limit on sessions is none that another session would cure.
        StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::BAD_REQUEST => {
            let text = plain(&refusal(kind, body));
            text.contains("session") || uninitialised(&text, "") || is_lost(&text)
        }
        _ => is_lost(&plain(&refusal(kind, body))),
    }
}

pub(crate) fn says_lost(kind: &str, body: &[u8]) -> bool {
    is_lost(&plain(&refusal(kind, body)))
}

/// Whether a JSON-RPC error says it. A tool may say so of sessions of its own: `ping` decides.
pub(crate) fn names_lost_session(fault: &RpcFault) -> bool {
    if fault.code == METHOD_NOT_FOUND {
        return false;
    }
    let data = fault.data.as_ref().map_or("", |data| data.get());
    is_lost(&plain(&format!("{} {data}", fault.message)))
}

/// The text of a body, without the markup of a page.
fn refusal(kind: &str, body: &[u8]) -> String {
    if kind == "text/html" {
        return first_words(kind, body);
    }
    let body = body.get(..EXAMINED).unwrap_or(body);
    String::from_utf8_lossy(body).into_owned()
}

/// Lower case, in ASCII, the joints of names as blanks.
fn plain(text: &str) -> String {
    let simple = |char: char| match char.to_ascii_lowercase() {
        '_' | '-' | '\n' | '\t' => ' ',
        '\u{2019}' => '\'',
        char if char.is_ascii() => char,
        _ => '?',
    };
    text.chars().take(EXAMINED).map(simple).collect()
}

fn is_lost(text: &str) -> bool {
    near(text, "session", GONE)
        || near(text, "transport", "not found|no transport|unknown")
        || uninitialised(text, SUBJECTS)
}

/// Whether a text says that `initialize` is missing, and names one of these subjects.
fn uninitialised(text: &str, subjects: &str) -> bool {
    around(text, "initiali").any(|near| has_any(near, NOT) && has_any(near, subjects))
}

fn near(text: &str, name: &str, words: &str) -> bool {
    around(text, name).any(|near| has_any(near, words))
}

fn has_any(text: &str, words: &str) -> bool {
    words.split('|').any(|word| text.contains(word))
}

fn around<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(word).filter_map(|(at, word)| {
        let end = text.len().min(at + word.len() + AFTER);
        text.get(at.saturating_sub(BEFORE)..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(status: u16, body: &str) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        ends_session(status, "text/plain", body.as_bytes(), None)
    }

    #[test]
    fn the_words_of_all_official_sdks_and_the_common_ones_end_a_session() {
        let cases = [
            (400, "Bad Request: Server not initialized"),
            (400, "Bad Request: Mcp-Session-Id header is required"),
            (400, "Bad Request: No valid session ID provided"),
            (400, "Invalid or missing session ID"),
            (400, "SESSION_NOT_FOUND"),
            (
                400,
                "Bad Request: A new session can only be created by an initialize request.",
            ),
            (401, "Unauthorized: Session not found"),
            (401, "unauthorized: session id is required"),
            (
                403,
                "Forbidden: The currently authenticated user does not match the user who initiated the session.",
            ),
            (404, ""),
            (404, "<html>nothing</html>"),
            (410, ""),
            (409, "SessionExpired"),
            (422, "Unexpected message, expect initialize request"),
            (422, "unexpected message: expect initialize request"),
            (500, "Session has been terminated"),
            (500, "Error: Session 1f2e not found"),
            (500, "McpError: Client must initialize before sending requests"),
            (
                500,
                "method \"tools/call\" is invalid during session initialization",
            ),
            (503, "Session not found or has expired."),
            (503, "unknown session-id"),
            (503, "the session doesn’t exist"),
            (500, "Received request before initialization was complete"),
            (500, "Connection not initialised"),
            (500, "sessionNotFound"),
        ];
        for (status, body) in cases {
            assert!(ends(status, body), "{status} {body}");
        }
    }

    #[test]
    fn other_refusals_do_not_end_a_session() {
        let cases = [
            (400, "Bad Request: Unsupported protocol version"),
            (400, "Invalid JSON"),
            (401, "invalid_token"),
            (401, "Unauthorized"),
            (403, "You may not do this"),
            (406, "Not Acceptable: Client must accept text/event-stream"),
            (429, "Too many sessions: close inactive sessions first"),
            (500, "failed to initialize the database"),
            (500, "database not found"),
            (503, "upstream connect error"),
        ];
        for (status, body) in cases {
            assert!(!ends(status, body), "{status} {body}");
        }
        let unknown = RpcFault {
            code: METHOD_NOT_FOUND,
            message: "Method not found".to_owned(),
            data: None,
        };
        assert!(!ends_session(StatusCode::NOT_FOUND, "", b"", Some(&unknown)));
    }

    #[test]
    fn an_error_object_is_read_with_its_data() {
        let fault = |message: &str, data: Option<&str>| RpcFault {
            code: -32001,
            message: message.to_owned(),
            data: data.map(|text| serde_json::value::RawValue::from_string(text.to_owned()).unwrap()),
        };
        assert!(names_lost_session(&fault("Session not found", None)));
        assert!(names_lost_session(&fault(
            "Bad Request",
            Some("{\"detail\":\"Unknown session\"}")
        )));
        assert!(names_lost_session(&fault("SERVER NOT INITIALIZED", None)));
        assert!(!names_lost_session(&fault("Database not found", None)));
    }

    #[test]
    fn a_long_refusal_costs_no_more_than_its_beginning() {
        assert!(!ends(500, &format!("{}session not found", "x".repeat(1 << 20))));
    }
}
