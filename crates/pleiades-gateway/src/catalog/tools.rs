//! Tools as they came, and what is made of them once.

use std::{collections::HashSet, sync::Arc};

use super::names::{self, FullName};
use super::{Tool, bounds::LeftOut, pages::ListEntry, prefix};
use pleiades_core::text::printable;
use pleiades_mcp::headers;

/// Compiles the repaired entries of `tools/list`. Each that callers could not use is left out.
/// `mirrors`: whether arguments go into headers, so that a faulty `x-mcp-header` matters.
pub(super) fn compile(entries: Vec<ListEntry>, mirrors: bool, left_out: &mut LeftOut) -> Vec<Arc<Tool>> {
    let named = named(entries, left_out);
    let wholes: Vec<FullName> = named.iter().map(|(name, _)| FullName::own(name)).collect();
    let mut seen = HashSet::new();
    let mut tools = Vec::with_capacity(named.len());
    for ((name, entry), alias) in named.into_iter().zip(names::fit_all(&wholes)) {
        if !seen.insert(alias.clone()) {
            left_out.add(without(&name, "its name cannot be told from another one's"));
            continue;
        }
        let mut tool = Tool::new(&name, alias, entry.raw);
        tool.respelled = entry.respelled;
        tool.received = entry.received.map(Box::new);
        match headers::mirror_paths(&tool.schema) {
            Ok(paths) if mirrors => tool.mirrored = paths,
            Err(why) if mirrors => {
                left_out.add(without(&name, &why.to_string()));
                continue;
            }
            _ => {}
        }
        tools.push(tool);
    }
    prefix::shorten(&mut tools);
    tools.into_iter().map(Arc::new).collect()
}

/// Entries by their names upstream.
fn named(entries: Vec<ListEntry>, left_out: &mut LeftOut) -> Vec<(String, ListEntry)> {
    let mut seen = HashSet::new();
    let mut named = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(name) = entry
            .raw
            .read::<String>("name")
            .filter(|name| !names::is_blank(name))
        else {
            left_out.add("a tool was left out: it has no name".to_owned());
            continue;
        };
        if seen.insert(name.clone()) {
            named.push((name, entry));
        } else {
            left_out.add(without(&name, "the provider names it twice, the first is kept"));
        }
    }
    named
}

fn without(name: &str, why: &str) -> String {
    format!("tool `{}` was left out: {why}", printable(name, names::NAMED))
}
