//! One tool per provider. Pure: a call of the meta tool and a catalogue in, an answer or a call of
//! a real tool out.

pub mod answer;
pub mod calls;
pub mod definition;
pub mod form;
pub mod menu;
pub mod meta_tool;
pub mod misfit;
pub mod options;
pub(crate) mod part;
pub mod plan;
pub mod repairs;
pub mod split;

mod blocks;
mod coerce;
mod dry_run;
mod duplicate_keys;
mod envelope;
mod exact;
mod example;
mod explain;
mod faults;
mod kinds;
mod name;
pub(crate) mod plan_answer;
mod reference;
pub(crate) mod schedule;
mod shape;
mod signature;
#[cfg(test)]
mod tests;
