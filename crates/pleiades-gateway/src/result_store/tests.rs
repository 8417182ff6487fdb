//! Both stores against a simple model, over replicas that share a store which may be away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::advance;

use super::cache::CacheLookup;
use super::*;
use crate::shared_state::{EntriesAway, EntryAddress, EntryStamp, Retention};
use pleiades_credential::access::Principal;
use pleiades_mcp::{RawObject, Revision};

const TTL: Duration = Duration::from_secs(60);

/// What replicas share, in memory.
#[derive(Debug, Default)]
struct CommonStore {
    is_away: AtomicBool,
    changes: AtomicU64,
    values: Mutex<HashMap<String, Arc<[u8]>>>,
    stamps: Mutex<HashMap<String, u64>>,
}

impl CommonStore {
    fn check(&self) -> Result<(), EntriesAway> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(EntriesAway),
            false => Ok(()),
        }
    }

    fn name(address: &EntryAddress<'_>) -> String {
        format!("{}|{}|{}", address.purpose, address.owner, address.id)
    }
}

#[async_trait]
impl SharedResults for CommonStore {
    fn is_configured(&self) -> bool {
        true
    }

    async fn entry(&self, address: EntryAddress<'_>) -> Result<Option<Vec<u8>>, EntriesAway> {
        self.check()?;
        Ok(self
            .values
            .lock()
            .get(&Self::name(&address))
            .map(|it| it.to_vec()))
    }

    async fn stamped_entry(
        &self,
        owner: &str,
        address: Option<EntryAddress<'_>>,
    ) -> Result<(EntryStamp, Option<Vec<u8>>), EntriesAway> {
        self.check()?;
        let stamp = self.stamps.lock().get(owner).copied().unwrap_or(0);
        let value = match address {
            Some(address) => self.entry(address).await?,
            None => None,
        };
        Ok((EntryStamp::of(&stamp.to_be_bytes()), value))
    }

    async fn advance(&self, owner: &str) {
        let change = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        self.stamps.lock().insert(owner.to_owned(), change);
    }

    async fn put(&self, address: EntryAddress<'_>, _: Retention<'_>, value: Arc<[u8]>) {
        if self.check().is_ok() {
            self.values.lock().insert(Self::name(&address), value);
        }
    }
}

#[derive(Debug)]
struct Unshared;

#[async_trait]
impl SharedResults for Unshared {
    fn is_configured(&self) -> bool {
        false
    }

    async fn entry(&self, _: EntryAddress<'_>) -> Result<Option<Vec<u8>>, EntriesAway> {
        Err(EntriesAway)
    }

    async fn stamped_entry(
        &self,
        _: &str,
        _: Option<EntryAddress<'_>>,
    ) -> Result<(EntryStamp, Option<Vec<u8>>), EntriesAway> {
        Err(EntriesAway)
    }

    async fn advance(&self, _: &str) {}

    async fn put(&self, _: EntryAddress<'_>, _: Retention<'_>, _: Arc<[u8]>) {}
}

fn stores(shared: Arc<dyn SharedResults>) -> Arc<ResultStores> {
    ResultStores::new(&shared, &Metrics::new(), &Handle::current())
}

fn alone() -> Arc<ResultStores> {
    stores(Arc::new(Unshared))
}

fn owner(user: &str, provider: &str, account: Option<u8>) -> ResultOwner {
    let principal = Principal {
        tenant: "acme".into(),
        user: user.into(),
    };
    ResultOwner::new(&principal, scope(provider, account))
}

fn scope(provider: &str, account: Option<u8>) -> AccountScope {
    AccountScope::new(&provider.into(), account.map(|it| [it; 32]))
}

fn key(owner: ResultOwner, arguments: &str) -> CacheKey {
    key_under(owner, [0; 32], arguments)
}

fn key_under(owner: ResultOwner, generation: [u8; 32], arguments: &str) -> CacheKey {
    let arguments = serde_json::from_str(arguments).unwrap();
    CacheKey::new(owner, &generation, "list", arguments).unwrap()
}

fn result(text: &str) -> Arc<StoredResult> {
    let mut result = RawObject::new();
    result.put("text", text);
    Arc::new(StoredResult {
        tools: vec!["list".into()],
        named: None,
        account: None,
        fingerprint: None,
        budget: None,
        revision: Revision::V2025_11_25,
        result: Arc::new(result),
    })
}

fn text(stored: &StoredResult) -> String {
    stored.result.read("text").unwrap()
}

async fn kept(
    stores: &ResultStores,
    own: &ResultOwner,
    stored: Arc<StoredResult>,
    keep_for: Duration,
) -> String {
    let handle = stores.handles.reserve(&stored).expect("room");
    assert!(stores.handles.keep(own, &handle, &stored, keep_for).await);
    handle
}

async fn found(stores: &ResultStores, own: &ResultOwner, handle: &str) -> Option<String> {
    Some(text(&stores.handles.find(own, handle).await?.0))
}

async fn looked(stores: &ResultStores, key: CacheKey) -> Option<String> {
    match stores.cache.look_up(key, false).await {
        CacheLookup::Hit(stored, _) => Some(text(&stored)),
        CacheLookup::Miss(_) => None,
    }
}

async fn ticket(stores: &ResultStores, key: CacheKey, fresh: bool) -> Option<CacheTicket> {
    match stores.cache.look_up(key, fresh).await {
        CacheLookup::Hit(..) => None,
        CacheLookup::Miss(ticket) => ticket,
    }
}

async fn answered(stores: &ResultStores, key: CacheKey, answer: &str) {
    let ticket = ticket(stores, key, true).await.expect("a ticket");
    stores.cache.store(ticket, TTL, result(answer)).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_again_for_its_time_and_says_how_old_it_is() {
    let stores = alone();
    let key = || key(owner("ann", "mail", None), r#"{"a":1}"#);
    answered(&stores, key(), "one").await;
    advance(Duration::from_secs(12)).await;
    match stores.cache.look_up(key(), false).await {
        CacheLookup::Hit(stored, age) => {
            assert_eq!((text(&stored), age), ("one".to_owned(), Duration::from_secs(12)));
        }
        CacheLookup::Miss(_) => panic!("it is there"),
    }
    advance(Duration::from_secs(48)).await;
    assert_eq!(looked(&stores, key()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_answer_takes_the_place_of_the_kept_one() {
    let stores = alone();
    let key = || key(owner("ann", "mail", None), "{}");
    answered(&stores, key(), "one").await;
    answered(&stores, key(), "two").await;
    assert_eq!(looked(&stores, key()).await.as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn another_user_account_provider_descriptor_or_argument_has_another_answer() {
    let stores = alone();
    let own = || owner("ann", "mail", Some(1));
    answered(&stores, key(own(), r#"{"a":1,"b":2}"#), "own").await;
    for other in [
        key(owner("bob", "mail", Some(1)), r#"{"a":1,"b":2}"#),
        key(owner("ann", "mail", Some(2)), r#"{"a":1,"b":2}"#),
        key(owner("ann", "mail", None), r#"{"a":1,"b":2}"#),
        key(owner("ann", "wiki", Some(1)), r#"{"a":1,"b":2}"#),
        key(own(), r#"{"a":1,"b":"2"}"#),
        key_under(own(), [1; 32], r#"{"a":1,"b":2}"#),
    ] {
        assert_eq!(looked(&stores, other).await, None);
    }
    let same = key(own(), r#"{ "b": 2, "a": 1 }"#);
    assert_eq!(looked(&stores, same).await.as_deref(), Some("own"));
}

#[tokio::test(start_paused = true)]
async fn a_write_empties_its_account_at_its_provider_alone() {
    let stores = alone();
    let all = [
        ("ann", "mail", 1),
        ("ann", "mail", 2),
        ("ann", "wiki", 1),
        ("bob", "mail", 3),
    ];
    let of = |(user, provider, account): (&str, &str, u8)| key(owner(user, provider, Some(account)), "{}");
    for one in all {
        answered(&stores, of(one), "kept").await;
    }
    let write = stores.cache.begin_write(scope("mail", Some(1))).await;
    assert_eq!(looked(&stores, of(all[0])).await, None, "from its beginning on");
    write.end().await;
    for one in &all[1..] {
        assert_eq!(
            looked(&stores, of(*one)).await.as_deref(),
            Some("kept"),
            "{one:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_callers_are_signed_alike_a_write_of_one_is_one_for_all() {
    let stores = alone();
    answered(&stores, key(owner("bob", "mail", None), "{}"), "kept").await;
    stores.cache.begin_write(scope("mail", None)).await.end().await;
    assert_eq!(looked(&stores, key(owner("bob", "mail", None), "{}")).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_read_from_before_the_end_of_a_write_is_not_kept_however_they_overlap() {
    for (replicas, ends) in [(1, true), (1, false), (2, true), (2, false)] {
        let common: Arc<dyn SharedResults> = match replicas {
            1 => Arc::new(Unshared),
            _ => Arc::<CommonStore>::default(),
        };
        let writer = stores(Arc::clone(&common));
        let reader = match replicas {
            1 => Arc::clone(&writer),
            _ => stores(Arc::clone(&common)),
        };
        let own = || owner("ann", "mail", None);
        let before = ticket(&reader, key(own(), "{}"), false).await.unwrap();
        let write = writer.cache.begin_write(scope("mail", None)).await;
        let during = ticket(&reader, key(own(), "{}"), false).await.unwrap();
        reader.cache.store(before, TTL, result("before")).await;
        match ends {
            true => write.end().await,
            // Its caller left: what it did is as unknown as after a failure.
            false => drop(write),
        }
        tokio::task::yield_now().await;
        reader.cache.store(during, TTL, result("during")).await;
        for replica in [&reader, &writer] {
            assert_eq!(looked(replica, key(own(), "{}")).await, None, "{replicas} {ends}");
        }
        answered(&reader, key(own(), "{}"), "after").await;
        assert_eq!(looked(&writer, key(own(), "{}")).await.as_deref(), Some("after"));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_shared_store_is_away_nothing_comes_from_the_cache_or_is_kept_in_it() {
    let common = Arc::<CommonStore>::default();
    let shared: Arc<dyn SharedResults> = Arc::clone(&common) as _;
    let one = stores(shared);
    let key = || key(owner("ann", "mail", None), "{}");
    answered(&one, key(), "kept").await;
    common.is_away.store(true, Ordering::Relaxed);
    assert!(ticket(&one, key(), false).await.is_none());
    assert_eq!(looked(&one, key()).await, None);
    common.is_away.store(false, Ordering::Relaxed);
    assert_eq!(looked(&one, key()).await.as_deref(), Some("kept"));
}

#[tokio::test(start_paused = true)]
async fn a_handle_is_read_by_its_owner_alone_until_its_time_is_over() {
    let stores = alone();
    let own = owner("ann", "mail", Some(1));
    let handle = kept(&stores, &own, result("whole"), TTL).await;
    advance(Duration::from_secs(20)).await;
    let (_, left) = stores.handles.find(&own, &handle).await.unwrap();
    assert_eq!(left, Duration::from_secs(40));
    for other in [owner("bob", "mail", Some(1)), owner("ann", "wiki", Some(1))] {
        assert_eq!(found(&stores, &other, &handle).await, None);
    }
    assert_eq!(found(&stores, &own, "r_AAAAAAAAAAAAAAAAAAAAAA").await, None);
    advance(Duration::from_secs(40)).await;
    assert_eq!(found(&stores, &own, &handle).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_tenants_share_is_not_kept() {
    let stores = alone();
    let own = owner("ann", "mail", None);
    let large = result(&"x".repeat(64 << 20));
    assert!(stores.handles.reserve(&large).is_none());
    assert!(
        !stores
            .handles
            .keep(&own, "r_AAAAAAAAAAAAAAAAAAAAAA", &large, TTL)
            .await
    );
    let half = result(&"x".repeat(40 << 20));
    let first = kept(&stores, &own, Arc::clone(&half), TTL).await;
    let second = kept(&stores, &own, half, TTL).await;
    assert!(
        found(&stores, &own, &first).await.is_none(),
        "the older one made room"
    );
    assert!(found(&stores, &own, &second).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn another_replica_answers_a_handle_and_keeps_it_when_the_shared_store_goes_away() {
    let common = Arc::<CommonStore>::default();
    let [one, two] = [(); 2].map(|()| stores(Arc::clone(&common) as _));
    let own = owner("ann", "mail", None);
    let first = kept(&one, &own, result("first"), Duration::from_secs(600)).await;
    let second = kept(&one, &own, result("second"), Duration::from_secs(600)).await;
    assert_eq!(found(&two, &owner("bob", "mail", None), &first).await, None);
    assert_eq!(found(&two, &own, &first).await.as_deref(), Some("first"));
    common.is_away.store(true, Ordering::Relaxed);
    assert_eq!(found(&two, &own, &first).await.as_deref(), Some("first"));
    assert_eq!(found(&two, &own, &second).await, None);
    assert_eq!(found(&one, &own, &second).await.as_deref(), Some("second"));
}

/// Numbers that look random and are the same in each run.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth, MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Who calls, as the model knows it: user, provider, account.
type ModelOwner = (u64, u64, u64);

#[derive(Default)]
struct Model {
    /// What the provider would answer now, by provider and account.
    versions: BTreeMap<(u64, u64), u64>,
    handles: Vec<(ModelOwner, String, String)>,
    /// Reads under way: at which replica, whose, which arguments, what they will answer.
    reads: Vec<(usize, ModelOwner, u64, CacheTicket, String)>,
    writes: Vec<(ModelOwner, WriteGuard)>,
}

fn model_owner((user, provider, account): ModelOwner) -> ResultOwner {
    owner(
        &format!("user-{user}"),
        &format!("provider-{provider}"),
        Some(u8::try_from(account).unwrap()),
    )
}

impl Model {
    async fn step(&mut self, replicas: &[Arc<ResultStores>], chance: &mut Sequence) {
        let at = usize::try_from(chance.below(replicas.len() as u64)).unwrap();
        let own = (chance.below(2), chance.below(2), chance.below(2));
        let argument = chance.below(2);
        match chance.below(8) {
            0..=2 => self.read(&replicas[at], (at, own, argument)).await,
            3 if !self.reads.is_empty() => {
                let (at, own, argument, ticket, answer) = self.reads.swap_remove(at % self.reads.len());
                assert!(answer.starts_with(&format!("{own:?} {argument} ")));
                replicas[at].cache.store(ticket, TTL, result(&answer)).await;
            }
            4 => {
                let guard = replicas[at].cache.begin_write(model_owner(own).scope).await;
                self.writes.push((own, guard));
            }
            5 if !self.writes.is_empty() => {
                let (own, guard) = self.writes.swap_remove(at % self.writes.len());
                *self.versions.entry((own.1, own.2)).or_default() += 1;
                guard.end().await;
            }
            6 => {
                let whole = format!("{own:?} {}", self.handles.len());
                let handle = kept(&replicas[at], &model_owner(own), result(&whole), TTL).await;
                self.handles.push((own, handle, whole));
            }
            _ => self.look(&replicas[at], own, chance).await,
        }
    }

    /// A read of a caller: what is found is its own, and as new as the last write of its account.
    async fn read(&mut self, replica: &ResultStores, (at, own, argument): (usize, ModelOwner, u64)) {
        let version = self.versions.get(&(own.1, own.2)).copied().unwrap_or(0);
        let now = format!("{own:?} {argument} {version}");
        let key = key(model_owner(own), &format!(r#"{{"a":{argument}}}"#));
        match replica.cache.look_up(key, false).await {
            CacheLookup::Hit(stored, _) => assert_eq!(text(&stored), now),
            CacheLookup::Miss(ticket) => {
                let ticket = ticket.expect("the store is there");
                self.reads.push((at, own, argument, ticket, now));
            }
        }
    }

    /// A handle that anybody tries: it opens for its user at its provider.
    async fn look(&self, replica: &ResultStores, own: ModelOwner, chance: &mut Sequence) {
        let count = self.handles.len() as u64;
        if count == 0 {
            return;
        }
        let (of, handle, whole) = &self.handles[usize::try_from(chance.below(count)).unwrap()];
        let expected = ((of.0, of.1) == (own.0, own.1)).then(|| whole.clone());
        assert_eq!(
            found(replica, &model_owner(own), handle).await,
            expected,
            "{of:?} {own:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn two_users_of_a_tenant_never_share_an_entry_or_a_handle_in_any_order_of_calls() {
    for replicas in [1_usize, 3] {
        for seed in 0..40 {
            let common: Arc<dyn SharedResults> = match replicas {
                1 => Arc::new(Unshared),
                _ => Arc::<CommonStore>::default(),
            };
            let all: Vec<_> = (0..replicas).map(|_| stores(Arc::clone(&common))).collect();
            let (mut model, mut chance) = (Model::default(), Sequence(seed));
            for _ in 0..400 {
                model.step(&all, &mut chance).await;
            }
            assert!(model.handles.len() > 10 && !model.versions.is_empty());
        }
    }
}
