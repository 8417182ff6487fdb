//! The gateway: one endpoint in front of many MCP servers.
//!
//! The modules stand in the order of a request, then of a reload. `docs/ARCHITECTURE.md` walks one
//! request and one reload.

pub mod admin;
pub mod catalog;
pub mod exchange;
pub mod facade;
pub mod proxy;
mod result_store;
pub mod shared_state;
