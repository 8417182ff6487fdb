//! A fake authorization server with an MCP server behind it: metadata, registration, consent without
//! a person, tokens with rotation, revocation, userinfo, and the faults that real ones will not
//! produce on demand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::provider::{self, FakeServer};

/// Parameters of a request, in the order in which they came.
pub type Fields = Vec<(String, String)>;

/// Who is signed in there.
#[derive(Debug, Clone)]
pub struct Person {
    pub subject: String,
    pub username: Option<String>,
    pub email: Option<String>,
}

/// What an endpoint does instead of its work.
#[derive(Debug, Clone, PartialEq)]
pub enum EndpointFault {
    /// Answers this status with this body, having done nothing.
    Says(u16, Value),
    /// Does its work and answers 500 all the same: the answer is lost.
    Loses,
}

/// What the MCP server does with requests of a method, however good their tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// All access tokens end with the first one.
    Expiry,
    /// All that was ever given ends with the first one.
    Revocation,
    /// Answers this status.
    Status(u16),
}

/// Status, challenge and body of an answer to a tool's call.
pub type Denied = (u16, &'static str, &'static str);

/// A token set that was issued.
#[derive(Debug, Clone)]
pub struct IssuedGrant {
    pub family: u64,
    pub client: String,
    pub subject: String,
    pub scope: String,
    pub ends: Instant,
}

#[derive(Default)]
struct AuthorityState {
    clients: HashMap<String, Value>,
    codes: HashMap<String, (Fields, Person)>,
    access: HashMap<String, IssuedGrant>,
    refresh: HashMap<String, IssuedGrant>,
    redeemed: HashMap<String, usize>,
    dead: HashSet<u64>,
}

impl AuthorityState {
    fn end(&mut self, what: Meets) {
        self.access.clear();
        if what == Meets::Revocation {
            self.refresh.clear();
        }
    }
}

/// What it does; changed while it runs.
pub struct AuthorityKnobs {
    pub origin: String,
    pub person: Mutex<Person>,
    /// Names itself in its answers and says so.
    pub iss: AtomicBool,
    /// What it calls itself in its answers instead.
    pub named: Mutex<Option<String>>,
    /// The person says no.
    pub denies: AtomicBool,
    /// Refresh tokens are new each time, and an old one ends the whole family.
    pub rotates: AtomicBool,
    /// Gives refresh tokens at all.
    pub refreshes: AtomicBool,
    /// Gives ID tokens.
    pub openid: AtomicBool,
    /// Registers clients.
    pub registers: AtomicBool,
    /// Lifetime of access tokens in seconds; 0: not said, an hour.
    pub lifetime: AtomicU64,
    /// `scopes_supported` of the resource.
    pub scopes: Mutex<Vec<String>>,
    /// Scopes that a tool needs; without them 403 `insufficient_scope`.
    pub needs: Mutex<HashMap<String, String>>,
    /// How the MCP server refuses a token that is not good: status and challenge.
    pub refuses: Mutex<Option<(u16, &'static str)>>,
    /// What a tool answers to any token: status, challenge, body.
    pub denies_tools: Mutex<HashMap<String, Denied>>,
    /// What requests of an MCP method meet.
    pub meets: Mutex<HashMap<&'static str, Meets>>,
    /// The MCP server takes tokens at all.
    pub takes: AtomicBool,
    /// What an endpoint (`/token`, `/register`, …) does next, so many times.
    pub faults: Mutex<HashMap<String, (EndpointFault, usize)>>,
    /// Requests that came, by path.
    pub seen: Mutex<Vec<(String, Fields)>>,
    /// Refresh tokens that came a second time.
    pub replayed: AtomicUsize,
    state: Mutex<AuthorityState>,
    next: AtomicU64,
    mcp: Arc<provider::Knobs>,
}

/// A running server; it ends with the test's runtime.
pub struct Authority {
    /// The issuer.
    pub url: String,
    /// The MCP server that wants its tokens.
    pub resource: String,
    pub knobs: Arc<AuthorityKnobs>,
    /// The same MCP server without its guard.
    pub open: FakeServer,
}

impl Authority {
    /// One whose MCP server speaks these revisions.
    pub async fn start(revisions: &[&'static str]) -> Self {
        let open = FakeServer::start(revisions).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let knobs = Arc::new(AuthorityKnobs {
            origin: origin.clone(),
            person: Mutex::new(person("u-ada", "ada", "ada@example.com")),
            iss: AtomicBool::new(true),
            named: Mutex::default(),
            denies: AtomicBool::new(false),
            rotates: AtomicBool::new(true),
            refreshes: AtomicBool::new(true),
            openid: AtomicBool::new(true),
            registers: AtomicBool::new(true),
            lifetime: AtomicU64::new(3600),
            scopes: Mutex::new(vec!["read".to_owned(), "write".to_owned()]),
            needs: Mutex::default(),
            refuses: Mutex::default(),
            denies_tools: Mutex::default(),
            meets: Mutex::default(),
            takes: AtomicBool::new(true),
            faults: Mutex::default(),
            seen: Mutex::default(),
            replayed: AtomicUsize::new(0),
            state: Mutex::default(),
            next: AtomicU64::new(1),
            mcp: Arc::clone(&open.knobs),
        });
        let app = Router::new().fallback(serve).with_state(Arc::clone(&knobs));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            resource: format!("{origin}/mcp"),
            url: origin,
            knobs,
            open,
        }
    }

    /// Signs somebody else in.
    pub fn sign_in(&self, subject: &str, username: &str, email: &str) {
        *self.knobs.person.lock() = person(subject, username, email);
    }

    /// Makes an endpoint fail so many times.
    pub fn fail(&self, path: &str, fault: EndpointFault, times: usize) {
        self.knobs.faults.lock().insert(path.to_owned(), (fault, times));
    }

    /// Requests of a path so far.
    pub fn seen(&self, path: &str) -> Vec<Fields> {
        let seen = self.knobs.seen.lock();
        let of_path = seen.iter().filter(|(at, _)| at == path);
        of_path.map(|(_, fields)| fields.clone()).collect()
    }

    /// Redemptions of refresh tokens so far.
    pub fn refreshed(&self) -> usize {
        let grants = self.seen("/token");
        let is_refresh = |fields: &&Fields| field(fields, "grant_type").as_deref() == Some("refresh_token");
        grants.iter().filter(is_refresh).count()
    }

    /// How often the most redeemed refresh token was redeemed.
    pub fn most_redeemed(&self) -> usize {
        self.knobs
            .state
            .lock()
            .redeemed
            .values()
            .copied()
            .max()
            .unwrap_or(0)
    }

    /// Ends all access tokens, as time would.
    pub fn expire(&self) {
        self.knobs.state.lock().end(Meets::Expiry);
    }

    /// Ends everything that was ever given, as an administrator there would.
    pub fn revoke_all(&self) {
        self.knobs.state.lock().end(Meets::Revocation);
    }

    /// What requests of an MCP method meet from now on.
    pub fn meet(&self, method: &'static str, meets: Meets) {
        self.knobs.meets.lock().insert(method, meets);
    }

    /// Forgets all clients, so that they are invalid.
    pub fn forget_clients(&self) {
        self.knobs.state.lock().clients.clear();
    }

    /// Registered clients.
    pub fn clients(&self) -> usize {
        self.knobs.state.lock().clients.len()
    }
}

/// Somebody with all names.
pub fn person(subject: &str, username: &str, email: &str) -> Person {
    Person {
        subject: subject.to_owned(),
        username: Some(username.to_owned()),
        email: Some(email.to_owned()),
    }
}

/// The value of a field.
pub fn field(fields: &Fields, name: &str) -> Option<String> {
    let found = fields.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.clone())
}

fn fields(text: &str) -> Fields {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

async fn serve(
    State(knobs): State<Arc<AuthorityKnobs>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let path = uri.path().to_owned();
    if path == "/mcp" {
        return guarded(&knobs, method, headers, body).await;
    }
    let given = match (&method, path.as_str()) {
        (&Method::GET, _) => fields(uri.query().unwrap_or_default()),
        (_, "/register") => vec![("body".to_owned(), body.clone())],
        _ => fields(&body),
    };
    knobs.seen.lock().push((path.clone(), given.clone()));
    let fault = {
        let mut faults = knobs.faults.lock();
        faults.get_mut(&path).filter(|it| it.1 > 0).map(|it| {
            it.1 -= 1;
            it.0.clone()
        })
    };
    match fault {
        Some(EndpointFault::Says(status, reply)) => return answer(status, &reply),
        Some(EndpointFault::Loses) => {
            work(&knobs, &path, &headers, &given);
            return answer(500, &json!({}));
        }
        None => {}
    }
    work(&knobs, &path, &headers, &given)
}

fn work(knobs: &AuthorityKnobs, path: &str, headers: &HeaderMap, given: &Fields) -> Response<Body> {
    let origin = &knobs.origin;
    match path {
        "/.well-known/oauth-protected-resource/mcp" => answer(
            200,
            &json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [origin],
                "scopes_supported": *knobs.scopes.lock() }),
        ),
        "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration" => {
            answer(200, &metadata(knobs))
        }
        "/register" if knobs.registers.load(Ordering::Relaxed) => register(knobs, given),
        "/authorize" => authorize(knobs, given),
        "/token" => token(knobs, headers, given),
        "/revoke" => {
            let token = field(given, "token").unwrap_or_default();
            let mut kept = knobs.state.lock();
            let family = kept.refresh.get(&token).or_else(|| kept.access.get(&token));
            if let Some(family) = family.map(|it| it.family) {
                kept.access.retain(|_, it| it.family != family);
                kept.refresh.retain(|_, it| it.family != family);
            }
            answer(200, &json!({}))
        }
        "/userinfo" => userinfo(knobs, headers),
        _ => answer(404, &json!({ "error": "not_found" })),
    }
}

fn metadata(knobs: &AuthorityKnobs) -> Value {
    let origin = &knobs.origin;
    let mut reply = json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "revocation_endpoint": format!("{origin}/revoke"),
        "userinfo_endpoint": format!("{origin}/userinfo"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "authorization_response_iss_parameter_supported": knobs.iss.load(Ordering::Relaxed),
    });
    if knobs.registers.load(Ordering::Relaxed) {
        reply["registration_endpoint"] = json!(format!("{origin}/register"));
    }
    reply
}

fn register(knobs: &AuthorityKnobs, given: &Fields) -> Response<Body> {
    let mut client: Value = serde_json::from_str(&field(given, "body").unwrap_or_default()).unwrap();
    let id = format!("client-{}", knobs.next.fetch_add(1, Ordering::Relaxed));
    client["client_id"] = json!(id);
    if client["token_endpoint_auth_method"] != "none" {
        client["client_secret"] = json!(format!("secret-of-{id}"));
        client["client_secret_expires_at"] = json!(0);
    }
    knobs.state.lock().clients.insert(id, client.clone());
    answer(201, &client)
}

/// Consents at once, or refuses at once.
fn authorize(knobs: &AuthorityKnobs, given: &Fields) -> Response<Body> {
    let client = field(given, "client_id").unwrap_or_default();
    let redirect = field(given, "redirect_uri").unwrap_or_default();
    let known = knobs.state.lock().clients.get(&client).cloned();
    let listed = known.as_ref().is_none_or(|known| {
        known["redirect_uris"]
            .as_array()
            .is_some_and(|all| all.contains(&json!(redirect)))
    });
    if !listed || field(given, "code_challenge_method").as_deref() != Some("S256") {
        return answer(400, &json!({ "error": "invalid_request" }));
    }
    let mut back = url::Url::parse(&redirect).unwrap();
    let mut query = back.query_pairs_mut();
    if knobs.denies.load(Ordering::Relaxed) {
        query.append_pair("error", "access_denied");
    } else {
        let code = format!("code-{}", knobs.next.fetch_add(1, Ordering::Relaxed));
        let person = knobs.person.lock().clone();
        knobs
            .state
            .lock()
            .codes
            .insert(code.clone(), (given.clone(), person));
        query.append_pair("code", &code);
    }
    query.append_pair("state", &field(given, "state").unwrap_or_default());
    let named = knobs.named.lock().clone();
    if let Some(named) = named.or_else(|| knobs.iss.load(Ordering::Relaxed).then(|| knobs.origin.clone())) {
        query.append_pair("iss", &named);
    }
    drop(query);
    Response::builder()
        .status(302)
        .header("location", back.as_str())
        .body(Body::empty())
        .unwrap()
}

fn token(knobs: &AuthorityKnobs, headers: &HeaderMap, given: &Fields) -> Response<Body> {
    let refused = |code: &str| answer(400, &json!({ "error": code }));
    let Some(client) = client(knobs, headers, given) else {
        return answer(401, &json!({ "error": "invalid_client" }));
    };
    match field(given, "grant_type").as_deref() {
        Some("authorization_code") => {
            let code = field(given, "code").unwrap_or_default();
            let Some((asked, person)) = knobs.state.lock().codes.remove(&code) else {
                return refused("invalid_grant");
            };
            let verifier = field(given, "code_verifier").unwrap_or_default();
            let hash = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
            let same = |name: &str| field(&asked, name) == field(given, name);
            if field(&asked, "code_challenge") != Some(URL_SAFE_NO_PAD.encode(hash))
                || !same("redirect_uri")
                || field(&asked, "client_id").as_deref() != Some(&client)
            {
                return refused("invalid_grant");
            }
            let grant = IssuedGrant {
                family: knobs.next.fetch_add(1, Ordering::Relaxed),
                client,
                subject: person.subject.clone(),
                scope: field(&asked, "scope").unwrap_or_default(),
                ends: Instant::now(),
            };
            let nonce = field(&asked, "nonce");
            issue(knobs, grant, Some((&person, nonce)))
        }
        Some("refresh_token") => {
            let token = field(given, "refresh_token").unwrap_or_default();
            let mut kept = knobs.state.lock();
            *kept.redeemed.entry(token.clone()).or_default() += 1;
            let rotates = knobs.rotates.load(Ordering::Relaxed);
            let grant = if rotates {
                kept.refresh.remove(&token)
            } else {
                kept.refresh.get(&token).cloned()
            };
            let Some(grant) = grant.filter(|it| !kept.dead.contains(&it.family)) else {
                if kept.redeemed.get(&token).is_some_and(|times| *times > 1) {
                    knobs.replayed.fetch_add(1, Ordering::Relaxed);
                }
                return refused("invalid_grant");
            };
            drop(kept);
            issue(knobs, grant, None)
        }
        Some("client_credentials") => {
            let grant = IssuedGrant {
                family: knobs.next.fetch_add(1, Ordering::Relaxed),
                subject: client.clone(),
                client,
                scope: field(given, "scope").unwrap_or_default(),
                ends: Instant::now(),
            };
            issue(knobs, grant, None)
        }
        _ => refused("unsupported_grant_type"),
    }
}

/// The client of a token request, when it proves itself; one that was never registered is the
/// descriptor's and taken at its word.
fn client(knobs: &AuthorityKnobs, headers: &HeaderMap, given: &Fields) -> Option<String> {
    let basic = headers.get("authorization").and_then(|it| it.to_str().ok());
    let basic = basic.and_then(|it| STANDARD.decode(it.strip_prefix("Basic ")?).ok());
    let basic = basic.and_then(|it| String::from_utf8(it).ok());
    let (id, secret) = match basic.as_deref().and_then(|it| it.split_once(':')) {
        Some((id, secret)) => (id.to_owned(), Some(secret.to_owned())),
        None => (field(given, "client_id")?, field(given, "client_secret")),
    };
    let known = knobs.state.lock().clients.get(&id).cloned();
    match known {
        Some(known) => (known["client_secret"].as_str() == secret.as_deref()).then_some(id),
        None => (!id.starts_with("client-")).then_some(id),
    }
}

fn issue(
    knobs: &AuthorityKnobs,
    mut grant: IssuedGrant,
    person: Option<(&Person, Option<String>)>,
) -> Response<Body> {
    let lifetime = knobs.lifetime.load(Ordering::Relaxed);
    let lasts = if lifetime == 0 { 3600 } else { lifetime };
    grant.ends = Instant::now() + Duration::from_secs(lasts);
    let number = knobs.next.fetch_add(1, Ordering::Relaxed);
    let (access, refresh) = (format!("access-{number}"), format!("refresh-{number}"));
    let mut reply = json!({ "access_token": access, "token_type": "Bearer", "scope": grant.scope });
    if lifetime > 0 {
        reply["expires_in"] = json!(lifetime);
    }
    let first = person.is_some();
    if let (Some((person, nonce)), true) = (person, knobs.openid.load(Ordering::Relaxed)) {
        reply["id_token"] = json!(id_token(knobs, &grant.client, person, nonce));
    }
    let mut kept = knobs.state.lock();
    kept.access.insert(access, grant.clone());
    if knobs.refreshes.load(Ordering::Relaxed) && (first || knobs.rotates.load(Ordering::Relaxed)) {
        reply["refresh_token"] = json!(refresh);
        kept.refresh.insert(refresh, grant);
    }
    answer(200, &reply)
}

fn id_token(knobs: &AuthorityKnobs, client: &str, person: &Person, nonce: Option<String>) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut claims = json!({ "iss": knobs.origin, "aud": client, "sub": person.subject,
        "iat": now, "exp": now + 300 });
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    if let Some(email) = &person.email {
        claims["email"] = json!(email);
        claims["email_verified"] = json!(true);
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({ "alg": "RS256" })), part(&claims))
}

fn userinfo(knobs: &AuthorityKnobs, headers: &HeaderMap) -> Response<Body> {
    let Some(grant) = bearer(knobs, headers) else {
        return answer(401, &json!({ "error": "invalid_token" }));
    };
    let person = knobs.person.lock().clone();
    if person.subject != grant.subject {
        return answer(200, &json!({ "sub": grant.subject }));
    }
    answer(
        200,
        &json!({ "sub": person.subject, "preferred_username": person.username,
            "email": person.email, "email_verified": true }),
    )
}

fn bearer(knobs: &AuthorityKnobs, headers: &HeaderMap) -> Option<IssuedGrant> {
    let value = headers.get("authorization")?.to_str().ok()?;
    let grant = knobs
        .state
        .lock()
        .access
        .get(value.strip_prefix("Bearer ")?)
        .cloned();
    grant.filter(|it| it.ends > Instant::now())
}

/// What a request of a method meets: a status that is answered, or the end of tokens.
fn met(knobs: &AuthorityKnobs, method: &str) -> Option<u16> {
    let mut meets = knobs.meets.lock();
    match meets.get(method).copied()? {
        Meets::Status(status) => Some(status),
        ends => {
            meets.remove(method);
            knobs.state.lock().end(ends);
            None
        }
    }
}

/// The MCP server behind its guard.
async fn guarded(
    knobs: &Arc<AuthorityKnobs>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let document = format!("{}/.well-known/oauth-protected-resource/mcp", knobs.origin);
    let refused = |status: u16, more: &str| {
        Response::builder()
            .status(status)
            .header(
                "www-authenticate",
                format!("Bearer resource_metadata=\"{document}\"{more}"),
            )
            .body(Body::empty())
            .unwrap()
    };
    let reply = |(status, challenge, body): Denied| {
        let reply = Response::builder()
            .status(status)
            .header("www-authenticate", challenge);
        reply.body(Body::from(body)).unwrap()
    };
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    if let Some(status) = met(knobs, message["method"].as_str().unwrap_or_default()) {
        return reply((status, "", ""));
    }
    let takes = knobs.takes.load(Ordering::Relaxed);
    let Some(grant) = bearer(knobs, &headers).filter(|_| takes) else {
        let refuses = *knobs.refuses.lock();
        return match refuses.filter(|_| headers.contains_key("authorization")) {
            Some((status, challenge)) => reply((status, challenge, "")),
            None => refused(401, ""),
        };
    };
    let tool = message["params"]["name"].as_str().unwrap_or_default();
    if let Some(denied) = knobs.denies_tools.lock().get(tool).copied() {
        return reply(denied);
    }
    let needed = knobs.needs.lock().get(tool).cloned();
    if let Some(needed) = needed.filter(|it| !grant.scope.split(' ').any(|scope| scope == it)) {
        return refused(
            403,
            &format!(", error=\"insufficient_scope\", scope=\"{needed}\""),
        );
    }
    provider::serve(State(Arc::clone(&knobs.mcp)), method, headers, body).await
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}
