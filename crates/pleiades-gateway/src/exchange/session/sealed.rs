//! Legacy sessions as sealed tokens: any process with the same key can serve them.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use tokio::sync::broadcast::error::RecvError;

use super::tokens::Tokens;
use crate::exchange::request::Scope;
use crate::shared_state::SharedState;
use pleiades_core::error::Error;
use pleiades_core::telemetry::names;
use pleiades_core::text;
use pleiades_core::time::unix_now;
use pleiades_credential::access::Principal;
use pleiades_mcp::seal::Sealer;
use pleiades_mcp::{ClientCapabilities, RawObject, Revision};

/// A day: clients re-initialise on 404, so an expiry costs them one round trip.
const LIFETIME_SECS: u64 = 24 * 60 * 60;
const PURPOSE: &str = "session";

/// Opens, recognises and ends legacy sessions.
#[derive(Debug)]
pub struct Sessions {
    tokens: Tokens,
    shared: Arc<SharedState>,
}

impl Sessions {
    /// Sessions under a seal; which of them have ended, replicas tell each other.
    #[must_use]
    pub const fn new(sealer: Arc<Sealer>, shared: Arc<SharedState>) -> Self {
        Self {
            tokens: Tokens::new(sealer),
            shared,
        }
    }

    /// What replicas tell each other.
    pub(crate) const fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// The seal of everything that clients carry for us.
    pub(crate) const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whether anything can be sealed and opened: the keys may still be on their way from the
    /// credential store.
    ///
    /// # Errors
    /// [`pleiades_core::error::Code::CredentialStore`].
    pub fn sealed(&self) -> Result<(), Error> {
        self.tokens.ready()
    }

    /// The id of a new session: what it says is sealed to its principal and path.
    pub(crate) fn open(
        &self,
        principal: &Principal,
        scope: &Scope,
        revision: Revision,
        (abilities, client): (ClientCapabilities, &str),
    ) -> String {
        let claims = format!("{revision} {:02x} {client}", abilities.bits());
        let binding = binding(principal, scope);
        self.tokens.seal_text(PURPOSE, &binding, LIFETIME_SECS, &claims)
    }

    /// The revision a session speaks and what its client can be asked; `None` when the id is
    /// unknown, foreign, of another scope, expired or ended.
    #[must_use]
    pub fn resume(
        &self,
        principal: &Principal,
        scope: &Scope,
        id: &str,
    ) -> Option<(Revision, ClientCapabilities)> {
        let claims = self.claims(principal, scope, id)?;
        if self.has_ended(id) {
            return None;
        }
        let mut parts = claims.splitn(3, ' ');
        let (revision, abilities) = (parts.next()?, parts.next()?);
        let revision = Revision::parse(revision).filter(|revision| !revision.is_modern())?;
        let bits = u8::from_str_radix(abilities, 16).ok()?;
        Some((revision, ClientCapabilities::from_bits(bits)))
    }

    /// The name that a session's client gave itself.
    pub(crate) fn client(&self, principal: &Principal, scope: &Scope, id: &str) -> String {
        let claims = self.claims(principal, scope, id).unwrap_or_default();
        claims.splitn(3, ' ').nth(2).unwrap_or_default().to_owned()
    }

    fn claims(&self, principal: &Principal, scope: &Scope, id: &str) -> Option<String> {
        let binding = binding(principal, scope);
        String::from_utf8(self.tokens.open_bytes(PURPOSE, &binding, id)?).ok()
    }

    /// Ends a session: its id is refused until it would have expired, by this process at once, by
    /// the other replicas as soon as they hear of it (not at all without `shared_state`).
    pub fn end(&self, id: &str) {
        self.shared.announce_end(hash(id), unix_now() + LIFETIME_SECS);
    }

    /// Waits until the end of a session is remembered beyond this process, where anything remembers it.
    pub async fn remembered(&self, id: &str) {
        self.shared.remembered(hash(id), unix_now() + LIFETIME_SECS).await;
    }

    /// Waits until a session is ended, here or at another replica: its streams end with it.
    pub async fn ended(&self, id: &str) {
        let mut ends = self.shared.ended();
        let hash = hash(id);
        // Looked up anew after each end, so that it does not matter which ones were missed.
        while !self.shared.has_ended(&hash) {
            if matches!(ends.recv().await, Err(RecvError::Closed)) {
                return std::future::pending().await;
            }
        }
    }

    fn has_ended(&self, id: &str) -> bool {
        self.shared.has_ended(&hash(id))
    }
}

/// What is remembered of an ended session; its id is worth as much as the session.
fn hash(id: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, id.as_bytes()).as_ref());
    hash
}

/// A session is its principal's, at the path it was opened at.
fn binding(principal: &Principal, scope: &Scope) -> String {
    let provider = scope.provider.as_deref().unwrap_or_default();
    format!("{} {provider} {}", scope.view.as_str(), principal.binding())
}

/// The revision to speak with a client that sent these parameters of `initialize`.
///
/// The one it asks for when that is served, the nearest newer one for an older, our newest legacy
/// one for the rest (2025-11-25, "Lifecycle").
#[must_use]
pub fn negotiated(params: &RawObject) -> Revision {
    match params
        .read::<String>("protocolVersion")
        .as_deref()
        .and_then(Revision::parse)
    {
        Some(Revision::V2025_06_18 | Revision::V2025_03_26 | Revision::V2024_11_05) => Revision::V2025_06_18,
        _ => Revision::NEWEST_LEGACY,
    }
}

/// What a client that sent these parameters of `initialize` can be asked.
#[must_use]
pub fn abilities(params: &RawObject) -> ClientCapabilities {
    params
        .get("capabilities")
        .map(ClientCapabilities::of)
        .unwrap_or_default()
}

/// The name that a client gave itself in these parameters of `initialize`, as metrics have it.
#[must_use]
pub fn client_name(params: &RawObject) -> &'static str {
    names::client(&stated_name(params))
}

/// The name that a client gave itself in these parameters of `initialize`; what it says beyond 64 characters
/// is left out.
pub(crate) fn stated_name(params: &RawObject) -> String {
    let info: Option<RawObject> = params.read("clientInfo");
    let name = info.and_then(|info| info.read::<String>("name"));
    text::printable(&name.unwrap_or_default(), 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_core::secret::Secret;
    use pleiades_core::telemetry::View;

    fn union() -> Scope {
        Scope::new(View::Meta, None)
    }

    fn sessions(key: &str) -> Sessions {
        Sessions::new(Arc::new(Sealer::new(&[Secret::new(key)])), SharedState::alone())
    }

    #[test]
    fn two_processes_with_one_key_serve_one_session() {
        let (one, two) = (
            sessions("a key of enough bytes"),
            sessions("a key of enough bytes"),
        );
        let alice = Principal::new("acme", "alice");
        let id = one.open(
            &alice,
            &union(),
            Revision::V2025_06_18,
            (ClientCapabilities::FORM, "x"),
        );
        assert_eq!(
            two.resume(&alice, &union(), &id),
            Some((Revision::V2025_06_18, ClientCapabilities::FORM))
        );
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    }

    #[test]
    fn a_session_of_another_principal_or_key_is_unknown() {
        let one = sessions("a key of enough bytes");
        let id = one.open(
            &Principal::new("acme", "alice"),
            &union(),
            Revision::V2025_11_25,
            (ClientCapabilities::FORM, "x"),
        );
        assert_eq!(one.resume(&Principal::new("acme", "bob"), &union(), &id), None);
        assert_eq!(one.resume(&Principal::new("acm", "e/alice"), &union(), &id), None);
        assert_eq!(
            sessions("another key, as long").resume(&Principal::new("acme", "alice"), &union(), &id),
            None
        );
    }

    #[test]
    fn a_session_is_unknown_at_another_path() {
        let one = sessions("a key of enough bytes");
        let alice = Principal::new("acme", "alice");
        let id = one.open(
            &alice,
            &union(),
            Revision::V2025_11_25,
            (ClientCapabilities::FORM, "x"),
        );
        let at = |view, provider: Option<&str>| Scope::new(view, provider.map(Arc::from));
        for scope in [
            at(View::Tool, None),
            at(View::Meta, Some("one")),
            at(View::Relay, Some("one")),
        ] {
            assert_eq!(one.resume(&alice, &scope, &id), None, "{scope:?}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_a_session_learns_of_its_end() {
        let one = sessions("a key of enough bytes");
        tokio::join!(one.ended("id"), async { one.end("id") });
        one.ended("id").await;
    }

    #[tokio::test]
    async fn who_waits_for_a_session_is_woken_however_many_others_ended_meanwhile() {
        let one = sessions("a key of enough bytes");
        let others = async {
            for number in 0..5_000 {
                one.end(&number.to_string());
            }
            one.end("id");
        };
        tokio::join!(one.ended("id"), others);
    }

    #[test]
    fn an_ended_session_is_unknown_at_once() {
        let one = sessions("a key of enough bytes");
        let alice = Principal::new("acme", "alice");
        let id = one.open(
            &alice,
            &union(),
            Revision::V2025_11_25,
            (ClientCapabilities::FORM, "x"),
        );
        one.end(&id);
        assert_eq!(one.resume(&alice, &union(), &id), None);
    }

    fn asked(version: &str) -> Revision {
        let mut params = RawObject::new();
        params.put("protocolVersion", version);
        negotiated(&params)
    }

    #[test]
    fn older_clients_are_offered_the_nearest_revision_and_newer_ones_our_newest() {
        assert_eq!(asked("2025-06-18"), Revision::V2025_06_18);
        assert_eq!(asked("2025-11-25"), Revision::V2025_11_25);
        assert_eq!(asked("2024-11-05"), Revision::V2025_06_18);
        assert_eq!(asked("2099-01-01"), Revision::V2025_11_25);
    }
}
