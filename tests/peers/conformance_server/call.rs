//! One request that may ask back, log and report progress, whatever the client's revision.

use std::collections::BTreeMap;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, GetPromptRequestParams, InputRequiredResult, JsonObject,
    ProtocolVersion, ServerNotification, ServerRequest,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};

use crate::server::ConformanceServer;
use crate::typed;

/// Levels of logging from the least to the most severe.
pub(crate) const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// Why a request has no result of its own yet.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The client must answer first, then call again.
    Asks(InputRequiredResult),
    Fault(ErrorData),
}

impl From<ErrorData> for Halt {
    fn from(fault: ErrorData) -> Self {
        Self::Fault(fault)
    }
}

/// A call of a tool, or a request for a prompt.
#[derive(Debug)]
pub(crate) struct ToolCall<'a> {
    pub(crate) server: &'a ConformanceServer,
    pub(crate) context: &'a RequestContext<RoleServer>,
    pub(crate) name: &'a str,
    arguments: JsonObject,
    responses: BTreeMap<String, Value>,
    state: Option<String>,
}

impl<'a> ToolCall<'a> {
    pub(crate) fn tool(
        server: &'a ConformanceServer,
        params: &'a CallToolRequestParams,
        context: &'a RequestContext<RoleServer>,
    ) -> Self {
        Self {
            server,
            context,
            name: &params.name,
            arguments: params.arguments.clone().unwrap_or_default(),
            responses: params.input_responses.clone().unwrap_or_default(),
            state: params.request_state.clone(),
        }
    }

    pub(crate) fn prompt(
        server: &'a ConformanceServer,
        params: &'a GetPromptRequestParams,
        context: &'a RequestContext<RoleServer>,
    ) -> Self {
        Self {
            server,
            context,
            name: &params.name,
            arguments: params.arguments.clone().unwrap_or_default(),
            responses: params.input_responses.clone().unwrap_or_default(),
            state: params.request_state.clone(),
        }
    }

    /// An argument; empty when it is absent or no string.
    pub(crate) fn text(&self, argument: &str) -> &str {
        self.arguments.get(argument).and_then(Value::as_str).unwrap_or("")
    }

    /// An argument; 0 when it is absent or no number.
    pub(crate) fn number(&self, argument: &str) -> f64 {
        self.arguments
            .get(argument)
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    }

    pub(crate) fn is_modern(&self) -> bool {
        self.context.protocol_version() == Some(ProtocolVersion::V_2026_07_28)
    }

    /// The client's capabilities as JSON.
    fn capabilities(&self) -> Value {
        json!(self.context.client_capabilities().unwrap_or_default())
    }

    /// Whether the client declared what it takes to answer requests of this method.
    pub(crate) fn can_answer(&self, method: &str) -> bool {
        !self.capabilities()[capability(method)].is_null()
    }

    /// # Errors
    ///
    /// A missing capability when the client did not declare these.
    pub(crate) fn needs(&self, capability: &str) -> Result<(), Halt> {
        if self.capabilities()[capability].is_null() {
            let required: ClientCapabilities = typed(json!({capability: {}}))?;
            return Err(ErrorData::missing_required_client_capability(required).into());
        }
        Ok(())
    }

    /// What an earlier round of this call knew; null in the first.
    ///
    /// # Errors
    ///
    /// Invalid params for a state that this server did not give out for this call.
    pub(crate) fn known(&self) -> Result<Value, Halt> {
        match &self.state {
            None => Ok(Value::Null),
            Some(state) => Ok(self.server.shared.states.open(self.name, state)?),
        }
    }

    /// Asks the client one thing and returns its answer.
    ///
    /// # Errors
    ///
    /// As [`Self::ask_all`].
    pub(crate) async fn ask(&self, key: &str, request: Value, known: Option<Value>) -> Result<Value, Halt> {
        let mut answers = self.ask_all(&json!({key: request}), known).await?;
        Ok(answers.remove(key).unwrap_or_default())
    }

    /// Asks the client several things at once and returns the answers under the same keys. `known`
    /// is carried by the client to the next round, where there are rounds.
    ///
    /// # Errors
    ///
    /// [`Halt::Asks`] when the client answers by calling again; a fault when it lacks a capability
    /// or refuses.
    pub(crate) async fn ask_all(
        &self,
        requests: &Value,
        known: Option<Value>,
    ) -> Result<Map<String, Value>, Halt> {
        let mut answers = Map::new();
        let mut open = Map::new();
        for (key, request) in requests.as_object().into_iter().flatten() {
            let method = request["method"].as_str().unwrap_or_default();
            self.needs(capability(method))?;
            let answer = self
                .responses
                .get(key)
                .filter(|answer| is_answer(request, answer));
            if let Some(answer) = answer {
                answers.insert(key.clone(), answer.clone());
            } else if self.is_modern() {
                open.insert(key.clone(), request.clone());
            } else {
                answers.insert(key.clone(), self.request(request).await?);
            }
        }
        if open.is_empty() {
            return Ok(answers);
        }
        let state = known.map(|known| self.server.shared.states.seal(self.name, &known));
        let mut result = json!({"resultType": "input_required", "inputRequests": open});
        if let Some(state) = state {
            result["requestState"] = json!(state);
        }
        Err(Halt::Asks(typed(result)?))
    }

    /// Sends a request of our own, as servers did until 2025-11-25.
    async fn request(&self, request: &Value) -> Result<Value, Halt> {
        let request: ServerRequest = typed(request.clone())?;
        let answer = self.context.peer.send_request(request).await;
        let answer = answer.map_err(|fault| ErrorData::internal_error(fault.to_string(), None))?;
        Ok(json!(answer))
    }

    /// Logs for the client, unless it did not ask for this level. A client of a session hears all
    /// until it names a level, one without a session hears nothing until its request names one.
    pub(crate) async fn log(&self, level: &str, text: &str) -> Result<(), Halt> {
        let wanted = if self.is_modern() {
            let wanted = json!(self.context.meta.log_level());
            wanted.as_str().map(str::to_owned)
        } else {
            Some(self.server.level())
        };
        let rank = |level: &str| LEVELS.iter().position(|one| *one == level);
        if wanted.is_none_or(|wanted| rank(level) < rank(&wanted)) {
            return Ok(());
        }
        self.notify(json!({
            "method": "notifications/message",
            "params": {"level": level, "logger": "conformance", "data": text},
        }))
        .await
    }

    /// Reports progress to a client that gave a token.
    pub(crate) async fn progress(&self, progress: u32, total: u32) -> Result<(), Halt> {
        let Some(token) = self.context.meta.get_progress_token() else {
            return Ok(());
        };
        self.notify(json!({
            "method": "notifications/progress",
            "params": {"progressToken": token, "progress": progress, "total": total},
        }))
        .await
    }

    async fn notify(&self, notification: Value) -> Result<(), Halt> {
        let notification: ServerNotification = typed(notification)?;
        let sent = self.context.peer.send_notification(notification).await;
        sent.map_err(|fault| ErrorData::internal_error(fault.to_string(), None).into())
    }
}

/// The capability of a client that can answer this method.
fn capability(method: &str) -> &str {
    method
        .split_once('/')
        .map_or(method, |(capability, _)| capability)
}

/// Whether this can be the answer to a request. What cannot is asked for again.
fn is_answer(request: &Value, answer: &Value) -> bool {
    match request["method"].as_str().unwrap_or_default() {
        "elicitation/create" => match answer["action"].as_str() {
            // Who opened an address has nothing to say about it.
            Some("accept") if request["params"]["mode"] == "url" => true,
            Some("accept") => answer["content"].is_object(),
            action => matches!(action, Some("decline" | "cancel")),
        },
        "sampling/createMessage" => !answer["content"].is_null(),
        _ => answer["roots"].is_array(),
    }
}
