//! Everybody's accounts, as operators list them.

use serde_json::{Value, json};

use super::world::{ManagerWorld, record};
use crate::all_accounts::{MOST, USUAL, Unlisted, page};
use crate::vault::Path;
use crate::{AccountKey, AccountOwner};
use pleiades_core::{secret::Secret, time::unix_now};

fn owner(tenant: &str, user: &str) -> AccountOwner {
    AccountOwner {
        tenant: tenant.into(),
        user: user.into(),
        connection: "mail".into(),
    }
}

async fn connect(world: &ManagerWorld, (tenant, user, account): (&str, &str, &str)) {
    let key = AccountKey {
        owner: owner(tenant, user),
        account: account.into(),
    };
    let record = record(account, "refresh", unix_now());
    world.manager.connect(&key, record).await.unwrap();
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// Every row, read with so many on a page, by another process.
async fn listed(world: &ManagerWorld, most: usize) -> Vec<Value> {
    let beside = world.beside();
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = page(&beside.manager, after.as_deref(), most).await.unwrap();
        assert!(page.accounts.len() <= most);
        rows.extend(page.accounts);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

#[tokio::test]
async fn every_account_is_on_one_page_and_never_a_secret() {
    let world = ManagerWorld::new();
    let users = ["acme/ann", "acme/bob", "b/ann", "acm/ann"];
    for (tenant, user) in users.map(|it| it.split_once('/').unwrap()) {
        connect(&world, (tenant, user, "work")).await;
        connect(&world, (tenant, user, "home")).await;
    }
    let mut expected: Vec<String> = users
        .iter()
        .flat_map(|user| [format!("{user}/home"), format!("{user}/work")])
        .collect();
    expected.sort();
    for most in [1, 3, 5, MOST] {
        let rows = listed(&world, most).await;
        let of = |row: &Value| {
            ["tenant", "user", "accountId"]
                .map(|name| text(row, name))
                .join("/")
        };
        assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), expected, "{most}");
        for row in &rows {
            assert_eq!((&row["provider"], &row["state"]), (&json!("mail"), &json!("ok")));
            assert_eq!(row["default"], row["accountId"] == "work", "{row}");
            assert!(!row.to_string().contains("access-") && !row.to_string().contains("refresh"));
        }
    }
    let wrong = page(&world.manager, Some("x"), 1).await;
    assert!(matches!(wrong, Err(Unlisted::Position)));
}

#[tokio::test]
async fn an_account_that_cannot_be_read_is_listed_and_hides_no_other() {
    let world = ManagerWorld::new();
    connect(&world, ("acme", "ann", "work")).await;
    connect(&world, ("acme", "bob", "work")).await;
    let path = Path::accounts(&owner("acme", "ann")).child("torn");
    let torn = Secret::new("{");
    world.manager.vault().write(&path, 0, &torn, None).await.unwrap();
    let rows = listed(&world, USUAL).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(
        (&rows[0]["accountId"], &rows[0]["reason"]),
        (&json!("torn"), &json!("unreadable"))
    );
    assert_eq!(
        (&rows[2]["user"], &rows[2]["state"]),
        (&json!("bob"), &json!("ok"))
    );
}
