use std::sync::atomic::AtomicU32;

use super::*;

pub(crate) fn key(account: u8) -> PoolKey {
    holder(0, account)
}

fn holder(digest: u8, account: u8) -> PoolKey {
    PoolKey {
        endpoint: [digest; 32],
        tenant: None,
        user: None,
        account: Some([account; 32]),
        revision: None,
        abilities: ClientCapabilities::NONE,
    }
}

#[derive(Default)]
struct Thing {
    ended: AtomicU32,
    dead: AtomicBool,
}

impl Pooled for Thing {
    fn end(self: &Arc<Self>) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }
}

const IDLE: Duration = Duration::from_secs(300);

fn pool(total: usize, holder: usize) -> Pool<Thing> {
    Pool::new(PoolLimits { total, holder })
}

async fn take(pool: &Pool<Thing>, key: &PoolKey) -> PoolLease<Thing> {
    pool.lease(key, IDLE, async { Ok(Arc::default()) })
        .await
        .ok()
        .unwrap()
}

fn ended(thing: &Thing) -> u32 {
    thing.ended.load(Ordering::SeqCst)
}

#[tokio::test]
async fn many_who_ask_at_once_get_one_member() {
    let pool = pool(10, 10);
    let made = AtomicU32::new(0);
    let key = key(1);
    let all = (0..20).map(|_| {
        pool.lease(&key, IDLE, async {
            made.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Arc::default())
        })
    });
    let leases = futures_util::future::join_all(all).await;
    assert!(leases.iter().all(Result::is_ok));
    assert_eq!((made.load(Ordering::SeqCst), pool.len()), (1, 1));
}

#[tokio::test]
async fn a_failed_start_leaves_nothing_behind() {
    let pool = pool(10, 10);
    let failed = pool
        .lease(&key(1), IDLE, async { Err(Error::new(Code::Internal, "no")) })
        .await;
    assert!(failed.is_err());
    assert!(pool.slots.lock().is_empty());
}

#[tokio::test]
async fn a_retired_member_ends_when_its_last_call_is_done() {
    let pool = pool(10, 10);
    let lease = take(&pool, &key(1)).await;
    let thing = Arc::clone(&lease);
    pool.retire(&[0; 32]);
    assert_eq!((ended(&thing), pool.len()), (0, 0));
    drop(lease);
    assert_eq!(ended(&thing), 1);
}

#[tokio::test]
async fn an_idle_member_ends_and_one_in_use_does_not() {
    let pool = pool(10, 10);
    let used = take(&pool, &key(1)).await;
    let idle = Arc::clone(&*take(&pool, &key(2)).await);
    pool.reap(Instant::now());
    assert_eq!(pool.len(), 2);
    pool.reap(Instant::now() + IDLE);
    assert_eq!((pool.len(), ended(&idle), ended(&used)), (1, 1, 0));
}

#[tokio::test]
async fn a_full_pool_evicts_what_was_used_longest_ago_and_refuses_when_all_is_in_use() {
    let pool = pool(2, 2);
    let first = Arc::clone(&*take(&pool, &holder(1, 1)).await);
    let second = take(&pool, &holder(2, 1)).await;
    let third = take(&pool, &holder(3, 1)).await;
    assert_eq!((ended(&first), pool.len()), (1, 2));
    let refused = pool
        .lease(&holder(4, 1), IDLE, async { Ok(Arc::default()) })
        .await;
    assert_eq!(refused.err().unwrap().code, Code::Busy);
    drop((second, third));
}

#[tokio::test]
async fn a_holder_that_changes_its_key_evicts_only_its_own() {
    let pool = pool(100, 2);
    let other = Arc::clone(&*take(&pool, &holder(9, 1)).await);
    for account in 0..10 {
        drop(take(&pool, &holder(1, account)).await);
    }
    assert_eq!((ended(&other), pool.len()), (0, 3));
}

#[tokio::test]
async fn a_dead_member_is_replaced() {
    let pool = pool(10, 10);
    let first = take(&pool, &key(1)).await;
    first.dead.store(true, Ordering::SeqCst);
    assert!(pool.ready(&key(1)).is_none());
    let second = take(&pool, &key(1)).await;
    assert!(!Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn discarding_an_old_member_spares_the_newer_one() {
    let pool = pool(10, 10);
    let old = take(&pool, &key(1)).await;
    pool.discard(&key(1), &old);
    let new = take(&pool, &key(1)).await;
    pool.discard(&key(1), &old);
    assert!(Arc::ptr_eq(&new, &*pool.ready(&key(1)).unwrap()));
}
