//! Why something went wrong, in words that hold no secret.

use std::time::Duration;

use http::Response;
use url::Url;

use super::{OAuthError, OAuthErrorKind, fetch};
use pleiades_core::text::{is_hidden, one_line};
use pleiades_core::{random::NoRandomness, secret::Secret, web::SendError};

/// Of a server's own text at most this is shown, in characters.
const SHOWN: usize = 200;
/// A run of this many characters of something secret is a leak.
const LEAK: usize = 8;

impl OAuthError {
    pub(crate) fn new(kind: OAuthErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            full: None,
            cause: None,
            cure: None,
            error: None,
            description: None,
            unread: false,
            sent: false,
            retry_after: None,
        }
    }

    pub(super) fn metadata(message: impl Into<String>) -> Self {
        Self::new(OAuthErrorKind::Metadata, message)
    }

    pub(super) fn client(message: impl Into<String>) -> Self {
        Self::new(OAuthErrorKind::Client, message)
    }

    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self::new(OAuthErrorKind::Transient, message)
    }

    /// A server that fails, or asks to come back later, with any status that says so.
    pub(super) fn failing<B>(who: &str, response: &Response<B>) -> Self {
        let message = format!("{who} is failing with status {}", response.status().as_u16());
        Self::transient(message)
            .after(fetch::retry_after(response))
            .sent()
    }

    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    pub(super) fn after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// The sentence as callers may read it: nobody who did not answer is named to them.
    #[must_use]
    pub(crate) fn for_callers(&self) -> &str {
        match self.kind {
            _ if self.message.starts_with("the token endpoint") => &self.message,
            OAuthErrorKind::Transient => "its authorization server cannot be reached",
            _ => "its authorization server cannot be used as it is set up here",
        }
    }

    /// What the log says in one word or line: the server's name for it, else the innermost cause, else the
    /// sentence.
    #[must_use]
    pub(crate) fn innermost(&self) -> String {
        let known = self.error.as_ref().or(self.cause.as_ref());
        known.map_or_else(|| self.to_string(), Clone::clone)
    }

    /// No whole answer of a server that is called so, with its URL.
    pub(super) fn unreached(unreached: SendError, url: &Url, who: &str) -> Self {
        let full = Some(named(&unreached.message, url, who));
        Self {
            full,
            ..Self::placed(unreached, url)
        }
    }

    /// The same in its own words; its cause says where.
    pub(super) fn placed(unreached: SendError, url: &Url) -> Self {
        let mut trouble = Self::from(unreached);
        // Of errors below HTTP none names where.
        let place = url.host_str().map(|host| match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        });
        trouble.cause = match (place, trouble.cause) {
            (Some(place), Some(cause)) if !cause.contains(&place) => Some(format!("{place}: {cause}")),
            (_, cause) => cause,
        };
        trouble
    }

    /// Marks that the request may have arrived.
    pub(super) fn sent(mut self) -> Self {
        self.sent = true;
        self
    }
}

impl From<NoRandomness> for OAuthError {
    fn from(none: NoRandomness) -> Self {
        Self::transient(none.to_string())
    }
}

impl From<SendError> for OAuthError {
    fn from(unreached: SendError) -> Self {
        let kind = match unreached.transient {
            true => OAuthErrorKind::Transient,
            false => OAuthErrorKind::Metadata,
        };
        let mut trouble = Self::new(kind, unreached.message);
        trouble.sent = unreached.sent;
        trouble.cure = unreached.cure;
        trouble.cause = unreached.source.map(|source| root(&*source));
        trouble
    }
}

/// The innermost cause of an error, in one line.
fn root(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    one_line(&cause.to_string(), SHOWN)
}

/// A sentence about a host, with the name of its owner in place of the host.
pub(super) fn named(message: &str, url: &Url, who: &str) -> String {
    let host = format!("`{}`", url.host_str().unwrap_or_default());
    match message.starts_with("the name ") {
        true => format!("{message}, so {who} is not reached"),
        false => message.replacen(&host, who, 1),
    }
}

/// A server's text for people: cut, of one line, and none at all where it repeats a part of a sent secret.
pub(super) fn shown(text: &str, secrets: &[&Secret]) -> Option<String> {
    let cleaned: String = text
        .chars()
        .map(|each| if each.is_control() { ' ' } else { each })
        .filter(|each| !is_hidden(*each))
        .take(SHOWN)
        .collect();
    let cleaned = cleaned.trim().trim_end_matches('.').trim_end();
    let leaks = secrets.iter().any(|secret| repeats(text, secret.expose()));
    (!cleaned.is_empty() && !leaks).then(|| cleaned.to_owned())
}

/// Somebody else's words as a page or the log carries them; nothing of them was a secret of ours.
#[must_use]
pub fn plain(text: &str) -> Option<String> {
    shown(text, &[])
}

/// A value of somebody else's as a sentence carries it: cut, of one line, in no quotes but its own.
pub(super) fn quoted(text: &str) -> String {
    let shown = shown(&text.replace('`', "'"), &[]).unwrap_or_default();
    format!("`{shown}`")
}

/// Whether a text holds the secret, or a run of [`LEAK`] of its characters.
fn repeats(text: &str, secret: &str) -> bool {
    if secret.is_empty() {
        return false;
    }
    let characters: Vec<char> = secret.chars().collect();
    let run = LEAK.min(characters.len());
    characters
        .windows(run)
        .any(|window| text.contains(&window.iter().collect::<String>()))
}

/// An error code as it may be shown: what is none of RFC 6749's characters or too long is left out.
pub(super) fn code(text: &str, secrets: &[&Secret]) -> Option<String> {
    let sane = !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    (sane && !secrets.iter().any(|secret| repeats(text, secret.expose()))).then(|| text.to_owned())
}

/// The words of RFC 6749, 7591, 7009, 8707, 8628 and OpenID Connect for what goes wrong.
const REGISTERED: [&str; 24] = [
    "access_denied",
    "account_selection_required",
    "authorization_pending",
    "consent_required",
    "insufficient_scope",
    "interaction_required",
    "invalid_client",
    "invalid_client_metadata",
    "invalid_grant",
    "invalid_redirect_uri",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "login_required",
    "request_not_supported",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unapproved_software_statement",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
    "unsupported_token_type",
];

/// The word, when it is a registered one, in whatever case and with whatever between its parts.
pub(super) fn registered(text: &str) -> Option<String> {
    let word = word(text);
    if REGISTERED.contains(&word.as_str()) {
        return Some(word);
    }
    UNKNOWN_CLIENT
        .contains(&word.as_str())
        .then(|| "invalid_client".to_owned())
}

/// Other names that servers have for a client they do not know: Slack's, GitHub's, and words of their own.
const UNKNOWN_CLIENT: [&str; 12] = [
    "application_not_found",
    "bad_client_id",
    "bad_client_secret",
    "client_not_found",
    "incorrect_client_credentials",
    "invalid_app",
    "invalid_application",
    "invalid_client_id",
    "invalid_client_secret",
    "unauthorised_client",
    "unknown_client",
    "unregistered_client",
];

/// `Invalid-Client`, `invalidClient` and `INVALID CLIENT` as one word.
pub(super) fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    let mut was_lower = false;
    for each in text.trim().chars().take(64) {
        if each.is_ascii_uppercase() && was_lower {
            word.push('_');
        }
        was_lower = each.is_ascii_lowercase();
        if each.is_ascii_alphanumeric() {
            word.push(each.to_ascii_lowercase());
        } else if !word.ends_with('_') {
            word.push('_');
        }
    }
    word
}

/// Whether an error says that the server does not know our client any more.
#[must_use]
pub fn is_unknown_client(error: &str) -> bool {
    matches!(
        registered(error).as_deref(),
        Some("invalid_client" | "unauthorized_client")
    )
}

/// Whether a description of an error may say that: nothing for certain, reason enough to ask.
pub(crate) fn may_be_unknown_client(description: &str) -> bool {
    const SIGNS: [&str; 10] = [
        "not found",
        "unknown",
        "not registered",
        "unregistered",
        "does not exist",
        "doesn't exist",
        "not exist",
        "invalid",
        "not recogni",
        "aadsts700016",
    ];
    let text = description.to_ascii_lowercase();
    let names_us = ["client", "application", "app "]
        .iter()
        .any(|it| text.contains(it));
    names_us && SIGNS.iter().any(|sign| text.contains(sign))
}
