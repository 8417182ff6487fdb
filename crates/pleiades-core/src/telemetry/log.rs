//! The log: always on stderr, because stdout belongs to protocols and to `--json`.
//!
//! Rows for a person on a terminal, JSON lines for everything else. `RUST_LOG` decides what is
//! written; libraries that use the `log` crate (Pingora) come through as well.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, OnceLock};
use std::{error::Error as _, time::Duration};

use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::layer::{LineForm, LogLayer};
use super::sink::{self, Sink};
use super::tail::Tail;
use super::terminal::{self, TerminalForm};

/// What is logged without `RUST_LOG`. Pingora's reports on single requests are off: they print
/// request targets with their queries, call a client that went away an error, and say nothing
/// that the line of the request does not. What carries requests to Vault calls every entry that is not
/// there an error.
const DEFAULT: &str = "info,rustify=off,pingora_core=warn,pingora_core::apps=off,pingora_core::protocols=off,\
     pingora_proxy=off,pingora_pool=warn,pingora_runtime=warn";

/// Libraries that print whole requests, with keys, cookies, codes and links: whatever `RUST_LOG` says, they
/// are silent there, because a log at trace level is sent to others when something is to be found out.
const SILENT: [&str; 5] = [
    "pingora_core::apps",
    "pingora_core::protocols",
    "pingora_proxy",
    "rustify",
    "vaultrs",
];

/// Longest wait for a slow stderr at the end of the process.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Where lines go and how they look, once the log is started.
static STARTED: OnceLock<(&'static Sink, LineForm)> = OnceLock::new();

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For a person when stderr is a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For a person; colour on a terminal unless `NO_COLOR` is set.
    Human,
}

/// Starts the log; later calls change nothing. Call [`flush`] before the process ends.
pub fn init(format: LogFormat) {
    start(format, DEFAULT, None);
}

/// Starts a log that is silent without `RUST_LOG`, and keeps the output of child processes.
pub fn init_quiet(tail: Tail) {
    start(LogFormat::Auto, "off", Some(tail));
}

/// Names the local caller, of whom rows of a terminal need not speak. The first call counts.
pub fn set_local(tenant: Arc<str>, user: Arc<str>) {
    terminal::set_local(tenant, user);
}

fn start(format: LogFormat, usual: &str, tail: Option<Tail>) {
    let (filter, is_asked_for, fault) = filter(usual);
    let sink = sink::start();
    let is_detailed = filter
        .max_level_hint()
        .is_none_or(|level| level >= LevelFilter::DEBUG);
    let form = form(format, is_detailed, is_asked_for);
    let layer = LogLayer { sink, form };
    if tracing_subscriber::registry()
        .with(layer.with_filter(filter.and(bound())))
        .with(tail.map(Tail::layer))
        .try_init()
        .is_err()
    {
        return;
    }
    STARTED.set((sink, form)).unwrap_or_default();
    if let Some(fault) = fault {
        tracing::warn!(error = fault, "`RUST_LOG` is not understood and was ignored");
    }
}

/// How lines look: for a person where one reads them, in colours unless `NO_COLOR` is set.
fn form(format: LogFormat, is_detailed: bool, is_asked_for: bool) -> LineForm {
    let is_terminal = io::stderr().is_terminal();
    if format == LogFormat::Json || (format == LogFormat::Auto && !is_terminal) {
        return LineForm::Json;
    }
    LineForm::Terminal(TerminalForm {
        has_colours: is_terminal
            && anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never,
        is_detailed,
        has_greetings: is_asked_for,
    })
}

/// Waits until what was logged is written, at most a second.
pub fn flush() {
    if let Some(sink) = sink::get() {
        sink.flush(FLUSH_LIMIT);
    }
}

/// Where lines may be written without the subscriber, and how.
pub(super) fn direct() -> Option<(&'static Sink, LineForm)> {
    STARTED.get().copied()
}

/// The filter that `RUST_LOG` cannot override.
fn bound() -> Targets {
    Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(SILENT.map(|target| (target, LevelFilter::OFF)))
}

/// `RUST_LOG` and whether it is set, else the default; and what is wrong with `RUST_LOG`.
fn filter(usual: &str) -> (EnvFilter, bool, Option<String>) {
    match EnvFilter::try_from_default_env() {
        Ok(filter) => (filter, true, None),
        Err(error) => {
            let unset = error
                .source()
                .is_some_and(|cause| cause.is::<std::env::VarError>());
            (EnvFilter::new(usual), !unset, (!unset).then(|| error.to_string()))
        }
    }
}
