use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use url::Url;

use super::*;
use crate::access::Grants;
use crate::credential::connection::{Connection, Connections, Grant, Resource};
use crate::credential::keeper;
use crate::credential::vault::memory::Memory;
use crate::credential::vault::{Path, Vault};
use crate::credential::{Reach, Unreached, Web};
use crate::telemetry::Metrics;

const ISSUER: &str = "https://auth.example";

/// An authorization server that does what it is asked.
#[derive(Debug, Default)]
struct Server {
    redeemed: AtomicUsize,
    registered: AtomicUsize,
}

#[async_trait::async_trait]
impl Web for Server {
    async fn send(
        &self,
        _reach: &Reach,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Bytes>, Unreached> {
        let said = match request.uri().path() {
            "/.well-known/oauth-authorization-server" => format!(
                r#"{{"issuer":"{ISSUER}","authorization_endpoint":"{ISSUER}/authorize","token_endpoint":"{ISSUER}/token",
                "registration_endpoint":"{ISSUER}/register","code_challenge_methods_supported":["S256"],
                "response_types_supported":["code"],"authorization_response_iss_parameter_supported":true}}"#
            ),
            "/register" => {
                let number = self.registered.fetch_add(1, Ordering::Relaxed);
                format!(r#"{{"client_id":"client-{number}","token_endpoint_auth_method":"none"}}"#)
            }
            "/token" => {
                self.redeemed.fetch_add(1, Ordering::Relaxed);
                r#"{"access_token":"access","token_type":"Bearer","expires_in":60}"#.to_owned()
            }
            _ => return Ok(http::Response::builder().status(404).body(Bytes::new()).unwrap()),
        };
        let response = http::Response::builder()
            .status(200)
            .header("content-type", "application/json");
        Ok(response.body(Bytes::from(said)).unwrap())
    }
}

#[derive(Debug)]
struct Loaded(Arc<Connection>);

impl Connections for Loaded {
    fn of(&self, connection: &str) -> Vec<Arc<Connection>> {
        let own = (*self.0.name == *connection).then(|| Arc::clone(&self.0));
        own.into_iter().collect()
    }

    fn provider(&self, provider: &str) -> Option<Arc<Connection>> {
        (*self.0.provider == *provider).then(|| Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl Prober for Silent {
    async fn challenge(&self, _provider: &str) -> Option<Challenge> {
        None
    }
}

fn connection(connect_url: Option<&str>) -> Connection {
    Connection {
        name: "tracker".into(),
        provider: "tracker".into(),
        title: "Tracker".to_owned(),
        grant: Grant::AuthorizationCode,
        upstream: Url::parse("https://mcp.example/mcp").unwrap(),
        reach: Reach::default(),
        client_id: None,
        client_secret: None,
        private_key: None,
        scopes: Some(vec!["read".to_owned()]),
        authorization_endpoint: None,
        token_endpoint: None,
        revocation_endpoint: None,
        issuer: Some(ISSUER.to_owned()),
        token_auth: None,
        pkce: true,
        audience: None,
        resource: Resource::Off,
        parameters: BTreeMap::new(),
        connect_url: connect_url.map(|url| Url::parse(url).unwrap()),
        lead: Duration::ZERO,
        attempts: 1,
    }
}

struct World {
    vault: Arc<Memory>,
    web: Arc<Server>,
    sealer: Arc<Sealer>,
}

impl World {
    fn new() -> Self {
        Self {
            vault: Arc::default(),
            web: Arc::default(),
            sealer: Arc::new(Sealer::new(&[Secret::new("key")])),
        }
    }

    /// One more replica.
    fn broker(&self, connect_url: Option<&str>, link_ttl: u64) -> Arc<Broker> {
        let keeper = Keeper::new(keeper::Parts {
            vault: Arc::<Memory>::clone(&self.vault),
            web: Arc::<Server>::clone(&self.web),
            metrics: Metrics::new(),
            control: Handle::current(),
        });
        keeper.begin(Arc::new(Loaded(Arc::new(connection(connect_url)))));
        let access = Access::new(Grants {
            local: ada(),
            is_local_named: false,
            callers: Vec::new(),
            operators: Vec::new(),
            is_admin_local: true,
        });
        Broker::new(Parts {
            keeper,
            sealer: Arc::clone(&self.sealer),
            prober: Arc::new(Silent),
            access: Arc::new(access.unwrap()),
            login: None,
            control: Handle::current(),
            base: Url::parse("https://gw.example").unwrap(),
            name: "pleiades".to_owned(),
            link_ttl: Duration::from_secs(link_ttl),
            pending_ttl: Duration::from_secs(600),
        })
    }

    async fn entries(&self) -> Vec<String> {
        self.vault.list(&Path::gateway(&["pending"])).await.unwrap()
    }
}

fn ada() -> Principal {
    Principal::new("acme", "ada")
}

fn wish() -> Wish {
    Wish {
        provider: "tracker".to_owned(),
        account: None,
        scopes: vec!["write".to_owned()],
        reason: "never_connected".to_owned(),
    }
}

fn opened(broker: &Broker, link: &Link) -> Opened {
    broker.open(link.url.rsplit('/').next().unwrap()).unwrap()
}

/// The callback that a begun flow's answer would be, and its cookie.
fn answer(begun: &Begun) -> (Callback, String) {
    let state = begun.url.query_pairs().find(|(key, _)| key == "state").unwrap();
    let query = format!("code=c&state={}&iss=https%3A%2F%2Fauth.example", state.1);
    let (name, cookie) = begun.cookie.as_ref().unwrap();
    let callback = Callback::read(&query).unwrap();
    assert_eq!(callback.cookie_name(), *name);
    (callback, cookie.expose().to_owned())
}

#[tokio::test]
async fn a_link_says_whose_it_is_to_nobody_and_needs_no_store() {
    let world = World::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &wish());
    assert!(link.url.starts_with("https://gw.example/oauth/connect/"));
    assert_eq!(
        link.scopes.as_deref(),
        Some(&["read".to_owned(), "write".to_owned()][..])
    );
    for part in ["ada", "acme", "tracker"] {
        assert!(!link.url.contains(part));
    }
    let opened = opened(&broker, &link);
    assert_eq!((opened.principal, opened.wish), (ada(), wish()));
    assert!(world.entries().await.is_empty());
    // An id of a connection is no link, nor the other way round.
    assert!(broker.open(&link.id).is_err());
    let token = link.url.rsplit('/').next().unwrap();
    assert!(broker.standing(&ada(), token).await.unwrap().is_none());
}

#[tokio::test]
async fn a_connection_is_nobody_elses() {
    let world = World::new();
    let broker = world.broker(None, 60);
    let id = broker.link(&ada(), &wish()).id;
    let mine = broker.standing(&ada(), &id).await.unwrap().unwrap();
    assert_eq!((mine.state, mine.provider.as_str()), ("pending", "tracker"));
    for other in [
        Principal::new("acme", "bob"),
        Principal::new("other", "ada"),
        Principal::new("acm", "e/ada"),
    ] {
        assert!(broker.standing(&other, &id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_link_that_is_over_says_so() {
    let world = World::new();
    let broker = world.broker(None, 0);
    let link = broker.link(&ada(), &wish());
    let refusal = broker.open(link.url.rsplit('/').next().unwrap()).unwrap_err();
    assert_eq!(refusal.ground, Ground::Gone);
    let standing = broker.standing(&ada(), &link.id).await.unwrap().unwrap();
    assert_eq!(standing.state, "expired");
}

#[tokio::test]
async fn a_flow_that_runs_elsewhere_is_linked_to_with_nothing_added() {
    let world = World::new();
    let broker = world.broker(Some("https://portal.example/connect?x=1"), 60);
    let link = broker.link(&ada(), &wish());
    assert_eq!(link.url, "https://portal.example/connect?x=1");
    assert!(!link.id.is_empty());
}

#[tokio::test]
async fn of_two_replicas_that_take_one_answer_one_redeems_it() {
    let world = World::new();
    let (one, two) = (world.broker(None, 60), world.broker(None, 60));
    let link = one.link(&ada(), &wish());
    let begun = one.begin(&opened(&two, &link), Back::Here).await.unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = one.redirect(None);
    let (first, second) = tokio::join!(
        one.finish(callback.clone(), Some(&cookie), &redirect),
        two.finish(callback, Some(&cookie), &redirect)
    );
    assert!(first.is_ok() != second.is_ok());
    assert_eq!(first.and(second).unwrap_err().ground, Ground::Gone);
    assert_eq!(world.web.redeemed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_at_the_wrong_door_or_without_its_cookie_redeems_nothing() {
    let world = World::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &wish());
    let begun = broker.begin(&opened(&broker, &link), Back::Here).await.unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = broker.redirect(None);
    for wrong in [None, Some("made-up"), Some("")] {
        let refused = broker.finish(callback.clone(), wrong, &redirect).await;
        assert_eq!(refused.unwrap_err().ground, Ground::Unproven);
    }
    let elsewhere = broker.redirect(Some("tracker"));
    let refused = broker.finish(callback.clone(), Some(&cookie), &elsewhere).await;
    assert_eq!(refused.unwrap_err().ground, Ground::Malformed);
    assert!(broker.finish(callback, Some(&cookie), &redirect).await.is_err());
    assert_eq!(world.web.redeemed.load(Ordering::Relaxed), 0);
    let standing = broker.standing(&ada(), &link.id).await.unwrap().unwrap();
    assert_eq!(standing.state, "failed");
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_stored_all_the_same() {
    let world = World::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &wish());
    let begun = broker.begin(&opened(&broker, &link), Back::Here).await.unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = broker.redirect(None);
    {
        let mut finish = Box::pin(broker.finish(callback, Some(&cookie), &redirect));
        // As far as the first await: then the browser is gone.
        assert!(futures_util::poll!(&mut finish).is_pending());
    }
    broker.settled().await;
    let standing = broker.standing(&ada(), &link.id).await.unwrap().unwrap();
    assert_eq!(standing.state, "connected");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_at_once_here_and_soon_elsewhere() {
    let world = World::new();
    let (one, two) = (world.broker(None, 60), world.broker(None, 60));
    let link = one.link(&ada(), &wish());
    let begun = one.begin(&opened(&one, &link), Back::Here).await.unwrap();
    let waiting = [Arc::clone(&one), Arc::clone(&two)].map(|broker| {
        let id = link.id.clone();
        tokio::spawn(async move { broker.wait(&ada(), &id, Duration::from_secs(30)).await })
    });
    tokio::task::yield_now().await;
    let (callback, cookie) = answer(&begun);
    let redirect = one.redirect(None);
    one.finish(callback, Some(&cookie), &redirect).await.unwrap();
    for waiting in waiting {
        let standing = waiting.await.unwrap().unwrap().unwrap();
        assert_eq!(standing.state, "connected");
        assert!(standing.account.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_that_it_is_pending() {
    let world = World::new();
    let broker = world.broker(None, 600);
    let id = broker.link(&ada(), &wish()).id;
    let standing = broker.wait(&ada(), &id, Duration::from_secs(5)).await;
    assert_eq!(standing.unwrap().unwrap().state, "pending");
}

#[tokio::test]
async fn flows_share_one_registration_but_for_those_of_a_process() {
    let world = World::new();
    let (one, two) = (world.broker(None, 60), world.broker(None, 60));
    for broker in [&one, &two, &one] {
        let link = broker.link(&ada(), &wish());
        broker.begin(&opened(broker, &link), Back::Here).await.unwrap();
    }
    assert_eq!(world.web.registered.load(Ordering::Relaxed), 1);
    let opening = one.opening(&ada(), &wish());
    let begun = one.begin(&opening, Back::Loopback(4711)).await.unwrap();
    assert_eq!(world.web.registered.load(Ordering::Relaxed), 2);
    let redirect = Back::Loopback(4711).redirect().unwrap();
    let asked = begun.url.query_pairs().find(|(key, _)| key == "redirect_uri");
    assert_eq!(asked.unwrap().1, redirect);
    let (callback, cookie) = answer(&begun);
    // The public listener of a server beside does not take it.
    let refused = two.finish(callback.clone(), None, &two.redirect(None)).await;
    assert_eq!(refused.unwrap_err().ground, Ground::Unproven);
    assert!(one.finish(callback, Some(&cookie), &redirect).await.is_ok());
}

#[tokio::test]
async fn what_is_still_good_is_not_tidied_away() {
    let world = World::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &wish());
    broker.begin(&opened(&broker, &link), Back::Here).await.unwrap();
    assert_eq!(world.entries().await.len(), 2, "the flow and its standing");
    broker.sweep().await.unwrap();
    assert_eq!(world.entries().await.len(), 2);
    let old = Path::gateway(&["pending", "s-old"]);
    let value = Secret::new(r#"{"until":1,"stage":"used"}"#);
    world.vault.write(&old, 0, &value, None).await.unwrap();
    broker.sweep().await.unwrap();
    assert_eq!(world.entries().await.len(), 2);
}
