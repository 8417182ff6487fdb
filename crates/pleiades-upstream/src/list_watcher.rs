//! Hears of changed lists: the GET stream of a session, `subscriptions/listen`, what a wire brings.

use std::sync::Arc;

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::Instant,
};

use super::{
    call::ProviderChange,
    endpoint::Transport,
    event_stream::EventStream,
    incoming,
    pool::PoolKey,
    profile::Profile,
    provider_client::{OwnedClient, Source},
    reconnect::{Attempt, Reconnect, StreamState, keep_open},
};
use pleiades_core::error::Error;
use pleiades_mcp::{Message, RawObject, Revision, message};

/// Changes waiting for the listener; one that does not listen loses nothing it could not ask for.
const WAITING: usize = 32;

/// Follows the changes of a provider's lists; the channel closes when it announces none. `client` declares
/// everything, as lists are read: what is heard is heard in the same session.
pub(crate) fn watch(client: OwnedClient, profile: &Profile) -> mpsc::Receiver<ProviderChange> {
    let (changes, receiver) = mpsc::channel(WAITING);
    let Some(params) = incoming::subscription(&profile.capabilities) else {
        return receiver;
    };
    let shared = Arc::clone(&client.shared);
    let provider = Arc::clone(&client.endpoint.provider);
    let watcher = ListWatcher {
        client,
        revision: profile.revisions.newest().unwrap_or(Revision::NEWEST_LEGACY),
        params,
        changes: changes.clone(),
    };
    let closing = shared.closing.clone();
    shared.control.spawn(async move {
        tokio::select! {
            () = closing.cancelled() => {}
            () = changes.closed() => {}
            () = keep_open(watcher, &provider) => {}
        }
    });
    receiver
}

struct ListWatcher {
    client: OwnedClient,
    revision: Revision,
    /// Of `subscriptions/listen`.
    params: RawObject,
    changes: mpsc::Sender<ProviderChange>,
}

impl Reconnect for ListWatcher {
    async fn run_once(&mut self, attempt: &mut Attempt) -> Result<StreamState, Error> {
        let client = self.client.borrow();
        if let Transport::Stdio { .. } = client.endpoint.target {
            // No process is started in order to listen to it.
            return Ok(self.follow(client.key(None), None, attempt).await);
        }
        match client.source(self.revision, self.client.start_deadline()).await? {
            Some(source) => Ok(self.follow(source.key().clone(), Some(source), attempt).await),
            None => self.subscribe(attempt).await,
        }
    }

    async fn ended(&mut self, _state: StreamState, opened: bool) {
        if opened {
            self.send(ProviderChange::Lost).await;
        }
    }
}

impl ListWatcher {
    async fn follow(&self, key: PoolKey, mut source: Option<Source>, attempt: &mut Attempt) -> StreamState {
        let mut changes = self.client.shared.hubs.subscribe(&key);
        let is_wire = matches!(source, Some(Source::Wire(_)));
        let begun = Instant::now();
        loop {
            let ended = async {
                match &mut source {
                    Some(source) => source.wait_for(&[StreamState::Never, StreamState::Over]).await,
                    None => std::future::pending().await,
                }
            };
            let change = tokio::select! {
                biased;
                change = changes.recv() => change,
                state = ended => {
                    if state == StreamState::Never {
                        return state;
                    }
                    attempt.opened = Some(begun);
                    return StreamState::Broken;
                }
            };
            match change {
                // Reported again when the wire is over.
                Ok(ProviderChange::Lost) if is_wire => {}
                Ok(change) => {
                    attempt.spoke |= change != ProviderChange::Lost;
                    self.send(change).await;
                }
                Err(RecvError::Lagged(_)) => self.send(ProviderChange::Lost).await,
                Err(RecvError::Closed) => return StreamState::Broken,
            }
        }
    }

    async fn subscribe(&self, attempt: &mut Attempt) -> Result<StreamState, Error> {
        let client = self.client.borrow();
        let params = self.params.clone();
        let response = client.open_subscription(self.revision, params).await?;
        let Ok(mut stream) = EventStream::accept(response, &client.identity.signature)? else {
            return Ok(StreamState::Never);
        };
        attempt.opened = Some(Instant::now());
        while let Some(frame) = stream.next().await? {
            if let Ok(Message::Notification { method, .. }) = message::decode(frame.data.as_bytes())
                && let Some(change) = ProviderChange::from_method(&method)
            {
                attempt.spoke = true;
                self.send(change).await;
            }
        }
        Ok(StreamState::Broken)
    }

    async fn send(&self, change: ProviderChange) {
        // Without a receiver the task is ended by whoever watches the channel.
        self.changes.send(change).await.ok();
    }
}
