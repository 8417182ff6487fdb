//! How a child process ended: its status, and the last line that it wrote to stderr.

use std::process::ExitStatus;

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

    /// The error for callers. The program's line is its cause: it is for the operator alone.
    pub(super) fn error(&self) -> Error {
        let exit = self.exit.lock();
        let Some(status) = &exit.status else {
            return Error::new(
                Code::UpstreamUnreachable,
                "the provider's process or stream ended",
            );
        };
        let error = Error::new(
            Code::UpstreamUnreachable,
            format!("the provider's process ended ({status})"),
        );
        match &exit.line {
            Some(line) => error.because(format!("{status}: {line}")),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_last_line_of_a_process_is_the_cause_of_its_end_and_no_part_of_the_answer() {
        let ending = ProcessEnd::default();
        assert_eq!(ending.error().message, "the provider's process or stream ended");
        ending.line("npm error 404 Not Found\n");
        ending.line(" \n");
        ending.status(ExitStatus::from_raw(256));
        let error = ending.error();
        assert_eq!(error.message, "the provider's process ended (exit status: 1)");
        assert_eq!(error.cause(), "exit status: 1: npm error 404 Not Found");
        ending.status(ExitStatus::from_raw(9));
        assert_eq!(
            ending.error().in_full(),
            "the provider's process ended (signal: 9 (SIGKILL): npm error 404 Not Found)"
        );
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
}
