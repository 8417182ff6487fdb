use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

use super::*;
use crate::access::Grants;
use crate::connection::{Connection, Connections, GrantType, Pkce, ResourceParameter};
use crate::manager;
use crate::record::ClientAuth;
use crate::vault::tests::memory::MemoryVault;
use crate::vault::{Path, Vault};
use crate::{AddressPolicy, HttpClient, SendError};
use pleiades_core::telemetry::Metrics;

const ISSUER: &str = "https://auth.example";
/// Digest of a key of somebody with long names.
const LONG_KEY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// An authorization server that does what it is asked.
#[derive(Debug, Default)]
struct FakeAuthServer {
    redeemed: AtomicUsize,
    registered: AtomicUsize,
    /// Requests that it left without an answer.
    unanswered: AtomicUsize,
    /// What the token endpoint answers in the place of tokens: to codes, and of clients that it lost.
    refuses: Mutex<TokenRefusals>,
}

#[derive(Debug, Default)]
struct TokenRefusals {
    /// Clients that it has forgotten.
    lost: Vec<String>,
    /// Whether it looks at clients at all.
    is_blind: bool,
    /// Where its metadata lies and what it is called now; by default [`ISSUER`].
    moved: Option<&'static str>,
    /// Whether it answers nothing.
    is_silent: bool,
}

#[async_trait::async_trait]
impl HttpClient for FakeAuthServer {
    async fn send(
        &self,
        _reach: &AddressPolicy,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Bytes>, SendError> {
        if self.refuses.lock().is_silent {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return std::future::pending().await;
        }
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.body()).into_owned().collect();
        if request.uri().path() == "/token" {
            let refuses = self.refuses.lock();
            let client = form.get("client_id").map(String::as_str).unwrap_or_default();
            let is_known = client.starts_with("client-") && !refuses.lost.iter().any(|it| it == client)
                || client == "own";
            let is_made_up = form.get("code").is_some_and(|code| code != "c");
            let error = match (is_known || refuses.is_blind, is_made_up) {
                (false, _) => Some("invalid_client"),
                (true, true) => Some("invalid_grant"),
                (true, false) => None,
            };
            if let Some(error) = error {
                let body = Bytes::from(format!(r#"{{"error":"{error}"}}"#));
                return Ok(http::Response::builder().status(400).body(body).unwrap());
            }
        }
        let issuer = self.refuses.lock().moved.unwrap_or(ISSUER);
        let text = match request.uri().path() {
            "/.well-known/oauth-protected-resource/mcp" => {
                format!(r#"{{"resource":"https://mcp.example/mcp","authorization_servers":["{issuer}"]}}"#)
            }
            "/.well-known/oauth-authorization-server" => format!(
                r#"{{"issuer":"{issuer}","authorization_endpoint":"{ISSUER}/authorize","token_endpoint":"{ISSUER}/token",
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
        Ok(response.body(Bytes::from(text)).unwrap())
    }
}

#[derive(Debug)]
struct OneConnection(Arc<Connection>);

impl Connections for OneConnection {
    fn of(&self, connection: &str) -> Vec<Arc<Connection>> {
        let own = (*self.0.name == *connection).then(|| Arc::clone(&self.0));
        own.into_iter().collect()
    }

    fn provider(&self, provider: &str) -> Option<Arc<Connection>> {
        (*self.0.provider == *provider).then(|| Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct NoChallenge;

#[async_trait::async_trait]
impl Prober for NoChallenge {
    async fn challenge(&self, _provider: &str) -> Option<pleiades_core::www_authenticate::Challenge> {
        None
    }
}

fn connection(connect_url: Option<&str>) -> Connection {
    Connection {
        name: "tracker".into(),
        provider: "tracker".into(),
        title: "Tracker".to_owned(),
        grant: GrantType::AuthorizationCode,
        upstream: Url::parse("https://mcp.example/mcp").unwrap(),
        reach: AddressPolicy::default(),
        client_id: None,
        client_secret: None,
        private_key: None,
        scopes: Some(vec!["read".to_owned()]),
        authorization_endpoint: None,
        token_endpoint: None,
        revocation_endpoint: None,
        issuer: Some(ISSUER.to_owned()),
        metadata: None,
        token_auth: None,
        pkce: Pkce::Auto,
        audience: None,
        resource: ResourceParameter::Off,
        parameters: BTreeMap::new(),
        connect_url: connect_url.map(|url| Url::parse(url).unwrap()),
        lead: Duration::ZERO,
        attempts: 1,
    }
}

struct BrokerWorld {
    vault: Arc<MemoryVault>,
    web: Arc<FakeAuthServer>,
    sealer: Arc<Sealer>,
    /// The descriptor's own client, with a secret and without an issuer.
    is_own: bool,
}

impl BrokerWorld {
    fn new() -> Self {
        Self {
            vault: Arc::default(),
            web: Arc::default(),
            sealer: Arc::new(Sealer::new(&[Secret::new("key")])),
            is_own: false,
        }
    }

    fn connection(&self, connect_url: Option<&str>) -> Connection {
        if !self.is_own {
            return connection(connect_url);
        }
        Connection {
            client_id: Some("own".to_owned()),
            client_secret: Some(Secret::new("the secret of our own")),
            token_auth: Some(ClientAuth::Post),
            issuer: None,
            ..connection(connect_url)
        }
    }

    /// Begins a flow; the client that it uses, and its answer.
    async fn begins(&self, broker: &Arc<Broker>) -> Result<(String, Callback, String), ConnectError> {
        let link = broker.link(&ada(), &connect_request());
        let begun = broker
            .begin(&opened(broker, &link), RedirectTarget::Gateway)
            .await?;
        let client = begun
            .url
            .query_pairs()
            .find(|(key, _)| key == "client_id")
            .unwrap()
            .1
            .into_owned();
        let (callback, cookie) = answer(&begun);
        Ok((client, callback, cookie))
    }

    /// A flow from its beginning to its end; the client that it used.
    async fn connects(&self, broker: &Arc<Broker>) -> String {
        let (client, callback, cookie) = self.begins(broker).await.unwrap();
        let finished = broker
            .finish(callback, Some(&cookie), &broker.endpoints.redirect_uri(None))
            .await;
        match finished.unwrap() {
            CallbackResult::Connected(_) => {}
            CallbackResult::Confirm(Replacement { state, .. }) => {
                drop(broker.confirm(&state, Some(&cookie), true).await.unwrap())
            }
            chosen @ CallbackResult::Chosen { .. } => panic!("{chosen:?}"),
        }
        client
    }

    /// One more replica.
    fn broker(&self, connect_url: Option<&str>, link_ttl: u64) -> Arc<Broker> {
        let manager = CredentialManager::new(manager::ManagerParts {
            vault: Arc::<MemoryVault>::clone(&self.vault),
            web: Arc::<FakeAuthServer>::clone(&self.web),
            metrics: Metrics::new(),
            control: Handle::current(),
        });
        manager.begin(Arc::new(OneConnection(Arc::new(self.connection(connect_url)))));
        let access = Access::new(Grants {
            local: ada(),
            local_key: None,
            callers: vec![("long", long_names(), LONG_KEY)],
            operators: Vec::new(),
            is_admin_local: true,
        });
        Broker::new(Config {
            manager,
            sealer: Arc::clone(&self.sealer),
            prober: Arc::new(NoChallenge),
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

fn connect_request() -> ConnectionRequest {
    ConnectionRequest {
        provider: "tracker".to_owned(),
        account: None,
        scopes: vec!["write".to_owned()],
        reason: "never_connected".to_owned(),
    }
}

fn opened(broker: &Broker, link: &ConnectLink) -> LinkPayload {
    broker.links.open(link.url.rsplit('/').next().unwrap()).unwrap()
}

/// The callback that a begun flow's answer would be, and its cookie.
fn answer(begun: &BrowserRedirect) -> (Callback, String) {
    let state = begun.url.query_pairs().find(|(key, _)| key == "state").unwrap();
    let query = format!("code=c&state={}&iss=https%3A%2F%2Fauth.example", state.1);
    let (name, cookie) = begun.cookie.as_ref().unwrap();
    let callback = Callback::read(&query).unwrap();
    assert_eq!(callback.cookie_name(), *name);
    (callback, cookie.expose().to_owned())
}

#[tokio::test]
async fn a_link_reveals_nobodys_name_and_needs_no_store() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &connect_request());
    assert!(link.url.starts_with("https://gw.example/oauth/connect/"));
    assert_eq!(
        link.scopes.as_deref(),
        Some(&["read".to_owned(), "write".to_owned()][..])
    );
    for part in ["ada", "acme", "tracker"] {
        assert!(!link.url.contains(part));
    }
    let opened = opened(&broker, &link);
    let text = ConnectionRequest {
        reason: String::new(),
        ..connect_request()
    };
    assert_eq!((opened.principal, opened.request), (ada(), text));
    assert!(world.entries().await.is_empty());
    // An id of a connection is no link, nor the other way round.
    assert!(broker.links.open(&link.id).is_err());
    let token = link.url.rsplit('/').next().unwrap();
    assert!(broker.statuses.get(&ada(), token).await.unwrap().is_none());
}

/// Principals whose names are as long as those of some directories.
fn long_names() -> Principal {
    Principal::new("t".repeat(200), "ü".repeat(200))
}

#[tokio::test]
async fn a_link_is_short_enough_to_be_repeated_whatever_the_names_are() {
    let world = BrokerWorld::new();
    let (broker, beside) = (world.broker(None, 60), world.broker(None, 60));
    let long = "x".repeat(512);
    let wish = |provider: &str, account: Option<&str>| ConnectionRequest {
        provider: provider.to_owned(),
        account: account.map(str::to_owned),
        scopes: Vec::new(),
        reason: String::new(),
    };
    for (who, wish) in [
        (ada(), wish("tracker", None)),
        (ada(), wish("google_calendar", Some("ada.lovelace@example.com"))),
        (
            long_names(),
            wish(&"p".repeat(63), Some("ada.lovelace@example.com")),
        ),
        (long_names(), wish(&"p".repeat(63), Some(&long))),
        (ada(), wish("tracker", Some(&long))),
    ] {
        let link = broker.link(&who, &wish);
        assert!(link.url.len() <= 240, "{} characters", link.url.len());
        assert!(link.id.len() <= 160, "{} characters", link.id.len());
        let payload = opened(&broker, &link);
        assert_eq!((&payload.principal, &payload.request), (&who, &wish));
        // Another replica knows whoever may call; of a name that has no room it knows the digest.
        let there = opened(&beside, &link);
        assert_eq!(
            (&there.principal, &there.request.provider),
            (&who, &wish.provider)
        );
        assert!(there.request.account == wish.account || there.account_digest.is_some());
        let status = beside.statuses.get(&who, &link.id).await.unwrap().unwrap();
        assert_eq!((status.state, status.provider), ("pending", wish.provider));
    }
    let usual = broker.link(&ada(), &wish("tracker", None));
    assert!(
        usual.url.len() <= 130 && usual.id.len() <= 80,
        "{} {}",
        usual.url.len(),
        usual.id.len()
    );
}

#[tokio::test]
async fn an_account_whose_name_has_no_room_in_its_link_is_connected_again_under_it_at_any_replica() {
    let world = BrokerWorld::new();
    let (broker, beside) = (world.broker(None, 60), world.broker(None, 60));
    let long = "x".repeat(512);
    let (_, _, first) = connects_as(&broker, &long).await;
    assert_eq!(first.account, long);
    let request = ConnectionRequest {
        account: Some(long.clone()),
        ..connect_request()
    };
    let link = broker.link(&ada(), &request);
    let begun = beside
        .begin(&opened(&beside, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = beside.endpoints.redirect_uri(None);
    let finished = beside.finish(callback, Some(&cookie), &redirect).await.unwrap();
    assert!(matches!(finished, CallbackResult::Connected(it) if it.account == long));
}

#[tokio::test]
async fn a_connection_is_nobody_elses() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let id = broker.link(&ada(), &connect_request()).id;
    let mine = broker.statuses.get(&ada(), &id).await.unwrap().unwrap();
    assert_eq!((mine.state, mine.provider.as_str()), ("pending", "tracker"));
    for other in [
        Principal::new("acme", "bob"),
        Principal::new("other", "ada"),
        Principal::new("acm", "e/ada"),
    ] {
        assert!(broker.statuses.get(&other, &id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_link_that_is_over_says_so() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 0);
    let link = broker.link(&ada(), &connect_request());
    let refusal = broker
        .links
        .open(link.url.rsplit('/').next().unwrap())
        .unwrap_err();
    assert_eq!(refusal.kind, ConnectErrorKind::Gone);
    let status = broker.statuses.get(&ada(), &link.id).await.unwrap().unwrap();
    assert_eq!(status.state, "expired");
}

#[tokio::test]
async fn a_flow_that_runs_elsewhere_is_linked_to_with_nothing_added() {
    let world = BrokerWorld::new();
    let broker = world.broker(Some("https://portal.example/connect?x=1"), 60);
    let link = broker.link(&ada(), &connect_request());
    assert_eq!(link.url, "https://portal.example/connect?x=1");
    assert!(!link.id.is_empty());
}

#[tokio::test]
async fn of_two_replicas_that_take_one_answer_one_redeems_it() {
    let world = BrokerWorld::new();
    let (one, two) = (world.broker(None, 60), world.broker(None, 60));
    let link = one.link(&ada(), &connect_request());
    let begun = one
        .begin(&opened(&two, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = one.endpoints.redirect_uri(None);
    let (first, second) = tokio::join!(
        one.finish(callback.clone(), Some(&cookie), &redirect),
        two.finish(callback, Some(&cookie), &redirect)
    );
    assert!(first.is_ok() != second.is_ok());
    assert_eq!(first.and(second).unwrap_err().kind, ConnectErrorKind::Gone);
    assert_eq!(world.web.redeemed.load(Ordering::Relaxed), 1);
}

/// Connects an account under a name, in a browser with this cookie.
async fn connects_as(broker: &Arc<Broker>, account: &str) -> (Callback, String, ConnectedAccount) {
    let request = ConnectionRequest {
        account: Some(account.to_owned()),
        ..connect_request()
    };
    let link = broker.link(&ada(), &request);
    let begun = broker
        .begin(&opened(broker, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = broker.endpoints.redirect_uri(None);
    let finished = broker.finish(callback.clone(), Some(&cookie), &redirect).await;
    match finished.unwrap() {
        CallbackResult::Connected(connected) => (callback, cookie, connected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_further_account_asks_which_one_is_used_and_its_browser_answers_once() {
    let world = BrokerWorld::new();
    let (broker, beside) = (world.broker(None, 60), world.broker(None, 60));
    let (_, _, first) = connects_as(&broker, "work").await;
    assert_eq!((first.used.as_deref(), first.question), (Some("work"), None));
    let (callback, cookie, second) = connects_as(&broker, "home").await;
    assert_eq!(second.used.as_deref(), Some("work"), "it stays");
    let state = second.question.unwrap();
    for wrong in [None, Some("made-up")] {
        let refused = beside.choose_default(&state, wrong, DefaultChoice::New).await;
        assert_eq!(refused.unwrap_err().kind, ConnectErrorKind::Unproven);
    }
    // The answer of the provider again: the question is still open, and nothing is redeemed twice.
    let redirect = broker.endpoints.redirect_uri(None);
    let again = broker.finish(callback, Some(&cookie), &redirect).await.unwrap();
    assert!(matches!(again, CallbackResult::Connected(it) if it.is_repeated && it.question.is_some()));
    assert_eq!(world.web.redeemed.load(Ordering::Relaxed), 2);
    let chosen = beside
        .choose_default(&state, Some(&cookie), DefaultChoice::New)
        .await;
    assert!(matches!(chosen, Ok(CallbackResult::Chosen { account: Some(it), .. }) if it == "home"));
    let again = broker
        .choose_default(&state, Some(&cookie), DefaultChoice::None)
        .await;
    assert_eq!(again.unwrap_err().kind, ConnectErrorKind::Gone);
    let (_, _, same) = connects_as(&world.broker(None, 60), "work").await;
    assert_eq!(
        (same.used.as_deref(), same.question),
        (Some("home"), None),
        "connected again"
    );
}

#[tokio::test]
async fn none_is_an_answer_that_is_kept() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    connects_as(&broker, "work").await;
    let (_, cookie, second) = connects_as(&broker, "home").await;
    let state = second.question.unwrap();
    let chosen = broker.choose_default(&state, Some(&cookie), DefaultChoice::None);
    assert!(matches!(
        chosen.await,
        Ok(CallbackResult::Chosen { account: None, .. })
    ));
    let (_, cookie, third) = connects_as(&broker, "club").await;
    assert_eq!(third.used, None);
    let state = third.question.unwrap();
    let refused = broker
        .choose_default(&state, Some(&cookie), DefaultChoice::Used)
        .await;
    assert_eq!(refused.unwrap_err().kind, ConnectErrorKind::Gone, "there is none");
}

#[tokio::test]
async fn an_answer_at_another_redirect_uri_or_without_its_cookie_redeems_nothing() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &connect_request());
    let begun = broker
        .begin(&opened(&broker, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = broker.endpoints.redirect_uri(None);
    for wrong in [None, Some("made-up"), Some("")] {
        let refused = broker.finish(callback.clone(), wrong, &redirect).await;
        assert_eq!(refused.unwrap_err().kind, ConnectErrorKind::Unproven);
    }
    let elsewhere = broker.endpoints.redirect_uri(Some("tracker"));
    let refused = broker.finish(callback.clone(), Some(&cookie), &elsewhere).await;
    assert_eq!(refused.unwrap_err().kind, ConnectErrorKind::Malformed);
    assert!(broker.finish(callback, Some(&cookie), &redirect).await.is_err());
    assert_eq!(world.web.redeemed.load(Ordering::Relaxed), 0);
    let status = broker.statuses.get(&ada(), &link.id).await.unwrap().unwrap();
    assert_eq!(status.state, "failed");
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_stored_all_the_same() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &connect_request());
    let begun = broker
        .begin(&opened(&broker, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    let (callback, cookie) = answer(&begun);
    let redirect = broker.endpoints.redirect_uri(None);
    {
        let mut finish = Box::pin(broker.finish(callback, Some(&cookie), &redirect));
        // As far as the first await: then the browser is gone.
        assert!(futures_util::poll!(&mut finish).is_pending());
    }
    broker.drained().await;
    let status = broker.statuses.get(&ada(), &link.id).await.unwrap().unwrap();
    assert_eq!(status.state, "connected");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_caller_learns_the_outcome_at_once_here_and_soon_on_other_replicas() {
    let world = BrokerWorld::new();
    let (one, two) = (world.broker(None, 60), world.broker(None, 60));
    let link = one.link(&ada(), &connect_request());
    let begun = one
        .begin(&opened(&one, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    let waiting = [Arc::clone(&one), Arc::clone(&two)].map(|broker| {
        let id = link.id.clone();
        tokio::spawn(async move { broker.statuses.wait(&ada(), &id, Duration::from_secs(30)).await })
    });
    tokio::task::yield_now().await;
    let (callback, cookie) = answer(&begun);
    let redirect = one.endpoints.redirect_uri(None);
    one.finish(callback, Some(&cookie), &redirect).await.unwrap();
    for waiting in waiting {
        let status = waiting.await.unwrap().unwrap().unwrap();
        assert_eq!(status.state, "connected");
        assert!(status.account.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_first_reports_pending() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 600);
    let id = broker.link(&ada(), &connect_request()).id;
    let status = broker.statuses.wait(&ada(), &id, Duration::from_secs(5)).await;
    assert_eq!(status.unwrap().unwrap().state, "pending");
}

#[tokio::test]
async fn flows_share_one_registration_but_for_those_of_a_process() {
    let world = BrokerWorld::new();
    let (one, two) = (world.broker(None, 60), world.broker(None, 60));
    for broker in [&one, &two, &one] {
        let link = broker.link(&ada(), &connect_request());
        broker
            .begin(&opened(broker, &link), RedirectTarget::Gateway)
            .await
            .unwrap();
    }
    assert_eq!(world.web.registered.load(Ordering::Relaxed), 1);
    let opening = one.links.payload(&ada(), &connect_request());
    let own = RedirectTarget::Listener("http://127.0.0.1:4711".to_owned());
    let begun = one.begin(&opening, own).await.unwrap();
    assert_eq!(world.web.registered.load(Ordering::Relaxed), 2);
    let redirect = "http://127.0.0.1:4711/oauth/callback";
    let asked = begun.url.query_pairs().find(|(key, _)| key == "redirect_uri");
    assert_eq!(asked.unwrap().1, redirect);
    let (callback, cookie) = answer(&begun);
    // The public listener of a server beside does not take it.
    let refused = two
        .finish(callback.clone(), None, &two.endpoints.redirect_uri(None))
        .await;
    assert_eq!(refused.unwrap_err().kind, ConnectErrorKind::Unproven);
    assert!(one.finish(callback, Some(&cookie), redirect).await.is_ok());
}

#[tokio::test]
async fn what_is_still_good_is_not_tidied_away() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &connect_request());
    broker
        .begin(&opened(&broker, &link), RedirectTarget::Gateway)
        .await
        .unwrap();
    assert_eq!(world.entries().await.len(), 2, "the flow and its standing");
    broker.sweep().await.unwrap();
    assert_eq!(world.entries().await.len(), 2);
    let old = Path::gateway(&["pending", "s-old"]);
    let value = Secret::new(r#"{"until":1,"stage":"used"}"#);
    world.vault.write(&old, 0, &value, None).await.unwrap();
    broker.sweep().await.unwrap();
    assert_eq!(world.entries().await.len(), 2);
}

#[tokio::test]
async fn a_client_that_its_server_lost_is_made_anew_once_two_flows_did_not_come_back() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    assert_eq!(world.connects(&broker).await, "client-0");
    world.web.refuses.lock().lost.push("client-0".to_owned());
    // The server shows an error of its own: nobody comes back from these.
    assert_eq!(world.begins(&broker).await.unwrap().0, "client-0");
    assert_eq!(world.begins(&broker).await.unwrap().0, "client-0");
    assert_eq!(world.connects(&broker).await, "client-1");
    assert_eq!(world.connects(&broker).await, "client-1");
    assert_eq!(world.web.registered.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn people_who_give_up_cost_no_registration_where_the_server_says_that_it_knows_the_client() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    world.connects(&broker).await;
    for _ in 0..5 {
        assert_eq!(world.begins(&broker).await.unwrap().0, "client-0");
    }
}

#[tokio::test]
async fn where_the_server_does_not_say_a_third_flow_is_of_a_new_client_but_not_without_end() {
    let world = BrokerWorld::new();
    world.web.refuses.lock().is_blind = true;
    let broker = world.broker(None, 60);
    world.connects(&broker).await;
    let mut used = Vec::new();
    for _ in 0..6 {
        used.push(world.begins(&broker).await.unwrap().0);
    }
    // Nobody came back from the second one either: then it was not the registration.
    let expected = [
        "client-0", "client-0", "client-1", "client-1", "client-1", "client-1",
    ];
    assert_eq!(used, expected);
}

#[tokio::test]
async fn a_callback_that_refuses_the_client_drops_its_registration_in_whatever_spelling() {
    for (error, is_dropped) in [
        ("invalid_client", true),
        ("unauthorized_client", true),
        ("UNAUTHORIZED_CLIENT", true),
        ("Invalid-Client", true),
        ("unknown_client", true),
        ("access_denied", false),
        ("invalid_scope", false),
        ("server_error", false),
    ] {
        let world = BrokerWorld::new();
        let broker = world.broker(None, 60);
        world.connects(&broker).await;
        let (_, callback, cookie) = world.begins(&broker).await.unwrap();
        let callback = Callback {
            code: None,
            error: Some(error.to_owned()),
            description: Some("words of\nthe provider".to_owned()),
            ..callback
        };
        let refused = broker
            .finish(callback, Some(&cookie), &broker.endpoints.redirect_uri(None))
            .await;
        let refusal = refused.unwrap_err();
        if error != "access_denied" {
            assert!(
                refusal.why.contains(error) && refusal.why.contains("words of the provider"),
                "{refusal:?}"
            );
        }
        let next = if is_dropped { "client-1" } else { "client-0" };
        assert_eq!(world.connects(&broker).await, next, "{error}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_reported_until_one_succeeds_and_the_page_says_who_can_mend_it() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    assert!(broker.last_failure(&ada(), "tracker", None).is_none());
    let (_, callback, cookie) = world.begins(&broker).await.unwrap();
    let callback = Callback {
        code: None,
        error: Some("invalid_target".to_owned()),
        description: Some("see https://auth.example/help".to_owned()),
        ..callback
    };
    let redirect = broker.endpoints.redirect_uri(None);
    let refusal = broker
        .finish(callback, Some(&cookie), &redirect)
        .await
        .unwrap_err();
    for part in [
        "No `resource` was sent",
        "(`resource: off` in the provider's descriptor): remove that",
        "Whoever runs this gateway can mend that.",
    ] {
        assert!(refusal.cure.contains(part), "{refusal:?}");
    }
    let text = broker.last_failure(&ada(), "tracker", None).unwrap();
    assert!(
        text.contains("refused with `invalid_target`") && !text.contains("://"),
        "{text}"
    );
    world.connects(&broker).await;
    assert!(broker.last_failure(&ada(), "tracker", None).is_none());
}

#[tokio::test]
async fn a_client_is_forgotten_when_the_operator_asks_for_it() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    assert!(broker.clients.forget(&connection(None)).await.unwrap().is_empty());
    world.connects(&broker).await;
    let other = Connection {
        name: "another".into(),
        provider: "another".into(),
        ..connection(None)
    };
    assert!(broker.clients.forget(&other).await.unwrap().is_empty());
    let forgotten = broker.clients.forget(&connection(None)).await.unwrap();
    let expected = ForgottenClient {
        client_id: "client-0".to_owned(),
        issuer: Some(ISSUER.to_owned()),
    };
    assert_eq!(forgotten, [expected]);
    assert_eq!(world.connects(&broker).await, "client-1");
}

#[tokio::test]
async fn the_secret_of_a_client_goes_where_it_first_went_until_the_operator_says_otherwise() {
    let world = BrokerWorld {
        is_own: true,
        ..BrokerWorld::new()
    };
    let broker = world.broker(None, 60);
    assert_eq!(world.connects(&broker).await, "own");
    world.web.refuses.lock().moved = Some("https://taken-over.example");
    let refusal = world.begins(&broker).await.unwrap_err();
    for part in [ISSUER, "https://taken-over.example"] {
        assert!(refusal.why.contains(part), "{refusal:?}");
    }
    assert!(
        refusal.cure.contains("pleiades accounts forget-client tracker"),
        "{refusal:?}"
    );
    assert_eq!(
        broker
            .clients
            .forget(&world.connection(None))
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(world.begins(&broker).await.is_ok());
}

#[tokio::test]
async fn an_answer_without_the_promised_iss_is_refused_with_the_providers_name() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    for (iss, text) in [(None, "`iss`"), (Some("https://evil.example"), "another server")] {
        let (_, callback, cookie) = world.begins(&broker).await.unwrap();
        let callback = Callback {
            iss: iss.map(str::to_owned),
            ..callback
        };
        let refused = broker
            .finish(callback, Some(&cookie), &broker.endpoints.redirect_uri(None))
            .await;
        let refusal = refused.unwrap_err();
        assert!(refusal.why.contains(text), "{refusal:?}");
        assert_eq!(refusal.why.contains("Tracker"), iss.is_none());
        assert!(!refusal.why.contains("evil.example"));
    }
}

#[tokio::test]
async fn a_flow_of_a_command_on_this_machine_may_come_back_in_any_browser() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let begun = broker
        .begin(
            &broker.links.payload(&ada(), &connect_request()),
            RedirectTarget::Terminal,
        )
        .await
        .unwrap();
    let (callback, _) = answer(&begun);
    let finished = broker
        .finish(callback, None, &broker.endpoints.redirect_uri(None))
        .await;
    assert!(matches!(finished, Ok(CallbackResult::Connected(_))));
}

#[tokio::test]
async fn a_flow_of_a_command_leaves_no_question_that_any_browser_could_answer() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    connects_as(&broker, "work").await;
    let request = ConnectionRequest {
        account: Some("home".to_owned()),
        ..connect_request()
    };
    let payload = broker.links.payload(&ada(), &request);
    let begun = broker.begin(&payload, RedirectTarget::Terminal).await.unwrap();
    let (callback, _) = answer(&begun);
    let redirect = broker.endpoints.redirect_uri(None);
    let finished = broker.finish(callback.clone(), None, &redirect).await.unwrap();
    assert!(matches!(finished, CallbackResult::Connected(it) if it.question.is_none()));
    let again = broker.finish(callback, None, &redirect).await.unwrap_err();
    assert_eq!(again.kind, ConnectErrorKind::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_in_time_is_not_asked_by_every_page() {
    let world = BrokerWorld::new();
    world.web.refuses.lock().is_silent = true;
    let broker = world.broker(None, 60);
    let payload = opened(&broker, &broker.link(&ada(), &connect_request()));
    let mut asked = Vec::new();
    for _ in 0..3 {
        let preview = broker.preview(&payload).await;
        assert_eq!(preview.host.as_deref(), Some("auth.example"));
        asked.push(world.web.unanswered.load(Ordering::Relaxed));
    }
    assert!(asked[0] > 0 && asked[2] == asked[0], "{asked:?}");
}

#[tokio::test]
async fn whoever_cancels_again_and_again_keeps_nobody_from_connecting() {
    let world = BrokerWorld::new();
    let broker = world.broker(None, 60);
    let link = broker.link(&ada(), &connect_request());
    let payload = opened(&broker, &link);
    for _ in 0..100 {
        broker.cancel(&payload).await;
    }
    let begun = broker.begin(&payload, RedirectTarget::Gateway).await;
    assert!(begun.is_ok(), "{begun:?}");
}
