//! The lists of one provider for one caller.

use std::sync::Arc;

use super::ListReader;
use crate::catalog::{Catalogue, Provider, State};
use crate::exchange::{account::Reached, request::Request};
use pleiades_core::error::{Code, Error};
use pleiades_upstream::Identity;

pub(super) struct KnownLists {
    pub(super) lists: Vec<(Arc<Provider>, Arc<Catalogue>)>,
    pub(super) whole: bool,
}

impl ListReader {
    /// What is known of a provider for this caller, without any I/O.
    pub(crate) fn known(&self, request: &Request<'_>, provider: &Provider) -> Option<Arc<Catalogue>> {
        let reached = self.accounts.reach_now(request, provider)?;
        self.catalog.lists_if_known(provider, &reached.identity)
    }

    /// The lists by which the gateway says what a provider is: everybody's, else this caller's as far
    /// as they are at hand. Nothing of it is told to who is not connected.
    pub(crate) fn lists_of(&self, request: &Request<'_>, provider: &Provider) -> Arc<Catalogue> {
        let own = (!provider.need.is_shared())
            .then(|| self.known(request, provider))
            .flatten();
        own.unwrap_or_else(|| provider.live.shared.load_full())
    }

    /// The lists that are at hand, because no answer waits for a provider it did not come from; and
    /// whether those that are not can be left out.
    pub(super) fn all_known(&self, request: &Request<'_>) -> KnownLists {
        let mut whole = true;
        let mut known = Vec::new();
        for provider in request.in_scope() {
            // Whoever is not connected cannot read there either.
            let Some(reached) = self.accounts.reach_now(request, provider) else {
                continue;
            };
            match self.catalog.lists_if_known(provider, &reached.identity) {
                Some(lists) => known.push((Arc::clone(provider), lists)),
                None => {
                    let state = provider.state().0;
                    whole &= matches!(state, State::Unreachable | State::NeedsAuth | State::Degraded);
                }
            }
        }
        KnownLists { lists: known, whole }
    }

    /// The tools that are at hand of the providers in scope but one, as this caller may see them.
    pub(crate) fn known_tools(
        &self,
        request: &Request<'_>,
        but: Option<&str>,
    ) -> Vec<(Arc<Provider>, Arc<Catalogue>)> {
        let mut known = self.all_known(request).lists;
        known.retain(|(provider, _)| but != Some(&*provider.id));
        known
    }

    pub(crate) async fn connected(
        &self,
        request: &Request<'_>,
        provider: &Arc<Provider>,
    ) -> Result<Arc<Catalogue>, Error> {
        let reached = self.accounts.reach(request, provider).await?;
        self.lists_as(request, provider, &reached).await
    }

    pub(crate) async fn lists_as(
        &self,
        request: &Request<'_>,
        provider: &Arc<Provider>,
        reached: &Reached,
    ) -> Result<Arc<Catalogue>, Error> {
        let accounts = &self.accounts;
        match self.catalog.lists_for_call(provider, &reached.identity).await {
            Ok(lists) => {
                let lists = (&reached.identity, lists);
                Ok(self.with_older(request, provider, lists).await)
            }
            Err(error) => Err(accounts.explain_refusal(request, provider, reached, error).await),
        }
    }

    /// What is known of a provider, asked for its older generation before a client of one needs a way
    /// to it: between equal generations more passes than between unequal ones.
    pub(crate) async fn with_older(
        &self,
        request: &Request<'_>,
        provider: &Arc<Provider>,
        (identity, lists): (&Identity, Arc<Catalogue>),
    ) -> Arc<Catalogue> {
        if request.is_modern() {
            return lists;
        }
        self.catalog.with_older(provider, identity, lists).await
    }

    /// A provider's lists for this caller, to be shown; `None` when the caller is not connected.
    pub(super) async fn part(
        &self,
        request: &Request<'_>,
        provider: &Arc<Provider>,
    ) -> Result<Option<Arc<Catalogue>>, Error> {
        match self.listed(request, provider).await {
            Ok(lists) => Ok(Some(lists)),
            Err(error) if wants_account(&error) => {
                tracing::debug!(provider.name = %provider.id, outcome = error.code.as_str(), error = error.in_full(), "not connected");
                let tenant = &request.principal().tenant;
                Ok(self.catalog.template(provider, tenant))
            }
            Err(error) => Err(error),
        }
    }

    async fn listed(&self, request: &Request<'_>, provider: &Arc<Provider>) -> Result<Arc<Catalogue>, Error> {
        let accounts = &self.accounts;
        let reached = accounts.reach_any(request, provider).await?;
        match self.catalog.lists(provider, &reached.identity).await {
            Ok(lists) => Ok(lists),
            Err(error) => Err(accounts.explain_refusal(request, provider, &reached, error).await),
        }
    }
}

const fn wants_account(error: &Error) -> bool {
    matches!(
        error.code,
        Code::NeedsAuth | Code::TokenExpired | Code::CapabilityMiss | Code::AccountAmbiguous
    )
}
