//! The handler of the SDK: requests go to the module that knows them.

#![expect(
    deprecated,
    reason = "sessions of the older revisions still name a level of logging"
)]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams,
    CompleteResult, GetPromptRequestParams, GetPromptResponse, GetPromptResult, GetTaskParams, GetTaskResult,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
    TASKS_EXTENSION_ID, Tool, UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::call::{Halt, LEVELS, ToolCall};
use crate::cells::{self, Counts};
use crate::polling::Returned;
use crate::sealed::States;
use crate::tasks::TaskOutcome;
use crate::{Fallible, asking, content, declared, prompts, resources, rounds, tasks, typed};

/// What those who listen are told.
#[derive(Debug, Clone)]
pub(crate) enum ListChange {
    Tools,
    Prompts,
    /// The resource of this URI.
    Resource(String),
}

/// What all sessions and requests of the process share.
pub(crate) struct ServerState {
    revisions: Option<Vec<ProtocolVersion>>,
    pub(crate) states: States,
    pub(crate) tasks: TaskManager,
    pub(crate) returned: Returned,
    pub(crate) counts: Counts,
    changes: broadcast::Sender<ListChange>,
    more_tools: AtomicBool,
    more_prompts: AtomicBool,
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl ServerState {
    pub(crate) fn new(revisions: Option<Vec<ProtocolVersion>>) -> Fallible<Self> {
        Ok(Self {
            revisions,
            states: States::new()?,
            tasks: TaskManager::new(),
            returned: Returned::default(),
            counts: Counts::default(),
            changes: broadcast::Sender::new(64),
            more_tools: AtomicBool::new(false),
            more_prompts: AtomicBool::new(false),
        })
    }

    /// Makes the change and tells those who listen, if anybody does.
    pub(crate) fn change(&self, change: ListChange) {
        match &change {
            ListChange::Tools => drop(self.more_tools.fetch_not(Ordering::SeqCst)),
            ListChange::Prompts => drop(self.more_prompts.fetch_not(Ordering::SeqCst)),
            ListChange::Resource(_) => {}
        }
        drop(self.changes.send(change));
    }

    fn tools(&self) -> Vec<Value> {
        let mut tools = declared::tools();
        let modern = self.revisions.as_deref() == Some(&[ProtocolVersion::V_2026_07_28]);
        tools.extend(cells::listed(modern));
        tools.extend(
            self.more_tools
                .load(Ordering::SeqCst)
                .then(declared::dynamic_tool),
        );
        tools
    }

    fn prompts(&self) -> Vec<Value> {
        let mut listed = prompts::listed();
        listed.extend(self.more_prompts.load(Ordering::SeqCst).then(prompts::dynamic));
        listed
    }
}

/// One session, or one request of a client without sessions.
#[derive(Debug)]
pub(crate) struct ConformanceServer {
    pub(crate) shared: Arc<ServerState>,
    /// The level of logging that the session asked for, by its rank.
    level: Mutex<usize>,
    watched: Arc<Mutex<BTreeSet<String>>>,
}

impl ConformanceServer {
    pub(crate) fn new(shared: Arc<ServerState>) -> Self {
        Self {
            shared,
            level: Mutex::new(0),
            watched: Arc::default(),
        }
    }

    pub(crate) fn level(&self) -> String {
        LEVELS
            .get(*self.level.lock())
            .copied()
            .unwrap_or("debug")
            .to_owned()
    }

    async fn run(&self, call: &ToolCall<'_>) -> Result<TaskOutcome, Halt> {
        if let Some(result) = content::run(call).await? {
            return Ok(TaskOutcome::Complete(result));
        }
        if let Some(result) = asking::run(call).await? {
            return Ok(TaskOutcome::Complete(result));
        }
        if let Some(result) = cells::run(call).await? {
            return Ok(TaskOutcome::Complete(result));
        }
        if let Some(result) = rounds::run(call).await? {
            return Ok(TaskOutcome::Complete(result));
        }
        let unknown = || ErrorData::invalid_params(format!("unknown tool `{}`", call.name), None);
        tasks::run(call).await?.ok_or_else(|| unknown().into())
    }
}

impl ServerHandler for ConformanceServer {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match &self.shared.revisions {
            Some(revisions) => Cow::Owned(revisions.clone()),
            None => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
        }
    }

    fn get_info(&self) -> ServerConfig {
        typed(json!({
            "protocolVersion": self.supported_protocol_versions().last(),
            "serverInfo": {"name": "conformance-server", "title": "Conformance server", "version": "1.0.0"},
            "instructions": "A peer for the conformance suite.",
            "capabilities": {
                "tools": {"listChanged": true}, "prompts": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "completions": {}, "logging": {}, "extensions": {TASKS_EXTENSION_ID: {}},
            },
        }))
        .unwrap_or_default()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut tools = self.shared.tools();
        let modern = context.protocol_version() == Some(ProtocolVersion::V_2026_07_28);
        // A server of one older revision is here to show what clients make of it.
        if self.shared.revisions.is_none() && !modern {
            tools.iter_mut().for_each(cells::shown_to_older);
        }
        typed(json!({"resultType": "complete", "tools": tools}))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let tool = self
            .shared
            .tools()
            .into_iter()
            .find(|tool| tool["name"] == name)?;
        serde_json::from_value(tool).ok()
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match self.run(&ToolCall::tool(self, &params, &context)).await {
            Ok(TaskOutcome::Complete(mut result)) => {
                result["resultType"] = json!("complete");
                Ok(typed::<CallToolResult>(result)?.into())
            }
            Ok(TaskOutcome::Task(task)) => Ok(task.into()),
            Err(Halt::Asks(result)) => Ok(result.into()),
            Err(Halt::Fault(fault)) => Err(fault),
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        typed(json!({"resultType": "complete", "resources": resources::listed()}))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        typed(json!({"resultType": "complete", "resourceTemplates": resources::templates()}))
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents = resources::read(&params.uri)?;
        let result: ReadResourceResult = typed(json!({"resultType": "complete", "contents": [contents]}))?;
        Ok(result.into())
    }

    async fn subscribe(
        &self,
        params: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        resources::read(&params.uri)?;
        self.watched.lock().insert(params.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        params: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watched.lock().remove(&params.uri);
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        typed(json!({"resultType": "complete", "prompts": self.shared.prompts()}))
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        match prompts::messages(&ToolCall::prompt(self, &params, &context)).await {
            Ok(messages) => {
                let result = json!({"resultType": "complete", "messages": messages});
                Ok(typed::<GetPromptResult>(result)?.into())
            }
            Err(Halt::Asks(result)) => Ok(result.into()),
            Err(Halt::Fault(fault)) => Err(fault),
        }
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = params.argument.value;
        let values: Vec<_> = ["paris", "park", "party", "test"]
            .into_iter()
            .filter(|value| value.starts_with(&begun))
            .collect();
        let completion = json!({"total": values.len(), "values": values, "hasMore": false});
        typed(json!({"resultType": "complete", "completion": completion}))
    }

    async fn set_level(
        &self,
        params: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let level = json!(params.level);
        let rank = LEVELS.iter().position(|one| level == *one);
        *self.level.lock() = rank.unwrap_or_default();
        Ok(())
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.shared.tasks.get_task(&params.task_id)?))
    }

    async fn update_task(
        &self,
        params: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared
            .tasks
            .update_task(&params.task_id, params.input_responses)
    }

    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared.tasks.cancel_task(&params.task_id)
    }

    /// A session hears of changes on its own stream.
    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let changes = self.shared.changes.subscribe();
        tokio::spawn(tell(context.peer, changes, Arc::clone(&self.watched)));
    }

    fn accepted_subscription_filter(&self, asked: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(asked.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.shared.changes.subscribe();
        let sink = context.sink();
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            // What was not subscribed to is refused by the sink, which is what we want.
            drop(match change {
                Ok(ListChange::Tools) => sink.notify_tool_list_changed().await,
                Ok(ListChange::Prompts) => sink.notify_prompt_list_changed().await,
                Ok(ListChange::Resource(uri)) => sink.notify_resource_updated(uri).await,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            });
        }
    }
}

/// Tells a session of each change until it is gone.
async fn tell(
    peer: Peer<RoleServer>,
    mut changes: broadcast::Receiver<ListChange>,
    watched: Arc<Mutex<BTreeSet<String>>>,
) {
    while let Ok(change) = changes.recv().await {
        let sent = match change {
            ListChange::Tools => peer.notify_tool_list_changed().await,
            ListChange::Prompts => peer.notify_prompt_list_changed().await,
            ListChange::Resource(uri) if watched.lock().contains(&uri) => {
                let updated = json!({"method": "notifications/resources/updated", "params": {"uri": uri}});
                let Ok(updated) = typed(updated) else { continue };
                peer.send_notification(updated).await
            }
            ListChange::Resource(_) => continue,
        };
        if sent.is_err() {
            return;
        }
    }
}
