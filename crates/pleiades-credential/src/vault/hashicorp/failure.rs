//! What went wrong with one request to Vault, and what it means to whoever asked.

use std::{error::Error as _, time::Duration};

use http::{HeaderMap, StatusCode, header};
use pleiades_core::text::one_line;
use serde::Deserialize;

use crate::vault::{Fault, Kind};

/// Longest text of Vault's that is passed on, in characters.
const MAX_TEXT: usize = 200;
/// Longest `Retry-After` that is believed.
const MAX_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct RequestFailure {
    /// Status of the answer; `None` when there was none.
    pub(super) status: Option<StatusCode>,
    pub(super) kind: Kind,
    /// Whether Vault has surely not done what it was asked.
    pub(super) undone: bool,
    /// Version of a deleted entry that the answer names.
    pub(super) deleted: Option<u64>,
    /// `Retry-After`.
    pub(super) after: Option<Duration>,
    /// What Vault says, one line. Never logged of a login.
    pub(super) text: String,
}

#[derive(Default, Deserialize)]
struct RefusalBody {
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    data: Option<Deleted>,
}

#[derive(Deserialize)]
struct Deleted {
    metadata: Option<DeletedVersion>,
}

#[derive(Deserialize)]
struct DeletedVersion {
    version: u64,
}

impl RequestFailure {
    fn new(kind: Kind, undone: bool, text: &str) -> Self {
        Self {
            status: None,
            kind,
            undone,
            deleted: None,
            after: None,
            text: text.to_owned(),
        }
    }

    /// There was no answer.
    pub(super) fn unsent(error: reqwest::Error) -> Self {
        let undone = error.is_connect();
        let text = match error.is_timeout() {
            true if undone => "no connection in time".to_owned(),
            true => "no answer in time".to_owned(),
            false => cause(&error.without_url()),
        };
        Self::new(Kind::Unreachable, undone, &text)
    }

    /// The answer broke off.
    pub(super) fn cut(error: reqwest::Error) -> Self {
        let text = match error.is_timeout() {
            true => "no answer in time".to_owned(),
            false => cause(&error.without_url()),
        };
        Self::new(Kind::Unreachable, false, &text)
    }

    pub(super) fn unreadable() -> Self {
        Self::new(Kind::Failed, false, "its answer cannot be read")
    }

    /// The request cannot be sent: a token or name that no header or URL can carry.
    pub(super) fn unsendable() -> Self {
        Self::new(Kind::Refused, true, "the request cannot be written")
    }

    pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let refusal: RefusalBody = serde_json::from_slice(body).unwrap_or_default();
        let text = one_line(&refusal.errors.join("; "), MAX_TEXT);
        let (kind, undone) = meaning(status, &text);
        Self {
            status: Some(status),
            kind,
            undone,
            deleted: refusal.data.and_then(|data| Some(data.metadata?.version)),
            after: after(headers),
            text,
        }
    }

    /// Whether there is no such entry: an empty refusal means so, or one that names the version that
    /// was deleted. A mount that is not there says so in words.
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(StatusCode::NOT_FOUND) && (self.text.is_empty() || self.deleted.is_some())
    }

    /// Whether somebody wrote before: Vault says it in words only.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == Some(StatusCode::BAD_REQUEST) && self.text.contains("check-and-set parameter")
    }

    /// Whether the token is refused, or may not do this.
    pub(super) fn is_denied(&self) -> bool {
        self.status == Some(StatusCode::FORBIDDEN)
    }

    /// Whether the same request may be sent again at once.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Failed)
            || self.status == Some(StatusCode::PRECONDITION_FAILED)
    }

    /// The sentence for whoever asked; `what` is what could not be done.
    pub(super) fn fault(self, vault: &str, what: &str) -> Fault {
        let says = if self.text.is_empty() {
            String::new()
        } else {
            format!(": {}", self.text.trim_end_matches('.'))
        };
        let message = match self.kind {
            Kind::Unreachable => format!("{what}: vault at {vault} cannot be reached{says}"),
            Kind::Sealed => {
                format!("{what}: vault at {vault} is sealed or a standby that cannot serve: unseal it")
            }
            Kind::Redirected => {
                format!(
                    "{what}: vault at {vault} refused and sends elsewhere, as a standby does that may not \
                     forward; nobody is followed: give the address of the active node or of the cluster"
                )
            }
            Kind::Throttled => {
                format!("{what}: vault at {vault} limits requests: raise its rate limit quota")
            }
            Kind::Denied => {
                format!(
                    "{what}: vault at {vault} does not allow it{says}: compare the policy with docs/VAULT.md, \
                     and see that our token still holds and that `namespace` is right"
                )
            }
            Kind::Unopened | Kind::Corrupt => {
                format!("{what}: what vault at {vault} holds cannot be read{says}")
            }
            Kind::Failed | Kind::Refused => {
                let status = self
                    .status
                    .map_or_else(String::new, |status| format!(" with {}", status.as_u16()));
                let cure = if self.kind == Kind::Failed {
                    "look at its log"
                } else if self.status == Some(StatusCode::NOT_FOUND) {
                    "see that `mount` and `namespace` are right and that a KV engine of version 2 is there"
                } else {
                    "compare `vault.hashicorp` of the settings with docs/VAULT.md"
                };
                format!("{what}: vault at {vault} refused{status}{says}: {cure}")
            }
        };
        Fault {
            retry_after: self.after,
            ..Fault::new(self.kind, message)
        }
    }
}

/// What a status means, and whether Vault has surely done nothing.
fn meaning(status: StatusCode, text: &str) -> (Kind, bool) {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match status.as_u16() {
        403 => (Kind::Denied, true),
        // A standby that may not forward sends elsewhere; we follow nobody.
        301 | 302 | 303 | 307 | 308 => (Kind::Redirected, true),
        472 | 473 => (Kind::Sealed, true),
        // A standby that has not seen the newest write yet.
        412 => (Kind::Failed, true),
        429 => (Kind::Throttled, true),
        503 => (Kind::Sealed, says(&["sealed", "not initialized", "standby"])),
        500..=599 if says(&["standby", "not active", "is sealed", "active cluster node"]) => {
            (Kind::Sealed, true)
        }
        500..=599 => (Kind::Failed, false),
        _ => (Kind::Refused, true),
    }
}

fn after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_AFTER))
}

/// The innermost cause: "connection refused" helps, "error sending request" does not.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    let mut source = error.source();
    while let Some(deeper) = source {
        innermost = deeper;
        source = deeper.source();
    }
    one_line(&innermost.to_string(), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> RequestFailure {
        RequestFailure::refused(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
    }

    #[test]
    fn absent_is_an_empty_refusal_or_a_deleted_version_and_never_a_missing_mount() {
        assert!(refused(404, r#"{"errors":[]}"#).is_absent());
        let deleted = refused(
            404,
            r#"{"data":{"data":null,"metadata":{"version":3,"deletion_time":"x"}}}"#,
        );
        assert!(deleted.is_absent());
        assert_eq!(deleted.deleted, Some(3));
        let mount = refused(
            404,
            r#"{"errors":["no handler for route \"x/data/y\". route entry not found."]}"#,
        );
        assert!(!mount.is_absent());
        assert_eq!(mount.kind, Kind::Refused);
    }

    #[test]
    fn a_lost_race_is_known_by_its_words() {
        let body = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
        assert!(refused(400, body).is_conflict());
        assert!(!refused(400, r#"{"errors":["no data provided"]}"#).is_conflict());
    }

    #[test]
    fn statuses_mean_what_vault_says_they_mean() {
        for (status, body, kind, undone) in [
            (403, "{}", Kind::Denied, true),
            (307, "", Kind::Redirected, true),
            (308, "", Kind::Redirected, true),
            (400, "{}", Kind::Refused, true),
            (429, "", Kind::Throttled, true),
            (472, "", Kind::Sealed, true),
            (473, "", Kind::Sealed, true),
            (412, "", Kind::Failed, true),
            (500, r#"{"errors":["internal error"]}"#, Kind::Failed, false),
            (
                500,
                r#"{"errors":["local node not active but active cluster node not found"]}"#,
                Kind::Sealed,
                true,
            ),
            (502, "<html>", Kind::Failed, false),
            (503, r#"{"errors":["Vault is sealed"]}"#, Kind::Sealed, true),
            (503, "overloaded", Kind::Sealed, false),
            (405, "", Kind::Refused, true),
        ] {
            let trouble = refused(status, body);
            assert_eq!((trouble.kind, trouble.undone), (kind, undone), "{status} {body}");
        }
    }

    #[test]
    fn what_vault_refuses_is_reported_with_its_words_and_a_cure_and_never_as_away() {
        let denied = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        let mount = r#"{"errors":["no handler for route \"kv/data/x\""]}"#;
        for (status, body, words) in [
            (
                403,
                denied,
                ["error occurred: * permission denied", "compare the policy"],
            ),
            (404, mount, ["no handler for route", "`mount`"]),
            (
                400,
                r#"{"errors":["bad \u001b[31m request"]}"#,
                ["bad [31m request", "docs/VAULT.md"],
            ),
            (307, "", ["sends elsewhere", "active node"]),
        ] {
            let fault = refused(status, body).fault("https://vault:8200", "read");
            assert!(words.iter().all(|word| fault.message.contains(word)), "{fault}");
            assert!(
                !fault.message.contains("cannot be reached") && fault.kind.is_up(),
                "{fault}"
            );
            assert!(
                fault.kind.caller_message().contains("refused"),
                "{}",
                fault.kind.caller_message()
            );
        }
    }

    #[test]
    fn retry_after_is_believed_up_to_a_minute() {
        let headers = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            headers
        };
        assert_eq!(after(&headers("3")), Some(Duration::from_secs(3)));
        assert_eq!(after(&headers("86400")), Some(MAX_AFTER));
        assert_eq!(after(&headers("Sat, 21 Nov 2026 00:00:00 GMT")), None);
    }
}
