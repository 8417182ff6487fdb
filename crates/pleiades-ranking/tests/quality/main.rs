//! How well prompts find their operations, beside plain BM25 over name and description.
//!
//! `PLEIADES_RANKING_SETS="CATALOG,QUERIES ..." cargo test -p pleiades-ranking --test quality figures --
//! --nocapture` measures any catalogue (JSON lines, as of `tools/list` with `server`) and queries
//! (`server<TAB>prompt<TAB>gold|gold`; no server: across all).
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a test, and a tool for measuring"
)]

mod plain;
mod sets;

use sets::{Figures, Queries, Tools};

#[test]
fn figures_of_sets_that_are_named() {
    let sets = std::env::var("PLEIADES_RANKING_SETS").unwrap_or_default();
    for set in sets.split_whitespace() {
        let (catalog, queries) = set.split_once(',').expect("CATALOG,QUERIES");
        let tools = Tools::read(&std::fs::read_to_string(catalog).expect("a catalogue"));
        let queries = Queries::read(&std::fs::read_to_string(queries).expect("queries"));
        println!("{set}");
        println!(
            "  plain  {}",
            Figures::of(&queries, |query| plain::ranks(&tools, query))
        );
        println!(
            "  ranked {}",
            Figures::of(&queries, |query| sets::ranks(&tools, query))
        );
    }
}
