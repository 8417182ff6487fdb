//! Standing lines of clients to providers: what is said and asked outside of calls, resources that
//! are watched, log levels.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::ask;
use super::mailbox::Mailbox;
use super::outward::{Came, Outgoing};
use super::stream::BACKLOG;
use super::{Exchange, Peer, Scope, Step};
use crate::catalog::{Catalogue, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{ClientCapabilities, Raw, RawObject, Revision, message, reserved, translate, uris};
use pleiades_upstream::{Identity, ProviderEvent, ProviderRequest, SubscribeOptions, Subscription, Topics};

/// Events of a line that wait to be written.
pub(super) const EVENTS: usize = 64;

/// Where the words of a line go: a legacy client's session.
struct Ear {
    exchange: Arc<Exchange>,
    provider: Arc<str>,
    mailbox: std::sync::Weak<Mailbox>,
    holder: String,
    client: Revision,
    from: Revision,
    abilities: ClientCapabilities,
}

impl Ear {
    async fn listen(self, mut events: mpsc::Receiver<ProviderEvent>) {
        while let Some(event) = events.recv().await {
            let Some(mailbox) = self.mailbox.upgrade() else {
                return;
            };
            match event {
                ProviderEvent::Progress(_) | ProviderEvent::Pause(_) => {}
                ProviderEvent::Notification { method, params } => {
                    self.notice(&mailbox, &method, params.as_ref())
                }
                ProviderEvent::Request(ask) => self.put(&mailbox, ask),
            }
        }
    }

    fn notice(&self, mailbox: &Mailbox, method: &str, params: Option<&Raw>) {
        let same = self.from.is_modern() == self.client.is_modern();
        let passes = match method {
            "notifications/message" => same && mailbox.hears(params),
            UPDATED => {
                mailbox.say(&updated(params, !same, &|uri| mailbox.outer(&self.provider, uri)));
                return;
            }
            "notifications/elicitation/complete" => self.client == Revision::V2025_11_25,
            _ => false,
        };
        if passes {
            let params = params.cloned().map(reserved::strip);
            mailbox.say(&message::notification(method, params.as_deref()));
        }
    }

    fn put(&self, mailbox: &Mailbox, asked: ProviderRequest) {
        let ProviderRequest {
            method,
            params,
            answer,
            ..
        } = asked;
        let takes = self.abilities.takes(&method, params.as_deref());
        let shown = takes
            .then(|| ask::put(&method, params, self.from, self.client))
            .flatten();
        let Some(params) = shown else {
            answer.send(ask::unasked(&method)).ok();
            return;
        };
        let (told, said) = oneshot::channel();
        let Ok(question) = self.exchange.question(&self.holder, &method, told) else {
            answer.send(ask::unasked(&method)).ok();
            return;
        };
        if !mailbox.ask(message::client_request(&question.id, &method, &params)) {
            answer.send(ask::unasked(&method)).ok();
            return;
        }
        let (client, from) = (self.client, self.from);
        tokio::spawn(async move {
            let mut answer = answer;
            tokio::select! {
                said = said => if let Ok(outcome) = said {
                    answer.send(outcome.map(|result| ask::said(&method, result, client, from))).ok();
                },
                // The provider gave up, or its session is gone.
                () = answer.closed() => {}
            }
            drop(question);
        });
    }
}

impl Step<'_> {
    /// The line of this client's session to a provider, opened when there is none.
    fn line(
        &self,
        provider: &Arc<Provider>,
        leg: Revision,
        behalf: Option<Identity>,
    ) -> Option<Arc<Subscription>> {
        let lane = self.peer.lane.as_ref()?;
        let mailbox = self.exchange.mailboxes.of(lane, &self.peer.principal);
        if let Some(line) = mailbox.line(&provider.id) {
            return Some(line);
        }
        let exchange = self.exchange.me.upgrade()?;
        let behalf = behalf?;
        let declared = self.declared(leg);
        let (sender, events) = mpsc::channel(EVENTS);
        let ear = Ear {
            provider: Arc::clone(&provider.id),
            mailbox: Arc::downgrade(&mailbox),
            holder: self.peer.principal.binding(),
            client: self.revision(),
            from: leg,
            abilities: declared.abilities,
            exchange,
        };
        let opening = SubscribeOptions {
            endpoint: Arc::clone(&provider.endpoint),
            identity: behalf,
            revision: leg,
            declared,
            events: sender,
            streams: Some(mailbox.streams()),
            topics: Topics::default(),
        };
        mailbox.keep(&provider.id, || {
            tokio::spawn(ear.listen(events));
            self.exchange.upstreams.subscribe(opening)
        })
    }

    /// `resources/subscribe` of a legacy client.
    pub(super) async fn subscribe(&mut self, params: RawObject) -> Result<Raw, Error> {
        let (provider, catalogue, mut params, uri) = self.watched(params).await?;
        let leg = self.leg(&catalogue)?;
        if let (Some(lane), Some(outer)) = (&self.peer.lane, params.read::<String>("uri"))
            && outer != uri
        {
            let mailbox = self.exchange.mailboxes.of(lane, &self.peer.principal);
            mailbox.name(&provider.id, &uri, outer);
        }
        let behalf = self.behalf(&provider).await.ok();
        let line = self.line(&provider, leg, behalf).ok_or_else(|| {
            Error::new(
                Code::InvalidRequest,
                "a subscription belongs to a session: initialize first",
            )
        })?;
        if leg.is_modern() {
            line.watch(&uri, false)?;
            return Ok(RawObject::new().close());
        }
        params.put("uri", &uri);
        let result = self
            .told(&provider, &catalogue, "resources/subscribe", params)
            .await?;
        line.watch(&uri, true)?;
        Ok(result)
    }

    /// `resources/unsubscribe` of a legacy client.
    pub(super) async fn unsubscribe(&mut self, params: RawObject) -> Result<Raw, Error> {
        let (provider, catalogue, mut params, uri) = self.watched(params).await?;
        let leg = self.leg(&catalogue)?;
        let behalf = self.behalf(&provider).await.ok();
        if let Some(line) = self.line(&provider, leg, behalf) {
            line.unwatch(&uri);
        }
        if leg.is_modern() {
            return Ok(RawObject::new().close());
        }
        params.put("uri", &uri);
        self.told(&provider, &catalogue, "resources/unsubscribe", params)
            .await
    }

    async fn watched(
        &self,
        params: RawObject,
    ) -> Result<(Arc<Provider>, Arc<Catalogue>, RawObject, String), Error> {
        let uri: String = params
            .read("uri")
            .ok_or_else(|| Error::new(Code::InvalidParams, "`uri` is missing or of the wrong type"))?;
        let (provider, catalogue, inner) = self.locate(&uri).await?;
        Ok((provider, catalogue, params, inner))
    }

    /// `logging/setLevel`: for this session here, and for its provider there.
    pub(super) async fn set_level(&mut self, params: RawObject) -> Result<Raw, Error> {
        let provider = self
            .only()?
            .filter(|it| self.logs(it, self.revision()))
            .ok_or_else(|| Error::new(Code::MethodNotFound, "no log messages are passed on here"))?;
        let level = params.read::<String>("level").unwrap_or_default();
        let known = match &self.peer.lane {
            Some(lane) => {
                let mailbox = self.exchange.mailboxes.of(lane, &self.peer.principal);
                mailbox.set_level(&level)
            }
            None => true,
        };
        if !known {
            return Err(Error::new(Code::InvalidParams, "unknown log `level`"));
        }
        let catalogue = self.connected(&provider).await?;
        self.told(&provider, &catalogue, "logging/setLevel", params).await
    }

    async fn told(
        &mut self,
        provider: &Arc<Provider>,
        catalogue: &Catalogue,
        method: &'static str,
        params: RawObject,
    ) -> Result<Raw, Error> {
        let out = Outgoing {
            provider,
            catalogue,
            tool: None,
            method,
            params,
        };
        Ok(match self.outward(out).await? {
            Came::Result(result, _) => result.close(),
            Came::Asked(result) => result,
        })
    }

    /// The roots of a legacy client have changed: its providers of the same generation are told.
    pub(super) fn roots_changed(&self) {
        for provider in self.in_scope() {
            let lists = self.lists_of(provider);
            let profile = lists.profile.as_ref();
            let leg = profile.and_then(|profile| profile.revisions.choose(self.revision()));
            let (Some(leg), Some(reached)) = (leg.filter(|leg| !leg.is_modern()), self.reach_now(provider))
            else {
                continue;
            };
            let (endpoint, declared) = (&provider.endpoint, self.declared(leg));
            let upstreams = &self.exchange.upstreams;
            upstreams.notify_roots_changed(endpoint, &reached.behalf, leg, &declared);
        }
    }

    /// Whether a provider's log messages reach this client: between equal generations alone.
    pub(super) fn logs(&self, provider: &Provider, client: Revision) -> bool {
        self.lists_of(provider).profile.as_ref().is_some_and(|profile| {
            let leg = profile.revisions.choose(client);
            let capabilities = RawObject::open(&profile.capabilities).unwrap_or_default();
            leg.is_some_and(|leg| leg.is_modern() == client.is_modern())
                && capabilities.get("logging").is_some()
        })
    }

    /// Opens the line of a session whose client listens now, to its one provider: what a legacy
    /// provider says outside of calls has somewhere to go from then on.
    fn stand(&self) {
        let Ok(Some(provider)) = self.only() else { return };
        let lists = self.lists_of(&provider);
        let leg = lists
            .profile
            .as_ref()
            .and_then(|profile| profile.revisions.choose(self.revision()));
        if let Some(leg) = leg.filter(|leg| !leg.is_modern()) {
            let reached = self.reach_now(&provider);
            self.line(&provider, leg, reached.map(|reached| reached.behalf));
        }
    }
}

/// The notification of an update, the resource named as the client knows it. What only a peer of
/// 2026-07-28 says with it stays there.
fn updated(params: Option<&Raw>, bridged: bool, outer: &dyn Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut params = params
        .and_then(|params| RawObject::open(params).ok())
        .unwrap_or_default();
    reserved::strip_params(&mut params);
    if bridged {
        translate::notification(&mut params);
    }
    uris::rewrite(UPDATED, &mut params, outer);
    message::notification(UPDATED, Some(&params.close()))
}

pub(super) const UPDATED: &str = "notifications/resources/updated";
/// Whether a provider tells of changed resources.
pub(super) fn subscribes(catalogue: &Catalogue) -> bool {
    catalogue.profile.as_ref().is_some_and(|profile| {
        let capabilities = RawObject::open(&profile.capabilities).unwrap_or_default();
        let resources: RawObject = capabilities.read("resources").unwrap_or_default();
        resources.read("subscribe").unwrap_or(false)
    })
}

impl Exchange {
    /// The stream of a legacy session: list changes in its scope, and what its providers say and
    /// ask outside of calls, until the process ends.
    #[must_use]
    pub fn session_stream(&self, scope: &Scope, peer: &Peer) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let lane = peer.lane.as_ref();
        let placed = lane.map(|lane| self.mailboxes.place(lane, &peer.principal, sender.clone()));
        self.watch_session(scope, &peer.principal, (sender, placed));
        if lane.is_some() && scope.provider.is_some() && scope.view != View::Relay {
            self.step(scope, peer).stand();
        }
        receiver
    }
}
