//! BM25 over words (`\w+`) of name and description: what is compared with.

use std::collections::{BTreeMap, HashMap};

use crate::sets::{Query, ToolSets};

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|it: char| !(it.is_alphanumeric() || it == '_'));
    words
        .filter(|word| !word.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

pub(crate) fn ranks(tools: &ToolSets, query: &Query) -> (Vec<String>, bool) {
    let lists = tools.scopes(&query.server);
    let tools: Vec<(&str, Vec<String>)> = lists
        .iter()
        .flat_map(|(_, (tools, _))| tools)
        .map(|tool| (&*tool.name, words(&format!("{} {}", tool.name, tool.description))))
        .collect();
    let count = tools.len() as f64;
    let mean = tools.iter().map(|(_, words)| words.len()).sum::<usize>() as f64 / count.max(1.0);
    let mut holding: HashMap<&str, f64> = HashMap::new();
    for (_, words) in &tools {
        let distinct: BTreeMap<&str, ()> = words.iter().map(|word| (&**word, ())).collect();
        for word in distinct.keys() {
            *holding.entry(word).or_default() += 1.0;
        }
    }
    let asked: BTreeMap<String, ()> = words(&query.prompt).into_iter().map(|word| (word, ())).collect();
    let score = |words: &[String]| -> f64 {
        let each = asked.keys().map(|word| {
            let times = words.iter().filter(|it| *it == word).count() as f64;
            let rare = holding.get(&**word).map_or(0.0, |holding| {
                (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln()
            });
            rare * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * words.len() as f64 / mean))
        });
        each.sum()
    };
    let mut scored: Vec<(f64, &str)> = tools.iter().map(|(name, words)| (score(words), *name)).collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    (
        scored.into_iter().map(|(_, name)| name.to_owned()).collect(),
        true,
    )
}
