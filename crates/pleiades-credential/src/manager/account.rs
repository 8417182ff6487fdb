//! Accounts as their users see them.

use std::sync::Arc;

use serde_json::json;

use crate::record::{AccountState, EndReason};
use crate::slot::SeenRecord;

/// An account as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `accountId`.
    pub id: Arc<str>,
    /// Email or name.
    pub label: Option<String>,
    /// State.
    pub state: AccountState,
    /// Why it is not `ok`.
    pub reason: Option<String>,
    /// Whether calls use it that name none.
    pub is_default: bool,
    /// When its access token ends, in unix seconds.
    pub expires_at: Option<u64>,
    /// Scopes asked for so far.
    pub requested: Vec<String>,
    /// Scopes granted, as far as known.
    pub granted: Option<Vec<String>>,
}

impl Account {
    /// As answers and `/v1/accounts` show it, without `provider`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut body = json!({
            "accountId": &*self.id,
            "label": self.label.as_deref().unwrap_or(&self.id),
            "state": self.state.as_str(),
            "default": self.is_default,
        });
        if let Some(object) = body.as_object_mut() {
            if let Some(reason) = &self.reason {
                object.insert("reason".to_owned(), json!(reason));
            }
            if let Some(at) = self.expires_at {
                object.insert("expiresAt".to_owned(), json!(pleiades_core::time::rfc3339(at)));
            }
        }
        body
    }

    /// From its record, at `unix_ms`; it is renewed `lead` seconds ahead of its end.
    pub(super) fn of(id: &Arc<str>, seen: &SeenRecord, is_default: bool, unix_ms: u64, lead: u64) -> Self {
        let record = &seen.record;
        let state = seen.state(unix_ms, lead);
        let reason = match state {
            AccountState::Ok | AccountState::Expiring => None,
            AccountState::Unhealthy => Some("transient"),
            AccountState::NeedsReauth | AccountState::Revoked => seen.ended(unix_ms).map(EndReason::as_str),
        };
        Self {
            id: Arc::clone(id),
            label: record.label.clone(),
            state,
            reason: reason.map(str::to_owned),
            is_default,
            expires_at: record.tokens.expires_at,
            requested: record.requested.clone(),
            granted: record.granted.clone(),
        }
    }
}
