//! Which provider's meta tool a call is for, and which other providers have what it names.

use std::{fmt, sync::Arc};

use serde_json::{json, value::RawValue};

use super::answer::{AnswerStatus, MetaAnswer};
use super::envelope::{self, printable};
use super::name::{self, NameMatch};
use super::plan::{self, MetaPlan};
use crate::catalog::{Catalogue, Provider};
use pleiades_mcp::{RawObject, raw};

/// Providers that an answer names.
const MAX_NAMED: usize = 3;
/// The same where a caller has to choose one.
const MAX_LISTED: usize = 64;

/// Where a call of a meta tool arrived.
#[derive(Clone, Copy)]
pub struct CallContext<'a> {
    /// The meta tool's name, as it was called: a call that names it again names no operation.
    pub called: &'a str,
    /// The other providers that have an operation of this name, of those that this caller may see.
    pub elsewhere: &'a dyn Fn(&str) -> Vec<Arc<str>>,
}

impl fmt::Debug for CallContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext").finish_non_exhaustive()
    }
}

/// The provider whose meta tool this is, of these; hosts put names of their own before it.
fn meta_tool_of<'a>(called: &str, ids: &[&'a str]) -> Option<&'a str> {
    let own = name::without_host(called).strip_prefix("use_")?;
    let writes = own.strip_suffix("_write");
    let find = |own: &str| ids.iter().find(|id| **id == own).copied();
    find(own).or_else(|| find(writes?))
}

/// What a call of a meta tool means where these are all providers, and each is reached.
#[must_use]
pub fn plan_offline(
    called: &str,
    input: Option<&RawValue>,
    providers: &[(&Provider, &Catalogue)],
) -> MetaPlan {
    planned(called, input, providers).unwrap_or_else(|answer| MetaPlan::Answer(*answer))
}

fn planned(
    called: &str,
    input: Option<&RawValue>,
    providers: &[(&Provider, &Catalogue)],
) -> Result<MetaPlan, Box<MetaAnswer>> {
    let mut arguments = plan::given(input)?;
    let ids: Vec<&str> = providers.iter().map(|(provider, _)| &*provider.id).collect();
    let elsewhere = |name: &str, but: &str| {
        let others = providers.iter().filter(|(provider, _)| *provider.id != *but);
        having(name, others.copied())
    };
    let id = match meta_tool_of(called, &ids) {
        Some(id) => id.to_owned(),
        None => take_provider(&mut arguments, &ids, &|name| elsewhere(name, ""))?,
    };
    plan::account_of(&arguments)?;
    let meant = providers.iter().find(|(provider, _)| *provider.id == *id);
    let Some((provider, lists)) = meant else {
        return Err(unknown_provider(&id, &ids));
    };
    let context = CallContext {
        called,
        elsewhere: &|name| elsewhere(name, &id),
    };
    Ok(plan::plan_among(provider, lists, &arguments, &context))
}

/// Which of these providers have an operation that such a name means.
pub fn having<'a>(
    name: &str,
    providers: impl Iterator<Item = (&'a Provider, &'a Catalogue)>,
) -> Vec<Arc<str>> {
    let has = |(provider, lists): &(&Provider, &Catalogue)| {
        !matches!(name::find(name, &provider.id, lists), NameMatch::Unknown)
    };
    let having = providers
        .filter(has)
        .map(|(provider, _)| Arc::clone(&provider.id));
    having.take(MAX_NAMED).collect()
}

/// For the one tool for all providers: the provider that a call names.
///
/// It stands apart (`provider`, which is taken out), in a call that is wrapped in this one, or before the
/// operation's name (`github.issue_read`).
///
/// # Errors
/// The answer to a call that names none, or none as text.
pub fn take_provider(
    arguments: &mut RawObject,
    ids: &[&str],
    having: &dyn Fn(&str) -> Vec<Arc<str>>,
) -> Result<String, Box<MetaAnswer>> {
    if let Some(given) = arguments.get("provider").filter(|raw| raw.get() != "null") {
        let id = raw::text(given).map(|id| spelled(&id, ids));
        arguments.remove("provider");
        return id.ok_or_else(|| unreadable("`provider` must be text, as the definition lists it"));
    }
    arguments.remove("provider");
    let named = envelope::provider_within(arguments).map(|id| spelled(&id, ids));
    let tool = arguments.text("tool");
    let before = tool.as_deref().and_then(|tool| before(tool, ids));
    if let Some(id) = named.or_else(|| before.map(str::to_owned)) {
        return Ok(id);
    }
    Err(unnamed(tool.as_deref(), ids, having))
}

/// An id in the spelling of the one that it can only mean.
fn spelled(given: &str, ids: &[&str]) -> String {
    let given = given.trim();
    let meant = ids.iter().find(|id| id.eq_ignore_ascii_case(given));
    (*meant.unwrap_or(&given)).to_owned()
}

/// The provider whose id stands before an operation's name.
fn before<'a>(tool: &str, ids: &[&'a str]) -> Option<&'a str> {
    const BETWEEN: [&str; 4] = [".", "__", "/", ":"];
    let tool = name::without_host(tool);
    let tool = tool.strip_prefix("use_").unwrap_or(tool);
    let is_before = |id: &&str| {
        let rest = tool.strip_prefix(id);
        rest.is_some_and(|rest| rest.is_empty() || BETWEEN.iter().any(|mark| rest.starts_with(mark)))
    };
    ids.iter().copied().filter(is_before).max_by_key(|id| id.len())
}

/// The answer to a call of a provider that does not exist.
fn unknown_provider(id: &str, ids: &[&str]) -> Box<MetaAnswer> {
    let listed = listed(ids);
    let id = printable(id);
    unreadable(&format!("there is no provider `{id}`; they are {listed}"))
}

fn listed(ids: &[&str]) -> String {
    let more = if ids.len() > MAX_LISTED { ", …" } else { "" };
    format!("{}{more}", ids.get(..MAX_LISTED).unwrap_or(ids).join(", "))
}

fn unreadable(why: &str) -> Box<MetaAnswer> {
    let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, format!("Nothing was run: {why}."));
    answer.cause = Some(why.to_owned());
    Box::new(answer)
}

fn unnamed(tool: Option<&str>, ids: &[&str], having: &dyn Fn(&str) -> Vec<Arc<str>>) -> Box<MetaAnswer> {
    let listed = listed(ids);
    let Some(tool) = tool.filter(|tool| !tool.trim().is_empty()) else {
        let text = format!(
            "Nothing was run. Say which `provider` it is for: {listed}.\nNext: {{\"provider\":\"…\"}} lists its \
             operations; with \"tool\" and \"arguments\" it runs one."
        );
        return Box::new(MetaAnswer::new(AnswerStatus::Menu, text));
    };
    let tool = printable(tool);
    let having = having(&tool);
    let (why, next) = match having.first() {
        Some(first) => {
            let names: Vec<String> = having.iter().map(|id| format!("`{id}`")).collect();
            let next = json!({ "provider": &**first, "tool": tool });
            (format!("{} has `{tool}`", names.join(", ")), next)
        }
        None => (format!("they are {listed}"), json!({ "provider": ids.first() })),
    };
    let mut answer = unreadable(&format!("say which `provider` the operation belongs to; {why}"));
    answer.text.push_str(&format!("\nNext: {next}"));
    answer.next = Some(raw::raw(&next));
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const IDS: [&str; 3] = ["chat", "git", "git_hub"];

    fn taken(call: Value) -> Result<(String, Value), Box<MetaAnswer>> {
        let mut call = RawObject::open(&raw::raw(&call)).expect("an object");
        let having = |tool: &str| match tool {
            "post" => vec!["chat".into()],
            _ => Vec::new(),
        };
        let id = take_provider(&mut call, &IDS, &having)?;
        Ok((id, serde_json::from_str(call.close().get()).expect("JSON")))
    }

    #[test]
    fn the_tool_of_all_finds_its_provider_apart_or_before_the_operation_or_in_a_wrapped_call() {
        let call = json!({ "tool": "post", "arguments": {} });
        for (given, id, rest) in [
            (
                json!({ "provider": "chat", "tool": "post", "arguments": {} }),
                "chat",
                call.clone(),
            ),
            (
                json!({ "provider": " Chat ", "tool": "post", "arguments": {} }),
                "chat",
                call,
            ),
            (
                json!({ "tool": "git_hub.read" }),
                "git_hub",
                json!({ "tool": "git_hub.read" }),
            ),
            (
                json!({ "tool": "mcp__gw__git__read" }),
                "git",
                json!({ "tool": "mcp__gw__git__read" }),
            ),
            (
                json!({ "provider": null, "tool": "use_git" }),
                "git",
                json!({ "tool": "use_git" }),
            ),
            (
                json!({ "arguments": { "provider": "git", "tool": "read" } }),
                "git",
                json!({ "arguments": { "provider": "git", "tool": "read" } }),
            ),
        ] {
            assert_eq!(
                taken(given.clone()).expect("found"),
                (id.to_owned(), rest),
                "{given}"
            );
        }
    }

    #[test]
    fn a_call_of_the_tool_of_all_without_a_provider_is_answered_and_never_placed_by_guess() {
        for (given, status, part) in [
            (json!({}), AnswerStatus::Menu, "chat, git, git_hub"),
            (
                json!({ "tool": "post", "arguments": {} }),
                AnswerStatus::InvalidArguments,
                "`chat` has `post`",
            ),
            (
                json!({ "tool": "none" }),
                AnswerStatus::InvalidArguments,
                "chat, git, git_hub",
            ),
            (
                json!({ "provider": 5 }),
                AnswerStatus::InvalidArguments,
                "`provider` must be text",
            ),
            (
                json!({ "tool": "post", "arguments": { "provider": "git" } }),
                AnswerStatus::InvalidArguments,
                "`chat` has `post`",
            ),
        ] {
            let answer = taken(given.clone()).expect_err("answered");
            assert_eq!(answer.status, status, "{given}");
            assert!(answer.text.contains(part), "{given}: {}", answer.text);
        }
    }

    #[test]
    fn hosts_may_put_names_before_a_meta_tool() {
        for (called, id) in [
            ("use_git", Some("git")),
            ("mcp__gw__use_git_hub", Some("git_hub")),
            ("use_git_write", Some("git")),
            ("use_all", None),
            ("git", None),
        ] {
            assert_eq!(meta_tool_of(called, &IDS), id, "{called}");
        }
    }
}
