//! Catalogues, queries, and what is counted of them.

use std::collections::BTreeMap;

use pleiades_ranking::{Document, Index, Phrases, RankScope, rank};
use serde_json::Value;

pub(crate) struct ListedTool {
    pub(crate) name: String,
    pub(crate) description: String,
    schema: Value,
    title: String,
}

pub(crate) struct ToolSets {
    pub(crate) servers: BTreeMap<String, (Vec<ListedTool>, Index)>,
}

impl ToolSets {
    pub(crate) fn read(text: &str) -> Self {
        let mut servers: BTreeMap<String, Vec<ListedTool>> = BTreeMap::new();
        for line in text.lines() {
            let tool: Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| tool[key].as_str().unwrap_or_default().to_owned();
            servers.entry(text("server")).or_default().push(ListedTool {
                name: text("name"),
                description: text("description"),
                schema: tool["inputSchema"].clone(),
                title: tool["annotations"]["title"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            });
        }
        let indexed = |tools: Vec<ListedTool>| {
            let index = Index::of(tools.iter().map(|tool| Document {
                name: &tool.name,
                title: &tool.title,
                description: &tool.description,
                schema: &tool.schema,
                short: "",
                effect: None,
            }));
            (tools, index)
        };
        let servers = servers
            .into_iter()
            .map(|(server, tools)| (server, indexed(tools)));
        Self {
            servers: servers.collect(),
        }
    }

    /// The lists that a query looks through.
    pub(crate) fn scopes(&self, server: &str) -> Vec<(&str, &(Vec<ListedTool>, Index))> {
        let meant = self
            .servers
            .iter()
            .filter(|(name, _)| server.is_empty() || *name == server);
        meant.map(|(name, list)| (&**name, list)).collect()
    }
}

pub(crate) struct Query {
    pub(crate) server: String,
    pub(crate) prompt: String,
    pub(crate) gold: Vec<String>,
}

pub(crate) struct Queries(pub(crate) Vec<Query>);

impl Queries {
    pub(crate) fn read(text: &str) -> Self {
        let query = |line: &str| {
            let mut parts = line.split('\t').map(ToOwned::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            let (server, prompt, gold) = (next(), next(), next());
            let gold = gold
                .split('|')
                .filter(|name| !name.is_empty())
                .map(ToOwned::to_owned)
                .collect();
            Query { server, prompt, gold }
        };
        Self(text.lines().map(query).collect())
    }
}

/// Names best first, and whether it is a match.
pub(crate) fn ranks(tools: &ToolSets, query: &Query) -> (Vec<String>, bool) {
    let lists = tools.scopes(&query.server);
    let none = Phrases::default();
    let scopes: Vec<RankScope<'_>> = lists
        .iter()
        .map(|(name, (_, index))| RankScope {
            index,
            name,
            phrases: &none,
        })
        .collect();
    let ranking = rank(&scopes, &query.prompt);
    let name = |scope: usize, document: usize| lists[scope].1.0[document].name.clone();
    let names = ranking
        .order
        .iter()
        .map(|ranked| name(ranked.scope, ranked.document));
    (names.collect(), ranking.is_match)
}

#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) positives: usize,
    pub(crate) within: [f64; 4],
    pub(crate) mrr: f64,
    pub(crate) missed: f64,
    pub(crate) far: usize,
    pub(crate) refused: f64,
}

impl Figures {
    pub(crate) fn of(queries: &Queries, ranks: impl Fn(&Query) -> (Vec<String>, bool)) -> Self {
        let mut all = Self::default();
        for query in &queries.0 {
            let (names, is_match) = ranks(query);
            if query.gold.is_empty() {
                all.far += 1;
                all.refused += f64::from(u8::from(!is_match));
                continue;
            }
            let Some(at) = names.iter().position(|name| query.gold.contains(name)) else {
                continue;
            };
            all.positives += 1;
            all.missed += f64::from(u8::from(!is_match));
            all.mrr += 1.0 / (at as f64 + 1.0);
            for (within, most) in all.within.iter_mut().zip([1, 3, 5, 10]) {
                *within += f64::from(u8::from(at < most));
            }
        }
        let positives = all.positives.max(1) as f64;
        all.within = all.within.map(|count| count / positives);
        all.mrr /= positives;
        all.missed /= positives;
        all.refused /= all.far.max(1) as f64;
        all
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [one, three, five, ten] = self.within;
        write!(
            formatter,
            "n={} R@1 {one:.3} R@3 {three:.3} R@5 {five:.3} R@10 {ten:.3} MRR {:.3} missed {:.3}; far n={} refused {:.3}",
            self.positives, self.mrr, self.missed, self.far, self.refused
        )
    }
}
