//! Accounts as callers, operators and commands name and see them: by provider.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::{Connection, GrantType};
use super::manager::CredentialManager;
use super::{AccountKey, AccountOwner, vault::Fault};
use crate::access::Principal;
use pleiades_core::text::is_hidden;

/// Longest name of an account, in bytes.
pub const MAX_NAME: usize = 512;

/// Whether a name can be that of an account: 1 to 512 bytes, and no character that cannot be seen or turns
/// what stands around it, so that no two accounts look alike.
#[must_use]
pub fn is_account_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(is_hidden)
}

/// The connection of a loaded provider that has accounts.
#[must_use]
pub fn connection(manager: &CredentialManager, provider: &str) -> Option<Arc<Connection>> {
    let connection = manager.loaded()?.provider(provider)?;
    (connection.grant == GrantType::AuthorizationCode).then_some(connection)
}

/// The owner of a provider's accounts: those of its connection. What a provider that is not loaded any
/// more left behind is still reached under the connection's own name.
#[must_use]
pub fn owner(manager: &CredentialManager, principal: &Principal, provider: &str) -> AccountOwner {
    AccountOwner {
        tenant: Arc::clone(&principal.tenant),
        user: Arc::clone(&principal.user),
        connection: connection(manager, provider)
            .map_or_else(|| Arc::from(provider), |it| Arc::clone(&it.name)),
    }
}

/// The key of one account of a provider.
#[must_use]
pub fn key(manager: &CredentialManager, principal: &Principal, provider: &str, account: &str) -> AccountKey {
    AccountKey {
        owner: owner(manager, principal, provider),
        account: Arc::from(account),
    }
}

/// One account as it is shown under a provider's name; `None` when there is none.
///
/// # Errors
/// [`Fault`].
pub async fn account_json(
    manager: &CredentialManager,
    key: &AccountKey,
    provider: &str,
) -> Result<Option<Value>, Fault> {
    let accounts = manager.accounts(&key.owner).await?;
    let found = accounts.iter().find(|account| account.id == key.account);
    Ok(found.map(|account| document(account.to_json(), provider)))
}

/// All accounts of a user: each under every provider that uses it, else under its connection's name;
/// ordered by provider and account.
///
/// # Errors
/// [`Fault`].
pub async fn accounts_json(manager: &CredentialManager, principal: &Principal) -> Result<Vec<Value>, Fault> {
    let accounts = manager.all_accounts(&principal.tenant, &principal.user).await?;
    let mut documents: Vec<(Arc<str>, Arc<str>, Value)> = Vec::new();
    for (connection, account) in &accounts {
        for provider in providers(manager, connection) {
            let document = document(account.to_json(), &provider);
            documents.push((provider, Arc::clone(&account.id), document));
        }
    }
    documents.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    Ok(documents.into_iter().map(|(_, _, document)| document).collect())
}

/// The providers that use a connection's accounts; the connection itself when none is loaded.
pub(crate) fn providers(manager: &CredentialManager, connection: &Arc<str>) -> Vec<Arc<str>> {
    let parts = manager
        .loaded()
        .map(|loaded| loaded.of(connection))
        .unwrap_or_default();
    let people = parts
        .iter()
        .filter(|part| part.grant == GrantType::AuthorizationCode);
    let providers: Vec<_> = people.map(|part| Arc::clone(&part.provider)).collect();
    if providers.is_empty() {
        return vec![Arc::clone(connection)];
    }
    providers
}

/// An account as it is shown under a provider's name.
pub(crate) fn document(account: Value, provider: &str) -> Value {
    let mut value = account;
    if let Some(object) = value.as_object_mut() {
        object.insert("provider".to_owned(), json!(provider));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_of_accounts_look_alike() {
        for name in ["work", "ann@example.com", "Änne Müller", "仕事", "a b"] {
            assert!(is_account_name(name), "{name}");
        }
        let hidden = [
            "\u{202a}", "\u{202e}", "\u{2066}", "\u{2069}", "\u{200e}", "\u{200f}", "\u{61c}", "\u{200b}",
            "\u{200d}", "\u{2060}", "\u{feff}", "\u{0}", "\n", "\u{7f}", "\u{85}",
        ];
        for hidden in hidden {
            assert!(
                !is_account_name(&format!("work{hidden}")),
                "{}",
                hidden.escape_unicode()
            );
        }
        assert!(!is_account_name("") && !is_account_name(&"x".repeat(MAX_NAME + 1)));
    }
}
