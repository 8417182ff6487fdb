//! The headers that carry a credential: fixed, or those of a grant that is renewed.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header::InvalidHeaderValue};

use crate::www_authenticate::{Challenge, RefusalCause};
use crate::{error::Error, mask::SecretMask, secret::Secret};

/// Headers for one upstream request, marked sensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedHeaders {
    /// Put on the request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which token set they carry; 0 for what is never renewed.
    pub seq: u64,
}

/// Keeps the headers of one account's grant up to date.
#[async_trait]
pub trait CredentialSource: Send + Sync + std::fmt::Debug {
    /// What is at hand, valid or not. No I/O.
    fn now(&self) -> Arc<SignedHeaders>;

    /// What may be sent: at once when it is valid, else once it was renewed.
    ///
    /// # Errors
    /// `NeedsAuth`, `TokenExpired`, `CredentialStore`, `CredentialTimeout`.
    async fn ready(&self) -> Result<Arc<SignedHeaders>, Error>;

    /// The upstream answered 401 to this token set: something newer, of the store or of the
    /// provider, once for all who wait.
    ///
    /// # Errors
    /// As [`CredentialSource::ready`].
    async fn refused(&self, seq: u64) -> Result<Arc<SignedHeaders>, Error>;

    /// The upstream took what [`CredentialSource::refused`] gave: a later 401 to it is news.
    fn accepted(&self, _seq: u64) {}

    /// The upstream took this token set.
    fn taken(&self, _seq: u64) {}

    /// Whether a refusal for want of rights may mean a token that is old: all these scopes are granted,
    /// it is due, and can be renewed.
    fn is_stale(&self, _scopes: &[String]) -> bool {
        false
    }
}

/// How requests are signed, and a fingerprint of the account that they stand for.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Digest of what the *caller* brought, or of the account that it uses; `None` when every caller
    /// is signed alike: part of the key of sessions and catalogues.
    pub account: Option<[u8; 32]>,
    kind: SignatureKind,
}

#[derive(Debug, Clone)]
enum SignatureKind {
    Fixed(Arc<SignedHeaders>),
    Renewed(Arc<dyn CredentialSource>),
}

impl Default for Signature {
    /// No header at all.
    fn default() -> Self {
        static UNSIGNED: LazyLock<Arc<SignedHeaders>> = LazyLock::new(Arc::default);
        Self {
            account: None,
            kind: SignatureKind::Fixed(Arc::clone(&UNSIGNED)),
        }
    }
}

impl Signature {
    /// Headers that stay as they are.
    #[must_use]
    pub fn fixed(headers: Vec<(HeaderName, HeaderValue)>, account: Option<[u8; 32]>) -> Self {
        Self {
            account,
            kind: SignatureKind::Fixed(Arc::new(SignedHeaders { headers, seq: 0 })),
        }
    }

    /// Headers that somebody keeps up to date.
    #[must_use]
    pub fn renewed(holder: Arc<dyn CredentialSource>, account: Option<[u8; 32]>) -> Self {
        Self {
            account,
            kind: SignatureKind::Renewed(holder),
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
    pub fn now(&self) -> Arc<SignedHeaders> {
        match &self.kind {
            SignatureKind::Fixed(signed) => Arc::clone(signed),
            SignatureKind::Renewed(holder) => holder.now(),
        }
    }

    /// What never changes; `None` of what somebody keeps up to date.
    #[must_use]
    pub const fn settled(&self) -> Option<&Arc<SignedHeaders>> {
        match &self.kind {
            SignatureKind::Fixed(signed) => Some(signed),
            SignatureKind::Renewed(_) => None,
        }
    }

    /// What may be sent.
    ///
    /// # Errors
    /// As [`CredentialSource::ready`].
    pub async fn ready(&self) -> Result<Arc<SignedHeaders>, Error> {
        match &self.kind {
            SignatureKind::Fixed(signed) => Ok(Arc::clone(signed)),
            SignatureKind::Renewed(holder) => holder.ready().await,
        }
    }

    /// After a 401: what to try once more; `None` when there is nothing else.
    ///
    /// # Errors
    /// As [`CredentialSource::ready`].
    pub async fn refused(&self, seq: u64) -> Result<Option<Arc<SignedHeaders>>, Error> {
        match &self.kind {
            SignatureKind::Fixed(_) => Ok(None),
            SignatureKind::Renewed(holder) => holder.refused(seq).await.map(Some),
        }
    }

    /// What came of [`Signature::refused`] was taken by the upstream.
    pub fn accepted(&self, seq: u64) {
        if let SignatureKind::Renewed(holder) = &self.kind {
            holder.accepted(seq);
        }
    }

    /// The upstream took this token set.
    pub fn taken(&self, seq: u64) {
        if let SignatureKind::Renewed(holder) = &self.kind {
            holder.taken(seq);
        }
    }

    /// Whether something newer may be taken where this was refused.
    #[must_use]
    pub fn may_help(&self, challenge: &Challenge) -> bool {
        let SignatureKind::Renewed(holder) = &self.kind else {
            return false;
        };
        match challenge.cause() {
            _ if !challenge.is_refusal() => false,
            RefusalCause::Token => true,
            RefusalCause::Scope => holder.is_stale(challenge.scopes.as_deref().unwrap_or_default()),
            RefusalCause::Other => false,
        }
    }

    /// A text of others without what is put on requests, which they may repeat: for logs.
    #[must_use]
    pub fn redacted(&self, text: String) -> String {
        self.mask().text(&text).into_owned()
    }

    /// Hides what is put on requests.
    #[must_use]
    pub fn mask(&self) -> SecretMask {
        let mut mask = SecretMask::default();
        for (_, value) in &self.now().headers {
            mask.hide(value.to_str().unwrap_or_default());
        }
        mask
    }

    /// Whether nothing is put on requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            SignatureKind::Fixed(signed) => signed.headers.is_empty(),
            SignatureKind::Renewed(_) => false,
        }
    }
}

/// Longest access token that is used, in bytes: what a header block can carry.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A header value that no log prints.
///
/// # Errors
/// When the value holds bytes that a header cannot carry.
pub fn sensitive(value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}
