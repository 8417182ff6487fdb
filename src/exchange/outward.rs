//! The way out of one call: account, limit, signature, upstream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Outlet, Step};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::credential::Missing;
use crate::error::{Code, Error};
use crate::limit::{Refusal, Rule};
use crate::mcp::{RawObject, Revision, headers, translate};
use crate::upstream::{Behalf, Call, Target};

/// Keys of `_meta` that speak of one hop only.
const HOP_KEYS: [&str; 2] = ["io.modelcontextprotocol/", "pleiades/"];

/// A call on its way out.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) provider: &'a Arc<Provider>,
    pub(super) catalogue: &'a Catalogue,
    pub(super) tool: Option<&'a Tool>,
    pub(super) method: &'static str,
    pub(super) params: RawObject,
}

impl Step<'_> {
    /// On whose behalf this caller reaches a provider.
    pub(super) fn behalf(&self, provider: &Provider) -> Result<Behalf, Missing> {
        let signature = provider.need.sign(&self.peer.keys.brought(&provider.need))?;
        let principal = &self.peer.principal;
        Ok(Behalf {
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            signature,
        })
    }

    /// Limits, signs and makes one call; its result and the revision it was made in.
    pub(super) async fn outward(&mut self, out: Outgoing<'_>) -> Result<(RawObject, Revision), Error> {
        let provider = out.provider;
        self.record.provider = Some(Arc::clone(&provider.id));
        self.record.tool = out.tool.map(|tool| Arc::from(&*tool.name));
        let behalf = self
            .behalf(provider)
            .map_err(|missing| needs_auth(provider, &missing))?;
        let revision = out
            .catalogue
            .profile
            .as_ref()
            .and_then(|profile| profile.revisions.choose(self.revision()))
            .ok_or_else(|| Error::new(Code::UpstreamUnreachable, "the provider was not reached yet"))?;
        let principal = &self.peer.principal;
        let pass = provider
            .gate
            .enter(
                &principal.binding(),
                &principal.tenant,
                out.tool.map(|tool| &*tool.name),
            )
            .map_err(|refusal| self.refused(provider, &refusal))?;
        let method = out.method;
        let call = self.call(out, revision);
        let _inflight = self.exchange.metrics.inflight(&provider.id);
        let started = Instant::now();
        let outcome = self
            .exchange
            .upstreams
            .request(&provider.endpoint, &behalf, call)
            .await;
        self.record.upstream = Some(started.elapsed());
        self.exchange
            .catalog
            .observed(provider, outcome.as_ref().map(|_| ()));
        match &outcome {
            Err(error) if is_breakage(error) => pass.failed(),
            _ => pass.succeeded(),
        }
        let result = outcome.map_err(|error| translated(method, error, revision, self.revision()))?;
        let result = RawObject::open(&result).map_err(|cause| {
            Error::new(Code::UpstreamProtocol, "the provider's result is not an object")
                .because(cause)
                .sent()
        })?;
        Ok((result, revision))
    }

    fn call(&self, out: Outgoing<'_>, revision: Revision) -> Call {
        let endpoint = &out.provider.endpoint;
        let http = matches!(endpoint.target, Target::Http { .. });
        let mirrored = match out.tool {
            Some(tool) if http && revision.is_modern() && !tool.mirrored.is_empty() => {
                let arguments = out
                    .params
                    .get("arguments")
                    .and_then(|raw| RawObject::open(raw).ok());
                headers::mirrored(&tool.mirrored, &arguments.unwrap_or_default())
            }
            _ => Vec::new(),
        };
        let mut params = out.params;
        self.hop_meta(&mut params);
        Call {
            method: out.method,
            params,
            revision,
            mirrored,
            deadline: Instant::now() + endpoint.call,
            idempotent: out.method != "tools/call",
            declared: crate::mcp::Declared::default(),
            progress: self.outlet.is_some(),
            events: self.outlet.map(Outlet::events),
        }
    }

    /// Leaves in `_meta` what is meant for the provider: the caller's own keys and the trace.
    fn hop_meta(&self, params: &mut RawObject) {
        let meta = params.remove("_meta").and_then(|raw| RawObject::open(&raw).ok());
        let mut kept = RawObject::new();
        for (key, value) in meta.iter().flat_map(RawObject::iter) {
            if !HOP_KEYS.iter().any(|hop| key.starts_with(hop)) && key != "progressToken" {
                kept.set(key, value.to_owned());
            }
        }
        if let Some(trace) = &self.peer.trace
            && kept.get("traceparent").is_none()
        {
            kept.put("traceparent", trace);
        }
        if !kept.is_empty() {
            params.set("_meta", kept.close());
        }
    }

    fn refused(&self, provider: &Provider, refusal: &Refusal) -> Error {
        self.exchange.metrics.limited(&provider.id, refusal.rule.as_str());
        limited(&provider.title, refusal)
    }
}

/// An upstream's own error as a peer of another revision may be told it.
fn translated(method: &str, mut error: Error, from: Revision, to: Revision) -> Error {
    if let Some(fault) = error.rpc.take() {
        error.rpc = Some(Box::new(translate::fault(method, *fault, from, to)));
    }
    error
}

/// The error for a refusal of the provider's gate.
pub(crate) fn limited(title: &str, refusal: &Refusal) -> Error {
    let seconds = (refusal.retry_after + Duration::from_millis(999))
        .as_secs()
        .max(1);
    let (code, what) = match refusal.rule {
        Rule::Concurrency => (Code::Busy, "as many calls as allowed are already running"),
        Rule::Breaker => (
            Code::BreakerOpen,
            "it failed repeatedly and is left alone for a while",
        ),
        _ => (Code::RateLimited, "the rate limit is reached"),
    };
    Error::new(
        code,
        format!("{title}: {what}; nothing was run, try again in {seconds} s"),
    )
    .retry_after(Duration::from_secs(seconds))
    .data(json!({ "rule": refusal.rule.as_str(), "retry_after": seconds }))
}

/// Whether an outcome speaks against the provider's health.
pub(crate) const fn is_breakage(error: &Error) -> bool {
    matches!(
        error.code,
        Code::UpstreamUnreachable | Code::UpstreamTimeout | Code::UpstreamProtocol
    )
}

/// One sentence that names where the caller puts its key.
#[must_use]
pub(super) fn need_auth(provider: &Provider, missing: &Missing) -> String {
    let headers: Vec<String> = missing.headers.iter().map(|name| format!("`{name}`")).collect();
    let variable = missing.env.as_ref().map_or_else(String::new, |name| {
        format!(", or set the environment variable `{name}` for `pleiades stdio`")
    });
    format!(
        "{} needs your own key: send it in the request header {}{variable}; it is passed on and never stored",
        provider.title,
        headers.join(" or ")
    )
}

/// The error for a caller that brought no key.
pub(crate) fn needs_auth(provider: &Provider, missing: &Missing) -> Error {
    Error::new(Code::NeedsAuth, need_auth(provider, missing)).data(json!({
        "provider_id": &*provider.id,
        "reason": "never_connected",
        "headers": missing.headers,
        "env": missing.env,
    }))
}

/// A URI that names its provider, for unions where two providers share one.
pub(super) fn namespaced(provider: &str, uri: &str) -> String {
    format!("pleiades://{provider}/{uri}")
}

/// Undoes [`namespaced`].
pub(super) fn denamespaced(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("pleiades://")?.split_once('/')
}
