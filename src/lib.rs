//! Pleiades: one endpoint in front of many MCP servers.
//!
//! The modules stand in the order of a request, then of a reload. `tests/it/layering.rs` holds
//! the table of who may know whom; `docs/ARCHITECTURE.md` walks one request and one reload.

pub mod app;
pub mod cli;

pub mod access;
pub mod credential;
pub mod exchange;
pub mod facade;
pub mod limit;
pub mod mcp;
pub mod proxy;
pub mod shared_state;
pub mod upstream;

pub mod catalog;
pub mod descriptor;
pub mod settings;

pub mod admin;
pub mod telemetry;

pub mod error;
pub mod secret;
pub mod text;
mod trust;
