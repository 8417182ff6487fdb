//! When a token set is renewed.

use crate::record::TokenSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenLifetime {
    obtained: u64,
    expires: Option<u64>,
}

impl TokenLifetime {
    pub(crate) const fn of(tokens: &TokenSet) -> Self {
        Self {
            obtained: tokens.obtained_at,
            expires: tokens.expires_at,
        }
    }

    /// `lead` in seconds, but never more than half the lifetime: a short-lived token would be renewed
    /// without end.
    fn lead_ms(self, lead: u64) -> u64 {
        let life = self.expires.unwrap_or_default().saturating_sub(self.obtained);
        (life.saturating_mul(1000) / 2).min(lead.saturating_mul(1000))
    }

    /// When it is renewed, in unix milliseconds; `None` when nobody knows when it ends. `jitter`, of
    /// 1000, spreads those that end together over the first quarter of the lead.
    pub(crate) fn due(self, lead: u64, jitter: u64) -> Option<u64> {
        let lead = self.lead_ms(lead);
        let ends = self.expires?.saturating_mul(1000);
        Some(
            ends.saturating_sub(lead)
                .saturating_add(lead / 4 * jitter.min(1000) / 1000),
        )
    }

    /// Whether its time to be renewed has come, at unix second `now`.
    pub(crate) fn is_within_lead(self, now: u64, lead: u64) -> bool {
        self.due(lead, 0)
            .is_some_and(|due| now.saturating_mul(1000).saturating_add(999) >= due)
    }

    pub(crate) fn is_over(self, now: u64) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::TokenLifetime;

    const HOUR: TokenLifetime = TokenLifetime {
        obtained: 10_000,
        expires: Some(13_600),
    };

    #[test]
    fn it_is_due_ahead_of_expiry_by_the_lead() {
        assert_eq!(HOUR.due(600, 0), Some(13_000_000));
        assert!(!HOUR.is_within_lead(12_998, 600) && HOUR.is_within_lead(13_000, 600));
    }

    #[test]
    fn the_lead_is_never_more_than_half_the_lifetime() {
        let short = TokenLifetime {
            obtained: 10_000,
            expires: Some(10_010),
        };
        assert_eq!(short.due(600, 0), Some(10_005_000));
    }

    #[test]
    fn jitter_spreads_over_a_quarter_of_the_lead_and_no_further() {
        assert_eq!(HOUR.due(600, 500), Some(13_075_000));
        assert_eq!(HOUR.due(600, 9_999), Some(13_150_000));
    }

    #[test]
    fn a_token_set_of_unknown_life_is_never_due() {
        let endless = TokenLifetime {
            obtained: 10_000,
            expires: None,
        };
        assert_eq!(endless.due(600, 0), None);
        assert!(!endless.is_over(u64::MAX));
    }
}
