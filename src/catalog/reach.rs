//! Lists for callers: at once when they are known, after an attempt when they are not.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Catalog, Catalogue, Provider, Shelf, State,
    lists::Which,
    shelf::{RETRY, Standing},
};
use crate::credential::Need;
use crate::error::{Code, Error};
use crate::upstream::{Behalf, Older};

/// The least between readings that callers ask for although lists are known.
const REFRESH: Duration = Duration::from_secs(5);
/// How long a call or a session of an older generation waits for the answer whether its provider
/// speaks it; then it goes the modern way, and those after it as the answer says.
const OLDER: Duration = Duration::from_secs(2);

impl Catalog {
    /// The lists of a provider for a caller. Known: at once. Not yet, or not reached last time: an
    /// attempt is made, by one for all who ask and at most once per second (at once where the account
    /// has new tokens), and waited for; at most `connect` + `call` of the provider. Old lists are served
    /// and read again beside.
    ///
    /// # Errors
    /// Why there are none: the provider cannot be reached, is too slow, or wants a credential.
    pub async fn lists(&self, provider: &Arc<Provider>, behalf: &Behalf) -> Result<Arc<Catalogue>, Error> {
        let shelf = provider.live.shelf(behalf);
        match shelf.standing() {
            Standing::Fresh => Ok(shelf.load_full()),
            Standing::Old => {
                self.work.start(provider, &shelf, behalf, Some(Which::ALL));
                Ok(shelf.load_full())
            }
            Standing::Failed(failure, ago) if failure.holds(ago, behalf) => Err(failure.error()),
            Standing::Failed(..) | Standing::Never => self.attempt(provider, &shelf, behalf, None).await,
        }
    }

    /// What a call goes by: the last lists that are known, even of a provider that could not be
    /// reached just now, because the call itself is the best attempt. Else as [`Catalog::lists`].
    ///
    /// # Errors
    /// As [`Catalog::lists`], when nothing is known.
    pub async fn for_call(&self, provider: &Arc<Provider>, behalf: &Behalf) -> Result<Arc<Catalogue>, Error> {
        let shelf = provider.live.shelf(behalf);
        let known = shelf.load_full();
        match shelf.standing() {
            Standing::Failed(failure, ago) if known.profile.is_some() => {
                if !failure.holds(ago, behalf) {
                    self.work.start(provider, &shelf, behalf, None);
                }
                Ok(known)
            }
            _ => self.lists(provider, behalf).await,
        }
    }

    /// The lists of a call that names a tool which is not in those of [`Catalog::for_call`], where that
    /// does not say that there is none: their newest reading failed, or ended before the last tool. It is
    /// made again as [`Catalog::lists`] says. `None` where the tool is known to be none.
    ///
    /// # Errors
    /// As [`Catalog::lists`].
    pub async fn in_doubt(
        &self,
        provider: &Arc<Provider>,
        behalf: &Behalf,
    ) -> Option<Result<Arc<Catalogue>, Error>> {
        let shelf = provider.live.shelf(behalf);
        let known = shelf.load_full();
        match (shelf.standing(), &known.unread) {
            (Standing::Failed(..) | Standing::Never, _) => Some(self.lists(provider, behalf).await),
            (_, None) => None,
            (_, Some(failure)) => {
                let ago = shelf.age().unwrap_or_default();
                Some(match failure.holds(ago, behalf) {
                    true => Ok(known),
                    false => self.attempt(provider, &shelf, behalf, Some(Which::ALL)).await,
                })
            }
        }
    }

    /// Reads lists again whose last reading failed, because their account has new tokens; leaves others
    /// alone.
    pub async fn renewed(&self, provider: &Arc<Provider>, behalf: &Behalf) {
        let Some(shelf) = provider.live.known(behalf.signature.account.as_ref()) else {
            return;
        };
        let failed = matches!(shelf.standing(), Standing::Failed(..)) || shelf.load().unread.is_some();
        if failed && let Some(Err(error)) = self.in_doubt(provider, behalf).await {
            tracing::debug!(provider.name = %provider.id, cause = %error, "the lists of a renewed account could not be read");
        }
    }

    /// What is known of a provider once it was asked whether it speaks an older generation, for a
    /// client of one: detection does not ask providers that name modern revisions only. At once where
    /// there is nothing to ask; else at most 2 s, and the question goes on.
    pub async fn with_older(
        &self,
        provider: &Arc<Provider>,
        behalf: &Behalf,
        known: Arc<Catalogue>,
    ) -> Arc<Catalogue> {
        let shelf = provider.live.shelf(behalf);
        self.ask_older((provider, shelf), behalf, known, OLDER).await
    }

    /// The same of the shared lists, for the relay, which cannot go another way: at most `connect` +
    /// `call` of the provider.
    pub async fn shared_older(
        &self,
        provider: &Arc<Provider>,
        behalf: &Behalf,
        known: Arc<Catalogue>,
    ) -> Arc<Catalogue> {
        let shelf = Arc::clone(&provider.live.shared);
        let patience = provider.endpoint.connect + provider.endpoint.call;
        self.ask_older((provider, shelf), behalf, known, patience).await
    }

    async fn ask_older(
        &self,
        (provider, shelf): (&Arc<Provider>, Arc<Shelf>),
        behalf: &Behalf,
        known: Arc<Catalogue>,
        within: Duration,
    ) -> Arc<Catalogue> {
        let profile = match &known.profile {
            Some(profile) if profile.older.as_ref().is_some_and(Older::is_due) => profile.clone(),
            _ => return known,
        };
        let (work, provider) = (Arc::clone(&self.work), Arc::clone(provider));
        let (behalf, asked) = (behalf.clone(), Arc::clone(&shelf));
        // A task of its own: who waits for it may leave.
        let task = self.work.control.spawn(async move {
            work.lister.older(&provider.endpoint, &behalf, &profile).await;
            asked.learn();
        });
        if timeout(within, task).await.is_err() {
            return known;
        }
        let now = shelf.load_full();
        if now.profile.is_some() { now } else { known }
    }

    /// The same without waiting.
    #[must_use]
    pub fn peek(&self, provider: &Provider, behalf: &Behalf) -> Option<Arc<Catalogue>> {
        let shelf = provider.live.known(behalf.signature.account.as_ref())?;
        match shelf.standing() {
            Standing::Fresh | Standing::Old => Some(shelf.load_full()),
            Standing::Failed(..) | Standing::Never => None,
        }
    }

    /// Reads the lists again now, because an answer said that they are old: by one for all who
    /// ask, at most once in 5 s; what is known is given when the last reading is younger.
    ///
    /// # Errors
    /// As [`Catalog::lists`].
    pub async fn refresh(&self, provider: &Arc<Provider>, behalf: &Behalf) -> Result<Arc<Catalogue>, Error> {
        let shelf = provider.live.shelf(behalf);
        match shelf.standing() {
            Standing::Fresh | Standing::Old if shelf.age().is_some_and(|age| age < REFRESH) => {
                Ok(shelf.load_full())
            }
            Standing::Fresh | Standing::Old => self.attempt(provider, &shelf, behalf, Some(Which::ALL)).await,
            Standing::Failed(..) | Standing::Never => self.lists(provider, behalf).await,
        }
    }

    async fn attempt(
        &self,
        provider: &Arc<Provider>,
        shelf: &Arc<Shelf>,
        behalf: &Behalf,
        which: Option<Which>,
    ) -> Result<Arc<Catalogue>, Error> {
        let unsigned = behalf.signature.account.is_none() && behalf.signature.is_empty();
        if unsigned && matches!(provider.need, Need::ClientKey(_)) {
            return Err(Error::new(
                Code::NeedsAuth,
                format!("provider `{}` needs a key that the caller brings", provider.id),
            ));
        }
        let patience = provider.endpoint.connect + provider.endpoint.call;
        let deadline = Instant::now() + patience;
        let mut ended = shelf.watch();
        loop {
            self.work.start(provider, shelf, behalf, which);
            if timeout_at(deadline, ended.changed()).await.is_err() {
                let message = format!(
                    "provider `{}` did not say what it offers within {patience:?}",
                    provider.id
                );
                return Err(Error::new(Code::UpstreamTimeout, message).retry_after(RETRY));
            }
            match shelf.standing() {
                Standing::Fresh | Standing::Old => return Ok(shelf.load_full()),
                Standing::Failed(failure, _) => return Err(failure.error()),
                // The attempt of a task that a reload ended; ours is next.
                Standing::Never => {}
            }
        }
    }

    /// Told by callers how a call went, so that a provider that went away or came back is looked
    /// at now and not when its lists are old.
    pub fn observed(&self, provider: &Provider, outcome: Result<(), &Error>) {
        let state = provider.live.state();
        let has_task = || self.work.behalf(&provider.need).is_some();
        match outcome {
            Ok(()) if !matches!(state, State::Unreachable | State::NeedsAuth) => {}
            Ok(()) if has_task() => provider.live.wake.notify_one(),
            Ok(()) => self.work.fares(provider, State::Ready, None),
            Err(error) => match error.code {
                Code::UpstreamUnreachable if !has_task() => {
                    self.work
                        .fares(provider, State::Unreachable, Some(error.message.to_string()));
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
