//! How a child process ended: its status, and the last line that it wrote to stderr.

use std::{net::IpAddr, process::ExitStatus};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use pleiades_core::error::{Code, Error};
use pleiades_core::text::line_without_tokens;

/// Longest line that is kept, in characters.
const LONGEST: usize = 240;

#[derive(Debug, Default)]
pub(crate) struct ProcessEnd {
    exit: Mutex<ExitInfo>,
    /// Its stderr was read to the end.
    pub(crate) stderr_read: CancellationToken,
}

#[derive(Debug, Default)]
struct ExitInfo {
    status: Option<String>,
    line: Option<String>,
}

impl ProcessEnd {
    /// A line of stderr; the last one that is not empty is kept, without what may be a credential: programs repeat
    /// theirs when it is refused.
    pub(crate) fn line(&self, line: &str) {
        let line = line_without_tokens(line, LONGEST);
        if !line.is_empty() {
            self.exit.lock().line = Some(line);
        }
    }

    pub(crate) fn status(&self, status: ExitStatus) {
        self.exit.lock().status = Some(status.to_string());
    }

    /// Its status, and the last line it wrote to stderr, for the log.
    pub(super) fn describe(&self) -> String {
        let exit = self.exit.lock();
        let status = exit.status.as_deref().unwrap_or("unknown status");
        match &exit.line {
            Some(line) => format!("{status}: {line}"),
            None => format!("{status}, and nothing on stderr"),
        }
    }

    /// The error for callers. The line is the program's own: addresses in it are for the operator alone.
    pub(super) fn error(&self) -> Error {
        let exit = self.exit.lock();
        let mut message = match &exit.status {
            Some(status) => format!("the provider's process ended ({status})"),
            None => "the provider's process or stream ended".to_owned(),
        };
        let Some(line) = exit.line.as_deref().filter(|_| exit.status.is_some()) else {
            return Error::new(Code::UpstreamUnreachable, message);
        };
        let shown = without_addresses(line);
        message = format!("{message}: {shown}");
        let error = Error::new(Code::UpstreamUnreachable, message);
        if shown == line {
            return error;
        }
        let status = exit.status.as_deref().unwrap_or_default();
        error.because(format!("{status}: {line}"))
    }
}

fn without_addresses(line: &str) -> String {
    let shown = line
        .split(' ')
        .map(|word| if is_address(word) { "…" } else { word });
    shown.collect::<Vec<_>>().join(" ")
}

fn is_address(word: &str) -> bool {
    let bare = word.trim_matches(|char: char| !char.is_ascii_alphanumeric() && char != ':');
    let host = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
    let is_ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    word.contains("://") || is_ip(bare) || is_ip(host)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn an_end_is_reported_with_status_and_the_last_line() {
        let ending = ProcessEnd::default();
        assert_eq!(ending.error().message, "the provider's process or stream ended");
        ending.line("npm error 404 Not Found\n");
        ending.line(" \n");
        ending.status(ExitStatus::from_raw(256));
        let message = "the provider's process ended (exit status: 1): npm error 404 Not Found";
        assert_eq!(ending.error().message, message);
    }

    #[test]
    fn a_last_line_does_not_show_the_key_of_its_program() {
        let ending = ProcessEnd::default();
        ending.status(ExitStatus::from_raw(256));
        ending.line("401: invalid API key sk-live-abcdefgh (token=hunter2)");
        let shown = "exit status: 1: 401: invalid API key … (token=…";
        assert_eq!(ending.describe(), shown);
        assert!(!ending.error().in_full().contains("sk-live"));
    }

    #[test]
    fn addresses_in_a_last_line_are_for_the_operator_alone() {
        let ending = ProcessEnd::default();
        ending.status(ExitStatus::from_raw(9));
        ending.line("connect ECONNREFUSED 10.0.0.5:5432 at http://db.example/x, [::1]:9 (fe80::1)");
        let error = ending.error();
        assert!(
            !error.message.contains("10.0") && !error.message.contains("db.example"),
            "{error}"
        );
        assert!(!error.message.contains("::1"), "{error}");
        assert!(
            error.message.contains("signal: 9") && error.message.contains("ECONNREFUSED"),
            "{error}"
        );
        assert!(error.in_full().contains("10.0.0.5:5432"));
    }
}
