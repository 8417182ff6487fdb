//! Against a world of scripted answers, which counts what was fetched.

mod authorization;
mod discovery;
mod identities;
mod quirks;
mod registration;
mod tokens;

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::connection::{Connection, GrantType, Pkce, ResourceParameter};
use crate::record::{ClientAuth, OAuthClient, TokenSource};
use pleiades_core::web::{AddressPolicy, HttpClient, SendError};

/// Answers by URL; everything else is 404.
#[derive(Debug, Default)]
struct ScriptedWeb {
    answers: HashMap<String, (u16, &'static str, String)>,
    /// Hosts that cannot be connected to, and those that break after the request.
    down: Vec<(&'static str, bool)>,
    /// URLs that never answer.
    hanging: Vec<String>,
    /// Headers of answers by URL.
    headers: HashMap<String, (&'static str, String)>,
    /// Answers that come before the usual one, by URL.
    first: Mutex<HashMap<String, Vec<(u16, String)>>>,
    seen: Mutex<Vec<Request<Vec<u8>>>>,
    reaches: Mutex<Vec<(String, AddressPolicy)>>,
}

impl ScriptedWeb {
    fn json(self, url: &str, body: &Value) -> Self {
        self.says(url, 200, "application/json", &body.to_string())
    }

    fn says(mut self, url: &str, status: u16, kind: &'static str, body: &str) -> Self {
        self.answers
            .insert(url.to_owned(), (status, kind, body.to_owned()));
        self
    }

    fn down(mut self, host: &'static str, sent: bool) -> Self {
        self.down.push((host, sent));
        self
    }

    fn hanging(mut self, url: &str) -> Self {
        self.hanging.push(url.to_owned());
        self
    }

    fn header_of(mut self, url: &str, name: &'static str, value: &str) -> Self {
        self.headers.insert(url.to_owned(), (name, value.to_owned()));
        self
    }

    /// One answer at this URL, before the usual ones.
    fn once(self, url: &str, status: u16, body: &str) -> Self {
        let answer = (status, body.to_owned());
        self.first.lock().entry(url.to_owned()).or_default().push(answer);
        self
    }

    /// What was asked, in order.
    fn fetched(&self) -> Vec<String> {
        self.seen.lock().iter().map(|it| it.uri().to_string()).collect()
    }

    /// The form that was posted last.
    fn form(&self) -> BTreeMap<String, String> {
        let seen = self.seen.lock();
        url::form_urlencoded::parse(seen.last().unwrap().body())
            .into_owned()
            .collect()
    }

    /// The JSON that was posted last.
    fn posted(&self) -> Value {
        serde_json::from_slice(self.seen.lock().last().unwrap().body()).unwrap()
    }

    fn header(&self, name: header::HeaderName) -> Option<String> {
        let seen = self.seen.lock();
        let value = seen.last().unwrap().headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

#[async_trait]
impl HttpClient for ScriptedWeb {
    async fn send(
        &self,
        reach: &AddressPolicy,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Bytes>, SendError> {
        let url = request.uri().to_string();
        self.reaches.lock().push((url.clone(), reach.clone()));
        let host = request.uri().host().unwrap().to_owned();
        self.seen.lock().push(request);
        if let Some((_, sent)) = self.down.iter().find(|(down, _)| *down == host) {
            return Err(SendError {
                message: format!("`{host}` did not answer"),
                sent: *sent,
                transient: true,
                cure: None,
                source: None,
            });
        }
        if self.hanging.contains(&url) {
            std::future::pending::<()>().await;
        }
        let once = self
            .first
            .lock()
            .get_mut(&url)
            .filter(|it| !it.is_empty())
            .map(|it| it.remove(0));
        let once = once.map(|(status, body)| (status, "application/json", body));
        let usual = self
            .answers
            .get(&url)
            .cloned()
            .unwrap_or((404, "text/html", "<html>".into()));
        let (status, kind, body) = once.unwrap_or(usual);
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.parse().unwrap());
        if let Some((name, value)) = self.headers.get(&url) {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        if status == 429 {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, "7".parse().unwrap());
        }
        Ok(response)
    }
}

const UPSTREAM: &str = "https://mcp.example/team/mcp";
const ISSUER: &str = "https://as.example";
const TOKEN: &str = "https://as.example/token";

/// A connection that discovers everything.
fn connection() -> Connection {
    Connection {
        name: "first".into(),
        provider: "first".into(),
        title: "First".to_owned(),
        grant: GrantType::AuthorizationCode,
        upstream: Url::parse(UPSTREAM).unwrap(),
        reach: AddressPolicy {
            loopback: true,
            ..AddressPolicy::default()
        },
        client_id: None,
        client_secret: None,
        private_key: None,
        scopes: None,
        authorization_endpoint: None,
        token_endpoint: None,
        revocation_endpoint: None,
        issuer: None,
        metadata: None,
        token_auth: None,
        pkce: Pkce::Auto,
        audience: None,
        resource: ResourceParameter::Auto,
        parameters: BTreeMap::new(),
        connect_url: None,
        lead: std::time::Duration::ZERO,
        attempts: 1,
    }
}

/// Metadata of an issuer, its endpoints under it.
fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "code_challenge_methods_supported": ["S256"],
    })
}

fn server() -> AuthServer {
    AuthServer {
        issuer: Some(ISSUER.to_owned()),
        authorization_endpoint: format!("{ISSUER}/authorize"),
        token_endpoint: TOKEN.to_owned(),
        registration_endpoint: Some(format!("{ISSUER}/register")),
        challenge_methods: Some(vec!["S256".to_owned()]),
        ..AuthServer::default()
    }
}

fn client(auth: ClientAuth, secret: Option<&str>) -> OAuthClient {
    OAuthClient {
        id: "an id".to_owned(),
        auth,
        secret: secret.map(Secret::new),
        declared: false,
    }
}

fn source(client: OAuthClient) -> TokenSource {
    TokenSource {
        issuer: Some(ISSUER.to_owned()),
        token_endpoint: TOKEN.to_owned(),
        revocation_endpoint: Some(format!("{ISSUER}/revoke")),
        client,
        resource: Some(UPSTREAM.to_owned()),
    }
}

fn redirects(used: &str) -> Redirects {
    Redirects {
        used: used.to_owned(),
        registered: vec![used.to_owned(), format!("{used}/first")],
        document: None,
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|it| (*it).to_owned()).collect()
}
