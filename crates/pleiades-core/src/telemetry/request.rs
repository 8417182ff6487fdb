//! The one event of a request: its metrics and its line of the log.

use std::time::{Duration, SystemTime};
use std::{borrow::Cow, cell::RefCell, net::IpAddr, sync::Arc};

use tracing::{Level, enabled};

#[cfg(doc)]
use super::names;
use super::{
    Metrics, View, layer::LineForm, line::JsonLine, log, provider::CallSample, redact::without_queries,
};
use crate::error::Code;
use crate::text::head;

/// A request was answered.
#[derive(Debug, Clone)]
pub struct RequestDone {
    /// Our id of the request, as the caller was told it.
    pub request_id: Cow<'static, str>,
    /// JSON-RPC method, or the HTTP method of a request that carried no message.
    pub method: Cow<'static, str>,
    /// Its view; `None` for what is no JSON-RPC request: it counts in no metric.
    pub view: Option<View>,
    /// Its provider, when it was for a single loaded one.
    pub provider: Option<Arc<str>>,
    /// What a call that is part of a plan is called in it; of the request itself `None`. A part is counted
    /// by its tool alone: one request led to all of them.
    pub part: Option<Cow<'static, str>>,
    /// The tool that was called, by its name in the catalogue, else `other`: it is a label.
    pub tool: Option<Cow<'static, str>>,
    /// Its outcome: one of [`names::OUTCOMES`].
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
    /// Name of the access key that the caller brought.
    pub key: Option<Arc<str>>,
    /// The account whose credential was used.
    pub account: Option<Arc<str>>,
    /// The client's revision of the protocol.
    pub revision: Option<&'static str>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// W3C trace id: 32 hex digits.
    pub trace: Option<Cow<'static, str>>,
    /// Why it failed, in one line; URLs lose their queries before they are written.
    pub cause: Option<String>,
    /// Whether it is for the operator to act, not for the caller: the line is a warning.
    pub is_operators: bool,
}

impl RequestDone {
    /// A request of which nothing else is known yet.
    pub fn new(request_id: impl Into<Cow<'static, str>>, method: impl Into<Cow<'static, str>>) -> Self {
        Self {
            request_id: request_id.into(),
            method: method.into(),
            view: None,
            provider: None,
            part: None,
            tool: None,
            outcome: "ok",
            status: 0,
            duration: Duration::ZERO,
            upstream: None,
            tenant: None,
            user: None,
            key: None,
            account: None,
            revision: None,
            peer: None,
            trace: None,
            cause: None,
            is_operators: false,
        }
    }

    /// Counts the request and writes its line.
    pub fn emit(&self, metrics: &Metrics) {
        if let Some(view) = self.view {
            let call = CallSample {
                view,
                tool: self.tool.as_deref(),
                outcome: self.outcome,
                duration: self.duration,
                upstream: self.upstream,
                is_part: self.part.is_some(),
            };
            metrics.call(self.provider.as_deref(), &call);
        }
        if !enabled!(target: "pleiades::request", Level::INFO) {
            return;
        }
        let Some((sink, form)) = log::direct() else { return };
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            match form {
                LineForm::Json => self.write(buffer),
                LineForm::Terminal(form) => form.request(self, SystemTime::now(), buffer),
            }
            sink.append(buffer);
        });
    }

    /// A bug of ours is an error. What only the operator can mend, and no other line tells, warns: the
    /// credential of a descriptor that is refused, a store of credentials that does not serve. Every
    /// other failure is the caller's, or its provider's, whose state has lines of its own.
    pub(super) fn level(&self) -> Level {
        match self.outcome {
            outcome if outcome == Code::Internal.as_str() => Level::ERROR,
            outcome if self.is_operators || outcome == Code::CredentialStore.as_str() => Level::WARN,
            _ => Level::INFO,
        }
    }

    pub(super) fn method(&self) -> &str {
        head(&self.method, 64)
    }

    pub(super) fn cause(&self) -> Option<Cow<'_, str>> {
        self.cause
            .as_deref()
            .map(|cause| without_queries(head(cause, 1000)))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut line = JsonLine::begin(
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
        line.some("plan.call", self.part.as_deref());
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
        line.some("access.key", self.key.as_deref());
        line.some("account.id", self.account.as_deref());
        line.some("mcp.revision", self.revision);
        if let Some(peer) = self.peer {
            line.text("client.address", &peer.to_string());
        }
        line.some("trace.id", self.trace.as_deref());
        line.some("error", self.cause().as_deref());
        line.end();
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
