//! One integration binary; a module a theme. Everything runs in process or from our own binary:
//! the real peers are driven by `scripts/test`.
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    clippy::excessive_nesting,
    clippy::let_underscore_must_use,
    clippy::disallowed_methods,
    reason = "a test may fail loudly"
)]

mod world;

mod access;
mod accounts;
mod answer_cache;
mod boundary;
mod byte_stability;
mod cells;
mod codes;
mod connecting;
mod corpus;
mod cures;
mod defects;
mod definitions;
mod demo;
mod direct;
mod docs;
mod doctor;
mod documents;
mod golden;
mod hostile;
mod import;
mod incidents;
mod install;
mod layering;
mod layering_exchange;
mod lists;
mod log_fields;
mod long_results;
mod metrics;
mod naming;
mod oauth;
mod odd;
mod older;
mod oneshot;
mod plans;
mod process;
mod refusals;
mod relay;
mod reload;
mod renewal;
mod result_handles;
mod source;
mod sweep;
mod tasks;
mod terminal;
mod trust;
mod uris;
mod using;
mod vault;
mod vocabulary;
mod waiting;
