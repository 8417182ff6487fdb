//! Legacy sessions: their sealed ids, what they hold in this process, and what runs for them.

mod changes;
mod mailbox;
mod remembered;
mod running;
mod sealed;
mod tokens;

pub(crate) use changes::{BACKLOG, ListKinds, Watch, subscription_meta};
pub(crate) use mailbox::{Mailbox, Mailboxes};
pub(crate) use remembered::RememberedSessions;
pub(crate) use running::RunningRequests;
pub(crate) use sealed::client_name;
pub use sealed::{Sessions, abilities, negotiated};
pub(crate) use tokens::Tokens;
pub use tokens::unsealed;
