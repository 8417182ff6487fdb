//! From a connection to MCP: revisions, capabilities, the credential, the lists.

use super::step::{StepDetail, StepFailure};
use pleiades_core::error::{Code, Error};
use pleiades_gateway::catalog::examine::Survey;
use pleiades_mcp::{RawObject, Revision};
use pleiades_upstream::{Endpoint, Profile};

/// Lines of what was left out of lists.
const SHOWN: usize = 12;

/// How errors say that the provider answered 429.
const LIMITS: &str = "the provider limits our requests";
const LIMITED: &str = "the provider limits calls: wait, and try again later";
const SLOW: &str = "look whether the server hangs; a slow one needs more in `upstream.timeouts`";
pub(super) const PLAIN: &str =
    "the server does not speak TLS there: write `http://` in `upstream.url`, or correct the port";
pub(super) const ENCRYPTED: &str =
    "the server speaks TLS there: write `https://` in `upstream.url`, or correct the port";

/// Whether these are words after plain HTTP to a port of TLS: of our parser, which got an alert, or of servers that
/// answer in HTTP all the same (nginx, Go, Apache).
pub(super) fn is_of_tls_port(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    [
        "invalid http version",
        "http request was sent to https port",
        "http request to an https server",
        "speaking plain http to an ssl-enabled",
    ]
    .iter()
    .any(|part| words.contains(part))
}

/// An error of the way upstream, with the provider's own words and the first cause.
pub(super) fn trouble(error: &Error) -> StepFailure {
    let detail = error.in_full();
    let cure = match error.code {
        // With TLS 1.3 a server says so only after the handshake.
        _ if detail.contains("CertificateRequired") => {
            "the server wants a client certificate: `upstream.tls.client_cert_file` and `client_key_file`"
        }
        Code::UpstreamUnreachable if detail.contains(LIMITS) => LIMITED,
        _ if detail.contains("received corrupt message") => PLAIN,
        Code::UpstreamUnreachable if is_of_tls_port(&detail) => ENCRYPTED,
        Code::UpstreamUnreachable => "look whether the server runs, and at its log",
        _ if detail.contains("not JSON-RPC") => {
            "the program prints what is not JSON-RPC: have it write its log to stderr, not to stdout"
        }
        Code::UpstreamTimeout => SLOW,
        Code::UpstreamProtocol if detail.contains("firewalls") => {
            "have whoever guards the way to the server let this machine through"
        }
        Code::UpstreamProtocol if detail.contains("cannot be read") => {
            "have the program print JSON-RPC messages in UTF-8 and nothing else, one a line"
        }
        Code::UpstreamProtocol => {
            "`upstream.url` must be the MCP endpoint itself; a pinned `upstream.protocol` must fit"
        }
        Code::UpstreamAuth => "put a credential that the server accepts where the descriptor reads it",
        Code::CredentialTimeout => {
            "see that the authorization server is reached from here: it is asked again by itself"
        }
        Code::UpstreamError => "read the provider's message: it is the provider's, not ours",
        _ => {
            let cure = format!("`pleiades explain {}` says what to do", error.code.as_str());
            return StepFailure::new(error.code, detail, cure);
        }
    };
    StepFailure::new(error.code, detail, cure)
}

/// Who the server says it is, and what it speaks.
pub(super) fn spoken(endpoint: &Endpoint, profile: &Profile) -> StepDetail {
    let info = profile
        .server_info
        .as_deref()
        .and_then(|raw| RawObject::open(raw).ok())
        .unwrap_or_default();
    let name: String = info
        .read("name")
        .unwrap_or_else(|| "a server without a name".to_owned());
    let version: String = info
        .read("version")
        .map(|version: String| format!(" {version}"))
        .unwrap_or_default();
    let revisions: Vec<&str> = profile.revisions.iter().map(Revision::as_str).collect();
    let how = match endpoint.revision {
        Some(revision) => format!("pinned to {revision}"),
        None if profile.legacy.is_some() => {
            "asked by `server/discover`; `initialize` was not answered".to_owned()
        }
        None => "asked by `server/discover` and `initialize`".to_owned(),
    };
    format!("{name}{version} speaks {} ({how})", revisions.join(", ")).into()
}

pub(super) fn capabilities(profile: &Profile) -> StepDetail {
    let object = RawObject::open(&profile.capabilities).unwrap_or_default();
    let names: Vec<&str> = object.iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        return "it declares none".to_owned().into();
    }
    names.join(", ").into()
}

pub(super) fn lists(survey: &Survey) -> Result<StepDetail, StepFailure> {
    let lists = &survey.catalogue;
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut detail = [
        count(lists.tools.len(), "tool"),
        count(lists.resources.len(), "resource"),
        count(lists.templates.len(), "template"),
        count(lists.prompts.len(), "prompt"),
    ]
    .join(", ");
    let dropped = survey.left_out.len();
    if dropped > 0 {
        detail = format!(
            "{detail}; {} left out",
            count(dropped, "entry").replace("entrys", "entries")
        );
    }
    let mut lines: Vec<String> = survey.left_out.iter().take(SHOWN).cloned().collect();
    if dropped > SHOWN {
        lines.push(format!("and {} more", dropped - SHOWN));
    }
    match &survey.incomplete {
        None => Ok(StepDetail { detail, lines }),
        Some((code, why)) => Err(StepFailure {
            code: Some(*code),
            detail: format!("{detail}; a list is incomplete: {why}"),
            cure: match code {
                Code::UpstreamProtocol => "the server declares what it does not answer: look at its log",
                Code::UpstreamTimeout => SLOW,
                _ if why.contains(LIMITS) => LIMITED,
                _ => "the server fails at this list: read its message above, and its log",
            }
            .to_owned(),
            lines,
        }),
    }
}
