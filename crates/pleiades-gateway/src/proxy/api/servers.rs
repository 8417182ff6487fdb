//! `POST /v1/tools/mcp/servers/connect`: a stream that says how connecting a server goes
//! (`docs/ACCOUNTS.md`, "The connect stream").

mod guest;
mod request;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use pingora_core::Result;
use pingora_proxy::Session;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::{self, error::RecvError};

pub use self::guest::ConnectAllowlist;
use self::request::WantedServer;

use super::events::{self, ConnectEvents, ConnectResult};
use super::{body, route::ApiRoute};
use crate::catalog::Provider;
use crate::exchange::{Arrived, Exchange, Keys, Peer, Reply, Scope};
use crate::proxy::{bridge, context::Context, services::GatewayServices};
use pleiades_core::{error::Error, telemetry::View};
use pleiades_credential::manager::{AccountEvent, AccountEventKind, AccountQuery, GrantError, Reason};
use pleiades_credential::{
    AccountOwner, Connection, ProviderAuth, access::Principal, broker::ConnectionRequest,
};
use pleiades_mcp::{ClientCapabilities, Id, Message, Revision, raw};

/// How often the store is asked whether the account was connected at another replica.
const POLL: Duration = Duration::from_secs(5);
/// How long a credential is waited for before its tools are read.
const CREDENTIAL: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct ServerConnector<'a> {
    exchange: &'a Exchange,
    principal: &'a Principal,
    headers: HeaderMap,
    request_id: &'a str,
}

/// Answers with the stream. The outer error is the connection's, the inner one is answered instead.
pub(super) async fn connect(
    services: &GatewayServices,
    allowed: &ConnectAllowlist,
    session: &mut Session,
    (ctx, principal): (&Context, &Principal),
) -> Result<Result<(), Error>> {
    if session.req_header().method != Method::POST {
        return Ok(Err(ApiRoute::Connect.wrong_method()));
    }
    let body = body::read_json(session).await;
    let wanted = match body.and_then(|body| WantedServer::read(&body)) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(Err(error)),
    };
    let _permit = match services.limits.connect(principal) {
        Ok(permit) => permit,
        Err(error) => return Ok(Err(error)),
    };
    let connector = ServerConnector {
        exchange: &services.exchange,
        principal,
        headers: session.req_header().headers.clone(),
        request_id: &ctx.request_id,
    };
    let (events, lines) = ConnectEvents::new(wanted.server_name.clone());
    let work = async {
        events.plain("connection_attempt").await;
        let result = tokio::select! {
            result = Box::pin(connector.connect(&wanted, allowed, &events)) => result,
            () = services.exchange.closing.cancelled() => {
                ConnectResult::Failed("the gateway is about to end: connect again".to_owned())
            }
        };
        events.end(result).await;
    };
    bridge::begin_stream(session, ctx).await?;
    Box::pin(events::pump(session, lines, work, &services.metrics)).await?;
    Ok(Ok(()))
}

impl ServerConnector<'_> {
    async fn connect(
        &self,
        wanted: &WantedServer,
        allowed: &ConnectAllowlist,
        events: &ConnectEvents,
    ) -> ConnectResult {
        let snapshot = self.exchange.catalog.snapshot();
        let loaded = wanted.find(snapshot.providers.values());
        let provider = match loaded {
            Some(provider) => Arc::clone(provider),
            None => {
                match guest::guest_provider(&self.exchange.catalog, self.principal, wanted, allowed).await {
                    Ok(provider) => provider,
                    Err(why) => return ConnectResult::Failed(why),
                }
            }
        };
        drop(snapshot);
        if let ProviderAuth::OAuth(connection) = &provider.need
            && let Err(why) = self.connect_account(connection, events).await
        {
            return ConnectResult::Failed(why);
        }
        let tools = self.list_tools(&provider).await;
        tools.map_or_else(ConnectResult::Failed, ConnectResult::Tools)
    }

    /// The caller's account of a connection: the one there is, else the one that a person connects now.
    async fn connect_account(
        &self,
        connection: &Arc<Connection>,
        events: &ConnectEvents,
    ) -> Result<Arc<str>, String> {
        let reason = match self.find_account(connection).await? {
            Ok(account) => return Ok(account),
            Err(reason) => reason,
        };
        let broker = &self.exchange.accounts.broker;
        let request = ConnectionRequest {
            provider: connection.provider.to_string(),
            account: None,
            scopes: Vec::new(),
            reason: reason.as_str().to_owned(),
        };
        // Before the link is shown: nothing that happens after is missed.
        let mut happened = self.exchange.accounts.manager.subscribe();
        let link = broker.link(self.principal, &request);
        events.plain("oauth_required").await;
        events.authorization(&link.url, &link.id).await;
        events.plain("waiting_for_auth").await;
        let owner = AccountOwner {
            tenant: Arc::clone(&self.principal.tenant),
            user: Arc::clone(&self.principal.user),
            connection: Arc::clone(&connection.name),
        };
        loop {
            tokio::time::timeout(POLL, await_connected(&mut happened, &owner))
                .await
                .unwrap_or_default();
            if let Ok(Ok(account)) = self.find_account(connection).await {
                return Ok(account);
            }
            // A store that cannot be reached now may be reached next time.
            let status = broker.statuses.get(self.principal, &link.id).await;
            match status.ok().flatten() {
                Some(status) if status.state == "failed" => {
                    let why = status.message;
                    return Err(why.unwrap_or_else(|| format!("{} was not connected", connection.title)));
                }
                Some(status) if status.state == "expired" => {
                    return Err("nobody authorized in time: connect again".to_owned());
                }
                _ => {}
            }
        }
    }

    /// The account that may be used now, or why somebody has to connect one; outside, why neither.
    async fn find_account(&self, connection: &Arc<Connection>) -> Result<Result<Arc<str>, Reason>, String> {
        let ask = AccountQuery {
            tenant: &self.principal.tenant,
            user: &self.principal.user,
            connection,
            account: None,
            remembered: None,
        };
        match self.exchange.accounts.manager.grant(&ask, CREDENTIAL).await {
            Ok(granted) => Ok(Ok(granted.account)),
            Err(GrantError::NotConnected { reason, .. } | GrantError::Expired { reason, .. }) => {
                Ok(Err(reason))
            }
            // Several are connected: whichever, the tools are the server's.
            Err(GrantError::Ambiguous { accounts }) => match accounts.first() {
                Some(account) => Ok(Ok(Arc::clone(&account.id))),
                None => Ok(Err(Reason::NeverConnected)),
            },
            Err(refused) => Err(refused.error(connection, "as `accountId`").to_string()),
        }
    }

    /// The tools as the caller finds them at `/tools/{provider}`.
    async fn list_tools(&self, provider: &Provider) -> Result<Vec<Value>, String> {
        let peer = Peer {
            principal: self.principal.clone(),
            revision: Revision::NEWEST_LEGACY,
            // As lists are read, so that both use one session; what is asked is declined.
            abilities: ClientCapabilities::ALL,
            capabilities: None,
            session: None,
            client: None,
            keys: Keys::Headers(self.headers.clone()),
            trace: None,
            request_id: self.request_id.to_owned(),
        };
        let scope = Scope::new(View::Tool, Some(Arc::clone(&provider.id)));
        let message = Message::Request {
            id: Id(raw::raw(&1)),
            method: "tools/list".to_owned(),
            params: Some(raw::raw(&json!({}))),
        };
        let snapshot = self.exchange.snapshot(&scope, self.principal);
        let arrived = Arrived::open(message);
        let handled = self.exchange.handle(&snapshot, (&scope, &peer), arrived, None);
        let (reply, _) = handled.await;
        match reply {
            Reply::Answer { body, .. } => parse_tools(&body),
            Reply::Accepted | Reply::Stream(_) => Err("the server's tools could not be read".to_owned()),
        }
    }
}

/// The tools of a list's answer, with the members that the stream has for them.
fn parse_tools(body: &[u8]) -> Result<Vec<Value>, String> {
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(Value::Array(tools)) = answer.pointer_mut("/result/tools").map(Value::take) else {
        let why = answer.pointer("/error/message").and_then(Value::as_str);
        return Err(why.unwrap_or("the server's tools could not be read").to_owned());
    };
    let strip = |tool: Value| -> Option<Value> {
        let Value::Object(mut whole) = tool else {
            return None;
        };
        let mut members = Map::new();
        for member in ["name", "description", "inputSchema"] {
            if let Some(value) = whole.remove(member) {
                members.insert(member.to_owned(), value);
            }
        }
        members.contains_key("name").then_some(Value::Object(members))
    };
    Ok(tools.into_iter().filter_map(strip).collect())
}

/// Waits until an account of this owner is connected, or something was missed.
async fn await_connected(happened: &mut broadcast::Receiver<AccountEvent>, owner: &AccountOwner) {
    loop {
        match happened.recv().await {
            Ok(it) if it.kind == AccountEventKind::Connected && it.key.owner == *owner => return,
            Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_keep_the_members_of_the_stream_alone() {
        let body = br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
            {"name":"a","description":"d","inputSchema":{"type":"object"},"outputSchema":{},"title":"A"},
            {"name":"b"},{"description":"nameless"}]}}"#;
        let tools = parse_tools(body).unwrap();
        assert_eq!(
            tools,
            [
                json!({"name": "a", "description": "d", "inputSchema": {"type": "object"}}),
                json!({"name": "b"})
            ]
        );
    }

    #[test]
    fn a_failed_list_says_why() {
        let body = br#"{"jsonrpc":"2.0","id":1,"error":{"code":503,"message":"down"}}"#;
        assert_eq!(parse_tools(body), Err("down".to_owned()));
        assert!(parse_tools(b"").is_err());
    }
}
