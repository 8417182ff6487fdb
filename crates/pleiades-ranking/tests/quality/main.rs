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

use std::path::Path;

use sets::{Figures, Queries, Query, ToolSets};

/// A file of the project's test data.
fn data(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    std::fs::read_to_string(folder.join(name)).expect("test data")
}

#[test]
fn prompts_find_their_operations_far_better_than_by_plain_words() {
    let tools = ToolSets::read(&data("ranking_tools.jsonl"));
    let queries = Queries::read(&data("ranking_prompts.tsv"));
    let plain = Figures::of(&queries, |query| plain::ranks(&tools, query));
    let ranked = Figures::of(&queries, |query| sets::ranks(&tools, query));
    let [_, _, five, ten] = ranked.within;
    assert_eq!(
        ranked.positives,
        queries.0.len(),
        "an expected tool does not exist"
    );
    assert!(five >= 0.87 && ten >= 0.94 && ranked.mrr >= 0.71, "{ranked}");
    assert!(five >= plain.within[2] + 0.10, "{ranked} against {plain}");
}

#[test]
fn prompts_in_other_languages_find_their_operations() {
    let tools = ToolSets::read(&data("ranking_tools.jsonl"));
    let mut queries = Queries::read(&data("ranking_prompts.tsv"));
    // They stand last.
    queries.0.drain(..queries.0.len() - 21);
    let ranked = Figures::of(&queries, |query| sets::ranks(&tools, query));
    assert!(ranked.within[2] >= 0.80, "{ranked}");
}

#[test]
fn what_is_far_from_a_provider_is_told_from_what_is_not() {
    let tools = ToolSets::read(&data("ranking_tools.jsonl"));
    let near = Queries::read(&data("ranking_prompts.tsv"));
    let near = Figures::of(&near, |query| sets::ranks(&tools, query));
    let mut far = Vec::new();
    for line in data("ranking_far.tsv").lines() {
        let (prompt, but) = line.split_once('\t').expect("a tab");
        let servers = tools
            .servers
            .keys()
            .filter(|server| !but.split(',').any(|but| but == *server));
        far.extend(servers.map(|server| Query {
            server: server.clone(),
            prompt: prompt.to_owned(),
            gold: Vec::new(),
        }));
    }
    let far = Figures::of(&Queries(far), |query| sets::ranks(&tools, query));
    assert!(far.refused >= 0.90, "{far}");
    assert!(near.missed <= 0.04, "{near}");
}

/// Servers whose work has much in common: a prompt for one may be meant for another.
const ALIKE: [&[&str]; 6] = [
    &["mail", "calendar", "drive"],
    &["payments", "shop"],
    &["drive", "tracker", "calendar"],
    &["cloud", "containers", "monitoring"],
    &["drive", "cloud"],
    &["geo", "calendar"],
];

#[test]
fn what_is_meant_for_another_provider_is_told_from_what_is_not() {
    let tools = ToolSets::read(&data("ranking_tools.jsonl"));
    let near = Queries::read(&data("ranking_prompts.tsv"));
    let mut far = Vec::new();
    for query in &near.0 {
        let are_alike = |other: &str| {
            let both = |of: &&[&str]| of.contains(&&*query.server) && of.contains(&other);
            other == query.server || ALIKE.iter().any(both)
        };
        let others = tools.servers.keys().filter(|other| !are_alike(other));
        far.extend(others.map(|server| Query {
            server: server.clone(),
            prompt: query.prompt.clone(),
            gold: Vec::new(),
        }));
    }
    let far = Figures::of(&Queries(far), |query| sets::ranks(&tools, query));
    assert!(far.refused >= 0.60, "{far}");
}

#[test]
fn figures_of_sets_that_are_named() {
    let sets = std::env::var("PLEIADES_RANKING_SETS").unwrap_or_default();
    for set in sets.split_whitespace() {
        let (catalog, queries) = set.split_once(',').expect("CATALOG,QUERIES");
        let tools = ToolSets::read(&std::fs::read_to_string(catalog).expect("a catalogue"));
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
