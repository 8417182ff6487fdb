//! The request that caused what runs, so that every line that it leads to carries its id.

use std::sync::Arc;

use tracing::Instrument as _;

tokio::task_local! {
    static REQUEST: Option<Arc<str>>;
}

/// The id of the request that caused what runs now.
#[must_use]
pub fn current() -> Option<Arc<str>> {
    REQUEST.try_with(Clone::clone).ok().flatten()
}

/// Runs something as caused by a request.
pub fn within<F: Future>(id: Arc<str>, work: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(Some(id), work)
}

/// Work for another task that is caused by what causes this one: it keeps the request's id, and the span.
pub fn inherited<F: Future>(work: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(current(), work).in_current_span()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_of_a_request_knows_it_in_other_tasks_too_if_that_is_wanted() {
        assert_eq!(current(), None);
        let seen = within("7".into(), async {
            let lost = tokio::spawn(async { current() });
            let kept = tokio::spawn(inherited(async { current() }));
            (current(), lost.await.unwrap(), kept.await.unwrap())
        });
        assert_eq!(seen.await, (Some("7".into()), None, Some("7".into())));
    }
}
