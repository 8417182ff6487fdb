//! The tools of a list by the words of their definitions.

use std::sync::Arc;

use serde_json::Value;

use super::Tool;
use pleiades_mcp::{RawObject, raw};
use pleiades_ranking::{Document, Index, IndexBuilder, ToolEffect};

/// Longest schema and description that are read, in bytes. All of a list are bounded by what a list may take.
const MAX_SCHEMA: usize = 128 * 1024;
const MAX_TEXT: usize = 64 * 1024;

/// These tools, in their order.
pub(super) fn index(tools: &[Arc<Tool>]) -> Index {
    let mut builder = IndexBuilder::default();
    for tool in tools {
        add(&mut builder, tool);
    }
    builder.build()
}

fn add(builder: &mut IndexBuilder, tool: &Tool) {
    let annotations: Option<RawObject> = tool.raw.read("annotations");
    let annotated = annotations.as_ref().and_then(|it| it.text("title"));
    let title = tool.raw.text("title").or(annotated).unwrap_or_default();
    let description = tool
        .raw
        .get("description")
        .filter(|raw| raw.get().len() <= MAX_TEXT);
    let description = description.and_then(raw::text).unwrap_or_default();
    let schema = Some(tool.schema.get()).filter(|text| text.len() <= MAX_SCHEMA);
    let schema: Value = schema
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let reads = annotations
        .as_ref()
        .and_then(|it| it.read::<bool>("readOnlyHint"));
    builder.add(&Document {
        name: &tool.name,
        short: if tool.short == tool.name { "" } else { &tool.short },
        title: &title,
        description: &description,
        schema: &schema,
        // Many say of a read that it is none, or nothing.
        effect: reads.filter(|reads| *reads).map(|_| ToolEffect::Read),
    });
}
