//! The protocol: messages, revisions, translation between them, headers, event streams, sealed
//! ids. Pure: no I/O, no clock of its own.

pub mod capabilities;
mod edit;
pub mod elicit;
pub mod headers;
pub mod message;
pub mod raw;
pub mod reserved;
pub mod revision;
pub mod sampling;
pub mod seal;
pub mod sse;
pub mod task;
pub mod translate;
pub mod uris;

pub use capabilities::{ClientCapabilities, DeclaredCapabilities};
pub use message::{Id, Message};
pub use raw::{Raw, RawObject};
pub use revision::{Revision, Revisions};
