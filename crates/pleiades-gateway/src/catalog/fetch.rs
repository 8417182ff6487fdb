//! Lists for callers: at once when they are known, after an attempt when they are not.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    CachedLists, Catalog, Catalogue, Provider, State, cached::Freshness, failure::RETRY, lists::ListSet,
    live::HealthCause,
};
use pleiades_core::error::{Code, Error};
use pleiades_credential::ProviderAuth;
use pleiades_upstream::{Identity, LegacyProbe};

/// The least between readings that callers ask for although lists are known.
const REFRESH: Duration = Duration::from_secs(5);
/// How long a call or a session of an older generation waits for the answer whether its provider
/// speaks it; then this one is made as for a modern client, later ones by the answer.
const OLDER: Duration = Duration::from_secs(2);

impl Catalog {
    /// The lists of a provider for a caller. Known: at once. Not yet, or not reached last time: an
    /// attempt is made, by one for all who ask and at most once per second (at once where the account
    /// has new tokens), and waited for; at most `connect` + `call` of the provider. Old lists are served
    /// and read again beside.
    ///
    /// # Errors
    /// Why there are none: the provider cannot be reached, is too slow, or wants a credential.
    pub async fn lists(
        &self,
        provider: &Arc<Provider>,
        identity: &Identity,
    ) -> Result<Arc<Catalogue>, Error> {
        let cached = provider.live.cached(identity);
        match cached.freshness() {
            Freshness::Fresh => Ok(cached.load_full()),
            Freshness::Stale => {
                self.work.start(provider, &cached, identity, Some(ListSet::ALL));
                Ok(cached.load_full())
            }
            Freshness::Failed(failure, ago) if failure.still_holds(ago, identity) => Err(failure.error()),
            Freshness::Failed(..) | Freshness::Unread => {
                self.attempt(provider, &cached, identity, None).await
            }
        }
    }

    /// What a call goes by: the last lists that are known, even of a provider that could not be
    /// reached just now, because the call itself is the best attempt. Else as [`Catalog::lists`].
    ///
    /// # Errors
    /// As [`Catalog::lists`], when nothing is known.
    pub(crate) async fn lists_for_call(
        &self,
        provider: &Arc<Provider>,
        identity: &Identity,
    ) -> Result<Arc<Catalogue>, Error> {
        let cached = provider.live.cached(identity);
        let catalogue = cached.load_full();
        match cached.freshness() {
            Freshness::Failed(failure, ago) if catalogue.profile.is_some() => {
                if !failure.still_holds(ago, identity) {
                    self.work.start(provider, &cached, identity, None);
                }
                Ok(catalogue)
            }
            _ => self.lists(provider, identity).await,
        }
    }

    /// The lists of a call that names a tool which is not in those of [`Catalog::lists_for_call`], where that
    /// does not say that there is none: their newest reading failed, or ended before the last tool. It is
    /// made again as [`Catalog::lists`] says. `None` where the tool is known to be none.
    ///
    /// # Errors
    /// As [`Catalog::lists`].
    pub(crate) async fn reread_if_incomplete(
        &self,
        provider: &Arc<Provider>,
        identity: &Identity,
    ) -> Option<Result<Arc<Catalogue>, Error>> {
        let cached = provider.live.cached(identity);
        let catalogue = cached.load_full();
        match (cached.freshness(), &catalogue.tools_failure) {
            (Freshness::Failed(..) | Freshness::Unread, _) => Some(self.lists(provider, identity).await),
            (_, None) => None,
            (_, Some(failure)) => {
                let ago = cached.age().unwrap_or_default();
                Some(match failure.still_holds(ago, identity) {
                    true => Ok(catalogue),
                    false => {
                        self.attempt(provider, &cached, identity, Some(ListSet::ALL))
                            .await
                    }
                })
            }
        }
    }

    /// Reads lists again whose last reading failed, because their account has new tokens; leaves others
    /// alone.
    pub(crate) async fn account_renewed(&self, provider: &Arc<Provider>, identity: &Identity) {
        let Some(cached) = provider.live.cached_if_any(identity.signature.account.as_ref()) else {
            return;
        };
        let failed =
            matches!(cached.freshness(), Freshness::Failed(..)) || cached.load().tools_failure.is_some();
        if failed && let Some(Err(error)) = self.reread_if_incomplete(provider, identity).await {
            tracing::debug!(provider.name = %provider.id, outcome = error.code.as_str(), error = error.in_full(), "the lists of a renewed account could not be read");
        }
    }

    /// What is known of a provider once it was asked whether it speaks an older generation, for a
    /// client of one: detection does not ask providers that name modern revisions only. At once where
    /// there is nothing to ask; else at most 2 s, and the question goes on.
    pub(crate) async fn with_older(
        &self,
        provider: &Arc<Provider>,
        identity: &Identity,
        catalogue: Arc<Catalogue>,
    ) -> Arc<Catalogue> {
        let cached = provider.live.cached(identity);
        self.ask_older((provider, cached), identity, catalogue, OLDER)
            .await
    }

    /// The same of the shared lists, for the relay, which cannot go another way: at most `connect` +
    /// `call` of the provider.
    pub(crate) async fn shared_with_older(
        &self,
        provider: &Arc<Provider>,
        identity: &Identity,
        catalogue: Arc<Catalogue>,
    ) -> Arc<Catalogue> {
        let cached = Arc::clone(&provider.live.shared);
        let limit = provider.endpoint.connect + provider.endpoint.call;
        self.ask_older((provider, cached), identity, catalogue, limit)
            .await
    }

    async fn ask_older(
        &self,
        (provider, cached): (&Arc<Provider>, Arc<CachedLists>),
        identity: &Identity,
        catalogue: Arc<Catalogue>,
        within: Duration,
    ) -> Arc<Catalogue> {
        let profile = match &catalogue.profile {
            Some(profile) if profile.legacy.as_ref().is_some_and(LegacyProbe::is_due) => profile.clone(),
            _ => return catalogue,
        };
        let (work, provider) = (Arc::clone(&self.work), Arc::clone(provider));
        let (identity, asked) = (identity.clone(), Arc::clone(&cached));
        // A task of its own: who waits for it may leave.
        let task = self.work.control.spawn(async move {
            work.lister.older(&provider.endpoint, &identity, &profile).await;
            asked.settle_older();
        });
        if timeout(within, task).await.is_err() {
            return catalogue;
        }
        let now = cached.load_full();
        if now.profile.is_some() { now } else { catalogue }
    }

    /// The lists as they are cached, without waiting; `None` when there are none that hold.
    #[must_use]
    pub(crate) fn lists_if_known(&self, provider: &Provider, identity: &Identity) -> Option<Arc<Catalogue>> {
        let cached = provider.live.cached_if_any(identity.signature.account.as_ref())?;
        match cached.freshness() {
            Freshness::Fresh | Freshness::Stale => Some(cached.load_full()),
            Freshness::Failed(..) | Freshness::Unread => None,
        }
    }

    /// Reads the lists again now, because an answer said that they are old: by one for all who
    /// ask, at most once in 5 s; what is known is given when the last reading is younger.
    ///
    /// # Errors
    /// As [`Catalog::lists`].
    pub async fn refresh(
        &self,
        provider: &Arc<Provider>,
        identity: &Identity,
    ) -> Result<Arc<Catalogue>, Error> {
        let cached = provider.live.cached(identity);
        match cached.freshness() {
            Freshness::Fresh | Freshness::Stale if cached.age().is_some_and(|age| age < REFRESH) => {
                Ok(cached.load_full())
            }
            Freshness::Fresh | Freshness::Stale => {
                self.attempt(provider, &cached, identity, Some(ListSet::ALL))
                    .await
            }
            Freshness::Failed(..) | Freshness::Unread => self.lists(provider, identity).await,
        }
    }

    async fn attempt(
        &self,
        provider: &Arc<Provider>,
        cached: &Arc<CachedLists>,
        identity: &Identity,
        which: Option<ListSet>,
    ) -> Result<Arc<Catalogue>, Error> {
        let unsigned = identity.signature.account.is_none() && identity.signature.is_empty();
        if unsigned && matches!(provider.need, ProviderAuth::ClientKey(_)) {
            return Err(Error::new(
                Code::NeedsAuth,
                format!("provider `{}` needs a key that the caller brings", provider.id),
            ));
        }
        let limit = provider.endpoint.connect + provider.endpoint.call;
        let deadline = Instant::now() + limit;
        let mut ended = cached.watch();
        loop {
            self.work.start(provider, cached, identity, which);
            if timeout_at(deadline, ended.changed()).await.is_err() {
                let message = format!(
                    "provider `{}` did not say what it offers within {limit:?}",
                    provider.id
                );
                return Err(Error::new(Code::UpstreamTimeout, message).retry_after(RETRY));
            }
            match cached.freshness() {
                Freshness::Fresh | Freshness::Stale => return Ok(cached.load_full()),
                Freshness::Failed(failure, _) => return Err(failure.error()),
                // The attempt of a task that a reload ended; ours is next.
                Freshness::Unread => {}
            }
        }
    }

    /// Reports how a call went, so that a provider that went away or came back is discovered now and
    /// not when its lists are old.
    pub(crate) fn report_call(&self, provider: &Provider, outcome: Result<(), &Error>) {
        self.work.note_breaker(provider, outcome);
        let state = provider.live.state();
        let has_task = || self.work.identity(&provider.need).is_some();
        // Of a credential of ours that was refused; incomplete lists are read again in their time.
        let is_unread = |state| {
            state == State::Degraded && matches!(provider.live.shared.freshness(), Freshness::Failed(..))
        };
        match outcome {
            Ok(()) if !matches!(state, State::Unreachable | State::NeedsAuth) && !is_unread(state) => {}
            Ok(()) if has_task() => provider.live.wake.notify_one(),
            Ok(()) => self.work.set_health(provider, State::Ready, (None, None)),
            Err(error) => match error.code {
                Code::UpstreamUnreachable if !has_task() => {
                    self.work.set_health(
                        provider,
                        State::Unreachable,
                        (
                            Some(HealthCause {
                                code: error.code,
                                root: error.cause(),
                            }),
                            Some(error.in_full()),
                        ),
                    );
                }
                Code::UpstreamUnreachable
                | Code::UpstreamTimeout
                | Code::UpstreamAuth
                | Code::UpstreamProtocol => {
                    provider.live.wake.notify_one();
                }
                _ => {}
            },
        }
    }
}
