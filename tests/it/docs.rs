//! The pages that stand beside code are complete: nothing registered is undocumented.

use std::{fs, path::Path};

use pleiades::telemetry::names;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The stable names of `error::Code`, read from its source: what is compiled cannot be listed.
fn codes() -> Vec<String> {
    let source = read("src/error.rs");
    let table = source
        .split_once("fn as_str")
        .unwrap()
        .1
        .split_once("\n    }\n")
        .unwrap()
        .0;
    let found: Vec<String> = table
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("Self::")?
                .split('"')
                .nth(1)
                .map(str::to_owned)
        })
        .collect();
    assert!(found.len() > 30, "the table of names was found");
    found
}

/// Titles of the page's `## ` sections, without backticks.
fn sections(page: &str) -> Vec<String> {
    let titles = page.lines().filter_map(|line| line.strip_prefix("## "));
    titles.map(|title| title.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_error_code_has_its_section_and_no_section_is_left_over() {
    assert_eq!(sections(&read("docs/ERRORS.md")), codes());
}

#[test]
fn every_section_of_an_error_says_what_it_means_and_what_to_do() {
    let page = read("docs/ERRORS.md");
    for section in page.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        for part in ["**Means:** ", "**Do:** ", "**HTTP:** "] {
            assert!(text.contains(part), "{title} lacks `{part}`");
        }
    }
}

#[test]
fn every_error_code_is_an_outcome_of_calls() {
    for code in codes() {
        assert!(
            names::OUTCOMES.contains(&&*code),
            "`{code}` is missing in `names::OUTCOMES`"
        );
    }
}

#[test]
fn every_metric_has_its_row_with_labels_and_help() {
    let page = read("docs/METRICS.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `pleiades_"))
        .collect();
    let expected: Vec<String> = names::ALL
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!(
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(", "),
                metric.help
            )
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_value_of_a_closed_label_is_documented() {
    let page = read("docs/METRICS.md");
    let sets = [
        &names::OUTCOMES[..],
        &names::RULES,
        &names::RELOADS,
        &names::STATES,
        &names::CLIENTS,
        &names::REPAIRS,
    ];
    for value in sets.into_iter().flatten() {
        assert!(
            page.contains(&format!("`{value}`")),
            "`{value}` is missing in docs/METRICS.md"
        );
    }
}

#[test]
fn rules_and_states_of_limits_are_label_values() {
    for rule in pleiades::limit::Rule::ALL {
        assert!(names::RULES.contains(&rule.as_str()), "{}", rule.as_str());
    }
}
