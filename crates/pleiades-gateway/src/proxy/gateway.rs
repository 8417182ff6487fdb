//! The way of a request, phase by phase in Pingora's order. Views are answered in
//! `request_filter`; only the relay of an HTTP provider goes on to an upstream.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::api::ApiConfig;
use super::context::Context;
use super::guard::{self, Inspected};
use super::limits::CallerLimits;
use super::relay_tls::TlsCache;
use super::respond;
use super::resume::AnswerStore;
use super::route::{self, Route};
use super::{bridge, connect, relay, relay_headers, relay_retry};
use crate::exchange::{Exchange, Record, RequestIds, Scope};
use pleiades_core::error::Code;
use pleiades_core::telemetry::Metrics;
use pleiades_core::telemetry::View;
use pleiades_credential::access::Access;
use pleiades_credential::access::framing;
use pleiades_credential::access::origins::OriginPolicy;
use pleiades_mcp::Revision;
use pleiades_mcp::seal::Sealer;

/// What the gateway is built from.
#[derive(Debug)]
pub struct Config {
    /// Hosts and origins of the public listener.
    pub origins: OriginPolicy,
    /// Who may call.
    pub access: Arc<Access>,
    /// Largest request body, in bytes.
    pub max_body: usize,
    /// What the paths beside the protocol need.
    pub api: ApiConfig,
}

/// The public listener's application.
#[derive(Debug)]
pub struct Gateway {
    pub(super) exchange: Arc<Exchange>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) origins: OriginPolicy,
    pub(super) access: Arc<Access>,
    pub(super) max_body: usize,
    pub(super) api: ApiConfig,
    pub(super) tls: TlsCache,
    pub(super) answers: AnswerStore,
    pub(super) limits: CallerLimits,
    ids: RequestIds,
}

impl Gateway {
    /// Builds it from its parts.
    #[must_use]
    pub fn new(config: Config, exchange: Arc<Exchange>, metrics: Arc<Metrics>, sealer: Arc<Sealer>) -> Self {
        Self {
            exchange,
            metrics,
            sealer,
            origins: config.origins,
            access: config.access,
            max_body: config.max_body,
            api: config.api,
            tls: TlsCache::default(),
            answers: AnswerStore::default(),
            limits: CallerLimits::default(),
            ids: RequestIds::default(),
        }
    }

    /// Route, guard, then the view or the relay. `true`: answered here.
    async fn arrive(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        bridge::set_timeouts(session);
        let two_lengths = bridge::has_two_lengths(session);
        let head = session.req_header();
        let judged = framing::check(two_lengths, &head.uri, &head.headers)
            .and_then(|()| guard::inspect(&head.method, &head.uri, &head.headers, &self.origins));
        let route = match judged {
            Ok(Inspected::Preflight { origin }) => {
                let asked = head
                    .headers
                    .get(http::header::ACCESS_CONTROL_REQUEST_HEADERS)
                    .cloned();
                let response = bridge::preflight(asked.as_ref());
                return bridge::respond(session, response, Some(&origin))
                    .await
                    .map(|()| true);
            }
            Ok(Inspected::Request { origin }) => {
                ctx.origin = origin;
                route::route(head.uri.path(), head.uri.query())
            }
            Err(error) => Err(error),
        };
        match route {
            Ok(Route::Health) => {
                let response = respond::health(&head.method);
                bridge::respond(session, response, ctx.origin.as_deref()).await?;
                Ok(true)
            }
            // Boxed: these are seldom, and larger than all else.
            Ok(Route::Api(place)) => Box::pin(self.serve_api(session, ctx, place)).await.map(|()| true),
            Ok(Route::Mcp(scope)) => self.serve_mcp(session, ctx, scope).await,
            Ok(Route::OAuth(oauth_route)) => Box::pin(self.serve_oauth(session, ctx, oauth_route))
                .await
                .map(|()| true),
            Err(error) if route::is_for_people(head.uri.path()) => {
                let mut response = self.refusal_page(&connect::guard_refusal(&error));
                response.status = respond::status(error.code, Revision::NEWEST_LEGACY);
                response.close = error.code == Code::BadFraming;
                bridge::respond(session, response, None).await?;
                Ok(true)
            }
            Err(error) => {
                let status = respond::status(error.code, Revision::NEWEST_LEGACY);
                let response = respond::refusal(status, &error, None, Revision::NEWEST_LEGACY);
                bridge::respond(session, response, ctx.origin.as_deref()).await?;
                Ok(true)
            }
        }
    }

    /// Who asks, then the view or the relay. `true`: answered here.
    async fn serve_mcp(&self, session: &mut Session, ctx: &mut Context, scope: Scope) -> Result<bool> {
        ctx.peer = bridge::peer_address(session);
        let caller = match self.access.identify(&session.req_header().headers, ctx.peer) {
            Ok(caller) => caller,
            Err(error) => {
                return self
                    .unauthorized(session, ctx, &scope, &error)
                    .await
                    .map(|()| true);
            }
        };
        let principal = caller.principal.clone();
        ctx.caller = Some(caller);
        if self.is_relayed(&scope) {
            return self.begin_relay(session, ctx, (&scope, principal)).await;
        }
        self.serve(session, ctx, (scope, &principal)).await.map(|()| true)
    }

    /// Tells somebody unknown so, and the log.
    async fn unauthorized(
        &self,
        session: &mut Session,
        ctx: &Context,
        scope: &Scope,
        error: &pleiades_core::error::Error,
    ) -> Result<()> {
        let status = respond::relay_status(error.code, Revision::NEWEST_LEGACY);
        let record = Record {
            method: "http".to_owned(),
            outcome: error.code.as_str(),
            ..Record::default()
        };
        self.report(ctx, scope, &record, status);
        let response = respond::refusal(status, error, None, Revision::NEWEST_LEGACY);
        bridge::respond(session, response, ctx.origin.as_deref()).await
    }

    /// Whether a request is the relay of a provider that Pingora can reach itself.
    fn is_relayed(&self, scope: &Scope) -> bool {
        let Some(id) = scope.provider.as_ref().filter(|_| scope.view == View::Relay) else {
            return false;
        };
        let snapshot = self.exchange.catalog.snapshot();
        snapshot
            .providers
            .get(id)
            .is_some_and(|provider| !self.exchange.upstreams.is_wired(&provider.endpoint))
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.ids.next())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        match self.arrive(session, ctx).await {
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
        ctx: &mut Context,
    ) -> Result<()> {
        relay::count_body(ctx, body.as_ref().map_or(0, Bytes::len), self.max_body)
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        self.peer(ctx).await
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        relay_headers::filter_request(request, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.filter_response(session, response, ctx).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        relay_retry::retry_connect(ctx, error)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        relay_retry::retry_broken(peer, session, error, ctx, client_reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    fn suppress_error_log(&self, _session: &Session, ctx: &Context, error: &Error) -> bool {
        // The request's own event tells of both: a client that went away, an upstream that failed.
        *error.esource() == ErrorSource::Downstream || ctx.relay.is_some()
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        ctx: &Context,
        _error: &Error,
        _why: ProxyWarnLogContext,
    ) -> bool {
        // What is sent again is no warning; the request's own event tells how it ended.
        ctx.relay.is_some()
    }

    fn request_summary(&self, session: &Session, _ctx: &Context) -> String {
        // Without the query, which could carry a secret.
        let head = session.req_header();
        format!("{} {}", head.method, head.uri.path())
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        self.finish_relay(session, ctx);
    }
}
