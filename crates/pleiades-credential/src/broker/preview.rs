//! What a sign-in will be, for the page that asks whether it may begin: where it leads and what for.
//!
//! The provider is asked as at the beginning of a sign-in, nothing is registered and nothing stored. What it
//! answered is remembered for a while, since whatever follows links (scanners of mail, previews) asks too.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Broker, LinkPayload};
use crate::oauth::{self, AuthServer, Challenge};
use crate::{Connection, connection::GrantType};
use pleiades_core::bounded::Bounded;

/// How long a page waits for it: one without is better than none.
const WITHIN: Duration = Duration::from_secs(3);
/// How long an answer, and how long none, is remembered.
const ANSWERED: Duration = Duration::from_secs(60);
const UNANSWERED: Duration = Duration::from_secs(10);
/// Providers that are remembered, and that are asked at a time.
const MOST: usize = 256;
const AT_A_TIME: usize = 8;

/// What a sign-in will be, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignInPreview {
    /// The host of its page, with the port where that is not the usual one.
    pub host: Option<String>,
    /// The scopes that will be asked for.
    pub scopes: Vec<String>,
}

/// What a provider and its authorization server said of themselves.
#[derive(Debug)]
struct DiscoveredSignIn {
    connection: Arc<Connection>,
    until: Instant,
    server: Option<(AuthServer, Option<Challenge>)>,
}

/// Remembers what was discovered for pages, by provider.
#[derive(Debug)]
pub(super) struct Previews {
    known: Bounded<Arc<str>, Arc<DiscoveredSignIn>>,
    asking: Semaphore,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            known: Bounded::new(MOST),
            asking: Semaphore::new(AT_A_TIME),
        }
    }
}

impl Broker {
    /// What the sign-in of a link will be. Waits 3 s at most for providers that say it themselves.
    pub async fn preview(&self, opened: &LinkPayload) -> SignInPreview {
        let requested = self.requested_scopes(&opened.request).unwrap_or_default();
        let Some(connection) = self
            .connection(&opened.request.provider)
            .filter(|it| it.grant == GrantType::AuthorizationCode)
        else {
            return SignInPreview::default();
        };
        let declared = declared_host(&connection);
        if connection.connect_url.is_some() {
            return SignInPreview {
                host: declared,
                scopes: requested,
            };
        }
        let until = Instant::now() + WITHIN;
        let discovered = self.discovered(&connection, until).await;
        let Some((server, challenge)) = discovered.as_ref().and_then(|it| it.server.as_ref()) else {
            return SignInPreview {
                host: declared,
                scopes: requested,
            };
        };
        let endpoint = Url::parse(&server.authorization_endpoint).ok();
        let scopes = self.scopes(opened, &connection, server, challenge.as_ref());
        let scopes = timeout_at(until, scopes).await;
        SignInPreview {
            host: endpoint.as_ref().and_then(host).or(declared),
            scopes: scopes.ok().and_then(Result::ok).unwrap_or(requested),
        }
    }

    /// What is known by then; `None` while too many others are asked.
    async fn discovered(
        &self,
        connection: &Arc<Connection>,
        until: Instant,
    ) -> Option<Arc<DiscoveredSignIn>> {
        let known = || {
            let known = self.previews.known.get(&connection.provider);
            known.filter(|it| it.until > Instant::now() && Arc::ptr_eq(&it.connection, connection))
        };
        if let Some(known) = known() {
            return Some(known);
        }
        // It is never closed.
        let _permit = timeout_at(until, self.previews.asking.acquire()).await.ok()?;
        if let Some(known) = known() {
            return Some(known);
        }
        let asked = timeout_at(until, async {
            let challenge = self.prober.challenge(&connection.provider).await;
            let web = &**self.manager.web();
            let server = oauth::discover(web, connection, challenge.as_ref()).await.ok()?;
            Some((server, challenge))
        });
        // Who does not answer in time is not asked by every opener either.
        let server = asked.await.ok().flatten();
        let lasts = if server.is_some() { ANSWERED } else { UNANSWERED };
        let discovered = Arc::new(DiscoveredSignIn {
            connection: Arc::clone(connection),
            until: Instant::now() + lasts,
            server,
        });
        let name = Arc::clone(&connection.provider);
        self.previews.known.insert(name, Arc::clone(&discovered));
        Some(discovered)
    }

    /// The host where people log in who open links, where they have to.
    #[must_use]
    pub fn login_host(&self) -> Option<String> {
        host(&Url::parse(&self.login.as_ref()?.config.issuer).ok()?)
    }
}

/// The host that a descriptor names, which is all that is known while nobody answers.
fn declared_host(connection: &Connection) -> Option<String> {
    let issuer = connection.issuer.as_deref().and_then(|it| Url::parse(it).ok());
    let named = [
        connection.connect_url.as_ref(),
        connection.authorization_endpoint.as_ref(),
        issuer.as_ref(),
    ];
    host(named.into_iter().flatten().next()?)
}

/// Host and port, as browsers show them.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_with_the_port_that_is_not_the_usual_one() {
        let host = |url: &str| host(&Url::parse(url).unwrap());
        assert_eq!(
            host("https://login.example:443/a").as_deref(),
            Some("login.example")
        );
        assert_eq!(
            host("https://login.example:8443").as_deref(),
            Some("login.example:8443")
        );
        assert_eq!(host("http://[::1]:9/a").as_deref(), Some("[::1]:9"));
        // A name in other letters is shown as the network knows it.
        assert_eq!(
            host("https://аpple.example").as_deref(),
            Some("xn--pple-43d.example")
        );
    }
}
