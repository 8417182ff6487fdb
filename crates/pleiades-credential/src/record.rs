//! The record of one account in the vault.

use serde::{Deserialize, Serialize};

use pleiades_core::secret::Secret;

/// One account's grant and its tokens. `grant_id` is new with each connection, `seq` with each
/// token set; they decide everything, the version that a store gives a record decides nothing but
/// the write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// New with each connection.
    pub grant_id: String,
    /// Grows by one with each token set of the grant, from 1.
    pub seq: u64,
    /// `accountId`: the record's own name, once more.
    pub account: String,
    /// For people: email or name.
    pub label: Option<String>,
    /// `sub` of the ID token or of userinfo.
    pub subject: Option<String>,
    /// Provider through which it was connected.
    pub provider: String,
    /// Where its tokens come from and who we are there.
    pub source: TokenSource,
    /// Scopes that were asked for, over all authorizations of this account.
    pub requested: Vec<String>,
    /// Scopes that were granted, as far as the server says.
    pub granted: Option<Vec<String>>,
    /// The tokens of `seq`.
    pub tokens: TokenSet,
    /// Who redeems the refresh token just now, or died doing so.
    #[serde(default)]
    pub lease: Option<RefreshLease>,
    /// Refreshes that failed in a row for transient reasons.
    #[serde(default)]
    pub failures: u32,
    /// Whether the refresh token may have been redeemed although the answer never arrived: a refusal then
    /// means that the refresh was interrupted, not that the grant was revoked.
    #[serde(default)]
    pub unanswered: bool,
    /// Set when its user has to connect it again.
    #[serde(default)]
    pub ended: Option<EndReason>,
    /// Why the last renewal was refused. Without `ended` it may not be for good: the user is asked to
    /// connect again, and the server is asked now and then.
    #[serde(default)]
    pub refusal: Option<TokenRefusal>,
    /// The last renewal that brought nothing, until one succeeds.
    #[serde(default)]
    pub missed: Option<MissedRenewal>,
    /// When it was made the default last, in unix milliseconds; 0 never. What its user said last counts
    /// (`manager/default.rs`).
    #[serde(default)]
    pub chosen: u64,
    /// When its user said last that none of the accounts is the default, in unix milliseconds; 0 never. All
    /// accounts of that moment carry the same.
    #[serde(default)]
    pub none_chosen: u64,
    /// Since when it is connected without having ended in between, in unix milliseconds; 0 in records of
    /// releases that did not note it.
    #[serde(default)]
    pub since: u64,
    /// When it was connected last, in unix seconds.
    pub connected_at: u64,
}

/// A token set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSet {
    /// Put on requests.
    #[serde(with = "exposed")]
    pub access: Secret,
    /// Redeemed for the next set.
    #[serde(default, with = "exposed_option")]
    pub refresh: Option<Secret>,
    /// When the access token ends, in unix seconds of the clock of whoever stored it.
    pub expires_at: Option<u64>,
    /// When it was had, in unix seconds.
    pub obtained_at: u64,
}

/// How a token endpoint refused a renewal, cleaned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRefusal {
    /// `error`, where it named one.
    pub error: Option<String>,
    /// One sentence: lowercase, no full stop, no secret.
    pub why: String,
}

/// A renewal that brought nothing, and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedRenewal {
    /// When, in unix seconds.
    pub at: u64,
    /// Why, for whoever runs the gateway: lowercase, no full stop, no secret.
    pub why: String,
    /// When a gateway that runs tries again, in unix seconds.
    pub again: u64,
}

/// Where tokens come from: enough to redeem, revoke and describe without asking anybody again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSource {
    /// Issuer, as its metadata names it; `None` of a provider that publishes nothing.
    pub issuer: Option<String>,
    /// Token endpoint.
    pub token_endpoint: String,
    /// Revocation endpoint (RFC 7009).
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// The client that the grant was made to.
    pub client: OAuthClient,
    /// `resource` of the token request (RFC 8707).
    #[serde(default)]
    pub resource: Option<String>,
}

/// The client that a grant was made to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthClient {
    /// Client id.
    pub id: String,
    /// How it proves who it is.
    pub auth: ClientAuth,
    /// Its secret when it was registered dynamically. A descriptor's secret or key is never stored:
    /// `None` and `declared` means the descriptor's of today.
    #[serde(default, with = "exposed_option")]
    pub secret: Option<Secret>,
    /// Whether it is the descriptor's client.
    #[serde(default)]
    pub declared: bool,
}

/// `token_endpoint_auth_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// `none`.
    None,
    /// `private_key_jwt`.
    PrivateKeyJwt,
}

/// The right to redeem; dead one full `ttl` after a reader first saw its `nonce` on a clock of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshLease {
    /// New with each claim.
    pub nonce: String,
    /// How long it holds, in seconds.
    pub ttl: u64,
    /// Whether this is the one replay of an interrupted redemption.
    #[serde(default)]
    pub replay: bool,
}

/// Why its user has to connect an account again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The provider refused the refresh token.
    Refused,
    /// A redemption was interrupted and its replay refused.
    Interrupted,
    /// The access token ended and there is no refresh token.
    NoRefresh,
    /// Revoked here or at the provider.
    Revoked,
    /// More rights are needed.
    Scopes,
}

impl EndReason {
    /// The stable name, also `reason` of answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused | Self::NoRefresh => "refused",
            Self::Interrupted => "interrupted",
            Self::Revoked => "revoked",
            Self::Scopes => "scopes",
        }
    }
}

/// State of an account as callers and metrics see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountState {
    /// It serves.
    Ok,
    /// Its access token ends within the lead, and was not renewed yet.
    Expiring,
    /// Refresh fails for transient reasons.
    Unhealthy,
    /// A person has to connect again.
    NeedsReauth,
    /// Revoked.
    Revoked,
}

impl AccountState {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expiring => "expiring",
            Self::Unhealthy => "unhealthy",
            Self::NeedsReauth => "needs_reauth",
            Self::Revoked => "revoked",
        }
    }

    /// Whether calls can use an account of this state: nobody has to connect it again.
    #[must_use]
    pub const fn works(self) -> bool {
        !matches!(self, Self::NeedsReauth | Self::Revoked)
    }
}

/// Secrets as the vault keeps them: the only place where one is written out.
pub(super) mod exposed {
    use serde::{Deserialize, Deserializer, Serializer};

    use pleiades_core::secret::Secret;

    pub(crate) fn serialize<S: Serializer>(value: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

pub(super) mod exposed_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use pleiades_core::secret::Secret;

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}
