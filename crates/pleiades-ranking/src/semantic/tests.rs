//! Against vectors that others' code made: `vectors.jsonl` holds what the packages `tokenizers` and `numpy` of Python
//! make of the same files in full precision.

use serde_json::Value;

use super::*;
use crate::{Document, Index, Phrases, RankScope, rank};

fn recorded() -> Vec<Value> {
    let lines = include_str!("vectors.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn texts_are_cut_as_the_models_own_tokenizer_cuts_them() {
    for case in recorded() {
        let text = case["text"].as_str().expect("a text");
        let pieces: Vec<String> = pieces::rows(text)
            .into_iter()
            .map(|row| String::from_utf8(table::token(row).to_vec()).expect("UTF-8"))
            .collect();
        let expected: Vec<&str> = case["pieces"]
            .as_array()
            .expect("pieces")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(pieces, expected, "{text:?}");
    }
}

#[test]
fn a_byte_for_each_number_leaves_vectors_as_they_are() {
    for case in recorded() {
        let text = case["text"].as_str().expect("a text");
        let numbers: Vec<f64> = case["embedding"]
            .as_array()
            .expect("numbers")
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        let Embedding(ours) = Embedding::of(text);
        let cosine: f64 = numbers
            .iter()
            .zip(ours)
            .map(|(one, two)| one * f64::from(two))
            .sum();
        let length: f64 = numbers.iter().map(|number| number * number).sum();
        assert!((cosine - length.sqrt()).abs() < 2e-3, "{text:?}: {cosine}");
    }
}

#[test]
fn every_token_is_found_and_is_its_own_longest_prefix() {
    let mut row = 0;
    while !table::token(row).is_empty() {
        assert_eq!(
            table::longest_prefix(table::token(row)),
            Some((row, table::token(row).len()))
        );
        row += 1;
    }
    assert_eq!(row, 29_528);
}

#[test]
fn texts_that_mean_the_same_lie_closer_than_texts_that_do_not() {
    let prompt = Embedding::of("erase a file");
    let close = prompt.similarity(&Embedding::of("delete document"));
    let far = prompt.similarity(&Embedding::of("weather forecast"));
    assert!(close > far, "{close} {far}");
}

#[test]
fn a_long_text_costs_no_more_than_its_first_part() {
    let long = "ü create issue ".repeat(100_000);
    let first = clipped(&long, MAX_TEXT);
    assert_eq!(Embedding::of(&long), Embedding::of(first.trim_end()));
}

#[test]
fn the_embedding_of_nothing_is_like_nothing() {
    let nothing = Embedding::of("\u{200b}");
    assert!(nothing.similarity(&Embedding::of("create issue")).abs() < f32::EPSILON);
}

#[test]
fn a_prompt_that_shares_no_word_with_any_operation_is_ranked_by_meaning() {
    let operation = |name: &'static str, description: &'static str| Document {
        name,
        short: "",
        title: "",
        description,
        schema: &Value::Null,
        effect: None,
    };
    let index = Index::of([
        operation(
            "convert_currency",
            "Converts an amount between dollars and euros.",
        ),
        operation("get_forecast", "Rain, wind and temperature of the coming days."),
        operation("translate_text", "Translates between languages."),
        operation("play_song", "Plays music."),
    ]);
    for (prompt, expected) in [
        ("umbrella needed in Oslo", 1),
        ("say it in Spanish", 2),
        ("some jazz", 3),
    ] {
        let scope = RankScope {
            index: &index,
            name: "demo",
            phrases: &Phrases::default(),
        };
        let order = rank(&[scope], prompt).order;
        assert_eq!(
            order.first().map(|best| best.document),
            Some(expected),
            "{prompt}"
        );
    }
}
