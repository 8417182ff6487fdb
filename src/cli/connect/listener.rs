//! The loopback port that an authorization comes back to (RFC 8252 section 7.3).

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use pleiades_credential::broker::ConnectError;

/// Longest head of a request, in bytes; what a callback's query may be and a browser's headers are.
const MAX_HEAD: usize = 32 * 1_024;
/// How long a browser may take to say what it wants, and to be answered.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Callbacks that wait to be looked at, and connections that are read at once.
const QUEUE: usize = 8;

/// Listens on loopback while a person signs in.
#[derive(Debug)]
pub(super) struct CallbackListener {
    port: u16,
    callbacks: mpsc::Receiver<BrowserCallback>,
    accepting: tokio::task::JoinHandle<()>,
}

/// A browser that came back.
#[derive(Debug)]
pub(super) struct BrowserCallback {
    /// The path at which it came, which says whose answer it is.
    pub(super) path: String,
    /// What the authorization server said.
    pub(super) query: String,
    stream: TcpStream,
}

/// A page.
#[derive(Debug)]
pub(super) struct ResultPage {
    status: &'static str,
    title: String,
    text: String,
}

impl Drop for CallbackListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl CallbackListener {
    /// On this port of the host, and on no other.
    ///
    /// # Errors
    /// When the port cannot be had.
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

    /// Where it listens.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The next browser that comes back.
    pub(super) async fn next(&mut self) -> Option<BrowserCallback> {
        self.callbacks.recv().await
    }
}

async fn serve_connection(stream: TcpStream, hosts: Arc<[String]>, send: mpsc::Sender<BrowserCallback>) {
    if let Ok(Some(returned)) = timeout(IDLE_TIMEOUT, read(stream, &hosts)).await {
        send.send(returned).await.ok();
    }
}

impl BrowserCallback {
    /// Shows a page. A browser that is gone misses nothing that the terminal does not say.
    pub(super) async fn answer(mut self, page: &ResultPage) {
        timeout(IDLE_TIMEOUT, write(&mut self.stream, page)).await.ok();
    }
}

/// Reads one request; anything but a callback is answered at once.
async fn read(mut stream: TcpStream, hosts: &[String]) -> Option<BrowserCallback> {
    let mut head = Vec::new();
    let mut chunk = [0; 4_096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await.ok()?;
        head.extend_from_slice(chunk.get(..count).filter(|read| !read.is_empty())?);
        if head.len() > MAX_HEAD {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    match target(&head, hosts) {
        Some((path, query)) => Some(BrowserCallback { path, query, stream }),
        None => {
            let page = ResultPage {
                status: "404 Not Found",
                title: "Nothing is here".to_owned(),
                text: "This port waits for the answer to a sign-in.".to_owned(),
            };
            write(&mut stream, &page).await.ok();
            None
        }
    }
}

/// Path and query of a callback that is meant for this port.
fn target(head: &str, hosts: &[String]) -> Option<(String, String)> {
    let mut lines = head.split("\r\n");
    let mut request = lines.next()?.split(' ');
    let (method, target) = (request.next()?, request.next()?);
    // A page elsewhere could make a name of its own lead here.
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
    })?;
    if method != "GET" || !hosts.contains(&host) {
        return None;
    }
    let (path, query) = target.split_once('?')?;
    path.contains("/oauth/callback")
        .then(|| (path.to_owned(), query.to_owned()))
}

async fn write(stream: &mut TcpStream, page: &ResultPage) -> io::Result<()> {
    let body = page.html();
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n\
         Connection: close\r\n\r\n",
        page.status,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

impl ResultPage {
    fn html(&self) -> String {
        let mut html = String::from(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;\
             margin:20vh auto;padding:0 1rem;color-scheme:light dark}</style>",
        );
        let (title, text) = (escaped(&self.title), escaped(&self.text));
        write!(html, "<title>{title}</title><h1>{title}</h1><p>{text}</p></html>").ok();
        html
    }
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut html, char| {
            match char {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                '"' => html.push_str("&quot;"),
                other => html.push(other),
            }
            html
        })
}

pub(super) fn connected(provider: &str) -> ResultPage {
    ResultPage {
        status: "200 OK",
        title: format!("{provider} is connected"),
        text: "You can close this page; the terminal says which account it is.".to_owned(),
    }
}

pub(super) fn asked() -> ResultPage {
    ResultPage {
        status: "200 OK",
        title: "One question is left".to_owned(),
        text: "Another account was connected under this name before. Go back to the terminal.".to_owned(),
    }
}

pub(super) fn refused(refusal: &ConnectError) -> ResultPage {
    ResultPage {
        status: "400 Bad Request",
        title: "Not connected".to_owned(),
        text: format!("{} {}", refusal.why, refusal.cure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: &str, host: &str) -> String {
        format!("{request} HTTP/1.1\r\nAccept: */*\r\nHOST: {host}\r\n\r\n")
    }

    #[test]
    fn a_callback_is_for_this_port_and_no_other_name() {
        let hosts = ["127.0.0.1:8787", "localhost:8787"].map(str::to_owned);
        let at = |request, host| target(&head(request, host), &hosts);
        let callback = "GET /oauth/callback?code=a&state=b";
        let returned = ("/oauth/callback".to_owned(), "code=a&state=b".to_owned());
        assert_eq!(at(callback, "127.0.0.1:8787"), Some(returned));
        assert!(at("GET /oauth/callback/mail?code=a", "localhost:8787").is_some());
        assert!(at(callback, "evil.example:8787").is_none());
        assert!(at(callback, "127.0.0.1:1").is_none());
        assert!(at("POST /oauth/callback?code=a", "127.0.0.1:8787").is_none());
        assert!(at("GET /favicon.ico", "127.0.0.1:8787").is_none());
        assert!(target("GET /oauth/callback?a HTTP/1.1\r\n\r\n", &hosts).is_none());
    }

    #[test]
    fn a_page_shows_words_and_never_markup_of_others() {
        let page = connected("<b>&\"x");
        assert!(page.html().contains("&lt;b&gt;&amp;&quot;x is connected"));
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
        returned.answer(&connected("Mail")).await;
        let mut text = String::new();
        browser.read_to_string(&mut text).await.unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK") && text.contains("Mail is connected"),
            "{text}"
        );
    }
}
