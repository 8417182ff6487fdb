//! Which account a call uses that names none.
//!
//! What its user said last decides. As long as nobody said anything it is the account that has been connected
//! for longest of those that work: another one that is connected later never takes its place, and one
//! that has ended gives it up to the next, until it is renewed.

use std::sync::Arc;

use super::Account;
use crate::record::AccountRecord;
use crate::slot::AccountSlot;

/// How many accounts have to carry a "none" for it to count: it was said of several, and where all but one of
/// those are gone, that one is used.
const QUORUM: usize = 2;

/// What one account says of it.
#[derive(Debug, Clone, Copy)]
struct DefaultFacts {
    /// When it was made the default last, in unix milliseconds; 0 never.
    chosen: u64,
    /// When its user said last that none is the default; 0 never.
    none_chosen: u64,
    /// Since when it is connected, in unix milliseconds.
    since: u64,
    /// Whether nobody has to connect it again.
    works: bool,
}

/// Which account a call uses that names none, at a place of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// This one.
    Account(usize),
    /// Several work, and their user said that none of them is the default.
    Several,
    /// There is no account.
    Missing,
}

/// Which account a call uses that names none.
#[derive(Debug, Clone, Copy)]
pub(super) enum DefaultAccount<'a> {
    /// This one.
    Of(&'a Arc<AccountSlot>),
    /// None: several work, and their user said so.
    Several,
    /// None: there is none.
    Missing,
}

/// Since when an account is connected, in unix milliseconds.
pub(super) const fn since(record: &AccountRecord) -> u64 {
    match record.since {
        // Of a release that did not note it.
        0 => record.connected_at.saturating_mul(1_000),
        since => since,
    }
}

/// The default of a user's accounts, ordered by id, at a time in unix milliseconds.
pub(super) fn default_account(slots: &[Arc<AccountSlot>], unix_ms: u64) -> DefaultAccount<'_> {
    if let [slot] = slots {
        return DefaultAccount::Of(slot);
    }
    let facts = |slot: &Arc<AccountSlot>| {
        let seen = slot.seen();
        let record = seen.as_ref().map(|seen| &seen.record);
        DefaultFacts {
            chosen: record.map_or(0, |it| it.chosen),
            none_chosen: record.map_or(0, |it| it.none_chosen),
            since: record.map_or(u64::MAX, since),
            works: seen.as_ref().is_some_and(|seen| seen.ended(unix_ms).is_none()),
        }
    };
    let facts: Vec<DefaultFacts> = slots.iter().map(facts).collect();
    match decide(&facts) {
        Decision::Account(at) => slots.get(at).map_or(DefaultAccount::Missing, DefaultAccount::Of),
        Decision::Several => DefaultAccount::Several,
        Decision::Missing => DefaultAccount::Missing,
    }
}

fn decide(accounts: &[DefaultFacts]) -> Decision {
    let latest = |of: fn(&DefaultFacts) -> u64| accounts.iter().map(of).max().unwrap_or(0);
    let none_chosen = latest(|it| it.none_chosen);
    let agreed = accounts.iter().filter(|it| it.none_chosen == none_chosen).count();
    let none_chosen = if agreed < QUORUM { 0 } else { none_chosen };
    let chosen = latest(|it| it.chosen);
    // Also one that has ended: nobody wants somebody else's account in the place of the one that they chose.
    if chosen > none_chosen
        && let Some(at) = accounts.iter().position(|it| it.chosen == chosen)
    {
        return Decision::Account(at);
    }
    let working = || accounts.iter().enumerate().filter(|(_, it)| it.works);
    if none_chosen > 0 && working().count() > 1 {
        return Decision::Several;
    }
    let first = working().min_by_key(|(_, it)| it.since);
    let first = first.or_else(|| accounts.iter().enumerate().min_by_key(|(_, it)| it.since));
    first.map_or(Decision::Missing, |(at, _)| Decision::Account(at))
}

/// What a person is asked once a further account is connected: which one calls use that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultQuestion {
    /// The one that they use so far; `None` where each call has to name one.
    pub used: Option<Arc<str>>,
    /// The one that was just connected.
    pub new: Arc<str>,
}

impl DefaultQuestion {
    /// The question that is left after `new` was connected, if any: an account that was there and worked
    /// before raises none, and neither does the one that is used from now on anyway.
    #[must_use]
    pub fn after(before: &[Account], now: &[Account], new: &str) -> Option<Self> {
        let worked = before.iter().any(|it| *it.id == *new && it.state.works());
        let used = now.iter().find(|it| it.is_default).map(|it| Arc::clone(&it.id));
        let new = now
            .iter()
            .find(|it| *it.id == *new)
            .map(|it| Arc::clone(&it.id))?;
        (!worked && now.len() > 1 && used.as_ref() != Some(&new)).then_some(Self { used, new })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn connected(since: u64) -> DefaultFacts {
        DefaultFacts {
            chosen: 0,
            none_chosen: 0,
            since,
            works: true,
        }
    }

    const fn ended(since: u64) -> DefaultFacts {
        DefaultFacts {
            works: false,
            ..connected(since)
        }
    }

    #[test]
    fn the_account_that_was_connected_first_stays_the_default() {
        assert_eq!(decide(&[]), Decision::Missing);
        assert_eq!(decide(&[connected(1)]), Decision::Account(0));
        assert_eq!(
            decide(&[connected(3), connected(1), connected(2)]),
            Decision::Account(1)
        );
    }

    #[test]
    fn an_account_that_has_ended_makes_room_for_one_that_works_unless_somebody_chose_it() {
        assert_eq!(decide(&[ended(1), connected(2)]), Decision::Account(1));
        assert_eq!(decide(&[ended(2), ended(1)]), Decision::Account(1));
        let chosen = DefaultFacts {
            chosen: 9,
            ..ended(1)
        };
        assert_eq!(decide(&[chosen, connected(2)]), Decision::Account(0));
    }

    #[test]
    fn what_was_said_last_counts() {
        let stated = |chosen, none_chosen| DefaultFacts {
            chosen,
            none_chosen,
            ..connected(1)
        };
        assert_eq!(decide(&[stated(3, 0), stated(4, 0)]), Decision::Account(1));
        assert_eq!(decide(&[stated(3, 5), stated(4, 5)]), Decision::Several);
        assert_eq!(decide(&[stated(6, 5), stated(4, 5)]), Decision::Account(0));
    }

    #[test]
    fn none_holds_among_several_that_work_and_ends_with_them() {
        let none = |works| DefaultFacts {
            none_chosen: 5,
            works,
            ..connected(1)
        };
        assert_eq!(decide(&[none(true), none(true), connected(7)]), Decision::Several);
        assert_eq!(decide(&[none(true), none(false)]), Decision::Account(0));
        // All but one of those of which it was said are gone.
        assert_eq!(decide(&[none(true), connected(7)]), Decision::Account(0));
    }
}
