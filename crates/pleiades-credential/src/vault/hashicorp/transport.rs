//! One request to Vault and its answer: the requests are vaultrs's, the client is ours.
//!
//! vaultrs's own way of sending would log each absent entry as an error, drop `Retry-After` and copy
//! bodies into its errors; this one follows no redirect, knows no proxy, bounds what it reads, and
//! classifies answers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use rustify::{client::Client as Carrier, endpoint::Endpoint, errors::ClientError};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;
use vaultrs::api::EndpointMiddleware;
use zeroize::Zeroize;

use super::failure::RequestFailure;
use crate::vault::{Fault, Kind};
use pleiades_core::{secret::Secret, trust};

const CONNECT: Duration = Duration::from_secs(2);
/// Connections that wait for the next request.
const IDLE_CONNECTIONS: usize = 8;
/// How long they wait; shorter than the usual idle timeout of what stands in front of a Vault.
const IDLE: Duration = Duration::from_secs(50);
/// Largest answer. Vault's own bound for entries is 1 MiB, for requests 32.
const MAX_ANSWER: usize = 8 << 20;
/// Longest answer that is read of a refusal.
const MAX_REFUSAL: usize = 64 << 10;

pub(super) struct VaultTransport {
    http: reqwest::Client,
    base: String,
    namespace: Option<HeaderValue>,
    middle: EndpointMiddleware,
}

impl std::fmt::Debug for VaultTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// An answer as Vault wraps it; what it says beside is not read.
#[derive(Deserialize)]
pub(super) struct VaultReply<T> {
    #[serde(default = "Option::default")]
    pub(super) data: Option<T>,
    #[serde(default)]
    pub(super) auth: Option<TokenGrant>,
}

#[derive(Deserialize)]
pub(super) struct TokenGrant {
    #[serde(deserialize_with = "secret")]
    pub(super) client_token: Secret,
    /// How long it holds, in seconds; 0 for ever.
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

pub(super) fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

impl VaultTransport {
    /// The way to the Vault at `address`: scheme, host and port.
    pub(super) fn open(address: &str, namespace: Option<&str>, ca: Option<&[u8]>) -> Result<Self, Fault> {
        let url = Url::parse(address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
            .ok_or_else(|| {
                refused("`vault.hashicorp.address` must be scheme, host and port: write `https://vault:8200`")
            })?;
        if trust::is_cleartext(&url) {
            return Err(refused(
                "`vault.hashicorp.address` is `http` off loopback, where others could read Vault's tokens: write `https`",
            ));
        }
        let namespace = namespace
            .map(|namespace| HeaderValue::from_str(namespace.trim_matches('/')))
            .transpose()
            .map_err(|_error| {
                refused("`vault.hashicorp.namespace` cannot be sent in a header: write plain names")
            })?;
        let roots = match ca {
            _ if url.scheme() == "http" => Arc::new(RootCertStore::empty()),
            None => trust::system_roots(),
            Some(pem) => Arc::new(trust::private_roots(pem).map_err(|cause| {
                refused("`vault.hashicorp.ca_file` cannot be used; it must hold PEM certificates")
                    .because(cause)
            })?),
        };
        Ok(Self {
            http: client(roots)?,
            base: url.origin().ascii_serialization(),
            namespace,
            middle: EndpointMiddleware {
                // Put on by `send`, where it is marked as sensitive.
                token: String::new(),
                version: "v1".to_owned(),
                wrap: None,
                namespace: None,
            },
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: impl Endpoint,
        token: Option<&Secret>,
        within: Duration,
    ) -> Result<VaultReply<T>, RequestFailure> {
        let mut body = self.send(endpoint, token, within).await?;
        // serde's sentence could quote a secret.
        let read = serde_json::from_slice(&body).map_err(|_error| RequestFailure::unreadable());
        body.zeroize();
        read
    }

    /// Sends one request whose answer has no content.
    pub(super) async fn execute(
        &self,
        endpoint: impl Endpoint,
        token: Option<&Secret>,
        within: Duration,
    ) -> Result<(), RequestFailure> {
        let mut body = self.send(endpoint, token, within).await?;
        body.zeroize();
        Ok(())
    }

    async fn send(
        &self,
        endpoint: impl Endpoint,
        token: Option<&Secret>,
        within: Duration,
    ) -> Result<Vec<u8>, RequestFailure> {
        let shot = OneRequest {
            transport: self,
            token,
            within,
            trouble: Mutex::default(),
        };
        let sent = endpoint.with_middleware(&self.middle).exec(&shot).await;
        match (sent, shot.trouble.into_inner()) {
            (_, Some(trouble)) => Err(trouble),
            (Ok(answer), None) => Ok(answer.response.into_body()),
            (Err(_), None) => Err(RequestFailure::unreadable()),
        }
    }
}

/// One request under way: rustify's errors have no room for what an answer says beside its text.
struct OneRequest<'a> {
    transport: &'a VaultTransport,
    token: Option<&'a Secret>,
    within: Duration,
    trouble: Mutex<Option<RequestFailure>>,
}

#[async_trait]
impl Carrier for OneRequest<'_> {
    fn base(&self) -> &str {
        &self.transport.base
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.carry(request).await.map_err(|trouble| {
            let code = trouble.status.map_or(0, |status| status.as_u16());
            *self.trouble.lock() = Some(trouble);
            ClientError::ServerResponseError { code, content: None }
        })
    }
}

impl OneRequest<'_> {
    async fn carry(&self, mut request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, RequestFailure> {
        self.set_headers(request.method().clone(), request.headers_mut())?;
        let mut request =
            reqwest::Request::try_from(request).map_err(|_error| RequestFailure::unsendable())?;
        *request.timeout_mut() = Some(self.within);
        let answer = self
            .transport
            .http
            .execute(request)
            .await
            .map_err(RequestFailure::unsent)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if !status.is_success() {
            let text = read(answer, MAX_REFUSAL).await.unwrap_or_default();
            return Err(RequestFailure::refused(status, &headers, &text));
        }
        let mut response = Response::new(read(answer, MAX_ANSWER).await?);
        *response.status_mut() = StatusCode::OK;
        Ok(response)
    }

    fn set_headers(&self, method: http::Method, headers: &mut HeaderMap) -> Result<(), RequestFailure> {
        let kind = if method == http::Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(namespace) = &self.transport.namespace {
            headers.insert("x-vault-namespace", namespace.clone());
        }
        if let Some(token) = self.token {
            let mut value =
                HeaderValue::from_str(token.expose()).map_err(|_error| RequestFailure::unsendable())?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        Ok(())
    }
}

async fn read(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, RequestFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(RequestFailure::cut)? {
        if body.len() + chunk.len() > most {
            body.zeroize();
            return Err(RequestFailure::unreadable());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn client(roots: Arc<RootCertStore>) -> Result<reqwest::Client, Fault> {
    let unusable = |cause| refused("the client of vault cannot be made").because(cause);
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(trust::Cause::from(cause)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // One request a connection: what is slow delays nothing else, and no frame is ever logged.
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(|cause| unusable(trust::Cause::from(cause)))
}

fn refused(message: &str) -> Fault {
    Fault::new(Kind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_vault_never_leaves_this_machine_in_the_clear() {
        for address in [
            "http://vault:8200",
            "http://10.0.0.1:8200",
            "http://vault.example.com",
        ] {
            let fault = VaultTransport::open(address, None, None).err().unwrap();
            assert!(fault.to_string().contains("https"), "{address}: {fault}");
        }
    }
}
