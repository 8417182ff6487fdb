//! Whom a result is for.

use std::sync::Arc;

use ring::digest::{Context, SHA256};

use pleiades_credential::access::Principal;

/// An account at a provider, whoever uses it: what a write of one changes, all read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountScope {
    pub(super) provider: Arc<str>,
    /// Fingerprint of the account under its grant, or digest of the key that the caller brought; `None`
    /// where all callers are signed alike.
    account: Option<[u8; 32]>,
}

impl AccountScope {
    pub(crate) fn new(provider: &Arc<str>, account: Option<[u8; 32]>) -> Self {
        Self {
            provider: Arc::clone(provider),
            account,
        }
    }

    /// The same in one word.
    pub(super) fn word(&self) -> String {
        match &self.account {
            Some(account) => format!("{}/{}", self.provider, hex(account)),
            None => self.provider.to_string(),
        }
    }
}

/// Whom a result is for: everything that another caller could differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResultOwner {
    tenant: Arc<str>,
    user: Arc<str>,
    pub(super) scope: AccountScope,
}

impl ResultOwner {
    pub(crate) fn new(principal: &Principal, scope: AccountScope) -> Self {
        Self {
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            scope,
        }
    }

    /// Whose share its results are counted in.
    pub(super) const fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// The caller at the provider, in one word, whichever account was used.
    pub(super) fn caller(&self) -> String {
        self.before(&self.scope.provider)
    }

    /// The caller at the provider by this account, in one word.
    pub(super) fn binding(&self) -> String {
        self.before(&self.scope.word())
    }

    fn before(&self, rest: &str) -> String {
        let (tenant, user) = (&self.tenant, &self.user);
        format!("{}:{}:{tenant}/{user}/{rest}", tenant.len(), user.len())
    }
}

/// Digest of parts, each led by its length, so that no two lists of parts read alike.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_owners_have_one_word() {
        let names = ["a", "a/", "/a", "1:a", "a/b", "ab"];
        let accounts = [None, Some([0; 32]), Some([1; 32])];
        let principals = names.iter().flat_map(|tenant| {
            names.iter().map(move |user| Principal {
                tenant: (*tenant).into(),
                user: (*user).into(),
            })
        });
        let (mut words, mut count) = (HashSet::new(), 0);
        for principal in principals {
            for (provider, account) in [
                ("a", accounts[0]),
                ("a", accounts[1]),
                ("a", accounts[2]),
                ("b", None),
            ] {
                let scope = AccountScope::new(&provider.into(), account);
                words.insert(ResultOwner::new(&principal, scope).binding());
                count += 1;
            }
        }
        assert_eq!(words.len(), count);
    }
}
