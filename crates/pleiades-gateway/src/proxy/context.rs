//! What is known of an HTTP request before it is worked on.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderValue, StatusCode, header};
use pingora_core::Result;
use pingora_http::ResponseHeader;

use super::services::GatewayServices;
use crate::exchange::{self, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{REQUEST_ID, events::RequestDone};
use pleiades_credential::access::Caller;

/// One request: its id, and who sent it from where.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) request_id: String,
    /// When its head had arrived.
    pub(super) started: Instant,
    /// The caller's origin, when it is an allowed one.
    pub(super) origin: Option<String>,
    pub(super) peer: Option<IpAddr>,
    /// Its sender, once identified.
    pub(super) caller: Option<Caller>,
}

impl Context {
    pub(super) fn new(request_id: String) -> Self {
        Self {
            request_id,
            started: Instant::now(),
            origin: None,
            peer: None,
            caller: None,
        }
    }

    /// Adds the sender to the event of a request.
    pub(super) fn describe(&self, done: &mut RequestDone) {
        done.peer = self.peer;
        if let Some(Caller { principal, key }) = &self.caller {
            done.tenant = Some(Arc::clone(&principal.tenant));
            done.user = Some(Arc::clone(&principal.user));
            done.key.clone_from(key);
        }
    }

    /// Emits the event of a page at the address of a view; it counts as no call.
    pub(super) fn report_page(&self, services: &GatewayServices, status: StatusCode) {
        let mut done = RequestDone::new(self.request_id.clone(), "http");
        self.describe(&mut done);
        done.duration = self.started.elapsed();
        done.status = status.as_u16();
        done.emit(&services.metrics);
    }

    /// Emits the event of a request that was refused before it was one. `scope`: the view that it asks
    /// for, in whose metrics it counts; `None` where its path names none.
    pub(super) fn report_refusal(
        &self,
        services: &GatewayServices,
        scope: Option<&Scope>,
        error: &Error,
        status: StatusCode,
    ) {
        let mut done = RequestDone::new(self.request_id.clone(), "http");
        self.describe(&mut done);
        done.view = scope.map(|scope| scope.view);
        let asked = scope.and_then(|scope| scope.provider.clone());
        done.provider = asked.filter(|id| services.exchange.catalog.snapshot().providers.contains_key(id));
        done.outcome = error.code.as_str();
        done.cause = Some(error.cause());
        let snapshot = services.exchange.catalog.snapshot();
        let need = done
            .provider
            .as_ref()
            .and_then(|id| Some(&snapshot.providers.get(id)?.need));
        let is_own = need.is_some_and(|need| exchange::own_signature(need).is_some());
        done.is_operators = is_own && error.code == Code::UpstreamAuth;
        done.duration = self.started.elapsed();
        done.status = status.as_u16();
        done.emit(&services.metrics);
    }

    /// Puts on an answer what is ours on each: the id that the log has for its request, and what a page of
    /// an allowed origin may read.
    pub(super) fn sign(&self, head: &mut ResponseHeader) -> Result<()> {
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            head.insert_header(REQUEST_ID, id)?;
        }
        if let Some(origin) = &self.origin {
            head.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)?;
            head.insert_header(header::VARY, "Origin")?;
            head.insert_header(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, X-Request-Id",
            )?;
        }
        Ok(())
    }
}
