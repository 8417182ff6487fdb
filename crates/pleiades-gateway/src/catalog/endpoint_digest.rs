//! What makes two endpoints the same.

use http::{HeaderName, HeaderValue};
use ring::digest::{Context, SHA256};

use pleiades_credential::{Connection, ProviderAuth};
use pleiades_upstream::{Endpoint, Transport};

/// Digest of everything that sessions, processes and lists depend on: the endpoint and the
/// gateway's own credential, in which references are resolved already.
pub(super) fn endpoint_digest(endpoint: &Endpoint, need: &ProviderAuth) -> [u8; 32] {
    let mut digest = DigestBuilder(Context::new(&SHA256));
    digest.add(endpoint.provider.as_bytes());
    match &endpoint.target {
        Transport::Http {
            url,
            headers,
            tls,
            allow_private,
            allow_loopback,
            sse,
        } => {
            digest.add(b"http");
            digest.add(url.as_str().as_bytes());
            digest.add(&[*allow_private, *allow_loopback, *sse].map(u8::from));
            digest.headers(headers);
            let tls = tls.as_deref();
            digest.maybe(tls.and_then(|tls| tls.ca.as_deref()));
            let client = tls.and_then(|tls| tls.client.as_ref());
            digest.maybe(client.map(|(chain, _)| chain.as_slice()));
            digest.maybe(client.map(|(_, key)| key.expose().as_bytes()));
        }
        Transport::Stdio { command, env, folder } => {
            digest.add(b"stdio");
            digest.list(command.iter().map(String::as_bytes));
            digest.list(
                env.iter()
                    .flat_map(|(name, value)| [name.as_bytes(), value.expose().as_bytes()]),
            );
            digest.add(folder.as_os_str().as_encoded_bytes());
        }
    }
    digest.maybe(endpoint.revision.map(|revision| revision.as_str().as_bytes()));
    digest.add(&[endpoint.share as u8]);
    for time in [endpoint.connect, endpoint.call, endpoint.idle] {
        digest.add(&time.as_nanos().to_le_bytes());
    }
    digest.need(need);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.0.finish().as_ref());
    bytes
}

/// A digest of parts, each led by its length, so that no two lists of parts read alike.
struct DigestBuilder(Context);

impl DigestBuilder {
    fn add(&mut self, part: &[u8]) {
        self.0.update(&part.len().to_le_bytes());
        self.0.update(part);
    }

    fn maybe(&mut self, part: Option<&[u8]>) {
        self.add(&[u8::from(part.is_some())]);
        self.add(part.unwrap_or_default());
    }

    fn list<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) {
        let parts: Vec<_> = parts.collect();
        self.add(&parts.len().to_le_bytes());
        parts.into_iter().for_each(|part| self.add(part));
    }

    fn headers(&mut self, headers: &[(HeaderName, HeaderValue)]) {
        self.list(
            headers
                .iter()
                .flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]),
        );
    }

    fn need(&mut self, need: &ProviderAuth) {
        match need {
            ProviderAuth::None => self.add(b"none"),
            ProviderAuth::ApiKey { signature, .. } => {
                self.add(b"api_key");
                self.headers(&signature.now().headers);
            }
            ProviderAuth::OAuth(connection) | ProviderAuth::ClientCredentials(connection, _) => {
                self.add(b"oauth");
                self.connection(connection);
            }
            ProviderAuth::ClientKey(key) => {
                self.add(b"client_key");
                self.list(key.headers.iter().map(|name| name.as_str().as_bytes()));
                self.maybe(key.env.as_deref().map(str::as_bytes));
                self.add(key.forward_as.as_str().as_bytes());
                self.add(key.prefix.as_bytes());
                self.list(
                    key.companions
                        .iter()
                        .flat_map(|(from, to)| [from.as_str().as_bytes(), to.as_str().as_bytes()]),
                );
                self.maybe(key.fallback.as_ref().map(|key| key.expose().as_bytes()));
            }
        }
    }

    /// What makes another credential of it: the connection, the client, and where tokens come from.
    fn connection(&mut self, connection: &Connection) {
        self.add(connection.name.as_bytes());
        self.maybe(connection.client_id.as_deref().map(str::as_bytes));
        self.maybe(connection.issuer.as_deref().map(str::as_bytes));
        for url in [&connection.metadata, &connection.token_endpoint] {
            self.maybe(url.as_ref().map(|url| url.as_str().as_bytes()));
        }
    }
}
