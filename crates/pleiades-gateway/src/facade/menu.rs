//! Which operations a provider has, where a call named none that exists.

use std::sync::Arc;

use serde_json::json;

use super::answer::{AnswerStatus, MetaAnswer};
use super::envelope::printable;
use super::shape::MAX_SCHEMA;
use super::{name, signature};
use crate::catalog::{Catalogue, Provider};
use pleiades_core::telemetry::names::OTHER;
use pleiades_core::text::clipped;
use pleiades_mcp::raw;

/// A menu is read by a model each time; about four bytes make a token.
pub(super) const MENU_BYTES: usize = 800 * 4;
pub(super) const MAX_NAMES_BYTES: usize = 4 * 1024;
const NEAREST: usize = 3;
/// Schemas that are read for the signatures of one menu (bytes).
const MAX_MENU_READ: usize = 512 * 1024;

/// The operations with signatures as far as they fit, then the names of the rest.
pub(super) fn menu(catalogue: &Catalogue, prompted: bool) -> MetaAnswer {
    let mut text = match prompted {
        true => "Nothing was run. Choose the operation yourself; these exist:".to_owned(),
        false => "Nothing was run. These operations exist:".to_owned(),
    };
    let (mut left, mut read) = (MENU_BYTES, 0);
    let mut shown = 0;
    for tool in &catalogue.tools {
        read += tool.schema.get().len().min(MAX_SCHEMA);
        let line = signature::line(tool);
        if line.len() > left || read > MAX_MENU_READ {
            break;
        }
        left -= line.len();
        shown += 1;
        text.push('\n');
        text.push_str(&line);
    }
    let mut rest = catalogue.tools.iter().skip(shown).map(|tool| &*tool.short);
    if let Some(first) = rest.next() {
        let mut names = first.to_owned();
        for name in rest {
            if names.len() > MAX_NAMES_BYTES {
                break;
            }
            names.push_str(", ");
            names.push_str(name);
        }
        text.push_str("\nOther operations: ");
        text.push_str(&clipped(&names, MAX_NAMES_BYTES));
    }
    text.push_str("\nNext: {\"tool\":\"…\",\"arguments\":{…}}; {\"tool\":\"…\"} alone returns its schema.");
    MetaAnswer::new(AnswerStatus::Menu, text)
}

pub(super) fn unknown(
    provider: &Provider,
    catalogue: &Catalogue,
    name: &str,
    elsewhere: &[Arc<str>],
) -> MetaAnswer {
    let near = name::nearest(catalogue, name, NEAREST);
    let lines: Vec<String> = near.iter().map(|tool| signature::line(tool)).collect();
    let names: Vec<&str> = near.iter().map(|tool| &*tool.short).collect();
    let mut text = format!(
        "Nothing was run: {} has no operation `{}`.",
        provider.title,
        printable(name)
    );
    if !elsewhere.is_empty() {
        let others: Vec<String> = elsewhere.iter().map(|id| format!("`use_{id}`")).collect();
        let verb = if others.len() == 1 { "has" } else { "have" };
        text.push_str(&format!(
            " {} {verb} it: call that tool instead.",
            others.join(", ")
        ));
    } else if !lines.is_empty() {
        text.push_str(" The nearest are:\n");
        text.push_str(&lines.join("\n"));
    }
    let mut answer = MetaAnswer::new(AnswerStatus::UnknownTool, text);
    answer.data = Some(raw::raw(&json!({ "code": answer.outcome(), "nearest": names })));
    answer.tool = Some(OTHER.into());
    answer.cause = Some("the provider has no operation of this name".to_owned());
    answer
}
