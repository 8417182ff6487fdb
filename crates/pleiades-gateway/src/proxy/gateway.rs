//! The phases of a request, in Pingora's order. Views, pages and the API are answered in
//! `request_filter`; only the relay of an HTTP provider goes on to an upstream.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use pingora_core::{Error, ErrorSource, Result, upstreams::peer::HttpPeer};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::api::{self, ApiConfig};
use super::guard::{self, Inspected};
use super::relay::{self, RelayState, TlsCache};
use super::route::{self, Route};
use super::{
    bridge, connect, context::Context, limits::CallerLimits, respond, respond::Response, resume::AnswerStore,
    services::GatewayServices, view, welcome, welcome::Visit,
};
use crate::catalog::Snapshot;
use crate::exchange::{Exchange, Scope};
use pleiades_core::telemetry::{Metrics, RequestIds, View, request_scope};
use pleiades_credential::access::{Access, framing, origins::OriginPolicy};
use pleiades_mcp::{Revision, seal::Sealer};

/// The parts that the gateway is built from.
#[derive(Debug)]
pub struct Config {
    /// Hosts and origins of the public listener.
    pub origins: OriginPolicy,
    /// Keys of callers and operators.
    pub access: Arc<Access>,
    /// Largest request body, in bytes.
    pub max_body: usize,
    /// Settings of the paths beside the protocol.
    pub api: ApiConfig,
}

/// The public listener's application.
#[derive(Debug)]
pub struct Gateway {
    services: GatewayServices,
    origins: OriginPolicy,
    api: ApiConfig,
    tls: TlsCache,
    ids: RequestIds,
}

/// A request between Pingora's phases.
#[derive(Debug)]
pub struct RequestState {
    context: Context,
    /// Set when the request goes on through Pingora to an upstream.
    relay: Option<RelayState>,
}

impl RequestState {
    fn relay(&mut self) -> Result<&mut RelayState> {
        let relay = self.relay.as_mut();
        relay.ok_or_else(|| relay::peer::internal_error("the request is not relayed"))
    }
}

impl Gateway {
    /// Builds it from its parts.
    #[must_use]
    pub fn new(config: Config, exchange: Arc<Exchange>, metrics: Arc<Metrics>, sealer: Arc<Sealer>) -> Self {
        Self {
            services: GatewayServices {
                exchange,
                metrics,
                sealer,
                access: config.access,
                limits: CallerLimits::default(),
                answers: AnswerStore::default(),
                max_body: config.max_body,
            },
            origins: config.origins,
            api: config.api,
            tls: TlsCache::default(),
            ids: RequestIds::default(),
        }
    }

    /// Guards and routes a request, and answers it. `true`: answered here; `false`: it is relayed.
    async fn arrive(&self, session: &mut Session, state: &mut RequestState) -> Result<bool> {
        bridge::set_timeouts(session);
        let route = match self.inspect(session) {
            Ok(Inspected::Preflight { origin }) => {
                let headers = &session.req_header().headers;
                let requested = headers.get(http::header::ACCESS_CONTROL_REQUEST_HEADERS);
                let response = bridge::preflight(requested);
                state.context.origin = Some(origin);
                bridge::respond(session, response, &state.context).await?;
                return Ok(true);
            }
            Ok(Inspected::Request { origin }) => {
                if let Some(response) = self.welcome(session, &mut state.context) {
                    bridge::respond(session, response, &state.context).await?;
                    return Ok(true);
                }
                state.context.origin = origin;
                let uri = &session.req_header().uri;
                route::route(uri.path(), uri.query())
            }
            Err(error) => Err(error),
        };
        let ctx = &mut state.context;
        let response = match route {
            Ok(Route::Mcp(scope)) => return self.serve_mcp(session, state, scope).await,
            // Boxed: these are seldom, and larger than all else.
            Ok(Route::Api(route)) => {
                ctx.peer = bridge::peer_address(session);
                let id = ctx.request_id.as_str().into();
                let served = api::serve(&self.services, &self.api, session, (ctx, route)).boxed();
                request_scope::within(id, served).await?;
                return Ok(true);
            }
            Ok(Route::OAuth(route)) => {
                let id = ctx.request_id.as_str().into();
                let served = connect::serve(&self.services, session, ctx, route).boxed();
                request_scope::within(id, served).await?;
                return Ok(true);
            }
            Ok(Route::Health) => respond::health(&session.req_header().method),
            Err(error) => self.refuse(session, ctx, &error),
        };
        bridge::respond(session, response, ctx).await?;
        Ok(true)
    }

    /// The answer to a request that is refused by its head alone; its event is emitted.
    fn refuse(&self, session: &Session, ctx: &mut Context, error: &pleiades_core::error::Error) -> Response {
        let uri = &session.req_header().uri;
        ctx.peer = bridge::peer_address(session);
        let response = if route::is_for_people(uri.path()) {
            ctx.origin = None;
            connect::guard_page(self.services.exchange.accounts.broker.name(), error)
        } else {
            let status = respond::status(error.code, Revision::NEWEST_LEGACY);
            respond::refusal(status, error, None, Revision::NEWEST_LEGACY)
        };
        let scope = match route::route(uri.path(), uri.query()) {
            Ok(Route::Mcp(scope)) => Some(scope),
            _ => None,
        };
        ctx.report_refusal(&self.services, scope.as_ref(), error, response.status);
        response
    }

    /// The page for a browser at the address of a view.
    fn welcome(&self, session: &Session, ctx: &mut Context) -> Option<Response> {
        let head = session.req_header();
        let (access, name) = (
            &self.services.access,
            self.services.exchange.accounts.broker.name(),
        );
        ctx.peer = bridge::peer_address(session);
        let visit = Visit {
            method: &head.method,
            path: head.uri.path(),
            host: guard::host(&head.uri, &head.headers)?,
            headers: &head.headers,
            peer: ctx.peer,
        };
        let response = welcome::page(&visit, name, access, &self.origins)?;
        ctx.report_page(&self.services, response.status);
        Some(response)
    }

    fn inspect(&self, session: &Session) -> Result<Inspected, pleiades_core::error::Error> {
        let head = session.req_header();
        framing::check(bridge::has_two_lengths(session), &head.uri, &head.headers)?;
        guard::inspect(&head.method, &head.uri, &head.headers, &self.origins)
    }

    /// Identifies the caller, then serves the view or begins the relay. `true`: answered here.
    async fn serve_mcp(&self, session: &mut Session, state: &mut RequestState, scope: Scope) -> Result<bool> {
        let ctx = &mut state.context;
        ctx.peer = bridge::peer_address(session);
        let access = &self.services.access;
        let caller = match access.identify(&session.req_header().headers, ctx.peer) {
            Ok(caller) => caller,
            Err(error) => {
                let status = respond::relay_status(error.code, Revision::NEWEST_LEGACY);
                ctx.report_refusal(&self.services, Some(&scope), &error, status);
                let response = respond::refusal(status, &error, None, Revision::NEWEST_LEGACY);
                bridge::respond(session, response, ctx).await?;
                return Ok(true);
            }
        };
        let principal = caller.principal.clone();
        ctx.caller = Some(caller);
        let snapshot = self.services.exchange.snapshot(&scope, &principal);
        if self.is_relayed(&scope, &snapshot) {
            let to = (&scope, &*snapshot, &principal);
            let id = ctx.request_id.as_str().into();
            let begun = relay::begin(&self.services, session, ctx, to);
            state.relay = request_scope::within(id, begun).await?;
            return Ok(state.relay.is_none());
        }
        view::serve(&self.services, session, ctx, (&scope, &snapshot, &principal)).await?;
        Ok(true)
    }

    /// Whether a request is the relay of a provider that Pingora can reach itself.
    fn is_relayed(&self, scope: &Scope, snapshot: &Snapshot) -> bool {
        let upstreams = &self.services.exchange.upstreams;
        let provider = scope.provider_in(snapshot).ok().flatten();
        scope.view == View::Relay && provider.is_some_and(|provider| !upstreams.is_wired(&provider.endpoint))
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestState;

    fn new_ctx(&self) -> RequestState {
        RequestState {
            context: Context::new(self.ids.next()),
            relay: None,
        }
    }

    async fn request_filter(&self, session: &mut Session, state: &mut RequestState) -> Result<bool> {
        match self.arrive(session, state).await {
            // The client is gone: nobody is left to be answered, and nothing went wrong here.
            // Pingora names no source for a stream that the client left.
            Err(error) if matches!(error.esource(), ErrorSource::Downstream | ErrorSource::Unset) => {
                session.set_keepalive(None);
                Ok(true)
            }
            arrived => arrived,
        }
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        state: &mut RequestState,
    ) -> Result<()> {
        let Some(relay) = state.relay.as_mut() else {
            return Ok(());
        };
        relay::count_body(relay, body.as_ref().map_or(0, Bytes::len), self.services.max_body)
    }

    async fn upstream_peer(&self, _session: &mut Session, state: &mut RequestState) -> Result<Box<HttpPeer>> {
        let resolver = self.services.exchange.upstreams.resolver();
        relay::peer::choose(state.relay()?, resolver, &self.tls).await
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        state: &mut RequestState,
    ) -> Result<()> {
        relay::headers::filter_request(request, state.relay()?)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        state: &mut RequestState,
    ) -> Result<()> {
        let Some(relay) = state.relay.as_mut() else {
            return Ok(());
        };
        relay::response::filter_response(&self.services, session, response, (relay, &state.context)).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        state: &mut RequestState,
        error: Box<Error>,
    ) -> Box<Error> {
        match &state.relay {
            Some(relay) => relay::retry::retry_connect(relay, error),
            None => error,
        }
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        state: &mut RequestState,
        client_reused: bool,
    ) -> Box<Error> {
        match state.relay.as_mut() {
            Some(relay) => relay::retry::retry_broken(relay, session, error, client_reused),
            None => {
                error.retry.decide_reuse(false);
                error
            }
        }
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        state: &mut RequestState,
    ) -> FailToProxy {
        match state.relay.as_mut() {
            Some(relay) => {
                relay::answer_failure(&self.services, session, error, (&state.context, relay)).await
            }
            None => FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            },
        }
    }

    fn suppress_error_log(&self, _session: &Session, state: &RequestState, error: &Error) -> bool {
        // The request's own event tells of both: a client that went away, an upstream that failed.
        *error.esource() == ErrorSource::Downstream || state.relay.is_some()
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        state: &RequestState,
        _error: &Error,
        _why: ProxyWarnLogContext,
    ) -> bool {
        // What is sent again is no warning; the request's own event tells how it ended.
        state.relay.is_some()
    }

    fn request_summary(&self, session: &Session, _state: &RequestState) -> String {
        // Without the query, which could carry a secret.
        let head = session.req_header();
        format!("{} {}", head.method, head.uri.path())
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, state: &mut RequestState) {
        if let Some(relay) = state.relay.take() {
            relay::finish(&self.services, session, &mut state.context, relay);
        }
    }
}
