//! Which client we are at a server: the descriptor's, else our metadata document's, else one that
//! is registered once for an issuer and a set of redirect URIs, and kept.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::flow::refused;
use super::pending::written;
use super::{Back, Broker, Refusal, hashed, now};
use crate::credential::Connection;
use crate::credential::oauth::{self, Redirects, Server};
use crate::credential::record::Client;
use crate::credential::vault::{Fault, Path, Wrote};

/// A registered client as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Registered {
    /// When it was registered, in unix seconds.
    at: u64,
    /// When its secret ends, in unix seconds.
    #[serde(default)]
    ends: Option<u64>,
    pub(super) client: Client,
}

/// A client whose secret ends within this many seconds is registered anew: a flow takes minutes.
const NEARLY: u64 = 3600;

fn path(name: &str) -> Path {
    Path::gateway(&["clients", name])
}

impl Broker {
    /// The client for a flow, and the name it is kept under when it was registered.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) async fn client(
        &self,
        connection: &Connection,
        server: &Server,
        redirects: &Redirects,
        back: Back,
    ) -> Result<(Client, Option<String>), Refusal> {
        if let Some(client) = oauth::known_client(connection, server, redirects) {
            return Ok((client, None));
        }
        let web = &**self.parts.keeper.web();
        let register = || async {
            let registered = oauth::registration(web, connection, server, redirects).await;
            registered.map_err(|trouble| refused(connection, "lets no client register", &trouble))
        };
        if back != Back::Here {
            // The port of a process is its own for one flow: its registration is of no use to others.
            return Ok((register().await?.client, None));
        }
        let name = name(server, redirects);
        let kept = self.registered(&name).await;
        let kept = kept.map_err(|fault| Refusal::store(&fault))?;
        if let Some((_, registered)) = &kept
            && registered
                .ends
                .is_none_or(|ends| ends > now().saturating_add(NEARLY))
        {
            return Ok((registered.client.clone(), Some(name)));
        }
        let made = register().await?;
        let registered = Registered {
            at: now(),
            ends: made.secret_expires_at,
            client: made.client,
        };
        let version = kept.map_or(0, |(version, _)| version);
        let client = self.keep_client(&name, version, registered).await;
        let client = client.map_err(|fault| Refusal::store(&fault))?;
        Ok((client, Some(name)))
    }

    pub(super) async fn registered(&self, name: &str) -> Result<Option<(u64, Registered)>, Fault> {
        let stored = self.vault().read(&path(name)).await?;
        Ok(stored.and_then(|stored| {
            let registered = serde_json::from_str(stored.value.expose()).ok()?;
            Some((stored.version, registered))
        }))
    }

    /// Keeps a client; whoever was faster is right.
    async fn keep_client(&self, name: &str, version: u64, made: Registered) -> Result<Client, Fault> {
        let value = written(&made)?;
        let wrote = self.vault().write(&path(name), version, &value, None).await?;
        if wrote == Wrote::Conflict
            && let Some((_, first)) = self.registered(name).await?
        {
            return Ok(first.client);
        }
        Ok(made.client)
    }

    /// Forgets a client that its server refused: the next flow registers anew.
    pub(super) async fn forget_client(&self, name: &str) {
        if let Err(fault) = self.vault().remove(&path(name)).await {
            tracing::warn!(%fault, "a refused client could not be forgotten");
        }
    }

    /// Our client metadata document, where authorization servers can reach it.
    #[must_use]
    pub fn document(&self) -> Option<String> {
        is_public(&self.parts.base).then(|| self.at("/oauth/client-metadata.json"))
    }
}

/// One client for an issuer and the redirect URIs it may send people to.
pub(super) fn name(server: &Server, redirects: &Redirects) -> String {
    let issuer = server.issuer.as_deref().unwrap_or(&server.token_endpoint);
    let mut text = format!("{issuer}\n");
    for redirect in &redirects.registered {
        text.push_str(redirect);
        text.push('\n');
    }
    hashed(&text)
}

/// Whether others can reach this URL, and trust what it names.
fn is_public(base: &Url) -> bool {
    let named = match base.host() {
        Some(Host::Domain(name)) => {
            let local = [".local", ".internal", ".localhost", ".test"];
            name.contains('.') && !local.iter().any(|end| name.ends_with(end))
        }
        Some(Host::Ipv4(ip)) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
        Some(Host::Ipv6(ip)) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        None => false,
    };
    base.scheme() == "https" && named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_document_is_named_only_where_others_can_reach_it() {
        let public = |url: &str| is_public(&Url::parse(url).unwrap());
        assert!(public("https://mcp.example.com") && public("https://203.0.113.9:8443/gw"));
        for url in [
            "http://mcp.example.com",
            "https://localhost:8787",
            "https://127.0.0.1",
            "https://10.0.0.1",
            "https://[::1]",
            "https://gateway",
            "https://gateway.internal",
        ] {
            assert!(!public(url), "{url}");
        }
    }
}
