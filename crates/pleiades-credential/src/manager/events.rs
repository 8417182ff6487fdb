//! What happens to accounts, for those in this process and in others who wait for it.

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use crate::key::AccountKey;

/// Events that a slow subscriber may be behind.
const BEHIND: usize = 256;

/// Something happened to an account.
#[derive(Debug, Clone)]
pub struct AccountEvent {
    /// The account.
    pub key: AccountKey,
    /// What happened.
    pub kind: AccountEventKind,
    /// Whether another replica did it; that one tells the scheduler and reads first lists.
    pub elsewhere: bool,
}

/// The other replicas.
pub trait Replicas: Send + Sync + std::fmt::Debug {
    /// Tells them what happened here.
    fn notify(&self, key: &AccountKey, kind: AccountEventKind);
}

/// Kinds of what happens to accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountEventKind {
    /// Connected, or connected again.
    Connected,
    /// A new token set of the same grant is stored.
    Renewed,
    /// Revoked or removed.
    Revoked,
    /// Its user made it the default.
    Chosen,
    /// It was found to have ended: its user has to connect it again.
    Ended,
}

impl AccountEventKind {
    const ALL: [Self; 5] = [
        Self::Connected,
        Self::Renewed,
        Self::Revoked,
        Self::Chosen,
        Self::Ended,
    ];

    /// The stable name, as replicas exchange it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Renewed => "renewed",
            Self::Revoked => "revoked",
            Self::Chosen => "chosen",
            Self::Ended => "ended",
        }
    }

    /// The kind of a stable name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[derive(Debug)]
pub(super) struct AccountEvents {
    pub(super) sender: broadcast::Sender<AccountEvent>,
    pub(super) replicas: OnceLock<Arc<dyn Replicas>>,
}

impl AccountEvents {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(BEHIND),
            replicas: OnceLock::new(),
        }
    }

    pub(super) fn happened_here(&self, key: &AccountKey, kind: AccountEventKind) {
        if let Some(replicas) = self.replicas.get() {
            replicas.notify(key, kind);
        }
        self.send(key, kind, false);
    }

    pub(super) fn happened_elsewhere(&self, key: &AccountKey, kind: AccountEventKind) {
        self.send(key, kind, true);
    }

    fn send(&self, key: &AccountKey, kind: AccountEventKind, elsewhere: bool) {
        let key = key.clone();
        // Nobody may be listening.
        self.sender.send(AccountEvent { key, kind, elsewhere }).ok();
    }
}
