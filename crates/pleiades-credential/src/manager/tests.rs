//! What the credential manager hands out, over a store in memory and an authorization server in process.

mod client_tokens;
mod listing;
mod refreshing;
pub(crate) mod world;

use std::sync::Arc;
use std::time::Duration;

use super::{AccountEventKind, GrantError, Reason};
use crate::record::AccountState;
use crate::vault::Path;
use world::{ManagerWorld, WITHIN, bearer, named};

#[tokio::test(start_paused = true)]
async fn what_is_connected_is_granted_and_at_hand_from_then_on() {
    let world = ManagerWorld::new();
    assert!(world.manager.grant_cached(&world.ask(None)).is_none());
    let mut events = world.manager.subscribe();
    world.connect("ann").await;
    assert_eq!(events.recv().await.unwrap().kind, AccountEventKind::Connected);
    let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    assert_eq!(&*granted.account, "ann");
    assert_eq!(bearer(&granted.signature.now()), "Bearer access-ann-1");
    let at_hand = world.manager.grant_cached(&world.ask(None)).unwrap();
    assert!(Arc::ptr_eq(&granted.signature, &at_hand.signature));
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_the_accounts_of_another_tenant() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let other: Arc<str> = "other".into();
    let mut ask = world.ask(None);
    ask.tenant = &other;
    let refused = world.manager.grant(&ask, WITHIN).await.unwrap_err();
    assert!(
        matches!(&refused, GrantError::NotConnected { reason: Reason::NeverConnected, accounts, .. } if accounts.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_account_stays_the_default_until_its_user_chooses() {
    let world = ManagerWorld::new();
    let owner = world.key("ann").owner;
    world.connect("bob").await;
    assert!(!world.manager.choose_none(&owner).await.unwrap(), "there is one");
    // By name it comes before.
    world.connect("ann").await;
    assert_eq!(world.granted(None).await, "bob");
    world.connect("bob").await;
    assert_eq!(world.granted(None).await, "bob", "connected again");
    assert!(world.manager.choose(&world.key("ann")).await.unwrap());
    assert_eq!(world.granted(None).await, "ann");
    assert!(!world.manager.choose(&world.key("eve")).await.unwrap());
    assert!(world.manager.choose_none(&owner).await.unwrap());
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(matches!(&refused, GrantError::Ambiguous { accounts } if named(accounts) == ["ann", "bob"]));
    let beside = world.beside();
    let refused = beside.manager.grant(&beside.ask(None), WITHIN).await;
    assert!(
        matches!(refused, Err(GrantError::Ambiguous { .. })),
        "another replica"
    );
    assert!(world.manager.choose(&world.key("bob")).await.unwrap());
    assert_eq!(world.granted(None).await, "bob");
}

#[tokio::test(start_paused = true)]
async fn none_is_the_default_only_among_those_of_which_that_was_said() {
    let world = ManagerWorld::new();
    for account in ["ann", "bob"] {
        world.connect(account).await;
    }
    assert!(world.manager.choose_none(&world.key("ann").owner).await.unwrap());
    world.manager.revoke(&world.key("ann")).await.unwrap();
    assert_eq!(world.granted(None).await, "bob");
    world.connect("cid").await;
    assert_eq!(world.granted(None).await, "bob", "it was used before");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_has_ended_is_replaced_by_one_that_works_unless_its_user_chose_it() {
    let world = ManagerWorld::new();
    for account in ["ann", "bob"] {
        world.connect(account).await;
    }
    world.server.withdraw();
    world.manager.refresh(&world.key("ann"), true).await.unwrap();
    assert_eq!(world.granted(None).await, "bob");
    world.connect("ann").await;
    assert_eq!(
        world.granted(None).await,
        "bob",
        "connecting takes the default from nobody"
    );
    world.manager.choose(&world.key("ann")).await.unwrap();
    world.server.withdraw();
    world.manager.refresh(&world.key("ann"), true).await.unwrap();
    tokio::time::sleep(Duration::from_secs(world::LIFE)).await;
    world.connect("bob").await;
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(matches!(&refused, GrantError::Expired { account, others, .. }
        if &**account == "ann" && named(others) == ["bob"]));
    let error = refused.error(&world.connection, "as `accountId`");
    assert!(
        error.message.contains("or name another as `accountId`: `bob`"),
        "{}",
        error.message
    );
    assert_eq!(error.data.unwrap()["accounts"][0]["accountId"], "bob");
}

#[tokio::test(start_paused = true)]
async fn records_of_earlier_releases_are_read_and_their_oldest_account_is_the_default() {
    let world = ManagerWorld::new();
    for (account, connected_at) in [("ann", 20), ("bob", 10)] {
        let mut record = world::record(account, "refresh", world.manager.clock.unix());
        record.connected_at = connected_at;
        record.grant_id = account.to_owned();
        let mut value = serde_json::to_value(&record).unwrap();
        for new in ["since", "none_chosen"] {
            assert!(value.as_object_mut().unwrap().remove(new).is_some());
        }
        let path = Path::account(&world.key(account));
        let value = pleiades_core::secret::Secret::new(value.to_string());
        world.manager.vault().write(&path, 0, &value, None).await.unwrap();
    }
    assert_eq!(world.granted(None).await, "bob");
    world.connect("cid").await;
    assert_eq!(world.granted(None).await, "bob");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_gone_was_revoked_and_not_never_connected() {
    let world = ManagerWorld::new();
    let reason = |refused: GrantError| match refused {
        GrantError::NotConnected { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    world.connect("ann").await;
    world.manager.revoke(&world.key("ann")).await.unwrap();
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert_eq!(reason(refused), Reason::Revoked);
    world.connect("bob").await;
    world.granted(None).await;
    world.beside().manager.revoke(&world.key("bob")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert_eq!(reason(refused), Reason::Revoked, "by another process");
    let beside = world.beside();
    let refused = beside.manager.grant(&beside.ask(None), WITHIN).await.unwrap_err();
    assert_eq!(reason(refused), Reason::NeverConnected, "as far as it knows");
}

#[tokio::test(start_paused = true)]
async fn the_call_decides_before_the_session_and_the_session_before_the_user() {
    let world = ManagerWorld::new();
    for account in ["ann", "bob", "cid"] {
        world.connect(account).await;
    }
    world.manager.choose(&world.key("cid")).await.unwrap();
    let mut ask = world.ask(Some("ann"));
    ask.remembered = Some("bob");
    assert_eq!(&*world.manager.grant(&ask, WITHIN).await.unwrap().account, "ann");
    ask.account = None;
    assert_eq!(&*world.manager.grant(&ask, WITHIN).await.unwrap().account, "bob");
    ask.remembered = Some("gone");
    assert_eq!(&*world.manager.grant(&ask, WITHIN).await.unwrap().account, "cid");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_named_account_is_not_connected_and_the_others_are_listed() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let refused = world
        .manager
        .grant(&world.ask(Some("eve")), WITHIN)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, GrantError::NotConnected { wanted: Some(wanted), accounts, .. }
            if wanted == "eve" && named(accounts) == ["ann"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_replica_reads_the_store_again_before_it_says_not_connected() {
    let world = ManagerWorld::new();
    world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    world.beside().connect("ann").await;
    assert_eq!(world.granted(None).await, "ann");
}

#[tokio::test(start_paused = true)]
async fn revoking_tells_the_provider_and_removes_the_record() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    assert!(world.manager.revoke(&world.key("ann")).await.unwrap());
    assert_eq!(
        world
            .manager
            .vault()
            .read(&Path::account(&world.key("ann")))
            .await
            .unwrap(),
        None
    );
    assert!(world.manager.grant_cached(&world.ask(None)).is_none());
    assert!(granted.signature.ready().await.is_err() && granted.signature.now().headers.is_empty());
    assert!(!world.manager.revoke(&world.key("ann")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_elsewhere_is_seen_within_thirty_seconds_of_use() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.granted(None).await;
    world.beside().manager.revoke(&world.key("ann")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(world.manager.grant_cached(&world.ask(None)).is_none());
    assert!(world.manager.grant(&world.ask(None), WITHIN).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_wins_with_a_new_grant_and_keeps_the_default() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.connect("bob").await;
    world.manager.choose(&world.key("ann")).await.unwrap();
    let before = world.manager.record(&world.key("ann")).await.unwrap().unwrap();
    let first = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    world.connect("ann").await;
    let after = world.manager.record(&world.key("ann")).await.unwrap().unwrap();
    assert!(after.grant_id != before.grant_id && after.chosen == before.chosen);
    let second = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    assert_ne!(first.signature.account, second.signature.account);
}

#[tokio::test(start_paused = true)]
async fn accounts_show_state_and_default_and_no_secrets() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let accounts = world.manager.accounts(&world.key("ann").owner).await.unwrap();
    assert_eq!(accounts[0].state, AccountState::Ok);
    assert!(accounts[0].is_default);
    assert!(!accounts[0].to_json().to_string().contains("access-ann"));
    let all = world
        .manager
        .all_accounts(&world.tenant, &world.user)
        .await
        .unwrap();
    assert_eq!(all, [(Arc::clone(&world.connection.name), accounts[0].clone())]);
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_changed_is_seen_as_soon_as_it_is_announced() {
    let (here, there) = {
        let world = ManagerWorld::new();
        let beside = world.beside();
        (world, beside)
    };
    let key = here.key("ann");
    here.connect("ann").await;
    there.granted(None).await;
    here.manager.refresh(&key, true).await.unwrap();
    let mut events = there.manager.subscribe();
    there
        .manager
        .changed_elsewhere(&key, AccountEventKind::Renewed)
        .await;
    let renewed = there.manager.grant_cached(&there.ask(None)).unwrap();
    assert_eq!(bearer(&renewed.signature.now()), "Bearer access-2");
    let heard = events.recv().await.unwrap();
    assert!(heard.elsewhere && heard.kind == AccountEventKind::Renewed);
    here.manager.revoke(&key).await.unwrap();
    // Even when the store cannot be read.
    there
        .store
        .reads_fail
        .store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
    there
        .manager
        .changed_elsewhere(&key, AccountEventKind::Revoked)
        .await;
    assert!(there.manager.grant_cached(&there.ask(None)).is_none());
    assert!(renewed.signature.ready().await.is_err() && renewed.signature.now().headers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_process_changed_in_the_store_is_seen_however_young_what_is_known_is() {
    let here = ManagerWorld::new();
    let there = here.beside();
    let (ann, ben) = (here.key("ann"), here.key("ben"));
    here.connect("ann").await;
    there.granted(None).await;
    let mut events = there.manager.subscribe();
    here.connect("ben").await;
    here.manager.choose(&ben).await.unwrap();
    there.manager.changed_in_store(&ann.owner).await.unwrap();
    let used = there.manager.grant_cached(&there.ask(None)).unwrap();
    assert_eq!(&*used.account, "ben");
    here.manager.revoke(&ben).await.unwrap();
    there.manager.changed_in_store(&ann.owner).await.unwrap();
    let used = there.manager.grant_cached(&there.ask(None)).unwrap();
    assert_eq!(&*used.account, "ann");
    let mut heard = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert!(event.elsewhere);
        heard.push((event.key.account.to_string(), event.kind));
    }
    let expected = [
        ("ben", AccountEventKind::Connected),
        ("ben", AccountEventKind::Chosen),
        ("ben", AccountEventKind::Revoked),
        ("ann", AccountEventKind::Chosen),
    ];
    assert_eq!(heard, expected.map(|(account, kind)| (account.to_owned(), kind)));
}

#[derive(Debug, Default)]
struct NotifiedReplicas(parking_lot::Mutex<Vec<(String, AccountEventKind)>>);

impl super::Replicas for NotifiedReplicas {
    fn notify(&self, key: &crate::AccountKey, what: AccountEventKind) {
        self.0.lock().push((key.account.to_string(), what));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_changes_an_account_here_is_announced_to_the_others_and_what_they_announced_is_not() {
    let world = ManagerWorld::new();
    let events = Arc::new(NotifiedReplicas::default());
    world
        .manager
        .notify_through(Arc::<NotifiedReplicas>::clone(&events));
    let key = world.key("ann");
    world.connect("ann").await;
    world.manager.choose(&key).await.unwrap();
    world.manager.refresh(&key, true).await.unwrap();
    world
        .manager
        .changed_elsewhere(&key, AccountEventKind::Chosen)
        .await;
    world.server.withdraw();
    world.manager.refresh(&key, true).await.unwrap();
    world.manager.revoke(&key).await.unwrap();
    let expected = [
        AccountEventKind::Connected,
        AccountEventKind::Chosen,
        AccountEventKind::Renewed,
        AccountEventKind::Ended,
        AccountEventKind::Revoked,
    ];
    assert_eq!(*events.0.lock(), expected.map(|what| ("ann".to_owned(), what)));
}

#[tokio::test(start_paused = true)]
async fn a_second_consent_without_a_refresh_token_keeps_the_first_ones() {
    let again = |subject: Option<&str>, client: &str| {
        let (subject, client) = (subject.map(str::to_owned), client.to_owned());
        async move {
            let world = ManagerWorld::new();
            world.connect("ann").await;
            let before = world.stored("ann").await.tokens.refresh;
            let mut new = world::record("ann", "", world.manager.clock.unix());
            new.tokens.refresh = None;
            new.subject = subject;
            new.source.client.id = client;
            world.manager.connect(&world.key("ann"), new).await.unwrap();
            let after = world.stored("ann").await.tokens.refresh;
            assert!(before.is_some() && (after.is_none() || after == before));
            after.is_some()
        }
    };
    assert!(again(Some("sub-ann"), "us").await);
    assert!(!again(Some("sub-bob"), "us").await, "another person");
    assert!(!again(None, "us").await, "perhaps another person");
    assert!(!again(Some("sub-ann"), "others").await, "another client");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_has_ended_is_not_kept() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.server.withdraw();
    world.manager.refresh(&world.key("ann"), true).await.unwrap();
    let mut new = world::record("ann", "", world.manager.clock.unix());
    new.tokens.refresh = None;
    world.manager.connect(&world.key("ann"), new).await.unwrap();
    assert_eq!(world.stored("ann").await.tokens.refresh, None);
}

#[tokio::test(start_paused = true)]
async fn what_an_account_lacks_is_what_was_not_granted() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let of = |scopes: &[&str]| scopes.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let key = world.key("ann");
    for (wanted, missing, is_new) in [
        (of(&["read"]), of(&[]), false),
        (of(&["read", "admin"]), of(&["admin"]), true),
        (of(&[]), of(&[]), false),
    ] {
        let it = world.manager.missing_scopes(&key, &wanted).await.unwrap();
        assert_eq!((it.scopes, it.is_new), (missing, is_new), "{wanted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_never_accepted_is_named_as_such_and_one_that_was_is_not() {
    for taken in [false, true] {
        let world = ManagerWorld::new();
        let mut bare = world::record("ann", "", world.manager.clock.unix());
        bare.tokens.refresh = None;
        world.manager.connect(&world.key("ann"), bare).await.unwrap();
        let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
        if taken {
            granted.signature.taken(1);
        }
        let error = granted.signature.refused(1).await.unwrap_err();
        let detail = error.data.unwrap()["detail"].as_str().unwrap().to_owned();
        assert_eq!(detail.contains("another audience"), !taken, "{detail}");
        assert_eq!(detail.contains("no refresh token"), taken, "{detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_granted_and_refused_mean_an_old_token_where_it_is_due() {
    use crate::oauth::challenge;
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let signature = world
        .manager
        .grant(&world.ask(None), WITHIN)
        .await
        .unwrap()
        .signature;
    let challenged = |scope: &str| {
        challenge(
            403,
            Some(&format!("Bearer error=insufficient_scope, scope=\"{scope}\"")),
        )
    };
    assert!(!signature.may_help(&challenged("read")), "it is not due");
    tokio::time::sleep(Duration::from_secs(world::LIFE - 300)).await;
    assert!(signature.may_help(&challenged("read")));
    assert!(!signature.may_help(&challenged("read admin")) && !signature.may_help(&challenge(403, None)));
    assert!(signature.may_help(&challenge(403, Some("Bearer error=\"invalid_token\""))));
    assert!(!signature.may_help(&challenge(
        401,
        Some("Bearer error=\"insufficient_scope\", scope=admin")
    )));
}
