//! The loopback port that an authorization comes back to (RFC 8252 section 7.3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use pleiades_core::page;
use pleiades_credential::broker::ConnectError;

/// About the longest head of a request, in bytes; what a callback's query may be and a browser's headers are.
const MAX_HEAD: usize = 32 * 1_024;
/// How long a browser may take to send its request, and to take its answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Callbacks that wait to be looked at.
const QUEUE: usize = 8;

/// What a page is signed with that belongs to no sign-in.
const GATEWAY: &str = "pleiades";

/// Listens on loopback while a person signs in.
#[derive(Debug)]
pub(super) struct CallbackListener {
    port: u16,
    callbacks: mpsc::Receiver<BrowserCallback>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct BrowserCallback {
    /// The path of the redirect URI, which tells flows apart.
    pub(super) path: String,
    /// What the authorization server answered.
    pub(super) query: String,
    page: oneshot::Sender<ResultPage>,
    /// Ends with the connection, after the page was written.
    closed: oneshot::Receiver<()>,
}

#[derive(Debug)]
pub(super) struct ResultPage {
    status: StatusCode,
    html: String,
}

impl Drop for CallbackListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl CallbackListener {
    /// On this port of the host, and on no other.
    pub(super) async fn bind(host: &str, port: u16) -> io::Result<Self> {
        let home = if host.starts_with('[') {
            IpAddr::from(Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::from(Ipv4Addr::LOCALHOST)
        };
        let listener = TcpListener::bind((home, port)).await?;
        let port = listener.local_addr()?.port();
        let (send, callbacks) = mpsc::channel(QUEUE);
        let mut hosts = vec![format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        hosts.push(format!("{host}:{port}"));
        if port == 80 {
            hosts.push(host.to_owned());
        }
        let hosts: Arc<[String]> = hosts.into();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    // A browser opens connections that it says nothing on: none keeps another waiting.
                    Ok((stream, _)) => drop(tokio::spawn(serve_connection(
                        stream,
                        Arc::clone(&hosts),
                        send.clone(),
                    ))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self {
            port,
            callbacks,
            accepting,
        })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) async fn next(&mut self) -> Option<BrowserCallback> {
        self.callbacks.recv().await
    }
}

impl BrowserCallback {
    /// Shows a page. A browser that is gone misses nothing that the terminal does not say.
    pub(super) async fn answer(self, page: ResultPage) {
        self.page.send(page).ok();
        timeout(IDLE_TIMEOUT, self.closed).await.ok();
    }
}

/// Serves the one request of a connection: a callback is answered by whoever takes it, anything else at once.
async fn serve_connection(stream: TcpStream, hosts: Arc<[String]>, send: mpsc::Sender<BrowserCallback>) {
    let (open, closed) = oneshot::channel();
    let closed = Mutex::new(Some(closed));
    let service = service_fn(|request| {
        let callback = target(&request, &hosts).zip(closed.lock().take());
        let send = send.clone();
        async move {
            let Some(((path, query), closed)) = callback else {
                return Ok(nothing().response());
            };
            let (page, answer) = oneshot::channel();
            let callback = BrowserCallback {
                path,
                query,
                page,
                closed,
            };
            send.send(callback).await.ok();
            // A callback that nobody answers ends the connection.
            answer.await.map(|page| page.response())
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false);
    http.serve_connection(TokioIo::new(stream), service).await.ok();
    drop(open);
}

/// Path and query of a callback that is meant for this port.
fn target<T>(request: &Request<T>, hosts: &[String]) -> Option<(String, String)> {
    // A page elsewhere could make a name of its own lead here.
    let mut names = request.headers().get_all(header::HOST).iter();
    let host = names.next()?.to_str().ok()?;
    let is_ours = names.next().is_none() && hosts.iter().any(|own| own == host);
    let uri = request.uri();
    let is_callback = uri.authority().is_none() && uri.path().contains("/oauth/callback");
    if request.method() != Method::GET || !is_ours || !is_callback {
        return None;
    }
    Some((uri.path().to_owned(), uri.query()?.to_owned()))
}

impl ResultPage {
    fn new(status: StatusCode, html: String) -> Self {
        Self { status, html }
    }

    fn response(self) -> Response<String> {
        let mut response = Response::new(self.html);
        *response.status_mut() = self.status;
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, &page::POLICY),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn nothing() -> ResultPage {
    let sentences = [
        "This port waits for the answer to a sign-in.",
        "Begin with `pleiades connect`.",
    ];
    let html = page::notice(GATEWAY, "Nothing is here", &sentences);
    ResultPage::new(StatusCode::NOT_FOUND, html)
}

pub(super) fn connected(gateway: &str, title: &str, account: (&str, Option<&str>)) -> ResultPage {
    let rest = page::paragraphs(&["You can close this page and go back to the terminal."]);
    ResultPage::new(StatusCode::OK, page::connected(gateway, title, account, &rest))
}

pub(super) fn asked(gateway: &str, title: &str) -> ResultPage {
    let why = format!("Another account of {title} was connected under this name before.");
    let sentences = [
        &why,
        "The terminal asks whether to replace it. You can close this page and go back there.",
    ];
    ResultPage::new(
        StatusCode::OK,
        page::notice(gateway, "One question is left", &sentences),
    )
}

pub(super) fn refused(gateway: &str, refusal: &ConnectError) -> ResultPage {
    let html = page::notice(gateway, "Not connected", &[&refusal.why, &refusal.cure]);
    ResultPage::new(StatusCode::BAD_REQUEST, html)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn head(request: &str, host: &str) -> String {
        format!("{request} HTTP/1.1\r\nAccept: */*\r\nHOST: {host}\r\n\r\n")
    }

    #[test]
    fn a_callback_is_for_this_port_and_no_other_name() {
        let hosts = ["127.0.0.1:8787", "localhost:8787"].map(str::to_owned);
        let at = |method: &str, uri: &str, names: &[&str]| {
            let mut request = Request::builder().method(method).uri(uri);
            for name in names {
                request = request.header(header::HOST, *name);
            }
            target(&request.body(()).unwrap(), &hosts)
        };
        let (uri, own) = ("/oauth/callback?code=a&state=b", "127.0.0.1:8787");
        let expected = ("/oauth/callback".to_owned(), "code=a&state=b".to_owned());
        assert_eq!(at("GET", uri, &[own]), Some(expected));
        assert!(at("GET", "/oauth/callback/mail?code=a", &["localhost:8787"]).is_some());
        for names in [
            &["evil.example:8787"] as &[_],
            &["127.0.0.1:1"],
            &[],
            &[own, "evil.example"],
        ] {
            assert!(at("GET", uri, names).is_none(), "{names:?}");
        }
        assert!(at("POST", uri, &[own]).is_none());
        assert!(at("GET", "/favicon.ico", &[own]).is_none());
        assert!(at("GET", "http://evil.example/oauth/callback?code=a", &[own]).is_none());
    }

    #[test]
    fn a_page_shows_words_and_never_markup_of_others() {
        let page = connected("pleiades", "<b>&\"x", ("ada<i>", Some("ada@example.com")));
        assert!(page.html.contains("&lt;b&gt;&amp;&quot;x is connected"));
        assert!(
            page.html
                .contains("<strong>ada&lt;i&gt;</strong> (ada@example.com) is connected")
        );
        assert!(page.html.contains("You can close this page"));
    }

    #[tokio::test]
    async fn silent_connections_keep_nobody_waiting_and_other_paths_are_answered() {
        let mut listener = CallbackListener::bind("127.0.0.1", 0).await.unwrap();
        let at = (Ipv4Addr::LOCALHOST, listener.port());
        let _silent = TcpStream::connect(at).await.unwrap();
        let mut other = TcpStream::connect(at).await.unwrap();
        let host = format!("127.0.0.1:{}", listener.port());
        other
            .write_all(head("GET /favicon.ico", &host).as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        other.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 404"), "{text}");
        let mut browser = TcpStream::connect(at).await.unwrap();
        browser
            .write_all(head("GET /oauth/callback?state=s", &host).as_bytes())
            .await
            .unwrap();
        let returned = listener.next().await.unwrap();
        assert_eq!(returned.query, "state=s");
        returned
            .answer(connected("pleiades", "Mail", ("ada", None)))
            .await;
        let mut text = String::new();
        browser.read_to_string(&mut text).await.unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK") && text.contains("Mail is connected"),
            "{text}"
        );
    }
}
