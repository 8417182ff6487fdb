//! What the broker and the credential manager need to know of loaded providers.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Catalog, Lister, lists::ListKind, pages::list_call};
use pleiades_core::error::{Code, Error};
use pleiades_core::web::Prober;
use pleiades_credential::oauth::{self, Challenge};
use pleiades_credential::{Connection, Connections, ProviderAuth, Signature};
use pleiades_mcp::{RawObject, Revision};
use pleiades_upstream::{Endpoint, Identity};

impl Connections for Catalog {
    fn of(&self, connection: &str) -> Vec<Arc<Connection>> {
        let snapshot = self.snapshot();
        let all = snapshot.providers.values().filter_map(|it| match &it.need {
            ProviderAuth::OAuth(own) | ProviderAuth::ClientCredentials(own, _) => Some(own),
            ProviderAuth::None | ProviderAuth::ApiKey { .. } | ProviderAuth::ClientKey(_) => None,
        });
        let mut found: Vec<_> = all.filter(|own| *own.name == *connection).cloned().collect();
        if found.is_empty() {
            let guests = self.guests.connections().into_iter();
            found.extend(guests.filter(|own| *own.name == *connection));
        }
        found
    }

    fn provider(&self, provider: &str) -> Option<Arc<Connection>> {
        let snapshot = self.snapshot();
        let Some(loaded) = snapshot.providers.get(provider) else {
            let mut guests = self.guests.connections().into_iter();
            return guests.find(|own| *own.provider == *provider);
        };
        match &loaded.need {
            ProviderAuth::OAuth(own) | ProviderAuth::ClientCredentials(own, _) => Some(Arc::clone(own)),
            ProviderAuth::None | ProviderAuth::ApiKey { .. } | ProviderAuth::ClientKey(_) => None,
        }
    }
}

/// Part of the key of what is opened here, so that nobody else ever uses it: a call of somebody else's
/// must not find a session that was opened by nobody.
const NOBODY: [u8; 32] = *b"asked without any credential....";

#[async_trait]
impl Prober for Catalog {
    /// Asks as detection does and, of those who let anybody in, for their tools; within `connect` and
    /// `call` together. Nothing that is known of the provider changes.
    async fn challenge(&self, provider: &str) -> Option<Challenge> {
        let loaded = self
            .snapshot()
            .providers
            .get(provider)
            .map(|it| Arc::clone(&it.endpoint));
        let endpoint = loaded.or_else(|| self.guests.endpoint(provider))?;
        let identity = Identity {
            signature: Arc::new(Signature::fixed(Vec::new(), Some(NOBODY))),
            ..self.work.identity(&ProviderAuth::None)?
        };
        let limit = endpoint.connect.saturating_add(endpoint.call);
        let asked = tokio::time::timeout(limit, ask(&*self.work.lister, &endpoint, &identity)).await;
        match asked {
            Ok(Err(error)) => refusal(&error),
            Ok(Ok(())) | Err(_) => None,
        }
    }
}

fn refusal(error: &Error) -> Option<Challenge> {
    if error.code != Code::UpstreamAuth {
        return None;
    }
    let (status, header) = &**error.refusal.as_ref()?;
    Some(oauth::challenge(*status, header.as_deref()))
}

async fn ask(lister: &dyn Lister, endpoint: &Arc<Endpoint>, identity: &Identity) -> Result<(), Error> {
    let profile = lister.probe(endpoint, identity).await?;
    let revision = endpoint
        .revision
        .or_else(|| profile.revisions.newest())
        .unwrap_or(Revision::NEWEST_LEGACY);
    let call = list_call(ListKind::Tools, RawObject::new(), endpoint, revision);
    lister.request(endpoint, identity, call).await.map(drop)
}
