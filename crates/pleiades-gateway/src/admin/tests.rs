use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;
use pleiades_credential::access::{Grants, Principal};

fn access(operators: Vec<(&str, &str)>, is_admin_local: bool) -> Arc<Access> {
    let access = Access::new(Grants {
        local: Principal::new("default", "local"),
        local_key: None,
        callers: Vec::new(),
        operators,
        is_admin_local,
    });
    Arc::new(access.unwrap())
}

fn asker<'a>(host: Option<&'a str>, headers: &'a HeaderMap) -> AdminRequest<'a> {
    AdminRequest {
        host,
        headers,
        peer: Some(IpAddr::from([127, 0, 0, 1])),
    }
}

fn admin() -> Admin {
    Admin {
        metrics: Metrics::new(),
        collect: Arc::new(|metrics| metrics.sessions(7)),
        report: Arc::new(|| json!({"generation": 3, "providers": []})),
        health: Arc::new(|| Ok(())),
        ready: Arc::new(|| Err("2 descriptors are not read yet".to_owned())),
        host_allowed: Arc::new(|host| host == "localhost:8788"),
        origin_allowed: Arc::new(|origin| origin == "http://localhost:8788"),
        access: access(Vec::new(), true),
        accounts: Arc::new(NoAccounts),
        ids: Arc::default(),
    }
}

struct NoAccounts;

#[async_trait]
impl AccountAdmin for NoAccounts {
    async fn list(&self, _wanted: &ListedAccounts) -> AccountOutcome {
        AccountOutcome::Unknown
    }
    async fn get(&self, _named: &AccountPath) -> AccountOutcome {
        AccountOutcome::Unknown
    }
    async fn put(&self, _named: &AccountPath, _token: &[u8]) -> AccountOutcome {
        AccountOutcome::Unknown
    }
    async fn delete(&self, _named: &AccountPath) -> AccountOutcome {
        AccountOutcome::Unknown
    }
    async fn reread(&self, _named: &AccountPath) -> AccountOutcome {
        AccountOutcome::Unknown
    }
}

fn get(admin: &Admin, path: &str) -> (u16, String) {
    let response = admin.answer(
        &Method::GET,
        path,
        asker(Some("localhost:8788"), &HeaderMap::new()),
    );
    (
        response.status().as_u16(),
        String::from_utf8(response.into_body()).unwrap(),
    )
}

#[test]
fn metrics_are_rendered_after_gauges_were_collected() {
    let response = admin().answer(
        &Method::GET,
        "/metrics",
        asker(Some("localhost:8788"), &HeaderMap::new()),
    );
    assert_eq!(response.headers()[CONTENT_TYPE], PROMETHEUS);
    let text = String::from_utf8(response.into_body()).unwrap();
    assert!(text.contains("\npleiades_sessions 7\n"), "{text}");
}

#[test]
fn health_is_200_and_a_readiness_that_is_missing_says_why() {
    assert_eq!(
        get(&admin(), "/health"),
        (200, "{\"status\":\"ok\"}\n".to_owned())
    );
    let (status, body) = get(&admin(), "/ready");
    assert_eq!(status, 503);
    assert!(body.contains("2 descriptors are not read yet"), "{body}");
}

#[test]
fn readiness_falls_while_draining() {
    let draining = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&draining);
    let reason = || Err("draining".to_owned());
    let ready: Check = Arc::new(move || if seen.load(SeqCst) { reason() } else { Ok(()) });
    let admin = Admin { ready, ..admin() };
    assert_eq!(get(&admin, "/ready").0, 200);
    draining.store(true, SeqCst);
    assert_eq!(get(&admin, "/ready").0, 503);
}

#[test]
fn providers_are_the_report_on_loopback_alone() {
    assert_eq!(
        get(&admin(), "/providers"),
        (200, "{\"generation\":3,\"providers\":[]}\n".to_owned())
    );
    let outside = Admin {
        access: access(Vec::new(), false),
        ..admin()
    };
    let (status, body) = get(&outside, "/providers");
    assert_eq!(status, 403);
    assert!(body.contains("admin key"), "{body}");
    assert_eq!(get(&outside, "/health").0, 200);
    assert_eq!(get(&outside, "/metrics").0, 200);
}

#[test]
fn providers_want_an_admin_key_once_there_is_one() {
    let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    for is_admin_local in [true, false] {
        let admin = Admin {
            access: access(vec![("ops", digest)], is_admin_local),
            ..admin()
        };
        let (status, body) = get(&admin, "/providers");
        assert_eq!(status, 401);
        assert!(body.contains("unauthenticated"), "{body}");
        assert_eq!(get(&admin, "/health").0, 200);
        assert_eq!(get(&admin, "/metrics").0, 200);
        let with = |key: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", HeaderValue::from_static(key));
            admin.answer(
                &Method::GET,
                "/providers",
                asker(Some("localhost:8788"), &headers),
            )
        };
        assert_eq!(with("secret").status(), 200);
        let refused = with("wrong");
        assert_eq!(refused.status(), 401);
        assert_eq!(refused.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}

#[test]
fn a_foreign_host_is_refused_on_every_path() {
    for path in ["/metrics", "/health", "/ready", "/providers", "/nothing"] {
        for host in [Some("evil.example"), None] {
            let response = admin().answer(&Method::GET, path, asker(host, &HeaderMap::new()));
            assert_eq!(response.status(), 403, "{path} {host:?}");
        }
    }
}

#[test]
fn other_paths_are_404_and_other_methods_405() {
    for path in ["/", "/health//", "/v1/accounts/a/b/c/d", "/mcp", "*", ""] {
        assert_eq!(get(&admin(), path).0, 404, "{path}");
    }
    let response = admin().answer(
        &Method::POST,
        "/metrics",
        asker(Some("localhost:8788"), &HeaderMap::new()),
    );
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    assert!(
        String::from_utf8(response.into_body())
            .unwrap()
            .contains("method_not_allowed")
    );
}

#[test]
fn head_answers_the_headers_of_get_without_a_body() {
    let whole = admin().answer(
        &Method::GET,
        "/health",
        asker(Some("localhost:8788"), &HeaderMap::new()),
    );
    let head = admin().answer(
        &Method::HEAD,
        "/health",
        asker(Some("localhost:8788"), &HeaderMap::new()),
    );
    assert_eq!(head.headers(), whole.headers());
    assert_eq!(head.status(), 200);
    assert!(head.body().is_empty());
}

#[test]
fn two_hosts_or_a_host_unlike_the_authority_are_none() {
    let mut headers = HeaderMap::new();
    assert_eq!(host(&headers, Some("localhost:8788")), Some("localhost:8788"));
    headers.append(HOST, HeaderValue::from_static("localhost:8788"));
    assert_eq!(host(&headers, None), Some("localhost:8788"));
    assert_eq!(host(&headers, Some("evil.example")), None);
    headers.append(HOST, HeaderValue::from_static("evil.example"));
    assert_eq!(host(&headers, None), None);
}

/// Serves one real connection until its end.
async fn serve(stream: tokio::net::TcpStream) {
    use pingora_core::{apps::HttpServerApp as _, protocols::l4::stream::Stream};

    let (_keep, shutdown) = tokio::sync::watch::channel(false);
    let app = Arc::new(admin());
    let mut open = Some(ServerSession::new_http1(Box::new(Stream::from(stream))));
    while let Some(session) = open.take() {
        let reused = app.process_new_http(session, &shutdown).await;
        open = reused.map(|reused| ServerSession::new_http1(reused.consume().0));
    }
}

#[tokio::test]
async fn a_connection_serves_head_and_then_get() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let server = tokio::spawn(serve(listener.accept().await.unwrap().0));
    client
        .write_all(b"HEAD /health HTTP/1.1\r\nHost: localhost:8788\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let get = b"GET /health?x=1 HTTP/1.1\r\nHost: localhost:8788\r\nConnection: close\r\n\r\n";
    client.write_all(get).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    server.await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200"), "{head:?}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"status\":\"ok\"}\n"), "{answer}");
}

#[test]
fn pages_of_other_sites_are_refused() {
    let from = |origins: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        admin().is_own_origin(&headers)
    };
    assert!(from(&[]) && from(&["http://localhost:8788"]));
    assert!(
        !from(&["http://evil.example"])
            && !from(&["null"])
            && !from(&["http://localhost:8788", "http://evil.example"])
    );
}
