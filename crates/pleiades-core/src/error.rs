//! The error type of requests: what kind it is, what its caller is told, and when trying again helps.
//!
//! Only `proxy::respond` turns a [`Code`] into an HTTP status, only `exchange` into a JSON-RPC
//! error or a readable answer. `Display` prints this level; causes hang on `source()`.

use std::{borrow::Cow, time::Duration};

use serde_json::{Map, Value};

use crate::text::{line_without_tokens, one_line};

/// Every kind of failure a caller can meet. The string form is stable: metrics, logs and
/// `pleiades explain` use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON (JSON-RPC -32700).
    Parse,
    /// JSON, but not one JSON-RPC 2.0 message (-32600).
    InvalidRequest,
    /// No such method in this revision (-32601; HTTP 404 for 2026-07-28).
    MethodNotFound,
    /// Parameters missing or wrong (-32602).
    InvalidParams,
    /// A required `_meta` key is missing (-32602 with HTTP 400, 2026-07-28).
    MissingMeta,
    /// A mirrored header is missing, malformed or differs from the body (-32020, HTTP 400).
    HeaderMismatch,
    /// The request needs a client capability that was not declared (-32021, HTTP 400).
    MissingCapability,
    /// The revision is unknown here or to the upstream (-32022, HTTP 400).
    UnsupportedRevision,
    /// No such resource (-32002 for older revisions, -32602 for 2026-07-28).
    ResourceNotFound,
    /// The path names nothing (HTTP 404).
    UnknownPath,
    /// The path names a provider that is not loaded (HTTP 404).
    UnknownProvider,
    /// The session id is unknown, expired, foreign or tampered with (HTTP 404).
    UnknownSession,
    /// The HTTP method does not apply here (HTTP 405).
    MethodNotAllowed,
    /// Neither JSON nor an event stream is accepted (HTTP 406).
    NotAcceptable,
    /// The body is larger than `max_body` (HTTP 413).
    TooLarge,
    /// The body came too slowly (HTTP 408).
    BodyTooSlow,
    /// The request target is too long (HTTP 414).
    TargetTooLong,
    /// Not `application/json`, or an encoded body (HTTP 415).
    UnsupportedMedia,
    /// The header block is too large (HTTP 431).
    HeadersTooLarge,
    /// Ambiguous framing or target; the connection is closed (HTTP 400).
    BadFraming,
    /// `Host` is not one of ours (HTTP 403).
    HostRefused,
    /// `Origin` is not one of ours (HTTP 403).
    OriginRefused,
    /// A rate rule of ours (HTTP 429 on the relay).
    RateLimited,
    /// The provider's concurrency limit (HTTP 429 on the relay).
    Busy,
    /// The provider's breaker is open (HTTP 429 on the relay).
    BreakerOpen,
    /// The request proves no caller that is known (HTTP 401).
    Unauthenticated,
    /// The caller must bring a credential (never 401).
    NeedsAuth,
    /// The account was connected; renewing it failed for good.
    TokenExpired,
    /// The account lacks rights for this.
    CapabilityMiss,
    /// Several accounts and no default.
    AccountAmbiguous,
    /// The credential store cannot be reached (HTTP 503 on the relay).
    CredentialStore,
    /// The credential is being renewed for too long (HTTP 504 on the relay).
    CredentialTimeout,
    /// Rules hide this from the relay or the caller (HTTP 403 on the relay).
    PolicyDenied,
    /// The upstream cannot be reached (HTTP 502 on the relay).
    UpstreamUnreachable,
    /// The upstream did not answer in time (HTTP 504 on the relay).
    UpstreamTimeout,
    /// The upstream answered something that is not MCP (HTTP 502 on the relay).
    UpstreamProtocol,
    /// The upstream answered with a JSON-RPC error, carried in `rpc`.
    UpstreamError,
    /// The upstream refused our credential.
    UpstreamAuth,
    /// An answer of a client to a question that is not open to it (HTTP 400).
    UnknownQuestion,
    /// A call that waited for its client is over, or its replica is gone.
    CallGone,
    /// A person has to act before the call can be made, and the client's protocol cannot ask.
    InputRequired,
    /// The call was cancelled by its caller.
    Cancelled,
    /// The process is about to end (HTTP 503).
    ShuttingDown,
    /// A bug (HTTP 500).
    Internal,
}

impl Code {
    /// Whether it is the credential of a request that was missing, refused or could not be had, so that
    /// it says nothing of what was asked for.
    #[must_use]
    pub const fn is_of_credentials(self) -> bool {
        matches!(
            self,
            Self::NeedsAuth
                | Self::TokenExpired
                | Self::CapabilityMiss
                | Self::AccountAmbiguous
                | Self::CredentialStore
                | Self::CredentialTimeout
                | Self::UpstreamAuth
        )
    }

    /// All of them, in their order; each has a page in `pleiades explain`.
    pub const ALL: [Self; 44] = [
        Self::Parse,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::MissingMeta,
        Self::HeaderMismatch,
        Self::MissingCapability,
        Self::UnsupportedRevision,
        Self::ResourceNotFound,
        Self::UnknownPath,
        Self::UnknownProvider,
        Self::UnknownSession,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::TooLarge,
        Self::BodyTooSlow,
        Self::TargetTooLong,
        Self::UnsupportedMedia,
        Self::HeadersTooLarge,
        Self::BadFraming,
        Self::HostRefused,
        Self::OriginRefused,
        Self::RateLimited,
        Self::Busy,
        Self::BreakerOpen,
        Self::Unauthenticated,
        Self::NeedsAuth,
        Self::TokenExpired,
        Self::CapabilityMiss,
        Self::AccountAmbiguous,
        Self::CredentialStore,
        Self::CredentialTimeout,
        Self::PolicyDenied,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamProtocol,
        Self::UpstreamError,
        Self::UpstreamAuth,
        Self::UnknownQuestion,
        Self::CallGone,
        Self::InputRequired,
        Self::Cancelled,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// The code of a stable name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::InvalidRequest => "invalid_request",
            Self::MethodNotFound => "method_not_found",
            Self::InvalidParams => "invalid_params",
            Self::MissingMeta => "missing_meta",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingCapability => "missing_capability",
            Self::UnsupportedRevision => "unsupported_revision",
            Self::ResourceNotFound => "resource_not_found",
            Self::UnknownPath => "unknown_path",
            Self::UnknownProvider => "unknown_provider",
            Self::UnknownSession => "unknown_session",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::TooLarge => "too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::TargetTooLong => "target_too_long",
            Self::UnsupportedMedia => "unsupported_media",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BadFraming => "bad_framing",
            Self::HostRefused => "host_refused",
            Self::OriginRefused => "origin_refused",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::BreakerOpen => "breaker_open",
            Self::Unauthenticated => "unauthenticated",
            Self::NeedsAuth => "needs_auth",
            Self::TokenExpired => "token_expired",
            Self::CapabilityMiss => "capability_miss",
            Self::AccountAmbiguous => "account_ambiguous",
            Self::CredentialStore => "credential_store",
            Self::CredentialTimeout => "credential_timeout",
            Self::PolicyDenied => "policy_denied",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamAuth => "upstream_auth",
            Self::UnknownQuestion => "unknown_question",
            Self::CallGone => "call_gone",
            Self::InputRequired => "input_required",
            Self::Cancelled => "cancelled",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }
}

/// A JSON-RPC error object as an upstream sent it; passed on unless it was about our own request.
#[derive(Debug, Clone)]
pub struct RpcFault {
    /// JSON-RPC error code.
    pub code: i64,
    /// The upstream's text.
    pub message: String,
    /// The upstream's `data`, unparsed.
    pub data: Option<Box<serde_json::value::RawValue>>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind of failure.
    pub code: Code,
    /// One sentence for the caller: lowercase, no full stop, never an address or a secret.
    pub message: Cow<'static, str>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// Structured details for the caller.
    pub data: Option<Value>,
    /// The upstream's own error, when `code` is [`Code::UpstreamError`].
    pub rpc: Option<Box<RpcFault>>,
    /// What the upstream said when it refused a credential, when `code` is [`Code::UpstreamAuth`]:
    /// the status, and `WWW-Authenticate` as it came.
    pub refusal: Option<Box<(u16, Option<String>)>>,
    /// Whether any byte of the request may have reached the upstream: decides on retries and on
    /// what is said about writes.
    pub sent: bool,
    /// The cause, for whoever runs the gateway: log, terminal and `/providers`, never an answer.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind with a sentence for the caller.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
            data: None,
            rpc: None,
            refusal: None,
            sent: false,
            source: None,
        }
    }

    /// Adds the cause, which goes to the log, the terminal and `/providers` only.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds details for the caller.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// Marks that the request may have reached the upstream.
    #[must_use]
    pub fn sent(mut self) -> Self {
        self.sent = true;
        self
    }

    /// The upstream's own JSON-RPC error.
    pub fn rpc(fault: RpcFault) -> Self {
        let mut error = Self::new(Code::UpstreamError, "the provider answered with an error");
        error.sent = true;
        error.rpc = Some(Box::new(fault));
        error
    }

    /// Everything that is known, for whoever runs the gateway: the message, the provider's own words, the
    /// first cause. Never for an answer: a cause may name addresses.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.message.to_string();
        if let Some(fault) = &self.rpc {
            text = format!("{text}: {} ({})", fault.words(), fault.code);
        }
        match self.root() {
            Some(cause) => with_cause(&text, &cause),
            None => text,
        }
    }

    /// Why it failed, for the line of the request: the first cause, else what the provider said, else
    /// the message. Never for an answer.
    #[must_use]
    pub fn cause(&self) -> String {
        match (self.root(), &self.rpc) {
            (Some(root), _) => root,
            (None, Some(fault)) => format!("{}: {}", fault.code, fault.words()),
            (None, None) => one_line(&self.message, SHOWN),
        }
    }

    /// What a caller gets beside the message: the details, the stable code, and when to try again.
    #[must_use]
    pub fn details(&self) -> Map<String, Value> {
        let mut details = match &self.data {
            Some(Value::Object(details)) => details.clone(),
            _ => Map::new(),
        };
        details.insert("code".to_owned(), self.code.as_str().into());
        if let Some(seconds) = self.retry_after.map(whole_seconds) {
            details.entry("retry_after").or_insert_with(|| seconds.into());
        }
        details
    }

    /// The first cause, in one line.
    #[must_use]
    pub fn root(&self) -> Option<String> {
        let mut cause: &(dyn std::error::Error + 'static) = &**self.source.as_ref()?;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let cause = one_line(&cause.to_string(), SHOWN);
        (!cause.is_empty()).then_some(cause)
    }
}

impl RpcFault {
    /// Its message for whoever runs the gateway: one line, and nothing in it that may be a credential.
    fn words(&self) -> String {
        line_without_tokens(&self.message, SHOWN)
    }
}

/// A message and its cause, without what stands in both: a message often shows the beginning of its cause in
/// brackets, and words of it behind them.
fn with_cause(text: &str, cause: &str) -> String {
    if text.contains(cause) {
        return text.to_owned();
    }
    let shown = text.match_indices(" (").find_map(|(at, _)| {
        let inner = text.get(at + 2..)?;
        let ends = inner.match_indices(')').map(|(end, _)| end).rev();
        let mut beginnings =
            ends.filter(|end| *end > 0 && inner.get(..*end).is_some_and(|it| cause.starts_with(it)));
        beginnings.next().map(|end| (at + 2, at + 2 + end))
    });
    let Some((start, end)) = shown else {
        return format!("{text} ({cause})");
    };
    let (before, after) = (
        text.get(..start).unwrap_or_default(),
        text.get(end + 1..).unwrap_or_default(),
    );
    let rest = cause.get(end - start..).unwrap_or_default().trim_end_matches('.');
    match !rest.is_empty() && after.starts_with(rest) {
        true => text.to_owned(),
        false => format!("{before}{cause}){after}"),
    }
}

/// Whole seconds, never too few, and one at least.
#[must_use]
pub fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

/// Longest word of others that is shown, in characters.
const SHOWN: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_full_an_error_says_the_providers_words_and_its_first_cause() {
        let cause = std::io::Error::other("status 410, text/plain: Gone");
        let error = Error::new(Code::UpstreamProtocol, "the provider refused the request").because(cause);
        assert_eq!(
            error.in_full(),
            "the provider refused the request (status 410, text/plain: Gone)"
        );
        let cause = std::io::Error::other("status 200, text/html: Welcome");
        let error = Error::new(Code::UpstreamProtocol, "no MCP (status 200, text/html)").because(cause);
        assert_eq!(error.in_full(), "no MCP (status 200, text/html: Welcome)");
        for (message, cause, full) in [
            (
                "failing (status 503); later",
                "status 503: Busy.",
                "failing (status 503: Busy.); later",
            ),
            (
                "refused (status 404): No such.",
                "status 404: No such.",
                "refused (status 404): No such.",
            ),
            (
                "ended (signal: 9 (SIGKILL))",
                "signal: 9 (SIGKILL): bye",
                "ended (signal: 9 (SIGKILL): bye)",
            ),
            (
                "away (it was)",
                "127.0.0.1:9: refused",
                "away (it was) (127.0.0.1:9: refused)",
            ),
            ("empty ()", "a cause", "empty () (a cause)"),
        ] {
            let error = Error::new(Code::UpstreamProtocol, message).because(cause);
            assert_eq!(error.in_full(), full);
        }
        let error = Error::rpc(RpcFault {
            code: -32603,
            message: "no\n\u{1b}[31m such".to_owned(),
            data: None,
        });
        assert_eq!(
            error.in_full(),
            "the provider answered with an error: no [31m such (-32603)"
        );
    }

    #[test]
    fn the_cause_of_an_error_is_the_first_one_else_the_providers_words_else_its_message() {
        let inner = Error::new(Code::UpstreamAuth, "refused").because(std::io::Error::other("status 401"));
        let outer = Error::new(Code::TokenExpired, "it ended").because(inner);
        assert_eq!(outer.cause(), "status 401");
        let error = Error::rpc(RpcFault {
            code: -32000,
            message: "no\nsuch key: sk-live-0123456789abcdef".to_owned(),
            data: None,
        });
        assert_eq!(error.cause(), "-32000: no such key: …");
        assert_eq!(Error::new(Code::Busy, "full").cause(), "full");
    }

    #[test]
    fn the_details_of_an_error_name_its_code_and_when_to_come_back_at_the_earliest() {
        let error = Error::new(Code::Busy, "full").retry_after(Duration::from_millis(1_200));
        let details = |error: &Error| Value::Object(error.details());
        assert_eq!(
            details(&error),
            serde_json::json!({ "code": "busy", "retry_after": 2 })
        );
        let error = error.data(serde_json::json!({ "rule": "streams", "retry_after": 9 }));
        assert_eq!(
            details(&error),
            serde_json::json!({ "code": "busy", "rule": "streams", "retry_after": 9 })
        );
    }
}
