//! The headers that carry a credential: fixed, or those of a grant that is renewed.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header::InvalidHeaderValue};

use super::connection::Connection;
use super::oauth::{Challenge, Lack};
use super::record::AccountState;
use crate::error::Error;
use crate::secret::Secret;

/// Headers for one upstream request, marked sensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signed {
    /// Put on the request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which token set they carry; 0 for what is never renewed.
    pub seq: u64,
}

/// Keeps the headers of one account's grant up to date.
#[async_trait]
pub trait Holder: Send + Sync + std::fmt::Debug {
    /// What is at hand, valid or not. No I/O.
    fn now(&self) -> Arc<Signed>;

    /// What may be sent: at once when it is valid, else once it was renewed.
    ///
    /// # Errors
    /// `NeedsAuth`, `TokenExpired`, `CredentialStore`, `CredentialTimeout`.
    async fn ready(&self) -> Result<Arc<Signed>, Error>;

    /// The upstream answered 401 to this token set: something newer, of the store or of the
    /// provider, once for all who wait.
    ///
    /// # Errors
    /// As [`Holder::ready`].
    async fn refused(&self, seq: u64) -> Result<Arc<Signed>, Error>;

    /// The upstream took what [`Holder::refused`] gave: a later 401 to it is news.
    fn accepted(&self, _seq: u64) {}

    /// The upstream took this token set.
    fn taken(&self, _seq: u64) {}

    /// Whether a refusal for want of rights may mean a token that is old: all these scopes are granted,
    /// it is due, and can be renewed.
    fn is_stale(&self, _scopes: &[String]) -> bool {
        false
    }
}

/// Signs for connections that are nobody's: client credentials.
pub trait Machines: Send + Sync + std::fmt::Debug {
    /// The signature of a connection; it has its token when it is first asked to be ready.
    fn machine(&self, connection: &Arc<Connection>) -> Arc<Signature>;

    /// How the accounts of a connection fare that are in memory: how many are in which state.
    fn accounts(&self, _connection: &str) -> Vec<(AccountState, usize)> {
        Vec::new()
    }
}

/// Signs nothing: for what is only looked at.
#[derive(Debug, Clone, Copy)]
pub struct Unmanned;

impl Machines for Unmanned {
    fn machine(&self, _connection: &Arc<Connection>) -> Arc<Signature> {
        Arc::default()
    }
}

/// How requests are signed, and a fingerprint of the account that they stand for.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Digest of what the *caller* brought, or of the account that it uses; `None` when every caller
    /// is signed alike: part of the key of sessions and catalogues.
    pub account: Option<[u8; 32]>,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Fixed(Arc<Signed>),
    Held(Arc<dyn Holder>),
}

impl Default for Signature {
    /// No header at all.
    fn default() -> Self {
        static UNSIGNED: LazyLock<Arc<Signed>> = LazyLock::new(Arc::default);
        Self {
            account: None,
            way: Way::Fixed(Arc::clone(&UNSIGNED)),
        }
    }
}

impl Signature {
    /// Headers that stay as they are.
    #[must_use]
    pub fn fixed(headers: Vec<(HeaderName, HeaderValue)>, account: Option<[u8; 32]>) -> Self {
        Self {
            account,
            way: Way::Fixed(Arc::new(Signed { headers, seq: 0 })),
        }
    }

    /// Headers that somebody keeps up to date.
    #[must_use]
    pub fn held(holder: Arc<dyn Holder>, account: Option<[u8; 32]>) -> Self {
        Self {
            account,
            way: Way::Held(holder),
        }
    }

    /// One header that carries a key, marked sensitive, the same for every caller.
    ///
    /// # Errors
    /// When the key holds bytes that a header cannot carry.
    pub fn of_header(name: HeaderName, value: &Secret) -> Result<Self, InvalidHeaderValue> {
        Ok(Self::fixed(vec![(name, sensitive(value.expose())?)], None))
    }

    /// What is at hand, valid or not. No I/O.
    #[must_use]
    pub fn now(&self) -> Arc<Signed> {
        match &self.way {
            Way::Fixed(signed) => Arc::clone(signed),
            Way::Held(holder) => holder.now(),
        }
    }

    /// What never changes; `None` of what somebody keeps up to date.
    #[must_use]
    pub const fn settled(&self) -> Option<&Arc<Signed>> {
        match &self.way {
            Way::Fixed(signed) => Some(signed),
            Way::Held(_) => None,
        }
    }

    /// What may be sent.
    ///
    /// # Errors
    /// As [`Holder::ready`].
    pub async fn ready(&self) -> Result<Arc<Signed>, Error> {
        match &self.way {
            Way::Fixed(signed) => Ok(Arc::clone(signed)),
            Way::Held(holder) => holder.ready().await,
        }
    }

    /// After a 401: what to try once more; `None` when there is nothing else.
    ///
    /// # Errors
    /// As [`Holder::ready`].
    pub async fn refused(&self, seq: u64) -> Result<Option<Arc<Signed>>, Error> {
        match &self.way {
            Way::Fixed(_) => Ok(None),
            Way::Held(holder) => holder.refused(seq).await.map(Some),
        }
    }

    /// What came of [`Signature::refused`] was taken by the upstream.
    pub fn accepted(&self, seq: u64) {
        if let Way::Held(holder) = &self.way {
            holder.accepted(seq);
        }
    }

    /// The upstream took this token set.
    pub fn taken(&self, seq: u64) {
        if let Way::Held(holder) = &self.way {
            holder.taken(seq);
        }
    }

    /// Whether something newer may be taken where this was refused.
    #[must_use]
    pub fn may_help(&self, challenge: &Challenge) -> bool {
        let Way::Held(holder) = &self.way else {
            return false;
        };
        match challenge.lack() {
            _ if !challenge.is_refusal() => false,
            Lack::Token => true,
            Lack::Scope => holder.is_stale(challenge.scopes.as_deref().unwrap_or_default()),
            Lack::Other => false,
        }
    }

    /// Whether nothing is put on requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.way {
            Way::Fixed(signed) => signed.headers.is_empty(),
            Way::Held(_) => false,
        }
    }
}

/// Longest access token that is used, in bytes: what a header block can carry.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// A header value that no log prints.
pub(super) fn sensitive(value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}
