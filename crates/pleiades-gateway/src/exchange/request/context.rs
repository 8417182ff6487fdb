//! One request on its way: what every step may look at, and none can change.

use std::sync::Arc;

use tokio::time::Instant;

use super::{ACCOUNT_HEADER, Facts, Outlet, Peer, Scope, parse_account};
use crate::catalog::{Provider, Snapshot};
use crate::exchange::fault::unknown_provider;
use pleiades_core::error::Error;
use pleiades_core::telemetry::View;
use pleiades_credential::access::Principal;
use pleiades_mcp::Revision;

/// One request on its way. Whoever learns more passes a context on that says so.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    snapshot: &'a Arc<Snapshot>,
    scope: &'a Scope,
    peer: &'a Peer,
    facts: &'a Facts,
    outlet: Option<&'a Outlet>,
    method: &'a str,
    tool: Option<Arc<str>>,
    account: Option<Arc<str>>,
    awaited: Option<&'a AwaitedConnection>,
    /// It calls a tool of a provider by its own name, whatever the view is.
    has_own_tools: bool,
}

/// A connection that a client said it is about to make, and how long that is waited for.
#[derive(Debug)]
pub(crate) struct AwaitedConnection {
    /// Which provider.
    pub(crate) provider: Box<str>,
    /// Until then.
    pub(crate) until: Instant,
    /// The account as it was when it did not do: the same once more is not what is waited for.
    pub(crate) was: Option<[u8; 32]>,
    /// The scopes that it lacked.
    pub(crate) scopes: Vec<String>,
    /// How often it was waited for, this time included.
    pub(crate) rounds: u8,
}

impl<'a> Request<'a> {
    /// A request of a peer, by what was loaded when it arrived.
    pub(crate) const fn new(
        snapshot: &'a Arc<Snapshot>,
        (scope, peer): (&'a Scope, &'a Peer),
        method: &'a str,
        facts: &'a Facts,
    ) -> Self {
        Self {
            snapshot,
            scope,
            peer,
            facts,
            outlet: None,
            method,
            tool: None,
            account: None,
            awaited: None,
            has_own_tools: false,
        }
    }

    /// The same with a way to tell its sender something before it is answered.
    pub(crate) const fn with_outlet(mut self, outlet: Option<&'a Outlet>) -> Self {
        self.outlet = outlet;
        self
    }

    /// The same, noting elsewhere what is learnt on its way.
    pub(crate) const fn with_facts(mut self, facts: &'a Facts) -> Self {
        self.facts = facts;
        self
    }

    /// The same for an account that it names.
    pub(crate) fn with_account(mut self, account: Option<Arc<str>>) -> Self {
        self.account = account;
        self
    }

    /// The same for a tool of a provider, where it is one's.
    pub(crate) fn with_tool(mut self, tool: Option<Arc<str>>) -> Self {
        self.tool = tool;
        self
    }

    /// The same, waiting for a connection.
    pub(crate) const fn with_awaited(mut self, awaited: Option<&'a AwaitedConnection>) -> Self {
        self.awaited = awaited;
        self
    }

    /// The same for a tool that is called as in the tool view.
    pub(crate) const fn with_own_tools(mut self) -> Self {
        self.has_own_tools = true;
        self
    }

    /// How the caller names accounts and is answered: as in the view, or as in the tool view.
    pub(crate) const fn manner(&self) -> View {
        match self.has_own_tools {
            true => View::Tool,
            false => self.scope.view,
        }
    }

    /// What is loaded, for as long as the request lasts.
    pub(crate) const fn snapshot(&self) -> &'a Arc<Snapshot> {
        self.snapshot
    }

    /// What it is addressed to.
    pub(crate) const fn scope(&self) -> &'a Scope {
        self.scope
    }

    /// How tools are shown.
    pub(crate) const fn view(&self) -> View {
        self.scope.view
    }

    /// Whether it is addressed to all providers.
    pub(crate) const fn is_union(&self) -> bool {
        self.scope.provider.is_none()
    }

    /// Who sent it.
    pub(crate) const fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// Whose it is.
    pub(crate) const fn principal(&self) -> &'a Principal {
        &self.peer.principal
    }

    /// Whose it is, in one word: what is sealed or counted for a caller is under it.
    pub(crate) fn holder(&self) -> String {
        self.peer.principal.binding()
    }

    /// The session it belongs to.
    pub(crate) const fn session(&self) -> Option<&'a Arc<str>> {
        self.peer.session.as_ref()
    }

    /// The revision its sender speaks.
    pub(crate) const fn revision(&self) -> Revision {
        self.peer.revision
    }

    /// Whether its sender speaks 2026-07-28.
    pub(crate) fn is_modern(&self) -> bool {
        self.peer.revision.is_modern()
    }

    /// The way back to its sender before the answer.
    pub(crate) const fn outlet(&self) -> Option<&'a Outlet> {
        self.outlet
    }

    /// Its method.
    pub(crate) const fn method(&self) -> &'a str {
        self.method
    }

    /// What is to be done with an account, as far as it is known yet: its tool, else its method.
    pub(crate) fn operation(&self) -> &str {
        self.tool.as_deref().unwrap_or(self.method)
    }

    /// The connection that it waits for.
    pub(crate) const fn awaited(&self) -> Option<&'a AwaitedConnection> {
        self.awaited
    }

    /// What is noted of it for its record.
    pub(crate) const fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// The account that it names in its arguments or its `_meta`.
    pub(crate) const fn named_account(&self) -> Option<&Arc<str>> {
        self.account.as_ref()
    }

    /// The account that it names: in its arguments or its `_meta`, else in its head.
    pub(crate) fn account(&self) -> Option<Arc<str>> {
        if let Some(account) = &self.account {
            return Some(Arc::clone(account));
        }
        let value = self.peer.keys.headers()?.get(ACCOUNT_HEADER)?;
        // What is no name was refused with the head.
        parse_account(&String::from_utf8_lossy(value.as_bytes()))
            .ok()
            .flatten()
    }

    /// The provider of the scope; a union has none.
    pub(crate) fn only(&self) -> Result<Option<Arc<Provider>>, Error> {
        Ok(self.scope.provider_in(self.snapshot)?.cloned())
    }

    /// A provider by its id.
    pub(crate) fn provider(&self, id: &str) -> Result<Arc<Provider>, Error> {
        let provider = self.snapshot.providers.get(id).cloned();
        provider.ok_or_else(|| unknown_provider(id))
    }

    /// The providers that it is addressed to, in the order of their ids.
    pub(crate) fn in_scope(&self) -> impl Iterator<Item = &'a Arc<Provider>> + use<'a> {
        let only = self.scope.provider.as_ref();
        self.snapshot
            .providers
            .values()
            .filter(move |it| only.is_none_or(|id| *id == it.id))
    }
}

#[cfg(test)]
mod tests {
    use crate::exchange::tests::{MODERN, Sent};
    use pleiades_core::error::Code;
    use pleiades_mcp::ClientCapabilities;

    #[test]
    fn a_union_is_addressed_to_all_providers_in_the_order_of_their_ids() {
        let sent = Sent::new(MODERN, ClientCapabilities::NONE).with_providers(&["two", "one"]);
        let request = sent.request();
        let ids: Vec<&str> = request.in_scope().map(|it| &*it.id).collect();
        assert_eq!(ids, ["one", "two"]);
        assert!(request.is_union() && request.only().unwrap().is_none());
    }

    #[test]
    fn a_path_of_one_provider_is_addressed_to_it_alone() {
        let mut sent = Sent::new(MODERN, ClientCapabilities::NONE).with_providers(&["one", "two"]);
        sent.scope.provider = Some("two".into());
        let request = sent.request();
        assert_eq!(request.in_scope().count(), 1);
        assert_eq!(&*request.only().unwrap().unwrap().id, "two");
        sent.scope.provider = Some("gone".into());
        assert_eq!(sent.request().only().unwrap_err().code, Code::UnknownProvider);
    }
}
