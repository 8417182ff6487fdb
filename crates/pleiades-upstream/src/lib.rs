//! The way to a provider: sessions and processes, one request out, its answer and the
//! notifications of that request back.
//!
//! Requests go through `provider_client`: over streamable HTTP (`remote`) or over a wire (`wired`), one
//! connection for many requests: a child process, or the event stream of 2024-11-05. What belongs to no call is
//! routed by `hub`. Knows nothing of descriptors, views or limits. Bodies of `tools/call` pass as raw JSON.

use std::{ffi::OsString, fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc};

use pleiades_core::error::Error;
use pleiades_mcp::{DeclaredCapabilities, Raw, Revision, message};

mod address;
mod call;
mod client;
mod deadline;
mod endpoint;
mod event_stream;
mod health;
mod http_probe;
mod hub;
mod incoming;
mod incoming_request;
mod lines;
mod list_watcher;
mod lost;
mod outbound;
mod outgoing;
mod pool;
mod post;
mod post_writer;
mod probe;
mod process;
mod profile;
mod program;
mod provider_client;
mod reconnect;
mod refusal;
mod remote;
mod resolve;
mod response;
mod restarts;
mod scan;
mod session;
mod session_stream;
mod shared;
mod sse_wire;
mod subscription;
mod summary;
mod tls;
mod wire;
mod wire_start;
mod wired;

pub use address::Permit;
pub use call::{Call, ProviderChange, ProviderEvent, ProviderRequest, StreamPause};
pub use client::place;
pub use endpoint::{ClientTls, Endpoint, Identity, SessionSharing, Transport};
pub use http_probe::HttpProbe;
pub use incoming::challenge;
pub use outbound::Outbound;
pub use profile::{LegacyProbe, Profile};
pub use program::{is_own_program, own_program};
pub use resolve::{Resolver, is_private_address, private_address};
pub use subscription::{SubscribeOptions, Subscription, Topics};
pub use summary::redirect_target;
pub use tls::{config as tls_config, is_own_authority};

use deadline::{Deadline, MAX_ANSWER};
use provider_client::ProviderClient;
use shared::Shared;

/// Lists are read with everything declared, and listened to in the same session.
static ALL: DeclaredCapabilities = DeclaredCapabilities::all();

/// What [`Upstreams::listen_for`] hears: what one provider says to one caller.
#[derive(Debug)]
pub struct EventScope<'a> {
    /// The provider.
    pub endpoint: &'a Arc<Endpoint>,
    /// The caller.
    pub identity: &'a Identity,
    /// The revision of their session.
    pub revision: Revision,
    /// What their session declares.
    pub declared: &'a DeclaredCapabilities,
    /// The progress token.
    pub token: u64,
}

/// Hears events until it is dropped.
#[derive(Debug)]
pub struct EventGuard(#[expect(dead_code, reason = "kept for its drop")] hub::HubGuard);

/// All sessions, processes and HTTP clients of this process.
pub struct Upstreams {
    shared: Arc<Shared>,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").finish_non_exhaustive()
    }
}

impl Upstreams {
    /// `control` is the runtime that owns child processes, GET streams and reapers; `environment` is what every
    /// child starts from: [`minimal_environment`] of the process's own, which only `settings` may read.
    #[must_use]
    pub fn new(control: Handle, environment: Vec<(OsString, OsString)>) -> Arc<Self> {
        Arc::new(Self {
            shared: Shared::new(control, environment),
        })
    }

    fn client<'a>(
        &'a self,
        endpoint: &'a Arc<Endpoint>,
        identity: &'a Identity,
        declared: &'a DeclaredCapabilities,
    ) -> ProviderClient<'a> {
        ProviderClient {
            shared: &self.shared,
            endpoint,
            identity,
            declared,
        }
    }

    /// Detects revisions and capabilities, within the endpoint's `connect` and `call` together.
    ///
    /// # Errors
    /// `UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamAuth` (401, 403), `UpstreamProtocol`;
    /// `UpstreamError` when the provider refuses to initialise.
    pub async fn probe(&self, endpoint: &Arc<Endpoint>, identity: &Identity) -> Result<Profile, Error> {
        let probed = Box::pin(probe::probe(self.client(endpoint, identity, &ALL))).await;
        probed.map_err(|error| endpoint.mask(identity).error(error))
    }

    /// The profile with all generations in it, of a provider that named modern revisions only: whether
    /// it takes `initialize` too is asked once for each probe, by one for all who want to know, within
    /// `connect` and `call` together. `None` when there was nothing to ask, or no answer came; then it
    /// is asked again after a minute.
    pub async fn probe_legacy(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        profile: &Profile,
    ) -> Option<Profile> {
        let legacy = profile.legacy.as_ref()?;
        Box::pin(probe::ask_legacy(self.client(endpoint, identity, &ALL), legacy)).await;
        profile.settled()
    }

    /// One request, its result unparsed. Dropping the future of a modern call over HTTP closes
    /// its stream, which cancels it; for an older one and for a process `notifications/cancelled`
    /// is sent.
    ///
    /// # Errors
    /// A JSON-RPC error is `UpstreamError` with `rpc`, without the credential that it may repeat. `UnsupportedRevision` when the provider
    /// does not speak [`Call::revision`] any more: probe again.
    pub async fn request(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        mut call: Call,
    ) -> Result<Raw, Error> {
        let declared = std::mem::take(&mut call.declared);
        let asked = self.client(endpoint, identity, &declared).request(call).await;
        asked.map_err(|error| endpoint.mask(identity).error(error))
    }

    /// Hears of changed lists until the receiver is dropped. The channel is closed at once when
    /// the provider announces none, else reopened with back-off whenever it breaks.
    #[must_use]
    pub fn watch_lists(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        profile: &Profile,
    ) -> mpsc::Receiver<ProviderChange> {
        list_watcher::watch(self.client(endpoint, identity, &ALL).into_owned(), profile)
    }

    /// A progress token of a caller's own, for requests that share one.
    #[must_use]
    pub fn progress_token(&self) -> u64 {
        self.shared.next_id()
    }

    /// Hears what belongs to a token, and what nobody else takes, while no request of it is under
    /// way: the time between a call that made a task and that for its result. Only what older
    /// generations say outside of answers can be heard so; until the guard is dropped.
    #[must_use]
    pub fn listen_for(&self, scope: &EventScope<'_>, events: mpsc::Sender<ProviderEvent>) -> EventGuard {
        let client = self.client(scope.endpoint, scope.identity, scope.declared);
        let timer = Deadline::until(tokio::time::Instant::now() + MAX_ANSWER);
        EventGuard(self.shared.hubs.register_call(
            &client.hub_key(scope.revision),
            scope.token,
            (scope.identity.session.as_ref(), events),
            &timer,
        ))
    }

    /// Notifies a legacy provider that the roots of a caller have changed, in the session it has with
    /// that caller; without one there is nothing to say.
    pub fn notify_roots_changed(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        revision: Revision,
        declared: &DeclaredCapabilities,
    ) {
        let shared = &self.shared;
        let client = self.client(endpoint, identity, declared);
        let key = client.hub_key(revision);
        let body = message::notification("notifications/roots/list_changed", None);
        if !shared.is_wired(endpoint) {
            if let Some(session) = shared.sessions.ready(&key) {
                client.notify(&session, body);
            }
        } else if let Some(wire) = shared.wires(endpoint).ready(&key) {
            shared.detach(async move {
                let deadline = tokio::time::Instant::now() + remote::NOTIFY_TIMEOUT;
                if let Err(error) = wire.notify(body, deadline).await {
                    tracing::debug!(%error, "a message was not delivered");
                }
            });
        }
    }

    /// Makes a request whose answer nobody waits for.
    pub fn fire_and_forget(self: &Arc<Self>, endpoint: Arc<Endpoint>, identity: Identity, call: Call) {
        let upstreams = Arc::clone(self);
        self.shared.detach(async move {
            let method = call.method;
            if let Err(error) = upstreams.request(&endpoint, &identity, call).await {
                tracing::debug!(provider.name = &*endpoint.provider, %error, method, "a request that nobody waits for failed");
            }
        });
    }

    /// Work that outlives whoever began it, on the runtime that owns what must not be cut; it is waited
    /// for at the end.
    pub fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.detach(work);
    }

    /// Passes on notifications and requests of a provider outside of calls, for a client that listens.
    #[must_use]
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscription {
        subscription::open(&self.shared, options)
    }

    /// Ends sessions and processes of an endpoint (descriptor changed or removed) once their calls are done.
    pub fn retire(&self, digest: &[u8; 32]) {
        self.shared.retire(digest);
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
pub fn minimal_environment(all: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    const NAMES: [&str; 10] = [
        "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    ];
    let is_wanted = |name: &str| NAMES.contains(&name) || name.starts_with("LC_");
    let is_given = |(name, _): &(OsString, OsString)| name.to_str().is_some_and(is_wanted);
    all.into_iter().filter(is_given).collect()
}

#[cfg(test)]
mod tests;
