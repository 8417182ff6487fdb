//! Where the authorization of `pleiades connect` comes back to.
//!
//! Providers compare redirect URIs to the letter, so the gateway's own is used wherever that is possible:
//! with `public_url` on loopback its callback, taken by the gateway that runs or, on the same port, by this
//! process. Elsewhere a port of 127.0.0.1 is taken, but for a client of one's own beside a gateway that
//! runs: only the gateway's callback is registered with that, so its page is opened.

use std::io;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use tokio::time::timeout;
use url::Url;

use super::listener::Listener;
use crate::app::App;
use crate::credential::broker::{Back, Link, Opened, Way as Proof};
use crate::credential::{Connection, Reach};

/// How long the gateway that may run has to show the page of a link.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who takes the answer.
#[derive(Debug)]
pub(super) enum Way {
    /// The gateway that runs: the page of this link begins the flow, too.
    Page(Link),
    /// The gateway that runs; the flow is begun here.
    Served,
    /// This process, at an origin, which the flow's beginning has to know.
    Here(Listener, String, Back),
}

/// Finds the way of a flow.
///
/// # Errors
/// When no port can be had.
pub(super) async fn find(app: &App, connection: &Connection, opened: &Opened) -> io::Result<Way> {
    let broker = &app.parts().exchange.accounts.broker;
    let base = broker.base();
    if !broker.is_at_home() {
        let is_own_client = connection.client_id.is_some();
        if is_own_client && broker.way(opened) != Proof::Nobody {
            let link = broker.link(&opened.principal, &opened.wish);
            if is_served(app, &link.url).await {
                return Ok(Way::Page(link));
            }
        }
        return here("127.0.0.1", app.settings().listen.port()).await;
    }
    let host = base.host_str().unwrap_or("127.0.0.1");
    let port = base.port_or_known_default().unwrap_or(0);
    if base.scheme() == "http"
        && port != 0
        && let Ok(listener) = Listener::at(host, port).await
    {
        return Ok(Way::Here(listener, origin(base), Back::Terminal));
    }
    let link = broker.link(&opened.principal, &opened.wish);
    if port != 0 && is_served(app, &link.url).await {
        return Ok(Way::Served);
    }
    here(host, 0).await
}

/// A listener of this process on the wanted port, else on any.
async fn here(host: &str, wanted: u16) -> io::Result<Way> {
    let listener = match Listener::at(host, wanted).await {
        Ok(listener) => listener,
        Err(_taken) => Listener::at(host, 0).await?,
    };
    let origin = format!("http://{host}:{}", listener.port());
    let back = Back::Own(origin.clone());
    Ok(Way::Here(listener, origin, back))
}

/// Scheme, host and port, as redirect URIs begin with them.
fn origin(base: &Url) -> String {
    base.origin().ascii_serialization()
}

/// Whether the gateway at a link's address opens it: then it runs, and has our keys and our store. Asking
/// consumes nothing.
async fn is_served(app: &App, link: &str) -> bool {
    let keeper = &app.parts().exchange.accounts.keeper;
    let request = Request::builder()
        .method(Method::GET)
        .uri(link)
        .header(header::ACCEPT, "text/html")
        .body(Vec::new());
    let Ok(request) = request else { return false };
    let reach = Reach {
        private: true,
        loopback: true,
        ca: None,
    };
    let asked = timeout(PATIENCE, keeper.web().send(&reach, request)).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|response| response.status() == StatusCode::OK))
}
