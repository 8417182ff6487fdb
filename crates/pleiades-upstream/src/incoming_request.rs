//! Requests of a provider: pings answered at once, the rest put to whoever can take it.

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    call::{ProviderEvent, ProviderRequest},
    deadline::MAX_ANSWER,
};
use pleiades_core::error::RpcFault;
use pleiades_mcp::raw::raw;
use pleiades_mcp::{Id, Raw, RawObject, message, task};

/// A request as it came.
#[derive(Debug)]
pub(crate) struct IncomingRequest {
    pub(crate) id: Id,
    pub(crate) method: String,
    pub(crate) params: Option<Raw>,
}

impl IncomingRequest {
    /// Whether it is answered without asking anybody.
    pub(crate) fn is_ping(&self) -> bool {
        self.method == "ping"
    }

    /// Puts it to whoever takes it; its place among other events is that of its arrival.
    pub(crate) fn dispatch(self, to: Option<&mpsc::Sender<ProviderEvent>>) -> PendingReply {
        let Self { id, method, params } = self;
        if method == "ping" {
            return PendingReply::Ready(message::result(&id, &RawObject::new().close()));
        }
        let elicits = method == "elicitation/create";
        let task = params.as_deref().and_then(task::related_task);
        let (answer, answered) = oneshot::channel();
        let ask = ProviderRequest {
            id: id.clone(),
            method,
            params,
            answer,
        };
        if to.is_some_and(|to| to.try_send(ProviderEvent::Request(ask)).is_ok()) {
            return PendingReply::Waiting {
                id,
                elicits,
                task,
                answered,
            };
        }
        PendingReply::Ready(refusal(&id, -32601, "this client offers no such method"))
    }
}

/// A request that was put to somebody, or answered.
#[derive(Debug)]
pub(crate) enum PendingReply {
    Ready(Vec<u8>),
    Waiting {
        id: Id,
        elicits: bool,
        /// The task it belongs to, which its answer has to name.
        task: Option<Raw>,
        answered: oneshot::Receiver<Result<Raw, RpcFault>>,
    },
}

impl PendingReply {
    /// The message that answers it.
    pub(crate) async fn reply(self) -> Vec<u8> {
        let (id, elicits, task, answered) = match self {
            Self::Ready(reply) => return reply,
            Self::Waiting {
                id,
                elicits,
                task,
                answered,
            } => (id, elicits, task, answered),
        };
        match timeout(MAX_ANSWER, answered).await.ok().and_then(Result::ok) {
            Some(Ok(result)) => message::result(&id, &name_task(result, task)),
            Some(Err(fault)) => message::error(Some(&id), &fault),
            None if elicits => message::result(&id, &raw(&serde_json::json!({ "action": "cancel" }))),
            None => refusal(&id, -32603, "the client gave no answer"),
        }
    }
}

/// An answer that names the task it belongs to, where there is one.
fn name_task(result: Raw, task: Option<Raw>) -> Raw {
    let Some(task) = task else { return result };
    let Ok(mut opened) = RawObject::open(&result) else {
        return result;
    };
    let mut meta: RawObject = opened.read("_meta").unwrap_or_default();
    meta.set(task::RELATED, task);
    opened.set("_meta", meta.close());
    opened.close()
}

/// Hands on a notification that belongs to no call; who reads too slowly loses some.
pub(crate) fn forward(events: &mpsc::Sender<ProviderEvent>, method: String, params: Option<Raw>) {
    if events
        .try_send(ProviderEvent::Notification { method, params })
        .is_err()
    {
        tracing::trace!("a notification found no reader");
    }
}

fn refusal(id: &Id, code: i64, message: &str) -> Vec<u8> {
    let fault = RpcFault {
        code,
        message: message.to_owned(),
        data: None,
    };
    message::error(Some(id), &fault)
}
