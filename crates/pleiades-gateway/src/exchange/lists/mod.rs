//! What providers offer to the caller of a request: lists from memory, read where they are not there yet;
//! and which provider a name or a URI means by them.

mod find;
mod late;
mod read;
mod union;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub(crate) use find::{FoundUri, claims_of};

use crate::catalog::Catalog;
use crate::exchange::account::Accounts;

#[derive(Debug)]
pub(crate) struct ListReader {
    catalog: Arc<Catalog>,
    accounts: Arc<Accounts>,
    late: late::LateProviders,
    /// Nobody waits beside a request when this is cancelled.
    closing: CancellationToken,
}

impl ListReader {
    pub(crate) fn new(catalog: Arc<Catalog>, accounts: Arc<Accounts>, closing: CancellationToken) -> Self {
        Self {
            catalog,
            accounts,
            late: late::LateProviders::default(),
            closing,
        }
    }
}
