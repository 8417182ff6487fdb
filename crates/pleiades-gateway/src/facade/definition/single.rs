//! The one tool for all providers, of `facade.single`.

use serde_json::json;

use super::{
    Definition, MAX_ABOUT, MAX_DESCRIPTION, OperationSet, ToolEntry, clip, name_of, operation, properties,
    sets,
};
use crate::catalog::{Catalogue, Provider};

/// What a provider is for is left out where less than this is left of it (bytes).
const LEAST_SUBJECT: usize = 24;
/// Longest hint by which a host finds the tool (bytes).
const MAX_HINT: usize = 600;

/// A provider that one tool stands for.
#[derive(Debug, Clone, Copy)]
pub struct SingleProvider<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// Its lists; `None`: the caller is not connected.
    pub catalogue: Option<&'a Catalogue>,
    /// `facade.split: read_write`.
    pub is_split: bool,
}

impl SingleProvider<'_> {
    fn sets(&self) -> Vec<OperationSet> {
        match self.catalogue {
            Some(catalogue) => sets(self.provider, catalogue, self.is_split),
            None => vec![OperationSet::All],
        }
    }

    fn only_reads(&self) -> bool {
        match self.is_split {
            true => self.catalogue.is_some_and(|it| !it.tools.is_empty()),
            false => self.catalogue.is_some_and(|it| self.provider.only_reads(it)),
        }
    }
}

/// The one tool for these providers, and beside it one for the writes of those that are split.
#[must_use]
pub fn single(name: &str, providers: &[SingleProvider<'_>]) -> Vec<Definition> {
    let among = |wanted: fn(OperationSet) -> bool| -> Vec<&SingleProvider<'_>> {
        let has = |it: &&SingleProvider<'_>| it.sets().into_iter().any(wanted);
        providers.iter().filter(has).collect()
    };
    let own = among(|set| set != OperationSet::Writes);
    let writing = among(|set| set == OperationSet::Writes);
    let mut tools = Vec::new();
    if !own.is_empty() || writing.is_empty() {
        tools.push(tool(name, &own, (OperationSet::All, !writing.is_empty())));
    }
    if !writing.is_empty() {
        tools.push(tool(name, &writing, (OperationSet::Writes, true)));
    }
    tools
}

fn tool(name: &str, providers: &[&SingleProvider<'_>], (set, is_split): (OperationSet, bool)) -> Definition {
    let ids: Vec<&str> = providers.iter().map(|it| &*it.provider.id).collect();
    let mut chosen = json!({ "type": "string", "description": "Whose operation it is." });
    if let (Some(object), false) = (chosen.as_object_mut(), ids.is_empty()) {
        object.insert("enum".to_owned(), json!(ids));
    }
    let mut first = serde_json::Map::from_iter([("provider".to_owned(), chosen)]);
    first.extend(operation(&[]));
    let beside = match (set, is_split) {
        (OperationSet::Writes, _) => format!(" It changes things; use_{name} reads."),
        (_, true) => format!(" What changes things at some of them is in use_{name}_write."),
        _ => String::new(),
    };
    let shown = ToolEntry {
        name: name_of(name, set),
        title: &match set {
            OperationSet::Writes => format!("{name} (write)"),
            _ => name.to_owned(),
        },
        description: describe(providers, &beside),
        properties: properties(first),
        only_reads: set != OperationSet::Writes
            && !providers.is_empty()
            && providers.iter().all(|it| it.only_reads()),
        search: hint(providers),
    };
    Definition::of(shown.entry())
}

fn describe(providers: &[&SingleProvider<'_>], beside: &str) -> String {
    const SHAPES: &str = "\n1. Known operation: {\"provider\":\"…\",\"tool\":\"…\",\"arguments\":{…}} runs it.\n\
        2. Unsure: {\"provider\":\"…\",\"prompt\":\"goal\"} lists operations with signatures and runs nothing; then call as in 1.\n\
        3. {\"provider\":\"…\",\"tool\":\"…\"} alone returns its schema.\n\
        A wrong call runs nothing and says what to change. Long results are shortened and carry a result id.";
    let head = format!("Work with several services.{beside}");
    let room = MAX_DESCRIPTION.saturating_sub(head.len() + SHAPES.len());
    head + &subjects(providers, room) + SHAPES
}

/// What each provider is for; all get the same room.
fn subjects(providers: &[&SingleProvider<'_>], most: usize) -> String {
    let named: usize = providers
        .iter()
        .map(|it| it.provider.id.len() + "\n: ".len())
        .sum();
    let described = || {
        providers
            .iter()
            .filter_map(|it| Some((it, it.provider.about.as_deref()?)))
    };
    let room = most.saturating_sub(named) / described().count().max(1);
    if room < LEAST_SUBJECT {
        return String::new();
    }
    let subject = |(it, about): (&&SingleProvider<'_>, &str)| {
        format!(
            "\n{}: {}",
            it.provider.id,
            clip(about.trim(), room.min(MAX_ABOUT))
        )
    };
    described().map(subject).collect()
}

fn hint(providers: &[&SingleProvider<'_>]) -> String {
    let titles: Vec<&str> = providers.iter().map(|it| it.provider.title.as_str()).collect();
    clip(&titles.join(", "), MAX_HINT)
}
