//! Everybody's accounts, a page at a time, as operators list them. Bounded: a page reads so many accounts, for so
//! long, and puts none of them into memory for requests.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::AccountOwner;
use super::manager::CredentialManager;
use super::user_accounts::{document, providers};
use super::vault::{Fault, Kind, Path};

/// Accounts of a page, where its caller does not say how many, and at most.
pub const USUAL: usize = 100;
/// The most.
pub const MOST: usize = 1_000;
/// After so long a page ends with what was found.
const WITHIN: Duration = Duration::from_secs(5);

/// Some accounts, in the order of tenant, user, connection and account.
#[derive(Debug, Default)]
pub struct AccountsPage {
    /// As [`user_accounts`](super::user_accounts) shows them, with tenant and user.
    pub accounts: Vec<Value>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

impl AccountsPage {
    /// As the admin listener answers it.
    #[must_use]
    pub fn to_json(self) -> Value {
        match self.next {
            Some(next) => json!({ "accounts": self.accounts, "next": next }),
            None => json!({ "accounts": self.accounts }),
        }
    }
}

/// Why there is no page.
#[derive(Debug)]
pub enum Unlisted {
    /// `after` was made by no page.
    Position,
    /// The store does not serve.
    Store(Fault),
}

impl From<Fault> for Unlisted {
    fn from(fault: Fault) -> Self {
        Self::Store(fault)
    }
}

/// The account that a page ended with: tenant, user, connection, account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position(String, String, String, String);

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whether nothing of a folder comes after it.
    fn is_past(&self, folder: &[&str]) -> bool {
        let own = [self.0.as_str(), &self.1, &self.2, &self.3];
        folder
            .iter()
            .zip(own)
            .map(|(name, own)| (*name).cmp(own))
            .find(|it| it.is_ne())
            == Some(std::cmp::Ordering::Less)
    }
}

/// The accounts that come `after` a page, at most so many.
///
/// # Errors
/// [`Unlisted`].
pub async fn page(
    manager: &CredentialManager,
    after: Option<&str>,
    most: usize,
) -> Result<AccountsPage, Unlisted> {
    let after = after.map(|text| Position::parse(text).ok_or(Unlisted::Position));
    let mut walk = AccountWalk {
        manager,
        after: after.transpose()?,
        most: most.clamp(1, MOST),
        until: Instant::now() + WITHIN,
        found: Vec::new(),
    };
    let next = walk.run().await?;
    Ok(AccountsPage {
        accounts: walk.found,
        next: next.map(|position| position.to_text()),
    })
}

struct AccountWalk<'a> {
    manager: &'a CredentialManager,
    after: Option<Position>,
    most: usize,
    until: Instant,
    found: Vec<Value>,
}

impl AccountWalk<'_> {
    /// Looks until the page is full; where it ended then.
    async fn run(&mut self) -> Result<Option<Position>, Fault> {
        let root = Path::of(&["c"]);
        for tenant in self.names(&root, &[]).await? {
            let users = root.child(&tenant);
            for user in self.names(&users, &[&tenant]).await? {
                if let Some(last) = self.user(&users.child(&user), (&tenant, &user)).await? {
                    return Ok(Some(last));
                }
            }
        }
        Ok(None)
    }

    async fn user(&mut self, folder: &Path, (tenant, user): (&str, &str)) -> Result<Option<Position>, Fault> {
        for connection in self.names(folder, &[tenant, user]).await? {
            let owner = AccountOwner {
                tenant: tenant.into(),
                user: user.into(),
                connection: connection.into(),
            };
            if let Some(last) = self.owner(&owner).await? {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// The names in a folder that the walk has still to look at, in order.
    async fn names(&self, folder: &Path, before: &[&str]) -> Result<Vec<String>, Fault> {
        let mut names = self.manager.names_in(folder).await?;
        if let Some(after) = &self.after {
            names.retain(|name| !after.is_past(&[before, &[name.as_str()]].concat()));
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn owner(&mut self, owner: &AccountOwner) -> Result<Option<Position>, Fault> {
        let rows = match self.manager.stored_accounts(owner).await {
            Ok(accounts) => accounts
                .iter()
                .map(|it| (it.id.to_string(), it.to_json()))
                .collect(),
            Err(fault) if fault.kind == Kind::Corrupt => self.unreadable(owner).await?,
            Err(fault) => return Err(fault),
        };
        let (tenant, user, connection) = (&*owner.tenant, &*owner.user, &*owner.connection);
        for (account, row) in rows {
            let own = [tenant, user, connection, &account];
            let position = Position(tenant.into(), user.into(), connection.into(), account.clone());
            if self
                .after
                .as_ref()
                .is_some_and(|after| *after == position || after.is_past(&own))
            {
                continue;
            }
            for provider in providers(self.manager, &owner.connection) {
                let mut row = document(row.clone(), &provider);
                if let Some(row) = row.as_object_mut() {
                    row.insert("tenant".to_owned(), json!(tenant));
                    row.insert("user".to_owned(), json!(user));
                }
                self.found.push(row);
            }
            if self.found.len() >= self.most || Instant::now() >= self.until {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// The accounts of an owner of whom a record cannot be read: it has to be removed and connected again.
    async fn unreadable(&self, owner: &AccountOwner) -> Result<Vec<(String, Value)>, Fault> {
        let mut names = self.manager.names_in(&Path::accounts(owner)).await?;
        names.sort_unstable();
        let row = |name: String| {
            let row = json!({
                "accountId": name, "label": name, "state": "needs_reauth", "reason": "unreadable", "default": false,
            });
            (name, row)
        };
        Ok(names.into_iter().map(row).collect())
    }
}
