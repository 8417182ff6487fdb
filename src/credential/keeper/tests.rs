//! What the keeper hands out, over a store in memory and an authorization server in process.

mod machines;
mod refreshing;
pub(in crate::credential) mod world;

use std::sync::Arc;
use std::time::Duration;

use super::{Reason, Refused, What};
use crate::credential::record::AccountState;
use crate::credential::vault::Path;
use world::{WITHIN, World, bearer, named};

#[tokio::test(start_paused = true)]
async fn what_is_connected_is_granted_and_at_hand_from_then_on() {
    let world = World::new();
    assert!(world.keeper.at_hand(&world.ask(None)).is_none());
    let mut told = world.keeper.watch();
    world.connect("ann").await;
    assert_eq!(told.recv().await.unwrap().what, What::Connected);
    let granted = world.keeper.grant(&world.ask(None), WITHIN).await.unwrap();
    assert_eq!(&*granted.account, "ann");
    assert_eq!(bearer(&granted.signature.now()), "Bearer access-ann-1");
    let at_hand = world.keeper.at_hand(&world.ask(None)).unwrap();
    assert!(Arc::ptr_eq(&granted.signature, &at_hand.signature));
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_the_accounts_of_another_tenant() {
    let world = World::new();
    world.connect("ann").await;
    let other: Arc<str> = "other".into();
    let mut ask = world.ask(None);
    ask.tenant = &other;
    let refused = world.keeper.grant(&ask, WITHIN).await.unwrap_err();
    assert!(
        matches!(&refused, Refused::NotConnected { reason: Reason::NeverConnected, accounts, .. } if accounts.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn several_accounts_and_no_default_are_ambiguous_until_one_is_chosen() {
    let world = World::new();
    world.connect("ann").await;
    world.connect("bob").await;
    let refused = world.keeper.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(matches!(&refused, Refused::Ambiguous { accounts } if accounts.len() == 2));
    assert!(world.keeper.choose(&world.key("bob")).await.unwrap());
    assert_eq!(world.granted(None).await, "bob");
    assert!(world.keeper.choose(&world.key("ann")).await.unwrap());
    assert_eq!(world.granted(None).await, "ann");
    assert!(!world.keeper.choose(&world.key("eve")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_call_decides_before_the_session_and_the_session_before_the_user() {
    let world = World::new();
    for account in ["ann", "bob", "cid"] {
        world.connect(account).await;
    }
    world.keeper.choose(&world.key("cid")).await.unwrap();
    let mut ask = world.ask(Some("ann"));
    ask.remembered = Some("bob");
    assert_eq!(&*world.keeper.grant(&ask, WITHIN).await.unwrap().account, "ann");
    ask.account = None;
    assert_eq!(&*world.keeper.grant(&ask, WITHIN).await.unwrap().account, "bob");
    ask.remembered = Some("gone");
    assert_eq!(&*world.keeper.grant(&ask, WITHIN).await.unwrap().account, "cid");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_named_account_is_not_connected_and_the_others_are_listed() {
    let world = World::new();
    world.connect("ann").await;
    let refused = world
        .keeper
        .grant(&world.ask(Some("eve")), WITHIN)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Refused::NotConnected { wanted: Some(wanted), accounts, .. }
            if wanted == "eve" && named(accounts) == ["ann"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_replica_reads_the_store_again_before_it_says_not_connected() {
    let world = World::new();
    world.keeper.grant(&world.ask(None), WITHIN).await.unwrap_err();
    world.beside().connect("ann").await;
    assert_eq!(world.granted(None).await, "ann");
}

#[tokio::test(start_paused = true)]
async fn revoking_tells_the_provider_and_removes_the_record() {
    let world = World::new();
    world.connect("ann").await;
    let granted = world.keeper.grant(&world.ask(None), WITHIN).await.unwrap();
    assert!(world.keeper.revoke(&world.key("ann")).await.unwrap());
    assert_eq!(
        world
            .keeper
            .vault()
            .read(&Path::account(&world.key("ann")))
            .await
            .unwrap(),
        None
    );
    assert!(world.keeper.at_hand(&world.ask(None)).is_none());
    assert!(granted.signature.ready().await.is_err() && granted.signature.now().headers.is_empty());
    assert!(!world.keeper.revoke(&world.key("ann")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_elsewhere_is_seen_within_thirty_seconds_of_use() {
    let world = World::new();
    world.connect("ann").await;
    world.granted(None).await;
    world.beside().keeper.revoke(&world.key("ann")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(world.keeper.at_hand(&world.ask(None)).is_none());
    assert!(world.keeper.grant(&world.ask(None), WITHIN).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_wins_with_a_new_grant_and_keeps_the_default() {
    let world = World::new();
    world.connect("ann").await;
    world.connect("bob").await;
    world.keeper.choose(&world.key("ann")).await.unwrap();
    let before = world.keeper.record(&world.key("ann")).await.unwrap().unwrap();
    let first = world.keeper.grant(&world.ask(None), WITHIN).await.unwrap();
    world.connect("ann").await;
    let after = world.keeper.record(&world.key("ann")).await.unwrap().unwrap();
    assert!(after.grant_id != before.grant_id && after.chosen == before.chosen);
    let second = world.keeper.grant(&world.ask(None), WITHIN).await.unwrap();
    assert_ne!(first.signature.account, second.signature.account);
}

#[tokio::test(start_paused = true)]
async fn accounts_are_told_with_state_default_and_without_secrets() {
    let world = World::new();
    world.connect("ann").await;
    let accounts = world.keeper.accounts(&world.key("ann").owner).await.unwrap();
    assert_eq!(accounts[0].state, AccountState::Ok);
    assert!(accounts[0].is_default);
    assert!(!accounts[0].told().to_string().contains("access-ann"));
    let all = world.keeper.all(&world.tenant, &world.user).await.unwrap();
    assert_eq!(all, [(Arc::clone(&world.connection.name), accounts[0].clone())]);
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_changed_is_seen_as_soon_as_it_is_told() {
    let (here, there) = {
        let world = World::new();
        let beside = world.beside();
        (world, beside)
    };
    let key = here.key("ann");
    here.connect("ann").await;
    there.granted(None).await;
    here.keeper.refresh(&key, true).await.unwrap();
    let mut told = there.keeper.watch();
    there.keeper.changed_elsewhere(&key, What::Renewed).await;
    let renewed = there.keeper.at_hand(&there.ask(None)).unwrap();
    assert_eq!(bearer(&renewed.signature.now()), "Bearer access-2");
    let heard = told.recv().await.unwrap();
    assert!(heard.elsewhere && heard.what == What::Renewed);
    here.keeper.revoke(&key).await.unwrap();
    // Even when the store cannot be read.
    there
        .store
        .reads_fail
        .store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
    there.keeper.changed_elsewhere(&key, What::Revoked).await;
    assert!(there.keeper.at_hand(&there.ask(None)).is_none());
    assert!(renewed.signature.ready().await.is_err() && renewed.signature.now().headers.is_empty());
}

#[derive(Debug, Default)]
struct Told(parking_lot::Mutex<Vec<(String, What)>>);

impl super::Replicas for Told {
    fn tell(&self, key: &crate::credential::Key, what: What) {
        self.0.lock().push((key.account.to_string(), what));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_changes_an_account_here_is_told_to_the_others_and_what_they_told_is_not() {
    let world = World::new();
    let told = Arc::new(Told::default());
    world.keeper.tell_through(Arc::<Told>::clone(&told));
    let key = world.key("ann");
    world.connect("ann").await;
    world.keeper.choose(&key).await.unwrap();
    world.keeper.refresh(&key, true).await.unwrap();
    world.keeper.changed_elsewhere(&key, What::Chosen).await;
    world.server.withdraw();
    world.keeper.refresh(&key, true).await.unwrap();
    world.keeper.revoke(&key).await.unwrap();
    let expected = [
        What::Connected,
        What::Chosen,
        What::Renewed,
        What::Ended,
        What::Revoked,
    ];
    assert_eq!(*told.0.lock(), expected.map(|what| ("ann".to_owned(), what)));
}

#[tokio::test(start_paused = true)]
async fn a_second_consent_without_a_refresh_token_keeps_the_first_ones() {
    let again = |subject: Option<&str>, client: &str| {
        let (subject, client) = (subject.map(str::to_owned), client.to_owned());
        async move {
            let world = World::new();
            world.connect("ann").await;
            let before = world.stored("ann").await.tokens.refresh;
            let mut new = world::record("ann", "", world.keeper.clock.unix());
            new.tokens.refresh = None;
            new.subject = subject;
            new.source.client.id = client;
            world.keeper.connect(&world.key("ann"), new).await.unwrap();
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
    let world = World::new();
    world.connect("ann").await;
    world.server.withdraw();
    world.keeper.refresh(&world.key("ann"), true).await.unwrap();
    let mut new = world::record("ann", "", world.keeper.clock.unix());
    new.tokens.refresh = None;
    world.keeper.connect(&world.key("ann"), new).await.unwrap();
    assert_eq!(world.stored("ann").await.tokens.refresh, None);
}

#[tokio::test(start_paused = true)]
async fn what_an_account_lacks_is_what_was_not_granted() {
    let world = World::new();
    world.connect("ann").await;
    let of = |scopes: &[&str]| scopes.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let key = world.key("ann");
    for (wanted, missing, is_new) in [
        (of(&["read"]), of(&[]), false),
        (of(&["read", "admin"]), of(&["admin"]), true),
        (of(&[]), of(&[]), false),
    ] {
        let it = world.keeper.missing_scopes(&key, &wanted).await.unwrap();
        assert_eq!((it.scopes, it.is_new), (missing, is_new), "{wanted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_never_taken_is_told_as_such_and_one_that_was_is_not() {
    for taken in [false, true] {
        let world = World::new();
        let mut bare = world::record("ann", "", world.keeper.clock.unix());
        bare.tokens.refresh = None;
        world.keeper.connect(&world.key("ann"), bare).await.unwrap();
        let granted = world.keeper.grant(&world.ask(None), WITHIN).await.unwrap();
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
    use crate::credential::oauth::challenge;
    let world = World::new();
    world.connect("ann").await;
    let signature = world
        .keeper
        .grant(&world.ask(None), WITHIN)
        .await
        .unwrap()
        .signature;
    let said = |scope: &str| {
        challenge(
            403,
            Some(&format!("Bearer error=insufficient_scope, scope=\"{scope}\"")),
        )
    };
    assert!(!signature.may_help(&said("read")), "it is not due");
    tokio::time::sleep(Duration::from_secs(world::LIFE - 300)).await;
    assert!(signature.may_help(&said("read")));
    assert!(!signature.may_help(&said("read admin")) && !signature.may_help(&challenge(403, None)));
    assert!(signature.may_help(&challenge(403, Some("Bearer error=\"invalid_token\""))));
    assert!(!signature.may_help(&challenge(
        401,
        Some("Bearer error=\"insufficient_scope\", scope=admin")
    )));
}
