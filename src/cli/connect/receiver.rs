//! Chooses the redirect URI of `pleiades connect`, and who receives it.
//!
//! Providers compare redirect URIs to the letter, so the gateway's own is used wherever that is possible:
//! with `public_url` on loopback its callback, taken by the gateway that runs or, on the same port, by this
//! process. Elsewhere a port of 127.0.0.1 is taken, but for a client of one's own beside a gateway that
//! runs: only the gateway's callback is registered with that, so its page is opened.

use std::{io, time::Duration};

use http::{Method, Request, StatusCode, header};
use tokio::time::timeout;
use url::Url;

use super::listener::CallbackListener;
use crate::app::App;
use pleiades_credential::broker::{ConnectLink, LinkPayload, ProofMethod as Proof, RedirectTarget};
use pleiades_credential::{AddressPolicy, Connection};

/// Timeout for the page of a connect link.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) enum CallbackReceiver {
    /// The gateway that runs: the page of this link begins the flow, too.
    Page(ConnectLink),
    /// The gateway that runs; the flow is begun here.
    Served,
    /// This process, at an origin, which the flow's beginning has to know.
    Here(CallbackListener, String, RedirectTarget),
}

pub(super) async fn find(
    app: &App,
    connection: &Connection,
    opened: &LinkPayload,
) -> io::Result<CallbackReceiver> {
    let broker = &app.services().exchange.accounts.broker;
    let base = broker.endpoints.base();
    if !broker.endpoints.is_on_loopback() {
        let is_own_client = connection.client_id.is_some();
        if is_own_client && broker.proof_method(opened) != Proof::Nobody {
            let link = broker.link(&opened.principal, &opened.request);
            if is_served(app, &link.url).await {
                return Ok(CallbackReceiver::Page(link));
            }
        }
        return here("127.0.0.1", app.settings().listen.port()).await;
    }
    let host = base.host_str().unwrap_or("127.0.0.1");
    let port = base.port_or_known_default().unwrap_or(0);
    if base.scheme() == "http"
        && port != 0
        && let Ok(listener) = CallbackListener::bind(host, port).await
    {
        return Ok(CallbackReceiver::Here(
            listener,
            origin(base),
            RedirectTarget::Terminal,
        ));
    }
    let link = broker.link(&opened.principal, &opened.request);
    if port != 0 && is_served(app, &link.url).await {
        return Ok(CallbackReceiver::Served);
    }
    here(host, 0).await
}

/// A listener of this process on the wanted port, else on any.
async fn here(host: &str, wanted: u16) -> io::Result<CallbackReceiver> {
    let listener = match CallbackListener::bind(host, wanted).await {
        Ok(listener) => listener,
        Err(_taken) => CallbackListener::bind(host, 0).await?,
    };
    let origin = format!("http://{host}:{}", listener.port());
    let back = RedirectTarget::Listener(origin.clone());
    Ok(CallbackReceiver::Here(listener, origin, back))
}

/// Scheme, host and port, as redirect URIs begin with them.
fn origin(base: &Url) -> String {
    base.origin().ascii_serialization()
}

/// Whether a gateway serves the link: then it runs with our keys and our store. The probe does not use the
/// link up.
async fn is_served(app: &App, link: &str) -> bool {
    let manager = &app.services().exchange.accounts.manager;
    let request = Request::builder()
        .method(Method::GET)
        .uri(link)
        .header(header::ACCEPT, "text/html")
        .body(Vec::new());
    let Ok(request) = request else { return false };
    let reach = AddressPolicy {
        private: true,
        loopback: true,
        ca: None,
    };
    let asked = timeout(PROBE_TIMEOUT, manager.web().send(&reach, request)).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|response| response.status() == StatusCode::OK))
}
