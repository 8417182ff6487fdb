//! The way to a provider: sessions and processes, one request out, its answer and the
//! notifications of that request back.
//!
//! Knows nothing of descriptors, views or limits. Bodies of `tools/call` pass as raw JSON.

use std::{ffi::OsString, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc};

use crate::error::Error;
use crate::mcp::{Declared, Raw, Revision, message};

mod address;
mod answer;
mod asks;
mod call;
mod client;
mod doubt;
mod endpoint;
mod hub;
mod incoming;
mod knock;
mod line;
mod lines;
mod listen;
mod lost;
mod older;
mod outbound;
mod outgoing;
mod pace;
mod patience;
mod pool;
mod post;
mod posts;
mod probe;
mod process;
mod remote;
pub mod resolve;
mod restart;
mod said;
mod scan;
mod session;
mod shared;
mod sse;
mod stream;
mod tls;
mod wire;
mod wired;

pub use call::{Ask, Call, Change, Event, Profile, Recess};
pub use endpoint::{Behalf, Endpoint, Share, Target, Tls};
pub use knock::Knock;
pub use line::{Line, Opening, Wishes};
pub use older::Older;
pub use outbound::Outbound;
pub(crate) use post::challenge;
pub use resolve::{Permit, Resolver};
pub(crate) use tls::{config as tls_config, is_own_authority};

use patience::{LONGEST_ASK, Patience};
use pool::Key;
use remote::Remote;
use shared::Shared;
use wired::Wired;

/// What [`Upstreams::attend`] hears.
#[derive(Debug)]
pub struct Heard<'a> {
    /// Whose words.
    pub endpoint: &'a Endpoint,
    /// To whom.
    pub behalf: &'a Behalf,
    /// In which revision.
    pub revision: Revision,
    /// With what its session was opened.
    pub declared: &'a Declared,
    /// Of what call.
    pub token: u64,
}

/// A place that hears; given up when dropped.
#[derive(Debug)]
pub struct Attended(#[expect(dead_code, reason = "held for its end")] hub::Place);

/// All sessions, processes and HTTP clients of this process.
#[derive(Debug)]
pub struct Upstreams {
    shared: Arc<Shared>,
}

impl Upstreams {
    /// `control` is the runtime that owns child processes, GET streams and reapers. Children get
    /// no environment but their own; see [`Upstreams::with_environment`].
    #[must_use]
    pub fn new(control: Handle) -> Arc<Self> {
        Self::with_environment(control, Vec::new())
    }

    /// The same, with the environment that every child starts from: [`minimal`] of the
    /// process's own, which only `settings` may read.
    #[must_use]
    pub fn with_environment(control: Handle, base: Vec<(OsString, OsString)>) -> Arc<Self> {
        Arc::new(Self {
            shared: Shared::new(control, base),
        })
    }

    /// Detects revisions and capabilities, within the endpoint's `connect` and `call` together.
    ///
    /// # Errors
    /// `UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamAuth` (401, 403), `UpstreamProtocol`;
    /// `UpstreamError` when the provider refuses to initialise.
    pub async fn probe(&self, endpoint: &Arc<Endpoint>, behalf: &Behalf) -> Result<Profile, Error> {
        Box::pin(probe::probe(Remote {
            shared: &self.shared,
            endpoint,
            behalf,
            declared: &Declared::all(),
        }))
        .await
    }

    /// The profile with all generations in it, of a provider that named modern revisions only: whether
    /// it takes `initialize` too is asked once for each probe, by one for all who want to know, within
    /// `connect` and `call` together. `None` when there was nothing to ask, or no answer came; then it
    /// is asked again after a minute.
    pub async fn older(
        &self,
        endpoint: &Arc<Endpoint>,
        behalf: &Behalf,
        profile: &Profile,
    ) -> Option<Profile> {
        let older = profile.older.as_ref()?;
        let remote = Remote {
            shared: &self.shared,
            endpoint,
            behalf,
            declared: &Declared::all(),
        };
        Box::pin(probe::older(remote, older)).await;
        profile.settled()
    }

    /// One request, its result unparsed. Dropping the future of a modern call over HTTP closes
    /// its stream, which cancels it; for an older one and for a process `notifications/cancelled`
    /// is sent.
    ///
    /// # Errors
    /// A JSON-RPC error is `UpstreamError` with `rpc`. `UnsupportedRevision` when the provider
    /// does not speak [`Call::revision`] any more: probe again.
    pub async fn request(&self, endpoint: &Arc<Endpoint>, behalf: &Behalf, call: Call) -> Result<Raw, Error> {
        let shared = &self.shared;
        let declared = &call.declared.clone();
        if shared.is_wired(endpoint) {
            let wired = Wired {
                shared,
                endpoint,
                behalf,
                declared,
            };
            return wired.request(call).await;
        }
        let remote = Remote {
            shared,
            endpoint,
            behalf,
            declared,
        };
        remote.request(call).await
    }

    /// Listens for list changes until the receiver is dropped. The channel is closed at once when
    /// the provider offers none, else reopened with back-off whenever it breaks.
    #[must_use]
    pub fn listen(
        &self,
        endpoint: &Arc<Endpoint>,
        behalf: &Behalf,
        profile: &Profile,
    ) -> mpsc::Receiver<Change> {
        listen::listen(&self.shared, endpoint, behalf, profile)
    }

    /// A progress token of a caller's own, for requests that share one.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.shared.next_id()
    }

    /// Hears what belongs to a token, and what nobody else takes, while no request of it is under
    /// way: the time between a call that made a task and that for its result. Only what older
    /// generations say outside of answers can be heard so; until the place is dropped.
    #[must_use]
    pub fn attend(&self, heard: &Heard<'_>, events: mpsc::Sender<Event>) -> Attended {
        // Behind a wire there is one session for all revisions.
        let revision = (!self.shared.is_wired(heard.endpoint)).then_some(heard.revision);
        let key = Key::of(heard.endpoint, heard.behalf, revision, heard.declared.abilities);
        let patience = Patience::until(tokio::time::Instant::now() + LONGEST_ASK);
        Attended(
            self.shared
                .hubs
                .call(&key, heard.token, (heard.behalf.lane.as_ref(), events), &patience),
        )
    }

    /// Tells a legacy provider that the roots of a caller have changed, in the session it has with
    /// that caller; without one there is nothing to tell.
    pub fn roots_changed(
        &self,
        endpoint: &Arc<Endpoint>,
        behalf: &Behalf,
        leg: Revision,
        declared: &Declared,
    ) {
        let method = "notifications/roots/list_changed";
        let shared = &self.shared;
        let body = message::notification(method, None);
        let wired = shared.is_wired(endpoint);
        let key = Key::of(endpoint, behalf, (!wired).then_some(leg), declared.abilities);
        if wired {
            let Some(wire) = shared.wires(endpoint).ready(&key) else {
                return;
            };
            shared.detach(async move {
                let deadline = tokio::time::Instant::now() + remote::ERRAND;
                if let Err(error) = wire.notify(body, deadline).await {
                    tracing::debug!(%error, method, "not told");
                }
            });
        } else if let Some(session) = shared.sessions.ready(&key) {
            let remote = Remote {
                shared,
                endpoint,
                behalf,
                declared,
            };
            remote.tell(&session, body);
        }
    }

    /// Makes a request whose answer nobody waits for.
    pub fn errand(self: &Arc<Self>, endpoint: Arc<Endpoint>, behalf: Behalf, call: Call) {
        let upstreams = Arc::clone(self);
        self.shared.detach(async move {
            let method = call.method;
            if let Err(error) = upstreams.request(&endpoint, &behalf, call).await {
                tracing::debug!(provider.name = &*endpoint.provider, %error, method, "an errand failed");
            }
        });
    }

    /// Work that outlives whoever began it, on the runtime that owns what must not be cut; it is waited
    /// for at the end.
    pub(crate) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.detach(work);
    }

    /// Opens a client's standing line to a provider.
    #[must_use]
    pub fn line(&self, opening: Opening) -> Line {
        line::open(&self.shared, opening)
    }

    /// Ends sessions and processes of an endpoint (descriptor changed or removed) once their
    /// calls are done.
    pub fn retire(&self, identity: &[u8; 32]) {
        self.shared.retire(identity);
    }

    /// Ends everything; children and their process groups are gone when it returns.
    pub async fn shutdown(&self, within: Duration) {
        self.shared.shutdown(within).await;
    }

    /// Whether a provider has no streamable HTTP endpoint: it is a process, or speaks (as far as
    /// is known) the transport of 2024-11-05.
    #[must_use]
    pub fn is_wired(&self, endpoint: &Endpoint) -> bool {
        self.shared.is_wired(endpoint)
    }

    /// Number of live sessions, streams and processes.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.len() + self.shared.processes.len() + self.shared.streams.len()
    }

    /// The resolver shared by everything that connects outward (the relay takes its peers from it).
    #[must_use]
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.shared.resolver
    }
}

/// What a child process gets of an environment without asking: how to find programs, where home
/// and temporary files are, the language. Never anything that may hold a secret.
pub fn minimal(all: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    const KEPT: [&str; 10] = [
        "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    ];
    all.into_iter()
        .filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| KEPT.contains(&name) || name.starts_with("LC_"))
        })
        .collect()
}

#[cfg(test)]
mod tests;
