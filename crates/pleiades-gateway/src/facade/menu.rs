//! Which operations there are, best first where a prompt says what is wanted: as many as fit with their
//! signatures, the rest by name. Nothing runs.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{AnswerStatus, MetaAnswer};
use super::envelope::printable;
use super::shape::MAX_SCHEMA;
use super::{explain, name, signature};
use crate::catalog::{Catalogue, Provider, Tool};
use pleiades_core::telemetry::names::OTHER;
use pleiades_core::text::{clipped, one_line};
use pleiades_core::tokens;
use pleiades_mcp::raw;
use pleiades_ranking::{RankScope, Ranking, rank};

/// Tokens of all signatures, as [`most_tokens`] counts: below 800 of them in any case.
const SIGNATURES: usize = 700;
/// The same where the prompt fits nothing: enough for the nearest.
const NEAREST_SIGNATURES: usize = 300;
/// Tokens of the best operation's whole schema, and bytes of one that may take so few.
const WHOLE_SCHEMA: usize = 370;
const WHOLE_SCHEMA_BYTES: usize = 4 * 1024;
/// Bytes of all further names: some four thousand of them.
const MAX_NAMES: usize = 128 * 1024;
/// Signatures that are too long for what is left, after which no shorter one is looked for.
const TOO_LONG: usize = 4;
/// Schemas that are read for the signatures of one menu (bytes).
const MAX_READ: usize = 512 * 1024;
/// Characters of the prompt that are repeated.
const MAX_PROMPT: usize = 120;
const NEAREST: usize = 3;

/// An operation of a menu.
#[derive(Debug, Clone, Copy)]
pub struct MenuEntry<'a> {
    /// Whose it is.
    pub provider: &'a Provider,
    /// The operation.
    pub tool: &'a Arc<Tool>,
}

/// The operations of one provider or of several, best first.
#[derive(Debug)]
pub struct Menu<'a> {
    entries: Vec<MenuEntry<'a>>,
    /// The signatures that are shown: of the first entries but those that are too long.
    signatures: Vec<(MenuEntry<'a>, String)>,
    prompt: Option<String>,
    /// Whose operations they are, where they are of one.
    only: Option<&'a Provider>,
    is_match: bool,
    has_many_goals: bool,
}

impl<'a> Menu<'a> {
    /// The operations of one provider; in its own order without a prompt.
    #[must_use]
    pub fn of(provider: &'a Provider, catalogue: &'a Catalogue, prompt: Option<&str>) -> Self {
        Self::made(Some(provider), &[(provider, catalogue)], prompt)
    }

    /// The operations of several.
    #[must_use]
    pub fn across(lists: &[(&'a Provider, &'a Catalogue)], prompt: &str) -> Self {
        Self::made(None, lists, Some(prompt))
    }

    fn made(
        only: Option<&'a Provider>,
        lists: &[(&'a Provider, &'a Catalogue)],
        prompt: Option<&str>,
    ) -> Self {
        let (entries, ranking) = match prompt {
            Some(prompt) => {
                let (entries, ranking) = ranked(lists, prompt);
                (entries, Some(ranking))
            }
            None => (listed(lists), None),
        };
        let is_match = ranking.as_ref().is_none_or(|ranking| ranking.is_match);
        let mut menu = Self {
            entries,
            signatures: Vec::new(),
            prompt: prompt.map(|prompt| one_line(prompt, MAX_PROMPT)),
            only,
            is_match,
            has_many_goals: ranking.is_some_and(|ranking| ranking.has_many_goals),
        };
        let room = if is_match { SIGNATURES } else { NEAREST_SIGNATURES };
        menu.signatures = menu.signed(room);
        menu
    }

    /// Whether it answers the prompt.
    #[must_use]
    pub const fn status(&self) -> AnswerStatus {
        if self.is_match {
            AnswerStatus::Menu
        } else {
            AnswerStatus::NoMatch
        }
    }

    /// Every operation, best first.
    #[must_use]
    pub fn entries(&self) -> &[MenuEntry<'a>] {
        &self.entries
    }

    /// The operations that are shown with their signatures.
    pub fn with_signatures(&self) -> impl Iterator<Item = &MenuEntry<'a>> {
        self.signatures.iter().map(|(entry, _)| entry)
    }

    /// The signatures of the first operations, as many as fit.
    fn signed(&self, room: usize) -> Vec<(MenuEntry<'a>, String)> {
        let (mut left, mut read, mut too_long) = (room, 0, 0);
        let mut signed = Vec::new();
        for entry in &self.entries {
            read += entry.tool.schema.get().len().min(MAX_SCHEMA);
            if read > MAX_READ || too_long > TOO_LONG {
                break;
            }
            let mut line = format!("{}{}", self.prefix(entry), signature::line(entry.tool));
            if signed.is_empty() {
                line = shortened(line, room);
            }
            let cost = most_tokens(&line);
            match left.checked_sub(cost) {
                Some(rest) => {
                    left = rest;
                    signed.push((*entry, line));
                }
                None => too_long += 1,
            }
        }
        signed
    }

    /// What stands before an operation's name.
    fn prefix(&self, entry: &MenuEntry<'_>) -> String {
        match self.only {
            Some(_) => String::new(),
            None => format!("{}.", entry.provider.id),
        }
    }

    fn called(&self, entry: &MenuEntry<'_>) -> String {
        format!("{}{}", self.prefix(entry), entry.tool.short)
    }

    /// The answer that shows it.
    #[must_use]
    pub fn answer(self) -> MetaAnswer {
        let mut text = self.head();
        for (_, line) in &self.signatures {
            text.push('\n');
            text.push_str(line);
        }
        let best = self
            .entries
            .first()
            .filter(|_| self.prompt.is_some() && self.is_match);
        if let Some(schema) = best.and_then(|best| whole_schema(best.tool)) {
            let name = best.map(|best| self.called(best)).unwrap_or_default();
            text.push_str(&format!("\nThe whole schema of `{name}`: {schema}"));
        }
        if self.has_many_goals {
            text.push_str("\nThe prompt has several goals. Ask for one at a time to find each operation.");
        }
        text.push_str(&self.next_line(best));
        text.push_str(&self.rest());
        let mut answer = MetaAnswer::new(self.status(), text);
        answer.next = best.map(|best| raw::raw(&self.next(best)));
        let names: Vec<String> = self.with_signatures().map(|entry| self.called(entry)).collect();
        if !self.is_match {
            answer.data = Some(raw::raw(&json!({ "code": answer.outcome(), "nearest": names })));
            answer.cause = Some("no operation matches the prompt".to_owned());
        } else if self.prompt.is_some() {
            answer.data = Some(raw::raw(&json!({ "matches": names })));
        }
        answer
    }

    fn head(&self) -> String {
        let owner = self
            .only
            .map_or("the connected providers", |provider| &provider.title);
        let count = self.entries.len();
        match &self.prompt {
            _ if count == 0 => format!("Nothing was run: {owner} has no operations."),
            None => "Nothing was run. These operations exist:".to_owned(),
            Some(prompt) if self.is_match => format!("Nothing was run. Best matches for \"{prompt}\":"),
            Some(prompt) => format!(
                "Nothing was run: no operation of {owner} matches \"{prompt}\". Names, descriptions and \
                 parameters of all {count} operations were searched. The nearest are:"
            ),
        }
    }

    /// The call to make, with what the best operation needs.
    fn next(&self, best: &MenuEntry<'_>) -> Value {
        let mut next = explain::instead(best.tool, None);
        if let (None, Some(call)) = (self.only, next.as_object_mut()) {
            call.shift_insert(0, "provider".to_owned(), json!(&*best.provider.id));
        }
        next
    }

    fn next_line(&self, best: Option<&MenuEntry<'_>>) -> String {
        let provider = |id: &str| match self.only {
            Some(_) => String::new(),
            None => format!("\"provider\":{},", json!(id)),
        };
        match best {
            _ if self.entries.is_empty() => String::new(),
            Some(best) => {
                let (provider, tool) = (provider(&best.provider.id), json!(&*best.tool.short));
                format!("\nNext: {{{provider}\"tool\":{tool},\"arguments\":{{…}}}}, or another one of these.")
            }
            None => {
                let provider = provider("…");
                format!(
                    "\nNext: {{{provider}\"tool\":\"…\",\"arguments\":{{…}}}}; {{{provider}\"tool\":\"…\"}} alone \
                     returns its schema."
                )
            }
        }
    }

    /// The names of all that have no signature here.
    fn rest(&self) -> String {
        let is_shown = |entry: &MenuEntry<'_>| {
            self.with_signatures()
                .any(|shown| Arc::ptr_eq(shown.tool, entry.tool) && shown.provider.id == entry.provider.id)
        };
        let mut names = String::new();
        let mut left_out = 0_usize;
        for entry in self.entries.iter().filter(|entry| !is_shown(entry)) {
            let name = self.called(entry);
            if names.len() + name.len() > MAX_NAMES {
                left_out += 1;
                continue;
            }
            names.push_str(if names.is_empty() {
                "\nOther operations: "
            } else {
                ", "
            });
            names.push_str(&name);
        }
        if left_out > 0 {
            names.push_str(&format!(
                ", and {left_out} more; a prompt in other words finds them"
            ));
        }
        names
    }
}

/// The tokens that a line may take with its line break. The estimate is too low by up to a fifth for letters
/// at random of a script beyond ASCII whose words the vocabulary knows.
fn most_tokens(line: &str) -> usize {
    let (estimate, all) = (tokens::estimate(line), line.chars().count().max(1));
    let beyond = line.chars().filter(|it| !it.is_ascii()).count();
    estimate + estimate * beyond / all / 4 + 1
}

/// A line of at most so many tokens: the best operation is shown in any case.
fn shortened(mut line: String, room: usize) -> String {
    while most_tokens(&line) > room && line.len() > 1 {
        line = clipped(&line, line.chars().count() / 2);
    }
    line
}

/// All operations in the order of a prompt.
fn ranked<'a>(lists: &[(&'a Provider, &'a Catalogue)], prompt: &str) -> (Vec<MenuEntry<'a>>, Ranking) {
    let names: Vec<String> = lists
        .iter()
        .map(|(provider, _)| format!("{} {}", provider.id, provider.title))
        .collect();
    let scopes: Vec<RankScope<'_>> = lists
        .iter()
        .zip(&names)
        .map(|((provider, lists), name)| RankScope {
            index: lists.index(),
            name,
            phrases: &provider.facade.phrases,
        })
        .collect();
    let ranking = rank(&scopes, prompt);
    let entry = |(scope, document): (usize, usize)| {
        let (provider, lists) = lists.get(scope)?;
        let tool = lists.tools.get(document)?;
        Some(MenuEntry { provider, tool })
    };
    let places = ranking.order.iter().map(|ranked| (ranked.scope, ranked.document));
    let mut entries: Vec<MenuEntry<'a>> = places.filter_map(entry).collect();
    // An index holds thousands; of a provider that has more all are named.
    for (provider, lists) in lists {
        let beyond = lists.tools.iter().skip(lists.index().len());
        entries.extend(beyond.map(|tool| MenuEntry { provider, tool }));
    }
    (entries, ranking)
}

/// All operations as they are listed.
fn listed<'a>(lists: &[(&'a Provider, &'a Catalogue)]) -> Vec<MenuEntry<'a>> {
    let of = |(provider, lists): &(&'a Provider, &'a Catalogue)| {
        let provider = *provider;
        lists.tools.iter().map(move |tool| MenuEntry { provider, tool })
    };
    lists.iter().flat_map(of).collect()
}

/// A schema in one line, where it is short enough to be shown with others.
fn whole_schema(tool: &Tool) -> Option<String> {
    let text = Some(tool.schema.get()).filter(|text| text.len() <= WHOLE_SCHEMA_BYTES)?;
    let schema: Value = serde_json::from_str(text).ok()?;
    Some(schema.to_string()).filter(|text| tokens::estimate(text) <= WHOLE_SCHEMA)
}

/// The answer to a call of an operation that does not exist. `given`: the arguments that came with it.
pub(super) fn unknown(
    (provider, catalogue): (&Provider, &Catalogue),
    (name, given): (&str, Option<&Map<String, Value>>),
    elsewhere: &[Arc<str>],
) -> MetaAnswer {
    let near = nearest(provider, catalogue, name);
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
    let next = near.first().filter(|_| elsewhere.is_empty());
    let next = next.map(|nearest| raw::raw(&explain::instead(nearest, given)));
    if let Some(next) = &next {
        text.push_str(&format!("\nFor example: {}", next.get()));
    }
    let mut answer = MetaAnswer::new(AnswerStatus::UnknownTool, text);
    answer.next = next;
    answer.data = Some(raw::raw(&json!({ "code": answer.outcome(), "nearest": names })));
    answer.tool = Some(OTHER.into());
    answer.cause = Some("the provider has no operation of this name".to_owned());
    answer
}

/// The operation whose name has most in common with one that does not exist, then those that do what it says.
fn nearest<'a>(provider: &'a Provider, catalogue: &'a Catalogue, name: &str) -> Vec<&'a Arc<Tool>> {
    let by_letters = name::nearest(catalogue, name, NEAREST);
    let by_words = ranked(&[(provider, catalogue)], &name::words(&printable(name)).join(" ")).0;
    let first = by_letters.first().copied().into_iter();
    let others = by_words.iter().map(|entry| entry.tool);
    let mut near: Vec<&Arc<Tool>> = Vec::new();
    for tool in first.chain(others) {
        if near.len() < NEAREST && !near.iter().any(|known| Arc::ptr_eq(known, tool)) {
            near.push(tool);
        }
    }
    near
}

#[cfg(test)]
mod tests;
