//! The public listener: HTTP in, HTTP out.
//!
//! Calls go down only:
//!
//! ```text
//! gateway ─┬─ guard, route            what is refused by its head; what a path names
//!          ├─ view ─── waiting        the meta and tool views: messages and streams
//!          ├─ relay ── its phases     the relay of an HTTP provider, through Pingora
//!          ├─ connect ─ pages, cookies  the pages on which people connect accounts
//!          └─ api ──── its routes     accounts, refreshes, the connect stream
//! all of them ─── intake              what a head says of its sender
//!             └── bridge ── respond   bodies in, answers and event streams out
//!             └── services, context   what all requests share, what is known of one
//!                 └── resume, limits  answers to come back for; memory and streams that are shared
//! ```

pub mod api;
mod bridge;
mod connect;
mod context;
mod cookies;
mod gateway;
mod guard;
mod intake;
mod limits;
mod pages;
mod relay;
mod respond;
mod resume;
mod route;
mod services;
mod view;
mod waiting;

pub use gateway::{Config, Gateway};
