//! Why a connection fails: the sentences that people read.

use crate::Connection;
use crate::oauth::{OAuthError, OAuthErrorKind};
use crate::vault::{Fault, Kind};
use pleiades_core::random::NoRandomness;

/// For whoever opened a link and has no descriptor to write.
pub(super) const OPERATORS: &str = "Whoever runs this gateway can mend that.";
const BEGIN_ANEW: &str = "Open the link again and start over.";
/// Where the next link comes from.
pub(super) const ASK_AGAIN: &str = "Ask your agent again; it gets a new link.";
/// For whoever opened a link that is not theirs.
pub(super) const OF_SOMEBODY_ELSE: &str =
    "If somebody sent you this link, close this page and ask your own agent: it gets a link for you.";

/// Why a page is refused: a sentence, and what to do. Names no person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectError {
    /// What kind; `proxy::respond` makes a status of it.
    pub kind: ConnectErrorKind,
    /// Why: a sentence for people.
    pub why: String,
    /// The same for callers, where `why` names servers by their addresses.
    pub brief: Option<String>,
    /// What to do: a sentence for people.
    pub cure: String,
    /// A link, as [`Links`](super::link::Links) makes them, with which the person can try again.
    pub again: Option<String>,
}

/// Kinds of connect errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectErrorKind {
    /// Not of the form that it must have.
    Malformed,
    /// Neither known nor ever made here.
    Unknown,
    /// Expired, or used already.
    Gone,
    /// Not proven to be the principal's.
    Unproven,
    /// Too many wrong proofs came from there, or too many sign-ins were begun.
    Throttled,
    /// Another account would be replaced, and was not.
    Conflict,
    /// The person said no at the provider.
    Denied,
    /// The provider, or its authorization server, did not do its part.
    Provider,
    /// The store cannot be reached.
    Store,
}

impl ConnectErrorKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Unknown,
        Self::Gone,
        Self::Unproven,
        Self::Throttled,
        Self::Conflict,
        Self::Denied,
        Self::Provider,
        Self::Store,
    ];

    /// The stable name, as the log says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::Unproven => "unproven",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Provider => "provider",
            Self::Store => "store",
        }
    }
}

impl ConnectError {
    /// An error of a kind: why, and what to do.
    pub fn new(kind: ConnectErrorKind, why: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            brief: None,
            cure: cure.into(),
            again: None,
        }
    }

    /// The same, with a link to try again.
    #[must_use]
    pub fn with_link(mut self, link: Option<String>) -> Self {
        self.again = self.again.or(link);
        self
    }

    /// An error that only a new sign-in can mend.
    pub(super) fn begin_anew(kind: ConnectErrorKind, why: impl Into<String>) -> Self {
        Self::new(kind, why, BEGIN_ANEW)
    }

    /// The provider of a link is not loaded any more, or has no accounts.
    pub(super) fn not_offered(why: &str) -> Self {
        Self::new(ConnectErrorKind::Unknown, why, "Ask whoever runs the gateway.")
    }

    /// Why, as callers may read it.
    #[must_use]
    pub(crate) fn for_callers(&self) -> &str {
        self.brief.as_deref().unwrap_or(&self.why)
    }

    /// What a provider did wrong, for people.
    pub(super) fn of_provider(connection: &Connection, what: &str, trouble: &OAuthError) -> Self {
        tracing::warn!(
            provider.name = &*connection.provider,
            outcome = ConnectErrorKind::Provider.as_str(),
            error = trouble.innermost(),
            description = %trouble,
            cure = trouble.cure.as_deref(),
            "a connection failed"
        );
        let sentence =
            |why: &dyn std::fmt::Display| format!("The sign-in of {} {what}: {why}.", connection.title);
        let usual = match trouble.kind {
            OAuthErrorKind::Transient => "Open the link again in a minute.",
            OAuthErrorKind::Grant => BEGIN_ANEW,
            OAuthErrorKind::Client | OAuthErrorKind::Metadata => {
                "Ask whoever runs the gateway: the provider's descriptor needs a change."
            }
        };
        let cure = trouble.cure.as_deref().map_or_else(|| usual.to_owned(), advice);
        Self {
            brief: Some(sentence(&trouble.for_callers())),
            ..Self::new(ConnectErrorKind::Provider, sentence(trouble), cure)
        }
    }
}

/// The store cannot be reached or says no; its own words are for the log.
impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> Self {
        tracing::warn!(
            outcome = fault.kind.as_str(),
            error = &fault as &dyn std::error::Error,
            "connecting needs the credential store"
        );
        if fault.kind.caller_message() != Kind::Unreachable.caller_message() {
            return Self::new(
                ConnectErrorKind::Store,
                "The credential store refuses the gateway, so nothing can be connected.",
                "Tell whoever runs the gateway: its log says what is refused.",
            );
        }
        Self::new(
            ConnectErrorKind::Store,
            "The credential store cannot be reached, so nothing can be connected just now.",
            "Try again in a minute.",
        )
    }
}

/// Nothing may begin then.
impl From<NoRandomness> for ConnectError {
    fn from(_none: NoRandomness) -> Self {
        Self::new(
            ConnectErrorKind::Store,
            "The gateway has no randomness to begin with.",
            "Tell whoever runs it.",
        )
    }
}

/// A cure for a page: as a sentence, and who can follow it.
pub(super) fn advice(cure: &str) -> String {
    match cure.contains("descriptor") || cure.contains("`upstream.") {
        true => format!("{} {OPERATORS}", sentence(cure)),
        false => sentence(cure),
    }
}

fn sentence(cure: &str) -> String {
    let mut letters = cure.trim_end_matches('.').chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters.by_ref()).chain(['.']).collect()
}
