//! Asks a gateway that runs on this machine, as its local caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use url::Url;

use super::runtime_file::RunningGateway;
use pleiades_core::error::{Code, Error};
use pleiades_core::signature::Signature;
use pleiades_core::web::{AddressPolicy, HttpClient as _};
use pleiades_credential::vault::file::key;
use pleiades_descriptor::settings::{self, Settings};
use pleiades_mcp::{DeclaredCapabilities, RawObject, Revision};
use pleiades_upstream::{Call, Endpoint, Identity, Outbound, SessionSharing, Transport, Upstreams};

/// Connecting to a listener of this machine.
const CONNECT: Duration = Duration::from_secs(2);
/// Opening a session, with which it waits for no provider.
const OPENING: Duration = Duration::from_secs(10);
/// What the admin listener may take to say how a provider is.
const REASON: Duration = Duration::from_secs(2);
/// How long the session is kept between two requests.
const IDLE: Duration = Duration::from_secs(600);
/// Questions and notifications that wait to be dropped.
const EVENTS: usize = 16;
/// The revision that commands speak, whoever answers them.
pub(crate) const REVISION: Revision = Revision::NEWEST_LEGACY;
const ACCOUNT_HEADER: HeaderName = HeaderName::from_static("pleiades-account");
/// Asks for the request's id in errors, where they are read apart from the answer's headers.
const NAMED_HEADER: HeaderName = HeaderName::from_static("pleiades-name-request");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a command asks a gateway for.
#[derive(Debug)]
pub(crate) struct ToolViewRequest<'a> {
    /// The provider whose tools are meant.
    pub(crate) provider: &'a str,
    /// The account that is used.
    pub(crate) account: Option<&'a str>,
    /// What the caller brings for the provider.
    pub(crate) keys: Vec<(HeaderName, HeaderValue)>,
}

/// A session in the tool view of one provider.
#[derive(Debug)]
pub(crate) struct GatewayClient {
    control: Runtime,
    upstreams: Arc<Upstreams>,
    endpoint: Arc<Endpoint>,
    identity: Identity,
    admin: SocketAddr,
}

impl GatewayClient {
    /// Opens the session. `None` when the gateway cannot be asked: it serves TLS under a name of its own, it
    /// lets this caller not in, or does not know the provider; nothing was run then.
    pub(crate) fn open(
        settings: &Settings,
        gateway: &RunningGateway,
        wanted: ToolViewRequest<'_>,
    ) -> Option<Self> {
        let endpoint = Arc::new(endpoint(settings, gateway, wanted)?);
        let control = super::control().ok()?;
        let upstreams = Upstreams::new(control.handle().clone(), Vec::new());
        let local = settings.access.local();
        let client = Self {
            control,
            upstreams,
            endpoint,
            identity: Identity {
                tenant: local.tenant.into(),
                user: local.user.into(),
                signature: Arc::new(Signature::default()),
                session: None,
            },
            admin: gateway.admin,
        };
        let probe = client.upstreams.probe(&client.endpoint, &client.identity);
        let opened = client.control.block_on(async { timeout(OPENING, probe).await });
        let why = match opened {
            Ok(Ok(_)) => return Some(client),
            Ok(Err(error)) => error.in_full(),
            Err(_elapsed) => "it does not answer".to_owned(),
        };
        tracing::info!(server.listen = %gateway.address, error = why, "the gateway that runs cannot be asked");
        client.close(Duration::ZERO);
        None
    }

    /// The runtime that requests run on.
    pub(crate) const fn control(&self) -> &Runtime {
        &self.control
    }

    /// One request. Whatever the provider asks meanwhile is cancelled: nobody is there to be asked.
    pub(crate) async fn request(
        &self,
        method: &'static str,
        params: &Map<String, Value>,
        within: Duration,
    ) -> Result<Value, Error> {
        let mut given = RawObject::new();
        params.iter().for_each(|(name, value)| given.put(name, value));
        let (events, mut beside) = mpsc::channel(EVENTS);
        let call = Call {
            declared: DeclaredCapabilities::all(),
            events: Some(events),
            ..Call::new(method, given, REVISION, Instant::now() + within)
        };
        let request = self.upstreams.request(&self.endpoint, &self.identity, call);
        tokio::pin!(request);
        let result = loop {
            tokio::select! {
                result = &mut request => break result?,
                // Dropped, a question is answered as by somebody who closes it.
                Some(_) = beside.recv() => {}
            }
        };
        serde_json::from_str(result.get())
            .map_err(|cause| Error::new(Code::Internal, "the gateway's answer is no JSON").because(cause))
    }

    /// How the gateway says that a provider is.
    pub(crate) fn report(&self, provider: &str) -> Option<Value> {
        let web = Outbound::new(Arc::clone(self.upstreams.resolver()));
        let mut entries = self.control.block_on(asked(&web, self.admin))?;
        let at = entries.iter().position(|entry| entry["id"] == provider)?;
        Some(entries.swap_remove(at))
    }

    /// Ends the session.
    pub(crate) fn close(self, within: Duration) {
        self.control.block_on(self.upstreams.shutdown(within));
        self.control.shutdown_background();
    }
}

/// How the providers of a gateway are, as its admin listener says to whoever is on this machine, or has its key.
pub(crate) fn providers(gateway: &RunningGateway) -> Option<Vec<Value>> {
    let control = super::control().ok()?;
    let upstreams = Upstreams::new(control.handle().clone(), Vec::new());
    let web = Outbound::new(Arc::clone(upstreams.resolver()));
    let entries = control.block_on(asked(&web, gateway.admin));
    control.shutdown_background();
    entries
}

async fn asked(web: &Outbound, admin: SocketAddr) -> Option<Vec<Value>> {
    let mut request = http::Request::get(format!("http://{admin}/providers"));
    if let Some(key) = settings::admin_key() {
        request = request.header(API_KEY, secret(key.expose())?);
    }
    let request = request.body(Vec::new()).ok()?;
    let reach = AddressPolicy {
        private: true,
        loopback: true,
        ca: None,
    };
    let answer = timeout(REASON, web.send(&reach, request)).await.ok()?.ok()?;
    let mut report: Value = serde_json::from_slice(answer.body()).ok()?;
    match report.get_mut("providers").map(Value::take) {
        Some(Value::Array(entries)) => Some(entries),
        _ => None,
    }
}

/// The tool view of the provider, with what proves who asks.
fn endpoint(settings: &Settings, gateway: &RunningGateway, wanted: ToolViewRequest<'_>) -> Option<Endpoint> {
    // Its certificate names it as others reach it, not as this machine does.
    if settings.tls.is_some() || !is_id(wanted.provider) {
        return None;
    }
    let mut headers = wanted.keys;
    headers.push((NAMED_HEADER, HeaderValue::from_static("1")));
    if settings.access.names_callers() {
        let key = key::read(&super::local_key_file(settings)?).ok()?;
        headers.push((API_KEY, secret(key.expose())?));
    }
    if let Some(account) = wanted.account {
        headers.push((ACCOUNT_HEADER, HeaderValue::from_bytes(account.as_bytes()).ok()?));
    }
    let url = Url::parse(&format!("http://{}/tools/{}", gateway.address, wanted.provider)).ok()?;
    Some(Endpoint {
        provider: Arc::from(wanted.provider),
        digest: [0; 32],
        target: Transport::Http {
            url,
            headers,
            tls: None,
            allow_private: true,
            allow_loopback: true,
            sse: false,
        },
        revision: Some(REVISION),
        share: SessionSharing::User,
        connect: CONNECT,
        call: OPENING,
        idle: IDLE,
    })
}

/// Whether a provider can have this id, which stands in the URL as it is; others would name another view.
fn is_id(text: &str) -> bool {
    let is_word =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_word) && !text.starts_with("s_")
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_descriptor::settings::{CallerKey, ListenerTls};

    fn target(settings: &Settings, provider: &str, account: Option<&str>) -> Option<Transport> {
        let address = ([127, 0, 0, 1], 8787).into();
        let gateway = RunningGateway::at(address, address);
        let wanted = ToolViewRequest {
            provider,
            account,
            keys: Vec::new(),
        };
        endpoint(settings, &gateway, wanted).map(|endpoint| endpoint.target)
    }

    #[test]
    fn the_tool_view_of_the_provider_is_asked_as_the_account_that_is_named() {
        let Some(Transport::Http { url, headers, .. }) = target(&Settings::default(), "mail", Some("änn"))
        else {
            panic!("over HTTP");
        };
        assert_eq!(url.as_str(), "http://127.0.0.1:8787/tools/mail");
        let [_, (name, value)] = headers.as_slice() else {
            panic!("{headers:?}");
        };
        assert_eq!((name, value.as_bytes()), (&ACCOUNT_HEADER, "änn".as_bytes()));
    }

    #[test]
    fn what_no_provider_can_be_called_names_no_other_view() {
        for id in ["", "s_key", "a/b", "..", "A", "a?b", "a b"] {
            assert!(target(&Settings::default(), id, None).is_none(), "{id:?}");
        }
    }

    #[test]
    fn a_gateway_with_tls_or_without_a_way_in_is_not_asked() {
        let encrypted = Settings {
            tls: Some(ListenerTls {
                cert_file: "cert.pem".into(),
                key_file: "key.pem".into(),
            }),
            ..Settings::default()
        };
        assert!(target(&encrypted, "mail", None).is_none());
        let mut keyed = Settings::default();
        keyed.access.api_keys.push(CallerKey {
            name: "ci".to_owned(),
            tenant: "acme".to_owned(),
            user: "bot".to_owned(),
            sha256: "0".repeat(64),
        });
        assert!(
            target(&keyed, "mail", None).is_none(),
            "there is no key of a local caller"
        );
    }
}
