//! What a request is: whom it addresses, who sent it, what it says, and the way back to its sender.

mod account_name;
mod arrival;
mod context;
mod outlet;
mod peer;
mod record;
mod scope;

pub(crate) use account_name::{ACCOUNT_HEADER, ACCOUNT_KEY, parse_account};
pub use arrival::{Arrived, Kind};
pub(crate) use context::{AwaitedConnection, Request};
pub use outlet::{Inlet, Outlet, Word};
pub use peer::{Keys, Peer, Variables, unsupported};
pub use record::Record;
pub(crate) use record::{Facts, own_signature};
pub use scope::{Names, Scope};
