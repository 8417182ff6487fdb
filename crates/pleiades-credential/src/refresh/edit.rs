//! What each effect of a refresh writes. All else in a record stays as it was read.

use super::TTL;
use crate::oauth::TokenResponse;
use crate::record::{AccountRecord, EndReason, RefreshLease, TokenRefusal, TokenSet};

pub(crate) fn claimed(record: &AccountRecord, nonce: &str, replay: bool) -> AccountRecord {
    AccountRecord {
        lease: Some(RefreshLease {
            nonce: nonce.to_owned(),
            ttl: TTL / 1000,
            replay,
        }),
        ..record.clone()
    }
}

/// With the next token set, asked for at unix second `asked`. What the server left out is carried
/// over: refresh token, scopes, and how long tokens live.
pub(crate) fn renewed(record: &AccountRecord, issued: &TokenResponse, asked: u64) -> AccountRecord {
    let before = &record.tokens;
    let life = before.expires_at.map(|at| at.saturating_sub(before.obtained_at));
    AccountRecord {
        seq: record.seq + 1,
        granted: issued.scopes.clone().or_else(|| record.granted.clone()),
        tokens: TokenSet {
            access: issued.access.clone(),
            refresh: issued.refresh.clone().or_else(|| before.refresh.clone()),
            expires_at: issued.expires_in.or(life).map(|life| asked.saturating_add(life)),
            obtained_at: asked,
        },
        lease: None,
        failures: 0,
        unanswered: false,
        ended: None,
        refusal: None,
        missed: None,
        ..record.clone()
    }
}

/// With the lease given back and, when the refresh `counts`, one more failure. That a redemption was
/// interrupted and replayed is remembered for the next refresh, and so is one that went `unanswered`.
/// A `refusal` stands until tokens are had, whatever else fails meanwhile.
pub(crate) fn failed(
    record: &AccountRecord,
    replay: bool,
    counts: bool,
    unanswered: bool,
    refusal: Option<TokenRefusal>,
) -> AccountRecord {
    let lease = record.lease.as_ref().filter(|_| replay);
    AccountRecord {
        lease: lease.map(|lease| RefreshLease {
            nonce: lease.nonce.clone(),
            ttl: 0,
            replay: true,
        }),
        failures: record.failures.saturating_add(u32::from(counts)),
        unanswered: record.unanswered || unanswered,
        refusal: refusal.or_else(|| record.refusal.clone()),
        ..record.clone()
    }
}

/// With the reason why its user has to connect it again, and the refusal. The tokens stay: the access
/// token may serve on.
pub(crate) fn ended(
    record: &AccountRecord,
    ended: EndReason,
    refusal: Option<TokenRefusal>,
) -> AccountRecord {
    let interrupted = record.unanswered && ended == EndReason::Refused;
    AccountRecord {
        ended: Some(if interrupted {
            EndReason::Interrupted
        } else {
            ended
        }),
        refusal,
        lease: None,
        ..record.clone()
    }
}
