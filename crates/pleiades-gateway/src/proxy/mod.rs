//! The public listener: HTTP in, HTTP out.
//!
//! Calls go down only:
//!
//! ```text
//! gateway          Pingora's phases: who is asked for what
//! ├── guard        refuses by the head alone
//! ├── route        the target of a path
//! ├── view         the meta and tool views: messages and streams
//! │   └── waiting  the wait for an answer
//! ├── relay        the relay of an HTTP provider, a file for each phase
//! ├── connect      the pages on which people connect accounts
//! │   └── pages, cookies
//! ├── welcome      the page for a browser at the address of a view
//! └── api          accounts, refreshes, the connect stream: a file each
//!
//! view, relay, api
//! └── intake       media types, revision and sender of a head
//! all of these
//! ├── bridge       bodies in, answers and event streams out
//! │   └── respond  answers and their status
//! ├── context      what is known of one request
//! └── services     what all requests share
//!     └── limits, resume   memory and streams of callers; answers to come back for
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
mod welcome;

pub use gateway::{Config, Gateway};
