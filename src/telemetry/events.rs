//! What happens in the process: one struct an occurrence, whose `emit` writes the log line and
//! moves the metrics together, so that neither is ever forgotten.

use std::{
    borrow::Cow,
    cell::RefCell,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::{Level, enabled, error, event, info, warn};

#[cfg(doc)]
use super::names;
use super::{Metrics, View, line::Line, log, provider::Call};

/// A request was answered.
#[derive(Debug, Clone)]
pub struct RequestDone {
    /// Our id of the request, as the caller was told it.
    pub request_id: Cow<'static, str>,
    /// JSON-RPC method, or the HTTP method of a request that carried no message.
    pub method: Cow<'static, str>,
    /// By which door; `None` for what is no JSON-RPC request: it counts in no metric.
    pub view: Option<View>,
    /// Whose, when it was one loaded provider's.
    pub provider: Option<Arc<str>>,
    /// Which tool, when one was called: a name of the catalogue, else `other`. It is a label.
    pub tool: Option<Cow<'static, str>>,
    /// What came of it: one of [`names::OUTCOMES`].
    pub outcome: &'static str,
    /// HTTP status; 0 over stdio.
    pub status: u16,
    /// From arrival to the last byte of the answer.
    pub duration: Duration,
    /// Waiting for the provider.
    pub upstream: Option<Duration>,
    /// The caller's tenant.
    pub tenant: Option<Arc<str>>,
    /// The caller.
    pub user: Option<Arc<str>>,
    /// The account whose credential was used.
    pub account: Option<Arc<str>>,
    /// The client's revision of the protocol.
    pub revision: Option<&'static str>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// W3C trace id: 32 hex digits.
    pub trace: Option<Cow<'static, str>>,
    /// Why it failed, causes included; URLs lose their queries before they are written.
    pub cause: Option<String>,
}

impl RequestDone {
    /// A request of which nothing else is known yet.
    pub fn new(request_id: impl Into<Cow<'static, str>>, method: impl Into<Cow<'static, str>>) -> Self {
        Self {
            request_id: request_id.into(),
            method: method.into(),
            view: None,
            provider: None,
            tool: None,
            outcome: "ok",
            status: 0,
            duration: Duration::ZERO,
            upstream: None,
            tenant: None,
            user: None,
            account: None,
            revision: None,
            peer: None,
            trace: None,
            cause: None,
        }
    }

    /// Counts the request and writes its line.
    pub fn emit(&self, metrics: &Metrics) {
        if let Some(view) = self.view {
            metrics.call(self.provider.as_deref(), &self.call(view));
        }
        if !enabled!(target: "pleiades::request", Level::INFO) {
            return;
        }
        match log::direct() {
            Some(sink) => BUFFER.with_borrow_mut(|buffer| {
                buffer.clear();
                self.write(buffer);
                sink.append(buffer);
            }),
            None => self.trace(),
        }
    }

    fn call(&self, view: View) -> Call<'_> {
        let (tool, outcome) = (self.tool.as_deref(), self.outcome);
        Call {
            view,
            tool,
            outcome,
            duration: self.duration,
            upstream: self.upstream,
        }
    }

    /// A bug is somebody's work; everything else that fails is the life of a request.
    fn level(&self) -> Level {
        if self.outcome == "internal" {
            Level::ERROR
        } else {
            Level::INFO
        }
    }

    fn method(&self) -> &str {
        short(&self.method, 64)
    }

    fn cause(&self) -> Option<Cow<'_, str>> {
        self.cause
            .as_deref()
            .map(|cause| without_queries(short(cause, 1000)))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut line = Line::begin(
            out,
            SystemTime::now(),
            self.level().as_str(),
            "pleiades::request",
            "request done",
        );
        line.text("request.id", &self.request_id);
        line.text("method", self.method());
        line.some("view", self.view.map(View::as_str));
        line.some("provider.name", self.provider.as_deref());
        line.some("tool.name", self.tool.as_deref());
        line.text("outcome", self.outcome);
        if self.status != 0 {
            line.number("http.status", self.status.into());
        }
        line.millis("duration_ms", self.duration);
        if let Some(upstream) = self.upstream {
            line.millis("upstream_ms", upstream);
        }
        line.some("principal.tenant", self.tenant.as_deref());
        line.some("principal.user", self.user.as_deref());
        line.some("account.id", self.account.as_deref());
        line.some("mcp.revision", self.revision);
        if let Some(peer) = self.peer {
            line.text("client.address", &peer.to_string());
        }
        line.some("trace.id", self.trace.as_deref());
        line.some("error", self.cause().as_deref());
        line.end();
    }

    /// The same through the subscriber: for terminals and tests.
    fn trace(&self) {
        macro_rules! at {
            ($level:expr) => {
                event!(
                    target: "pleiades::request",
                    $level,
                    request.id = &*self.request_id,
                    method = self.method(),
                    view = self.view.map(View::as_str),
                    provider.name = self.provider.as_deref(),
                    tool.name = self.tool.as_deref(),
                    outcome = self.outcome,
                    http.status = (self.status != 0).then_some(self.status),
                    duration_ms = millis(self.duration),
                    upstream_ms = self.upstream.map(millis),
                    principal.tenant = self.tenant.as_deref(),
                    principal.user = self.user.as_deref(),
                    account.id = self.account.as_deref(),
                    mcp.revision = self.revision,
                    client.address = self.peer.map(tracing::field::display),
                    trace.id = self.trace.as_deref(),
                    error = self.cause().as_deref(),
                    "request done"
                )
            };
        }
        if self.level() == Level::ERROR {
            at!(Level::ERROR)
        } else {
            at!(Level::INFO)
        }
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The process is about to serve.
#[derive(Debug)]
pub struct Started<'a> {
    /// Public listener.
    pub listen: &'a str,
    /// Admin listener.
    pub admin: &'a str,
    /// Folder of descriptors.
    pub providers: &'a Path,
    /// How many descriptors run.
    pub running: usize,
}

impl Started<'_> {
    /// Writes it.
    pub fn emit(&self) {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = self.listen,
            admin = self.admin,
            providers = %self.providers.display(),
            providers.running = self.running,
            "pleiades serves"
        );
    }
}

/// The process was told to end.
#[derive(Debug)]
pub struct Stopping {
    /// Why, for example the signal.
    pub reason: &'static str,
    /// How long running requests have.
    pub grace: Duration,
}

impl Stopping {
    /// Writes it.
    pub fn emit(&self) {
        info!(
            reason = self.reason,
            grace_ms = millis(self.grace),
            "pleiades stops: no new requests are taken"
        );
    }
}

/// The folder of descriptors was read.
#[derive(Debug)]
pub struct Reloaded<'a> {
    /// `applied`, `partial` (some files are broken), `refused` or `unchanged`.
    pub outcome: &'a str,
    /// The generation that is loaded now.
    pub generation: u64,
    /// Providers that came.
    pub added: usize,
    /// Providers that changed.
    pub changed: usize,
    /// Providers that went.
    pub removed: usize,
    /// Every fault, as `check` prints it.
    pub faults: &'a [String],
    /// How long it took.
    pub took: Duration,
    /// Why it was refused.
    pub reason: Option<&'a str>,
}

impl Reloaded<'_> {
    /// Counts the reload and writes it; a reading that found nothing new is only counted.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.reload(self.outcome, self.generation);
        match self.outcome {
            "unchanged" => {}
            "refused" => error!(
                reload.generation = self.generation,
                reason = self.reason,
                "reload refused: what was loaded keeps running"
            ),
            outcome => info!(
                outcome,
                reload.generation = self.generation,
                providers.added = self.added,
                providers.changed = self.changed,
                providers.removed = self.removed,
                faults = self.faults.len(),
                duration_ms = millis(self.took),
                "descriptors reloaded"
            ),
        }
        for fault in self.faults {
            warn!(fault, "descriptor refused");
        }
    }
}

/// A provider's state changed.
#[derive(Debug)]
pub struct ProviderChanged<'a> {
    /// Which.
    pub provider: &'a str,
    /// Before; `None` when it is new.
    pub from: Option<&'a str>,
    /// Now: one of [`names::STATES`].
    pub to: &'a str,
    /// Why, when it does not serve.
    pub reason: Option<&'a str>,
}

impl ProviderChanged<'_> {
    /// Writes it: as a warning when the provider serves less than it should.
    pub fn emit(&self) {
        let reason = self.reason.map(without_queries);
        let reason = reason.as_deref();
        let (provider, from, to) = (self.provider, self.from, self.to);
        if matches!(to, "degraded" | "unreachable" | "stale") {
            warn!(
                provider.name = provider,
                state.from = from,
                state = to,
                reason,
                "provider state changed"
            );
        } else {
            info!(
                provider.name = provider,
                state.from = from,
                state = to,
                reason,
                "provider state changed"
            );
        }
    }
}

/// A provider was removed.
#[derive(Debug)]
pub struct ProviderRemoved<'a> {
    /// Which.
    pub provider: &'a str,
}

impl ProviderRemoved<'_> {
    /// Drops its series and writes it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.forget(self.provider);
        info!(provider.name = self.provider, "provider removed");
    }
}

/// A provider offers other tools than before.
#[derive(Debug)]
pub struct ToolsChanged<'a> {
    /// Whose.
    pub provider: &'a str,
    /// How many there are.
    pub tools: usize,
    /// Whether every page of its lists was read.
    pub complete: bool,
}

impl ToolsChanged<'_> {
    /// Sets the gauge and writes it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.tools(self.provider, self.tools);
        info!(
            provider.name = self.provider,
            tools = self.tools,
            complete = self.complete,
            "tools listed"
        );
    }
}

/// A call was refused by a limit.
#[derive(Debug)]
pub struct Limited<'a> {
    /// Whose limit.
    pub provider: &'a str,
    /// One of [`names::RULES`].
    pub rule: &'static str,
}

impl Limited<'_> {
    /// Counts it. The line of the request says it, so there is no line of its own.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.limited(self.provider, self.rule);
    }
}

/// A breaker moved.
#[derive(Debug)]
pub struct BreakerMoved<'a> {
    /// Whose.
    pub provider: &'a str,
    /// 0 closed, 1 half open, 2 open.
    pub state: i64,
}

impl BreakerMoved<'_> {
    /// Sets the gauge and writes it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.breaker(self.provider, self.state);
        match self.state {
            0 => info!(provider.name = self.provider, "breaker closed: calls pass again"),
            1 => info!(
                provider.name = self.provider,
                "breaker half open: one call may try"
            ),
            _ => warn!(
                provider.name = self.provider,
                "breaker open: calls are refused for a while"
            ),
        }
    }
}

/// A text whose URLs have lost what may be secret: credentials, query and fragment.
#[must_use]
pub fn without_queries(text: &str) -> Cow<'_, str> {
    if !text.contains(['?', '#', '@']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive([' ', '\n', '\t', '"', '`', '<', '>']) {
        // Brackets and commas may belong to a query, so they go with it.
        let body = piece.trim_end_matches([' ', '\n', '\t', '"', '`', '<', '>']);
        let end = piece.strip_prefix(body).unwrap_or_default();
        let query = if body.contains('/') {
            body.find(['?', '#'])
        } else {
            None
        };
        out.push_str(&without_userinfo(
            query.and_then(|at| body.get(..at)).unwrap_or(body),
        ));
        out.push_str(if query.is_some() { "…" } else { "" });
        out.push_str(end);
    }
    Cow::Owned(out)
}

fn without_userinfo(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Cow::Borrowed(url);
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let Some(at) = authority.rfind('@') else {
        return Cow::Borrowed(url);
    };
    Cow::Owned(format!("{scheme}://…{}", rest.get(at..).unwrap_or_default()))
}

/// The beginning of a text that others wrote, so that no line grows without bound.
fn short(text: &str, most: usize) -> &str {
    text.char_indices()
        .nth(most)
        .and_then(|(at, _)| text.get(..at))
        .unwrap_or(text)
}
