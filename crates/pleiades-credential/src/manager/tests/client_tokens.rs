//! Tokens of client credentials.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::world::{BadAnswer, LIFE, ManagerWorld, bearer};
use crate::connection::{Connection, GrantType};
use crate::signature::ClientCredentialsTokens;
use pleiades_core::error::Code;
use pleiades_core::secret::Secret;
use pleiades_core::signature::Signature;

fn machine(world: &ManagerWorld) -> Arc<Signature> {
    let endpoint = |path: &str| Some(format!("https://as.example/{path}").parse().unwrap());
    let connection = Connection {
        grant: GrantType::ClientCredentials,
        client_id: Some("us".to_owned()),
        client_secret: Some(Secret::new("hush")),
        authorization_endpoint: endpoint("authorize"),
        token_endpoint: endpoint("token"),
        ..Connection::clone(&world.connection)
    };
    world.manager.signature(&Arc::new(connection))
}

#[tokio::test(start_paused = true)]
async fn one_token_is_had_for_all_callers_and_renewed_ahead_of_its_end() {
    let world = ManagerWorld::new();
    let signature = machine(&world);
    assert!(signature.now().headers.is_empty());
    for signed in join_all((0..9).map(|_| signature.ready())).await {
        assert_eq!(bearer(&signed.unwrap()), "Bearer machine-1");
    }
    sleep(Duration::from_secs(LIFE - 300)).await;
    assert_eq!(bearer(&signature.ready().await.unwrap()), "Bearer machine-1");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bearer(&signature.ready().await.unwrap()), "Bearer machine-2");
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_keeps_the_token() {
    let world = ManagerWorld::new();
    machine(&world).ready().await.unwrap();
    assert_eq!(bearer(&machine(&world).now()), "Bearer machine-1");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_replaced_once_and_then_the_provider_is_not_believed() {
    let world = ManagerWorld::new();
    let signature = machine(&world);
    signature.ready().await.unwrap();
    let signed = signature.refused(1).await.unwrap().unwrap();
    assert_eq!(bearer(&signed), "Bearer machine-2");
    let again = signature.refused(2).await.unwrap_err();
    assert_eq!(again.code, Code::UpstreamAuth);
    assert_eq!(bearer(&signature.ready().await.unwrap()), "Bearer machine-2");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_that_was_taken_before_is_replaced_again() {
    let world = ManagerWorld::new();
    let signature = machine(&world);
    signature.ready().await.unwrap();
    for seq in 1..4 {
        let signed = signature.refused(seq).await.unwrap().unwrap();
        assert_eq!(signed.seq, seq + 1);
        signature.accepted(signed.seq);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_again_with_back_off() {
    let world = ManagerWorld::new();
    let signature = machine(&world);
    *world.server.next.lock() = vec![BadAnswer::Unavailable];
    assert_eq!(signature.ready().await.unwrap_err().code, Code::CredentialTimeout);
    *world.server.next.lock() = vec![BadAnswer::Unavailable];
    assert_eq!(signature.ready().await.unwrap_err().code, Code::CredentialTimeout);
    assert_eq!(world.server.next.lock().len(), 1, "not asked at once");
    world.server.next.lock().clear();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bearer(&signature.ready().await.unwrap()), "Bearer machine-1");
}
