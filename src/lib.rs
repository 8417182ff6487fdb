//! The composition root and the command line of Pleiades; the parts are the crates under `crates/`.

pub mod app;
pub mod cli;
