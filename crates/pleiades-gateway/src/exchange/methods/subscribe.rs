//! Lines of legacy sessions to providers: resources that are watched, log levels, roots; what is said
//! and asked outside of calls.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{describe::passes_logs, params::required};
use crate::catalog::Provider;
use crate::exchange::call::{CallOutcome, CallTarget, declared, revision_for};
use crate::exchange::{client::SessionLine, reply::Done, request::Request, services::MethodServices};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{RawObject, Revision};
use pleiades_upstream::{Identity, SubscribeOptions, Subscription, Topics};

/// Events of a line that wait to be written.
pub(super) const EVENTS: usize = 64;

pub(super) async fn subscribe(
    services: &MethodServices,
    request: &Request<'_>,
    mut params: RawObject,
) -> Result<Done, Error> {
    let outer: String = required(&params, "uri")?;
    let (provider, lists, uri) = services.lists.locate(request, &outer).await?;
    let revision = revision_for(request.revision(), &lists)?;
    if let Some(session) = request.session()
        && outer != uri
    {
        let mailbox = services.mailboxes.of(session, request.principal());
        mailbox.name(&provider.id, &uri, outer);
    }
    let identity = identity(services, request, &provider).await;
    let line = line(services, request, &provider, (revision, identity)).ok_or_else(|| {
        Error::new(
            Code::InvalidRequest,
            "a subscription belongs to a session: initialize first",
        )
    })?;
    if revision.is_modern() {
        line.watch(&uri, false)?;
        return Ok(Done::ok(RawObject::new().close()));
    }
    params.put("uri", &uri);
    let target = CallTarget::method(provider, lists, "resources/subscribe");
    let done = pass_on(services, request, target, params).await?;
    line.watch(&uri, true)?;
    Ok(done)
}

pub(super) async fn unsubscribe(
    services: &MethodServices,
    request: &Request<'_>,
    mut params: RawObject,
) -> Result<Done, Error> {
    let outer: String = required(&params, "uri")?;
    let (provider, lists, uri) = services.lists.locate(request, &outer).await?;
    let revision = revision_for(request.revision(), &lists)?;
    let identity = identity(services, request, &provider).await;
    if let Some(line) = line(services, request, &provider, (revision, identity)) {
        line.unwatch(&uri);
    }
    if revision.is_modern() {
        return Ok(Done::ok(RawObject::new().close()));
    }
    params.put("uri", &uri);
    let target = CallTarget::method(provider, lists, "resources/unsubscribe");
    pass_on(services, request, target, params).await
}

pub(super) async fn set_level(
    services: &MethodServices,
    request: &Request<'_>,
    params: RawObject,
) -> Result<Done, Error> {
    let provider = request
        .only()?
        .filter(|it| passes_logs(services, request, it, request.revision()))
        .ok_or_else(|| Error::new(Code::MethodNotFound, "no log messages are passed on here"))?;
    let level = params.read::<String>("level").unwrap_or_default();
    let is_known = request.session().is_none_or(|session| {
        let mailbox = services.mailboxes.of(session, request.principal());
        mailbox.set_level(&level)
    });
    if !is_known {
        return Err(Error::new(Code::InvalidParams, "unknown log `level`"));
    }
    let lists = services.lists.connected(request, &provider).await?;
    let target = CallTarget::method(provider, lists, "logging/setLevel");
    pass_on(services, request, target, params).await
}

/// A result goes to the client as its provider wrote it.
pub(super) async fn pass_on(
    services: &MethodServices,
    request: &Request<'_>,
    target: CallTarget,
    params: RawObject,
) -> Result<Done, Error> {
    Ok(match services.calls.call(request, target, params).await? {
        CallOutcome::Result(result, _) => Done::ok(result.close()),
        CallOutcome::Asked(result) => Done::asks(result),
    })
}

/// The roots of a legacy client have changed: its providers of the same generation are told.
pub(crate) fn roots_changed(services: &MethodServices, request: &Request<'_>) {
    for provider in request.in_scope() {
        if let Some((revision, Some(identity))) = legacy(services, request, provider) {
            let declared = declared(request, revision);
            let upstreams = &services.upstreams;
            upstreams.notify_roots_changed(&provider.endpoint, &identity, revision, &declared);
        }
    }
}

/// What a legacy provider says outside of calls has somewhere to go once its session's client listens.
pub(crate) fn open_line(services: &MethodServices, request: &Request<'_>) {
    let Ok(Some(provider)) = request.only() else {
        return;
    };
    if let Some(legacy) = legacy(services, request, &provider) {
        line(services, request, &provider, legacy);
    }
}

/// The legacy revision that this client's calls are made in, and as whom, as far as that is known.
fn legacy(
    services: &MethodServices,
    request: &Request<'_>,
    provider: &Provider,
) -> Option<(Revision, Option<Identity>)> {
    let lists = services.lists.lists_of(request, provider);
    let revision = revision_for(request.revision(), &lists).ok()?;
    if revision.is_modern() {
        return None;
    }
    let reached = services.accounts.reach_now(request, provider);
    Some((revision, reached.map(|reached| reached.identity)))
}

async fn identity(services: &MethodServices, request: &Request<'_>, provider: &Provider) -> Option<Identity> {
    let reached = services.accounts.reach(request, provider).await;
    reached.ok().map(|reached| reached.identity)
}

/// The line of this client's session to a provider, opened when there is none.
fn line(
    services: &MethodServices,
    request: &Request<'_>,
    provider: &Arc<Provider>,
    (revision, identity): (Revision, Option<Identity>),
) -> Option<Arc<Subscription>> {
    let session = request.session()?;
    let mailbox = services.mailboxes.of(session, request.principal());
    if let Some(line) = mailbox.line(&provider.id) {
        return Some(line);
    }
    let identity = identity?;
    let declared = declared(request, revision);
    let (sender, events) = mpsc::channel(EVENTS);
    let line = SessionLine {
        questions: Arc::clone(&services.questions),
        provider: Arc::clone(&provider.id),
        mailbox: Arc::downgrade(&mailbox),
        holder: request.holder(),
        client: request.revision(),
        from: revision,
        abilities: declared.abilities,
    };
    let opening = SubscribeOptions {
        endpoint: Arc::clone(&provider.endpoint),
        identity,
        revision,
        declared,
        events: sender,
        streams: Some(mailbox.streams()),
        topics: Topics::default(),
    };
    mailbox.keep(&provider.id, || {
        tokio::spawn(line.listen(events));
        services.upstreams.subscribe(opening)
    })
}
