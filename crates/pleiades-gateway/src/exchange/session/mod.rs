//! Legacy sessions: their sealed ids, what they hold in this process, and what runs for them; the wrong calls
//! that callers made, in sessions and without.

mod changes;
mod mailbox;
mod remembered;
mod repeats;
mod running;
mod sealed;
mod tokens;

pub(crate) use changes::{BACKLOG, ListKinds, Watch, subscription_meta};
pub(crate) use mailbox::{Mailbox, Mailboxes};
pub(crate) use remembered::RememberedSessions;
pub(crate) use repeats::RepeatedCalls;
pub(crate) use running::RunningRequests;
pub(crate) use sealed::stated_name;
pub use sealed::{Sessions, abilities, client_name, negotiated};
pub(crate) use tokens::Tokens;
pub use tokens::unsealed;
