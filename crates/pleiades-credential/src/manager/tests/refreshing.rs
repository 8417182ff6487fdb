//! Renewal end to end: rounds driven against a store and a server that rotates without grace.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::super::{GrantError, Reason, RefreshOutcome};
use super::world::{BadAnswer, LIFE, ManagerWorld, WITHIN, bearer, record};
use crate::record::{AccountState, EndReason, RefreshLease};
use crate::vault::{Path, Vault};
use pleiades_core::error::Code;

const A_LIFE: Duration = Duration::from_secs(LIFE);

async fn expired() -> ManagerWorld {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    sleep(A_LIFE).await;
    world
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_renewed_once_for_all_who_wait() {
    let world = expired().await;
    let ask = world.ask(None);
    let granted = join_all((0..20).map(|_| world.manager.grant(&ask, WITHIN))).await;
    for granted in granted {
        assert_eq!(bearer(&granted.unwrap().signature.now()), "Bearer access-2");
    }
    assert_eq!(world.server.brought().len(), 1);
    assert_eq!(world.stored("ann").await.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn any_number_of_replicas_redeem_each_token_once() {
    let first = ManagerWorld::new();
    let replicas = [first.beside(), first.beside(), first.beside()];
    let names: Vec<String> = (0..50).map(|at| format!("user{at}")).collect();
    for name in &names {
        first.connect(name).await;
    }
    sleep(A_LIFE).await;
    let keys: Vec<_> = names.iter().map(|name| first.key(name)).collect();
    let all = replicas
        .iter()
        .flat_map(|it| keys.iter().map(|key| it.manager.refresh(key, false)));
    for refreshed in join_all(all).await {
        let outcome = refreshed.unwrap().unwrap().outcome;
        assert!(
            matches!(outcome, RefreshOutcome::Refreshed | RefreshOutcome::NotDue),
            "{outcome:?}"
        );
    }
    let mut brought = first.server.brought();
    brought.sort();
    brought.dedup();
    assert_eq!((brought.len(), first.server.brought().len()), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_is_renewed_ahead_of_its_end() {
    let world = ManagerWorld::new().begun();
    world.connect("ann").await;
    world.granted(None).await;
    sleep(A_LIFE - Duration::from_secs(400)).await;
    assert_eq!(world.stored("ann").await.seq, 2);
    let at_hand = world
        .manager
        .grant_cached(&world.ask(None))
        .map(|it| bearer(&it.signature.now()));
    assert!(at_hand.is_none_or(|bearer| bearer == "Bearer access-2"));
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_renews_what_nobody_uses() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let other = world.beside().begun();
    sleep(A_LIFE - Duration::from_secs(300)).await;
    assert_eq!(other.stored("ann").await.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_401_the_token_is_renewed_once_and_then_the_provider_is_not_believed() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let signature = world
        .manager
        .grant(&world.ask(None), WITHIN)
        .await
        .unwrap()
        .signature;
    let all = join_all((0..9).map(|_| signature.refused(1))).await;
    for signed in all {
        assert_eq!(bearer(&signed.unwrap().unwrap()), "Bearer access-2");
    }
    assert_eq!(world.server.brought().len(), 1);
    let again = signature.refused(2).await.unwrap_err();
    assert_eq!(
        (again.code, world.server.brought().len()),
        (Code::UpstreamAuth, 1)
    );
    assert!(world.manager.grant_cached(&world.ask(None)).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_401_to_a_renewed_token_that_was_taken_before_is_news() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    for seq in 1..5 {
        let signed = granted.signature.refused(seq).await.unwrap().unwrap();
        assert_eq!(signed.seq, seq + 1);
        granted.signature.accepted(signed.seq);
    }
    assert_eq!(world.server.brought().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_renewed_is_used_even_when_a_renewal_did_not_help() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    granted.signature.refused(1).await.unwrap();
    world
        .beside()
        .manager
        .refresh(&world.key("ann"), true)
        .await
        .unwrap();
    let signed = granted.signature.refused(2).await.unwrap().unwrap();
    assert_eq!((signed.seq, world.server.brought().len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn after_a_401_a_newer_token_of_the_store_is_used() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let signature = world
        .manager
        .grant(&world.ask(None), WITHIN)
        .await
        .unwrap()
        .signature;
    world
        .beside()
        .manager
        .refresh(&world.key("ann"), true)
        .await
        .unwrap();
    let signed = signature.refused(1).await.unwrap().unwrap();
    assert_eq!((signed.seq, world.server.brought().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_grant_is_expired_and_nothing_is_deleted() {
    let world = expired().await;
    world.server.withdraw();
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(
        matches!(&refused, GrantError::Expired { account, reason: Reason::Refused, .. } if &**account == "ann"),
        "{refused:?}"
    );
    let stored = world.stored("ann").await;
    assert_eq!((stored.ended, stored.seq), (Some(EndReason::Refused), 1));
    let accounts = world.manager.accounts(&world.key("ann").owner).await.unwrap();
    assert_eq!(accounts[0].state, AccountState::NeedsReauth);
    world.connect("ann").await;
    assert_eq!(world.granted(None).await, "ann");
}

#[tokio::test(start_paused = true)]
async fn an_ended_grant_serves_until_its_access_token_ends() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.server.withdraw();
    let refreshed = world
        .manager
        .refresh(&world.key("ann"), true)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(refreshed.outcome, RefreshOutcome::NeedsReauth);
    assert_eq!(world.granted(None).await, "ann");
    sleep(A_LIFE).await;
    assert!(world.manager.grant(&world.ask(None), WITHIN).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn transient_faults_are_tried_three_times_in_a_round() {
    let world = expired().await;
    *world.server.next.lock() = vec![BadAnswer::Unreached, BadAnswer::Unavailable];
    assert_eq!(world.granted(None).await, "ann");
    assert_eq!(world.stored("ann").await.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn three_failed_rounds_are_unhealthy_and_the_first_good_one_mends_it() {
    let world = expired().await;
    *world.server.next.lock() = vec![BadAnswer::Unavailable; 9];
    for _ in 0..3 {
        let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
        assert!(matches!(refused, GrantError::Waiting { .. }), "{refused:?}");
        sleep(Duration::from_secs(30)).await;
    }
    let accounts = world.manager.accounts(&world.key("ann").owner).await.unwrap();
    assert_eq!(accounts[0].state, AccountState::Unhealthy);
    assert_eq!(world.granted(None).await, "ann");
    assert_eq!(world.stored("ann").await.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_loses_no_token() {
    let world = expired().await;
    *world.server.takes.lock() = Duration::from_secs(5);
    let refused = world
        .manager
        .grant(&world.ask(None), Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(refused, GrantError::Waiting { .. }));
    world.manager.shut_down().await;
    assert_eq!(world.stored("ann").await.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn renewed_tokens_are_stored_although_the_store_was_away() {
    let world = expired().await;
    *world.server.takes.lock() = Duration::from_secs(5);
    let ask = world.ask(None);
    let grant = world.manager.grant(&ask, Duration::from_secs(60));
    let spoil = async {
        sleep(Duration::from_secs(2)).await;
        world.store.writes_fail.store(4, Relaxed);
        world.store.reads_fail.store(4, Relaxed);
    };
    let (granted, ()) = tokio::join!(grant, spoil);
    // Nobody is kept waiting for a store that is away; what is in hand is stored all the same.
    assert!(matches!(granted.unwrap_err(), GrantError::Unavailable { .. }));
    let mut granted = None;
    while granted.is_none() {
        sleep(Duration::from_secs(1)).await;
        granted = world.manager.grant(&ask, Duration::from_secs(60)).await.ok();
    }
    assert_eq!(bearer(&granted.unwrap().signature.now()), "Bearer access-2");
    assert_eq!(
        (world.server.brought().len(), world.stored("ann").await.seq),
        (1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_redemption_is_replayed_when_its_lease_is_dead() {
    let world = expired().await;
    let (version, mut dead) = world
        .manager
        .records
        .read(&world.key("ann"))
        .await
        .unwrap()
        .unwrap();
    dead.lease = Some(RefreshLease {
        nonce: "dead".to_owned(),
        ttl: 60,
        replay: false,
    });
    world
        .manager
        .records
        .write(&world.key("ann"), version, &dead)
        .await
        .unwrap();
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(matches!(refused, GrantError::Waiting { .. }), "{refused:?}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.granted(None).await, "ann");
    assert_eq!(world.server.brought().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_a_server_without_grace_was_interrupted() {
    let world = expired().await;
    *world.server.next.lock() = vec![BadAnswer::Lost];
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(
        matches!(
            refused,
            GrantError::Expired {
                reason: Reason::Interrupted,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_stops_no_valid_token_and_opens_nothing_else() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.granted(None).await;
    world.store.reads_fail.store(u32::MAX, Relaxed);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.granted(None).await, "ann");
    assert!(
        world.manager.grant_cached(&world.ask(None)).is_some(),
        "left alone for a moment"
    );
    let unknown = world
        .manager
        .grant(&world.ask(Some("bob")), WITHIN)
        .await
        .unwrap_err();
    assert!(matches!(unknown, GrantError::Unavailable { .. }), "{unknown:?}");
    sleep(A_LIFE).await;
    let over = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(matches!(over, GrantError::Unavailable { .. }), "{over:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_at_hand_costs_no_request_to_the_store() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.granted(None).await;
    let before = world.store.asked.load(Relaxed);
    for _ in 0..100 {
        world
            .manager
            .grant_cached(&world.ask(None))
            .unwrap()
            .signature
            .ready()
            .await
            .unwrap();
    }
    assert_eq!(world.store.asked.load(Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn without_a_refresh_token_an_ended_access_token_is_expired() {
    let world = ManagerWorld::new();
    let now = world.manager.clock.unix();
    let mut bare = record("ann", "", now);
    bare.tokens.refresh = None;
    world.manager.connect(&world.key("ann"), bare).await.unwrap();
    assert_eq!(world.granted(None).await, "ann");
    sleep(A_LIFE).await;
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(
        matches!(
            refused,
            GrantError::Expired {
                reason: Reason::NoRefresh,
                cause: None,
                ..
            }
        ),
        "{refused:?}"
    );
    let error = refused.error(&world.connection, "as `accountId`").data.unwrap();
    assert_eq!(error["reason"], "refused");
    assert!(
        error["detail"].as_str().unwrap().contains("no refresh token"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refresh_on_demand_answers_its_outcome_and_when_the_next_is_due() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let key = world.key("ann");
    assert_eq!(
        world.manager.refresh(&world.key("eve"), false).await.unwrap(),
        None
    );
    let idle = world.manager.refresh(&key, false).await.unwrap().unwrap();
    assert_eq!(idle.outcome, RefreshOutcome::NotDue);
    let expires = world.stored("ann").await.tokens.expires_at.unwrap();
    assert_eq!(idle.next_at, Some(expires - 600));
    let forced = world.manager.refresh(&key, true).await.unwrap().unwrap();
    assert_eq!(forced.outcome, RefreshOutcome::Refreshed);
}

#[tokio::test(start_paused = true)]
async fn refreshes_states_and_the_soonest_expiry_are_metrics() {
    let world = expired().await;
    world.connect("bob").await;
    world.granted(Some("ann")).await;
    world.manager.publish();
    let text = world.metrics.render();
    for line in [
        r#"pleiades_token_refresh_total{outcome="refreshed",provider="mail"} 1"#,
        r#"pleiades_credential_state{provider="mail",state="ok"} 2"#,
        r#"pleiades_credential_expiry_seconds{provider="mail"} 3"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("access-"));
}

#[tokio::test(start_paused = true)]
async fn both_tokens_are_revoked_at_the_provider() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let stored = world.stored("ann").await;
    world.manager.revoke(&world.key("ann")).await.unwrap();
    assert!(world.server.is_revoked(stored.tokens.access.expose()));
    assert!(world.server.is_revoked(stored.tokens.refresh.unwrap().expose()));
}

#[tokio::test(start_paused = true)]
async fn an_account_revoked_while_it_is_renewed_stays_revoked_and_its_new_tokens_are_given_back() {
    let world = expired().await;
    let other = world.beside();
    *world.server.takes.lock() = Duration::from_secs(5);
    let key = world.key("ann");
    let (refreshed, revoked) = tokio::join!(world.manager.refresh(&key, false), async {
        sleep(Duration::from_secs(1)).await;
        let path = Path::account(&other.key("ann"));
        world.store.remove(&path).await
    });
    revoked.unwrap();
    assert_eq!(refreshed.unwrap(), None);
    world.manager.shut_down().await;
    assert!(world.server.is_revoked("refresh-2"));
}

#[tokio::test(start_paused = true)]
async fn a_token_in_its_last_seconds_is_used_while_the_store_is_away() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.granted(None).await;
    sleep(Duration::from_millis(LIFE * 1_000 - 2_000)).await;
    for left in [&world.store.reads_fail, &world.store.writes_fail] {
        left.store(u32::MAX, Relaxed);
    }
    let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    let signed = granted.signature.ready().await.unwrap();
    assert_eq!(bearer(&signed), "Bearer access-ann-1");
    sleep(Duration::from_secs(3)).await;
    let over = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(matches!(over, GrantError::Unavailable { .. }), "{over:?}");
    assert!(granted.signature.ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_caller_hurried_for_a_token_that_ends_meanwhile_still_has_its_whole_bound() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    world.granted(None).await;
    *world.server.takes.lock() = Duration::from_secs(4);
    // The renewal takes longer than half of what is left, and the request is sent after its end.
    sleep(Duration::from_millis(LIFE * 1_000 - 2_000)).await;
    let granted = world.manager.grant(&world.ask(None), WITHIN).await.unwrap();
    assert_eq!(bearer(&granted.signature.now()), "Bearer access-ann-1");
    sleep(Duration::from_millis(1_999)).await;
    let signed = granted.signature.ready().await.unwrap();
    assert_eq!(bearer(&signed), "Bearer access-2");
    assert_eq!(world.server.brought().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_knows_asks_the_person_at_once_and_deletes_nothing() {
    for (spoilt, words) in [
        (BadAnswer::Refuses("invalid_request"), "`invalid_request`"),
        (
            BadAnswer::Refuses("interaction_required"),
            "`interaction_required`",
        ),
        (BadAnswer::Refuses("unauthorized"), "`unauthorized`"),
        (BadAnswer::Says(403, "<html>"), "403"),
        (BadAnswer::Says(404, ""), "404"),
        (BadAnswer::Says(400, "no"), "(no)"),
        (BadAnswer::Says(200, r#"{"ok":false,"message":"over"}"#), "(over)"),
    ] {
        let world = expired().await;
        *world.server.next.lock() = vec![spoilt; 2];
        let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
        let GrantError::Expired {
            reason: Reason::Unrenewed,
            cause: Some(cause),
            ..
        } = &refused
        else {
            panic!("{spoilt:?}: {refused:?}");
        };
        assert!(cause.contains(words), "{spoilt:?}: {cause}");
        let error = refused.error(&world.connection, "as `accountId`");
        assert_eq!(
            (error.code, &error.data.unwrap()["reason"]),
            (Code::TokenExpired, &"refused".into())
        );
        let stored = world.stored("ann").await;
        assert_eq!((stored.ended, stored.seq, stored.lease), (None, 1, None));
        assert!(stored.tokens.refresh.is_some() && stored.refusal.is_some());
        let accounts = world.manager.accounts(&world.key("ann").owner).await.unwrap();
        assert_eq!(
            (accounts[0].state, accounts[0].reason.as_deref()),
            (AccountState::NeedsReauth, Some("refused"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_knows_is_asked_about_again_less_and_less_often() {
    let world = expired().await;
    *world.server.next.lock() = vec![BadAnswer::Refuses("access_denied"); 100];
    let ask = world.ask(None);
    for _ in 0..600 {
        let refused = world.manager.grant(&ask, WITHIN).await.unwrap_err();
        assert!(matches!(refused, GrantError::Expired { .. }), "{refused:?}");
        sleep(Duration::from_secs(1)).await;
    }
    let asked = world.server.forms.lock().len();
    assert!((5..=12).contains(&asked), "{asked} requests in ten minutes");
    world.server.next.lock().clear();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.granted(None).await, "ann");
    let stored = world.stored("ann").await;
    assert_eq!((stored.refusal, stored.failures, stored.seq), (None, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ahead_of_the_end_lets_the_access_token_serve_and_mends_itself() {
    let world = ManagerWorld::new().begun();
    world.connect("ann").await;
    world.granted(None).await;
    *world.server.next.lock() = vec![BadAnswer::Says(403, "<html>robot?</html>"); 2];
    sleep(A_LIFE - Duration::from_secs(430)).await;
    assert_eq!(world.granted(None).await, "ann");
    sleep(Duration::from_secs(300)).await;
    let stored = world.stored("ann").await;
    assert_eq!(
        (stored.seq, stored.refusal),
        (2, None),
        "asked again in the background"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_wins_over_a_refusal_that_nobody_knows() {
    let world = expired().await;
    *world.server.next.lock() = vec![BadAnswer::Refuses("invalid_request"); 2];
    world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    world.connect("ann").await;
    assert_eq!(world.granted(None).await, "ann");
    assert_eq!(world.stored("ann").await.refusal, None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_knows_after_a_lost_answer_was_interrupted() {
    let world = expired().await;
    *world.server.next.lock() = vec![
        BadAnswer::Refuses("invalid_request"),
        BadAnswer::Refuses("invalid_request"),
        BadAnswer::Lost,
    ];
    let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
    assert!(
        matches!(
            &refused,
            GrantError::Expired {
                reason: Reason::Interrupted,
                cause: Some(_),
                ..
            }
        ),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_401_to_a_token_that_cannot_be_renewed_asks_the_person() {
    let world = ManagerWorld::new();
    world.connect("ann").await;
    let signature = world
        .manager
        .grant(&world.ask(None), WITHIN)
        .await
        .unwrap()
        .signature;
    *world.server.next.lock() = vec![BadAnswer::Refuses("invalid_token"); 2];
    let error = signature.refused(1).await.unwrap_err();
    assert_eq!(error.code, Code::TokenExpired);
    assert!(
        error.data.unwrap()["detail"]
            .as_str()
            .unwrap()
            .contains("`invalid_token`")
    );
}

#[tokio::test(start_paused = true)]
async fn transient_faults_say_why_and_name_no_address() {
    for (spoilt, words) in [
        (BadAnswer::Unavailable, "status 503"),
        (BadAnswer::Unreached, "its authorization server cannot be reached"),
        (
            BadAnswer::Refuses("temporarily_unavailable"),
            "`temporarily_unavailable`",
        ),
    ] {
        let world = expired().await;
        *world.server.next.lock() = vec![spoilt; 3];
        let refused = world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
        let error = refused.error(&world.connection, "as `accountId`");
        assert_eq!(error.code, Code::CredentialTimeout);
        assert!(
            error.message.contains(words) && !error.message.contains("gone"),
            "{}",
            error.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_a_renewal_may_not_name_is_left_out_and_stays_left_out() {
    let world = expired().await;
    *world.server.next.lock() = vec![BadAnswer::Without("scope")];
    assert_eq!(world.granted(None).await, "ann");
    sleep(A_LIFE).await;
    assert_eq!(world.granted(None).await, "ann");
    let named: Vec<bool> = world
        .server
        .forms
        .lock()
        .iter()
        .map(|form| form.contains_key("scope"))
        .collect();
    assert_eq!(named, [true, false, false]);
    assert_eq!(world.stored("ann").await.granted, Some(vec!["read".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_refused_scope_is_no_reason_to_ask_again_for_a_grant_that_is_over() {
    for error in ["invalid_grant", "invalid_client", "interaction_required"] {
        let world = expired().await;
        *world.server.next.lock() = vec![BadAnswer::Refuses(error)];
        world.manager.grant(&world.ask(None), WITHIN).await.unwrap_err();
        assert_eq!(world.server.forms.lock().len(), 1, "{error}");
    }
}
