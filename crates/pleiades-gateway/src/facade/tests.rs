//! Providers and catalogues for the tests of this module.

use std::sync::Arc;

use serde_json::Value;

use crate::catalog::{Catalogue, OfflineProvider, Provider, Tool, prefix};
use pleiades_mcp::{RawObject, raw};

/// A provider without rules that is reached nowhere.
pub(super) fn provider(id: &str) -> Provider {
    OfflineProvider::bare(id)
}

/// A catalogue of these entries of `tools/list`.
pub(super) fn catalogue(tools: impl IntoIterator<Item = Value>) -> Catalogue {
    let tools = tools.into_iter().map(|tool| {
        let raw = RawObject::open(&raw::raw(&tool)).expect("an object");
        let name = raw.text("name").expect("a name").into_owned();
        Tool::new(&name, name.clone(), raw)
    });
    let mut tools: Vec<Tool> = tools.collect();
    prefix::shorten(&mut tools);
    Catalogue::of(tools.into_iter().map(Arc::new).collect())
}
