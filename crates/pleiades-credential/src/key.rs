//! Names of accounts: tenant, user, connection, account.

use std::sync::Arc;

use pleiades_core::text::shell_word;
use ring::digest::{Context, SHA256};

/// A user at one connection. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountOwner {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The user within it.
    pub user: Arc<str>,
    /// `oauth.connection`, by default the provider's id.
    pub connection: Arc<str>,
}

/// One account of an owner, which is the name of its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// The user and the connection.
    pub owner: AccountOwner,
    /// `accountId`.
    pub account: Arc<str>,
}

impl AccountKey {
    /// The options by which a command in a terminal names this account, as a shell reads them.
    pub(crate) fn options(&self) -> String {
        let owner = &self.owner;
        let named = [
            ("--tenant", &owner.tenant),
            ("--user", &owner.user),
            ("--account", &self.account),
        ];
        let option = |(option, value): (&str, &Arc<str>)| {
            // What begins with a dash would be read as another option.
            let gap = if value.starts_with('-') { '=' } else { ' ' };
            format!("{option}{gap}{}", shell_word(value))
        };
        named.map(option).join(" ")
    }

    /// Fingerprint of the account under one grant: part of the key of sessions and catalogues, so
    /// that nothing of an earlier grant is used with a later one.
    pub(crate) fn fingerprint(&self, grant_id: &str) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let AccountOwner {
            tenant,
            user,
            connection,
        } = &self.owner;
        for part in [&**tenant, user, connection, &self.account, grant_id] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }
}
