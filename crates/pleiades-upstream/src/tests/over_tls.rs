use std::io::{Read, Write};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::*;
use pleiades_core::error::Code;
use pleiades_core::secret::Secret;

pub(super) const FIRST_CA: &str = include_str!("tls/first-ca.pem");
pub(super) const SECOND_CA: &str = include_str!("tls/second-ca.pem");

/// Answers requests over TLS on a thread of its own, as `localhost` under the first CA.
pub(super) fn server(wants_client: bool) -> Url {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients: Arc<dyn ClientCertVerifier> = if wants_client {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(FIRST_CA.as_bytes()).unwrap())
            .unwrap();
        let roots = Arc::new(roots);
        WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .unwrap()
    } else {
        Arc::new(NoClientAuth)
    };
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (
        Arc::new(config),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let url = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port());
    std::thread::Builder::new()
        .spawn(move || accept(&config, &listener))
        .unwrap();
    url.parse().unwrap()
}

fn accept(config: &Arc<ServerConfig>, listener: &std::net::TcpListener) {
    for socket in listener.incoming().flatten() {
        let config = Arc::clone(config);
        std::thread::Builder::new()
            .spawn(move || serve(config, socket))
            .unwrap();
    }
}

fn serve(config: Arc<ServerConfig>, mut socket: std::net::TcpStream) {
    let mut connection = ServerConnection::new(config).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((_, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let Ok(body) = serde_json::from_str::<Value>(body) else {
            continue;
        };
        request.clear();
        let answer = json!({"jsonrpc": "2.0", "id": body["id"], "result": {}}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

fn trusting(digest: u8, url: &Url, ca: Option<&str>, client: bool) -> Arc<Endpoint> {
    let client = client.then(|| {
        let key = Secret::new(include_str!("tls/client.key"));
        (include_bytes!("tls/client.pem").to_vec(), key)
    });
    let tls = ClientTls {
        ca: ca.map(|ca| ca.as_bytes().to_vec()),
        client,
    };
    let target = Transport::Http {
        url: url.clone(),
        headers: Vec::new(),
        tls: Some(Arc::new(tls)),
        allow_private: false,
        allow_loopback: true,
        sse: false,
    };
    Arc::new(endpoint(digest, target))
}

async fn ask(upstreams: &Upstreams, endpoint: &Arc<Endpoint>) -> Result<(), Code> {
    let asked = upstreams
        .request(endpoint, &identity(), tool(Revision::V2026_07_28))
        .await;
    asked.map(drop).map_err(|error| error.code)
}

#[tokio::test]
async fn a_connection_verified_by_one_ca_never_serves_a_provider_that_trusts_another() {
    let (upstreams, url) = (upstreams(), server(false));
    let right = trusting(1, &url, Some(FIRST_CA), false);
    assert_eq!(ask(&upstreams, &right).await, Ok(()));
    let wrong = trusting(2, &url, Some(SECOND_CA), false);
    assert_eq!(ask(&upstreams, &wrong).await, Err(Code::UpstreamUnreachable));
    let systems = trusting(3, &url, None, false);
    assert_eq!(ask(&upstreams, &systems).await, Err(Code::UpstreamUnreachable));
    assert_eq!(ask(&upstreams, &right).await, Ok(()));
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_connection_not_lent() {
    let (upstreams, url) = (upstreams(), server(true));
    assert_eq!(
        ask(&upstreams, &trusting(1, &url, Some(FIRST_CA), true)).await,
        Ok(())
    );
    let without = trusting(2, &url, Some(FIRST_CA), false);
    assert_eq!(ask(&upstreams, &without).await, Err(Code::UpstreamUnreachable));
}
