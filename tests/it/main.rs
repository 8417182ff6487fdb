//! Integration tests, one module a theme, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may fail"
)]

mod docs;
mod layering;
