//! What Vault refuses: logged once, and again when its words change.

use pleiades_core::bounded::Bounded;

use crate::vault::{Fault, Kind, Path};

/// Refusals that stand at once; a further one replaces the oldest.
const MOST: usize = 1_024;

/// What is refused, by operation and path, in Vault's words. One policy that is wrong refuses many
/// paths with the same words, and is one change.
#[derive(Debug)]
pub(super) struct Refusals(Bounded<(&'static str, Path), String>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Bounded::new(MOST))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum RefusalChange {
    None,
    /// It refuses with these words since now.
    Refuses,
    /// It does what it refused.
    Over,
}

impl Refusals {
    /// Notes the outcome of a request, and logs a change.
    pub(super) fn note<T>(&self, operation: &'static str, path: &Path, done: &Result<T, Fault>) {
        let fault = done.as_ref().err();
        match self.change(operation, path, fault) {
            RefusalChange::None => {}
            RefusalChange::Refuses => {
                if let Some(fault) = fault {
                    tracing::warn!(
                        outcome = fault.kind.as_str(),
                        vault.operation = operation,
                        error = fault as &dyn std::error::Error,
                        "vault refuses the gateway"
                    );
                }
            }
            RefusalChange::Over => tracing::info!(vault.operation = operation, "vault does what it refused"),
        }
    }

    fn change(&self, operation: &'static str, path: &Path, fault: Option<&Fault>) -> RefusalChange {
        let mut current = self.0.lock();
        let Some(fault) = fault else {
            // Nearly all requests end here.
            if current.is_empty() {
                return RefusalChange::None;
            }
            let Some(words) = current.pop(&(operation, path.clone())) else {
                return RefusalChange::None;
            };
            current.retain(|_, other| *other != words);
            return RefusalChange::Over;
        };
        if is_away(fault.kind) {
            return RefusalChange::None;
        }
        // Before the colon stands the operation, after it what Vault said to it.
        let words = fault
            .message
            .split_once(": ")
            .map_or(&*fault.message, |(_, words)| words);
        let is_news = !current.iter().any(|(_, other)| other == words);
        current.put((operation, path.clone()), words.to_owned());
        if is_news {
            RefusalChange::Refuses
        } else {
            RefusalChange::None
        }
    }
}

/// Whether Vault did not answer for itself; [`super::breaker`] logs that.
const fn is_away(kind: Kind) -> bool {
    matches!(kind, Kind::Unreachable | Kind::Sealed | Kind::Throttled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(words: &str) -> Fault {
        Fault::new(Kind::Denied, words)
    }

    #[test]
    fn each_change_of_what_vault_refuses_is_logged_once() {
        let refusals = Refusals::default();
        let [one, two, three] = ["one", "two", "three"].map(|name| Path::of(&["c", name]));
        let say = |path, fault: Option<&Fault>| refusals.change("read", path, fault);
        assert_eq!(say(&one, None), RefusalChange::None);
        assert_eq!(say(&one, Some(&no("denied"))), RefusalChange::Refuses);
        for _ in 0..3 {
            assert_eq!(say(&one, Some(&no("denied"))), RefusalChange::None);
            // One policy refuses many, and another path may be allowed all the time.
            assert_eq!(say(&two, Some(&no("denied"))), RefusalChange::None);
            assert_eq!(say(&three, None), RefusalChange::None);
        }
        assert_eq!(say(&one, Some(&no("no such mount"))), RefusalChange::Refuses);
        assert_eq!(say(&one, None), RefusalChange::Over);
        assert_eq!(say(&two, None), RefusalChange::Over);
        assert_eq!(say(&one, Some(&no("denied"))), RefusalChange::Refuses);
    }

    #[test]
    fn one_policy_that_refuses_several_operations_is_one_change() {
        let refusals = Refusals::default();
        let path = Path::of(&["c"]);
        let read = no("read: vault does not allow it: look at the policy");
        let list = no("list: vault does not allow it: look at the policy");
        assert_eq!(
            refusals.change("read", &path, Some(&read)),
            RefusalChange::Refuses
        );
        assert_eq!(refusals.change("list", &path, Some(&list)), RefusalChange::None);
        assert_eq!(refusals.change("read", &path, None), RefusalChange::Over);
        assert_eq!(
            refusals.change("list", &path, Some(&list)),
            RefusalChange::Refuses
        );
    }

    #[test]
    fn a_vault_that_is_away_refuses_nothing() {
        let refusals = Refusals::default();
        let path = Path::of(&["c"]);
        for kind in [Kind::Unreachable, Kind::Sealed, Kind::Throttled] {
            let fault = Fault::new(kind, "away");
            assert_eq!(refusals.change("read", &path, Some(&fault)), RefusalChange::None);
        }
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let refusals = Refusals::default();
        for number in 0..3 * MOST {
            let path = Path::of(&["c", &number.to_string()]);
            refusals.change("read", &path, Some(&no("denied")));
        }
        assert!(refusals.0.lock().len() <= MOST);
    }
}
