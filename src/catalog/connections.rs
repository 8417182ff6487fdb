//! What the broker and the keeper ask of what is loaded.

use std::sync::Arc;

use async_trait::async_trait;

use super::Catalog;
use crate::credential::broker::Prober;
use crate::credential::oauth::Challenge;
use crate::credential::{Connection, Connections, Need};

impl Connections for Catalog {
    fn of(&self, connection: &str) -> Vec<Arc<Connection>> {
        let snapshot = self.snapshot();
        let all = snapshot.providers.values().filter_map(|it| match &it.need {
            Need::OAuth(own) | Need::Machine(own, _) => Some(own),
            Need::None | Need::ApiKey(_) | Need::ClientKey(_) => None,
        });
        all.filter(|own| *own.name == *connection).cloned().collect()
    }

    fn provider(&self, provider: &str) -> Option<Arc<Connection>> {
        match &self.snapshot().providers.get(provider)?.need {
            Need::OAuth(own) | Need::Machine(own, _) => Some(Arc::clone(own)),
            Need::None | Need::ApiKey(_) | Need::ClientKey(_) => None,
        }
    }
}

#[async_trait]
impl Prober for Catalog {
    async fn challenge(&self, _provider: &str) -> Option<Challenge> {
        None
    }
}
