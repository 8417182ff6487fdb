//! What clients carry for us from one request to another, sealed to whom it was given.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use pleiades_core::error::{Code, Error};
use pleiades_core::time::unix_now;
use pleiades_mcp::raw;
use pleiades_mcp::seal::Sealer;

/// When a request that needs the seal key is worth another try.
const UNSEALED_RETRY: Duration = Duration::from_secs(1);

/// Seals and opens tokens.
#[derive(Debug, Clone)]
pub(crate) struct Tokens(Arc<Sealer>);

impl Tokens {
    /// Tokens under a seal.
    pub(crate) const fn new(sealer: Arc<Sealer>) -> Self {
        Self(sealer)
    }

    /// Whether anything can be sealed and opened: the keys may still be on their way from the
    /// credential store.
    ///
    /// # Errors
    /// [`Code::CredentialStore`].
    pub(crate) fn ready(&self) -> Result<(), Error> {
        if self.0.is_ready() {
            Ok(())
        } else {
            Err(unsealed())
        }
    }

    /// Seals claims for a purpose and a holder, for so many seconds.
    pub(crate) fn seal(&self, purpose: &str, holder: &str, seconds: u64, claims: &impl Serialize) -> String {
        self.seal_text(purpose, holder, seconds, raw::raw(claims).get())
    }

    /// The same for claims that are text already.
    pub(super) fn seal_text(&self, purpose: &str, holder: &str, seconds: u64, text: &str) -> String {
        self.0
            .seal(purpose, holder, unix_now() + seconds, text.as_bytes())
    }

    /// The claims of a token; `None` when it was changed, has expired, or was sealed for another purpose
    /// or holder.
    pub(crate) fn open<T: DeserializeOwned>(&self, purpose: &str, holder: &str, token: &str) -> Option<T> {
        serde_json::from_slice(&self.open_bytes(purpose, holder, token)?).ok()
    }

    /// The same for claims that are no JSON.
    pub(super) fn open_bytes(&self, purpose: &str, holder: &str, token: &str) -> Option<Vec<u8>> {
        self.0.open(purpose, holder, unix_now(), token)
    }

    /// Something no call can have: for ids that must only be unique and unguessable.
    pub(crate) fn ticket(&self) -> String {
        self.0.ticket()
    }
}

/// The refusal while the seal key was not read yet.
#[must_use]
pub fn unsealed() -> Error {
    Error::new(
        Code::CredentialStore,
        "the seal key was not read from the credential store yet; nothing was run",
    )
    .retry_after(UNSEALED_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_core::secret::Secret;

    fn tokens(key: &str) -> Tokens {
        Tokens::new(Arc::new(Sealer::new(&[Secret::new(key)])))
    }

    #[test]
    fn a_token_opens_for_its_purpose_and_holder_alone() {
        let tokens = tokens("a key of enough bytes");
        let token = tokens.seal("state", "acme/ann", 60, &("x", 7));
        let open = |purpose: &str, holder: &str| tokens.open::<(String, u8)>(purpose, holder, &token);
        assert_eq!(open("state", "acme/ann"), Some(("x".to_owned(), 7)));
        assert_eq!(open("task", "acme/ann"), None);
        assert_eq!(open("state", "acme/bob"), None);
    }

    #[test]
    fn a_token_of_another_key_or_form_opens_as_nothing() {
        let token = tokens("a key of enough bytes").seal("state", "ann", 60, &7);
        assert_eq!(
            tokens("another key, as long").open::<u8>("state", "ann", &token),
            None
        );
        assert_eq!(
            tokens("a key of enough bytes").open::<String>("state", "ann", &token),
            None
        );
    }

    #[test]
    fn a_token_that_has_expired_does_not_open() {
        let tokens = tokens("a key of enough bytes");
        let token = tokens.seal("state", "ann", 0, &7);
        assert_eq!(tokens.open::<u8>("state", "ann", &token), None);
    }

    #[test]
    fn before_the_key_is_read_a_request_is_told_to_come_again() {
        let error = Tokens::new(Arc::new(Sealer::without_keys())).ready().unwrap_err();
        assert_eq!(
            (error.code, error.retry_after),
            (Code::CredentialStore, Some(UNSEALED_RETRY))
        );
        assert!(tokens("a key of enough bytes").ready().is_ok());
    }
}
