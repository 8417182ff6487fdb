//! Which operations fit a prompt: names, texts and parameters of operations in, an order of them out.
//! Pure: no I/O, no clock, no catalogue.

pub use document::{Document, ToolEffect};
pub use index::{Index, IndexBuilder};
pub use phrases::Phrases;
pub use rank::{RankScope, Ranked, Ranking, rank};

mod aliases;
mod areas;
mod document;
mod evidence;
mod form;
mod index;
mod phrases;
mod prompt;
mod rank;
#[cfg(feature = "semantic")]
mod semantic;
mod words;
