//! Requests of a provider: pings are answered at once, the rest is put to whoever can take it.

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    call::{ProviderEvent, ProviderRequest},
    deadline::MAX_ANSWER,
    hub::{Hubs, QuestionRoute},
    pool::PoolKey,
};
use pleiades_core::error::RpcFault;
use pleiades_mcp::{Id, Raw, RawObject, message, raw::raw, task};

#[derive(Debug)]
pub(crate) struct IncomingRequest {
    pub(crate) id: Id,
    pub(crate) method: String,
    pub(crate) params: Option<Raw>,
}

impl IncomingRequest {
    /// Who takes it, when it is outside of any answer. A ping stops no deadline.
    pub(crate) fn route(&self, hubs: &Hubs, key: &PoolKey) -> QuestionRoute {
        if self.method == "ping" {
            QuestionRoute::default()
        } else {
            hubs.route_question(key)
        }
    }

    /// Puts it to whoever takes it, at once: it keeps its order among other events. The message that answers it
    /// comes later.
    pub(crate) fn reply(
        self,
        to: Option<&mpsc::Sender<ProviderEvent>>,
    ) -> impl Future<Output = Vec<u8>> + Send + use<> {
        let Self { id, method, params } = self;
        let (is_ping, elicits) = (method == "ping", method == "elicitation/create");
        // Its answer has to name the task it belongs to.
        let task = params.as_deref().and_then(task::related_task);
        let (answer, answered) = oneshot::channel();
        let request = ProviderRequest {
            id: id.clone(),
            method,
            params,
            answer,
        };
        let to = to.filter(|_| !is_ping);
        let is_taken = to.is_some_and(|to| to.try_send(ProviderEvent::Request(request)).is_ok());
        async move {
            if is_ping {
                return message::result(&id, &RawObject::new().close());
            }
            if !is_taken {
                return refusal(&id, -32601, "this client offers no such method");
            }
            match timeout(MAX_ANSWER, answered).await.ok().and_then(Result::ok) {
                Some(Ok(result)) => message::result(&id, &name_task(result, task)),
                Some(Err(fault)) => message::error(Some(&id), &fault),
                None if elicits => message::result(&id, &raw(&serde_json::json!({ "action": "cancel" }))),
                None => refusal(&id, -32603, "the client gave no answer"),
            }
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

fn refusal(id: &Id, code: i64, message: &str) -> Vec<u8> {
    let fault = RpcFault {
        code,
        message: message.to_owned(),
        data: None,
    };
    message::error(Some(id), &fault)
}
