//! What every part of Pleiades stands on: errors and their codes, secrets, randomness, time, back-off,
//! bounded maps, text of others, the cost of texts in tokens, TLS trust, telemetry, limits, the look of pages, and how a request is signed.

pub mod backoff;
pub mod bounded;
pub mod digest;
pub mod error;
pub mod limit;
pub mod mask;
pub mod page;
pub mod random;
pub mod secret;
pub mod signature;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod tokens;
pub mod trust;
pub mod web;
pub mod www_authenticate;
