//! The way to authorization servers, over real sockets.

use axum::{Router, http::StatusCode, response::Redirect, routing::any};
use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::over_tls::{self, FIRST_CA, SECOND_CA};
use super::*;
use pleiades_core::web::{AddressPolicy, HttpClient, SendError};

fn home() -> AddressPolicy {
    AddressPolicy {
        loopback: true,
        ..AddressPolicy::default()
    }
}

fn trusting(ca: &str) -> AddressPolicy {
    AddressPolicy {
        ca: Some(Arc::new(ca.as_bytes().to_vec())),
        ..home()
    }
}

/// Every name has this address.
fn outbound(address: &'static str) -> Outbound {
    let resolver = Resolver::with_lookup(Handle::current(), move |_| {
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    });
    Outbound::new(Arc::new(resolver))
}

async fn serving(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn post(outbound: &Outbound, reach: &AddressPolicy, url: &str) -> Result<Response<Bytes>, SendError> {
    let request = Request::post(url).body(br#"{"id": 1}"#.to_vec()).unwrap();
    soon(outbound.send(reach, request)).await
}

/// What became of it: whether it may have arrived, and whether trying again helps.
async fn fate(outbound: &Outbound, reach: &AddressPolicy, url: &str) -> (bool, bool) {
    let unreached = post(outbound, reach, url).await.unwrap_err();
    (unreached.sent, unreached.transient)
}

const FORBIDDEN: (bool, bool) = (false, false);

#[tokio::test]
async fn an_answer_of_any_status_comes_whole_and_no_redirect_is_followed() {
    let router = Router::new()
        .route("/token", any(|| async { (StatusCode::IM_A_TEAPOT, "short") }))
        .route("/moved", any(|| async { Redirect::temporary("/token") }));
    let port = serving(router).await;
    let outbound = outbound("127.0.0.1");
    for host in ["127.0.0.1", "localhost", "as.test"] {
        let answer = post(&outbound, &home(), &format!("http://{host}:{port}/token")).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_ref()),
            (418, b"short".as_slice())
        );
    }
    let moved = post(&outbound, &home(), &format!("http://localhost:{port}/moved")).await;
    assert_eq!(moved.unwrap().status().as_u16(), 307);
}

#[tokio::test]
async fn what_is_not_permitted_is_never_connected_to() {
    let outbound = outbound("127.0.0.1");
    let nothing = AddressPolicy::default();
    for url in [
        "https://127.0.0.1:9/",
        "https://as.test:9/",
        "http://localhost:9/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "http://127.0.0.1:9/",
    ] {
        assert_eq!(fate(&outbound, &nothing, url).await, FORBIDDEN, "{url}");
    }
    let private = self::outbound("10.0.0.1");
    assert_eq!(fate(&private, &home(), "https://as.test/").await, FORBIDDEN);
}

#[tokio::test]
async fn nothing_leaves_the_machine_without_tls() {
    let wide = AddressPolicy {
        private: true,
        ..home()
    };
    for address in ["10.0.0.1", "1.1.1.1"] {
        let outbound = outbound(address);
        for url in ["http://as.test/", &format!("http://{address}/"), "ftp://as.test/"] {
            assert_eq!(fate(&outbound, &wide, url).await, FORBIDDEN, "{url}");
        }
    }
}

#[tokio::test]
async fn an_answer_larger_than_a_mebibyte_is_not_read() {
    let router = Router::new().route("/", any(|| async { vec![0_u8; 1024 * 1024 + 1] }));
    let port = serving(router).await;
    let url = format!("http://localhost:{port}/");
    assert_eq!(fate(&outbound("127.0.0.1"), &home(), &url).await, (true, false));
}

#[tokio::test]
async fn what_was_never_connected_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://localhost:{port}/");
    assert_eq!(fate(&outbound("127.0.0.1"), &home(), &url).await, (false, true));
}

#[tokio::test]
async fn what_broke_after_the_request_may_have_arrived() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let read = socket.read(&mut [0; 4096]).await.unwrap();
            assert!(read > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let (outbound, url) = (outbound("127.0.0.1"), format!("http://localhost:{port}/"));
    assert_eq!(fate(&outbound, &home(), &url).await, (true, true));
    assert_eq!(fate(&outbound, &home(), &url).await, (true, true));
}

#[tokio::test]
async fn a_private_ca_is_trusted_where_it_is_named_and_nowhere_else() {
    let url = over_tls::server(false).to_string();
    let outbound = outbound("127.0.0.1");
    assert!(post(&outbound, &trusting(FIRST_CA), &url).await.is_ok());
    for reach in [home(), trusting(SECOND_CA)] {
        let unreached = post(&outbound, &reach, &url).await.unwrap_err();
        assert_eq!(
            (unreached.sent, unreached.message.as_str()),
            (
                false,
                "the certificate of `localhost` was not accepted: nobody who is trusted here has signed it"
            )
        );
    }
    assert!(post(&outbound, &trusting(FIRST_CA), &url).await.is_ok());
}

#[tokio::test]
async fn a_server_without_tls_is_reported_as_that_and_not_as_a_bad_certificate() {
    let port = serving(Router::new()).await;
    let url = format!("https://localhost:{port}/token");
    let unreached = post(&outbound("127.0.0.1"), &home(), &url).await.unwrap_err();
    assert_eq!(
        unreached.message,
        "`localhost` does not speak TLS there: is it `http`?"
    );
    assert!(unreached.cure.unwrap().contains("correct scheme and port"));
}

#[tokio::test]
async fn no_message_holds_more_of_a_url_than_its_host() {
    let url = "http://localhost:1/path?secret=s3cr3t";
    let unreached = post(&outbound("127.0.0.1"), &home(), url).await.unwrap_err();
    assert!(!format!("{unreached:?}").contains("s3cr3t"), "{unreached:?}");
}
