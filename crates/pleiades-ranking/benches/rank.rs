//! How long a prompt takes over 2,000 operations, and how long their index: `cargo bench -p pleiades-ranking`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool for measuring"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use pleiades_ranking::{Document, Index, IndexBuilder, Phrases, RankScope, rank};
use serde_json::Value;

const OPERATIONS: usize = 2_000;
const ROUNDS: usize = 10;

fn main() {
    let tools = include_str!("../../../tests/data/ranking_tools.jsonl");
    let tools: Vec<Value> = tools
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let begun = Instant::now();
    let index = index_of(&tools);
    println!("index of {OPERATIONS} operations: {:?}", begun.elapsed());
    let prompts = include_str!("../../../tests/data/ranking_prompts.tsv");
    let mut prompts: Vec<String> = prompts
        .lines()
        .filter_map(|line| Some(line.split('\t').nth(1)?.to_owned()))
        .collect();
    report("prompts", &index, &prompts);
    prompts = vec![prompts.join(" ")];
    report("a prompt of many words", &index, &prompts);
}

/// These tools again and again, under other names.
fn index_of(tools: &[Value]) -> Index {
    let mut builder = IndexBuilder::default();
    for (at, tool) in tools.iter().cycle().take(OPERATIONS).enumerate() {
        let text = |key: &str| tool[key].as_str().unwrap_or_default();
        builder.add(&Document {
            name: &format!("{}_{at}", text("name")),
            short: "",
            title: "",
            description: text("description"),
            schema: &tool["inputSchema"],
            effect: None,
        });
    }
    builder.build()
}

fn report(what: &str, index: &Index, prompts: &[String]) {
    let none = Phrases::default();
    let scopes = [RankScope {
        index,
        name: "all",
        phrases: &none,
    }];
    let once = |prompt: &String| {
        let begun = Instant::now();
        black_box(rank(&scopes, prompt));
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..ROUNDS).flat_map(|_| prompts.iter().map(once)).collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!(
        "{what}: {} runs, median {:?}, p99 {:?}, most {:?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
}
