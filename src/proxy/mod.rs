//! The public listener: HTTP in, HTTP out. `gateway` is the way itself; each other file is one
//! step of it.

mod admit;
mod answered;
pub mod api;
mod bounds;
mod breakage;
mod bridge;
mod broker;
mod context;
mod cookies;
mod gateway;
mod guard;
mod heads;
mod intake;
mod material;
mod pages;
mod relay;
mod respond;
mod resume;
mod route;
mod view;
mod waiting;
mod way;

pub use gateway::{Config, Gateway};
