//! Chooses the redirect URI of `pleiades connect`, and who receives it.
//!
//! Providers compare redirect URIs to the letter, so the gateway's own is used wherever that is possible:
//! with `public_url` on loopback its callback, taken by the gateway that runs or, on the same port, by this
//! process. Elsewhere a port of 127.0.0.1 is taken, but for a client of one's own beside a gateway that
//! runs: only the gateway's callback is registered with that, so its page is opened.

use std::io;

use url::Url;

use super::listener::CallbackListener;
use crate::app::App;
use pleiades_credential::Connection;
use pleiades_credential::broker::{ConnectLink, LinkPayload, ProofMethod as Proof, RedirectTarget};

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
            if broker.is_served(&link.url).await {
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
    if port != 0 && broker.is_served(&link.url).await {
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
