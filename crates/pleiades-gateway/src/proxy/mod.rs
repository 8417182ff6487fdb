//! The public listener: HTTP in, HTTP out. `gateway` is the way itself; each other file is one
//! step of it.

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
mod relay_admission;
mod relay_credential;
mod relay_headers;
mod relay_response;
mod relay_retry;
mod relay_tls;
mod respond;
mod resume;
mod route;
mod view;
mod waiting;

pub use gateway::{Config, Gateway};
