//! The lists of a provider, entries kept as they came.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::checks::{Checks, Slot};
use crate::mcp::{Raw, RawObject};
use crate::upstream::Profile;

/// The lists of a provider as its caller sees them upstream, all pages.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// What the provider is; `None` before it was reached.
    pub profile: Option<Profile>,
    /// Tools by position; allow and deny already applied; names as the provider spells them.
    pub tools: Vec<Arc<Tool>>,
    /// Position in `tools` by name.
    pub by_name: BTreeMap<Box<str>, usize>,
    /// Whole resource objects.
    pub resources: Vec<Item>,
    /// Whole template objects.
    pub templates: Vec<Item>,
    /// Whole prompt objects.
    pub prompts: Vec<Item>,
    /// Whether every list the provider offers was read to its last page.
    pub complete: bool,
    /// Smallest `ttlMs` the provider gave, 0 when it gave none.
    pub ttl_ms: u64,
    /// Whether all tools say that they change nothing, once it was asked.
    pub reads_only: OnceLock<bool>,
}

impl Catalogue {
    /// The tool of this name.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<Tool>> {
        self.by_name.get(name).and_then(|at| self.tools.get(*at))
    }

    /// Puts these tools in place of those that are there.
    pub(crate) fn set_tools(&mut self, tools: Vec<Arc<Tool>>) {
        self.by_name = tools
            .iter()
            .enumerate()
            .map(|(at, tool)| (tool.name.clone(), at))
            .collect();
        self.tools = tools;
        self.reads_only = OnceLock::new();
    }

    /// Whether there are tools and all say that they change nothing. Each list of the meta view asks,
    /// and there may be thousands.
    #[must_use]
    pub fn reads_only(&self) -> bool {
        let all = || !self.tools.is_empty() && self.tools.iter().all(|tool| tool.is_read_only());
        *self.reads_only.get_or_init(all)
    }
}

/// A list entry and what identifies it: name of a prompt, URI of a resource, template of a template.
#[derive(Debug, Clone)]
pub struct Item {
    /// Identity.
    pub key: Box<str>,
    /// The object as it came.
    pub raw: RawObject,
}

/// A tool.
#[derive(Debug)]
pub struct Tool {
    /// Name upstream.
    pub name: Box<str>,
    /// The object as it came.
    pub raw: RawObject,
    /// Its `inputSchema`.
    pub schema: Raw,
    /// Arguments mirrored into headers (`x-mcp-header`): path of property names, header suffix.
    pub mirrored: Vec<(Vec<Box<str>>, Box<str>)>,
    /// What checks its arguments, once it was needed.
    pub checks: Slot,
}

impl Tool {
    /// What checks arguments; `None` when the schema cannot be compiled (then nothing is checked).
    #[must_use]
    pub fn checks(&self) -> Option<Arc<Checks>> {
        self.checks.get(&self.schema)
    }

    /// Whether the provider says that it changes nothing.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let annotations: Option<RawObject> = self.raw.read("annotations");
        annotations
            .and_then(|annotations| annotations.read("readOnlyHint"))
            .unwrap_or(false)
    }
}

/// Which lists of a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) tools: bool,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
}

impl Which {
    pub(crate) const ALL: Self = Self {
        tools: true,
        resources: true,
        prompts: true,
    };

    pub(crate) const fn any(self) -> bool {
        self.tools || self.resources || self.prompts
    }

    /// What is in either.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self {
            tools: self.tools || other.tools,
            resources: self.resources || other.resources,
            prompts: self.prompts || other.prompts,
        }
    }

    /// Where two catalogues differ, byte by byte.
    pub(crate) fn between(old: &Catalogue, new: &Catalogue) -> Self {
        Self {
            tools: !same(
                old.tools.iter().map(|tool| &tool.raw),
                new.tools.iter().map(|tool| &tool.raw),
            ),
            resources: !same(raws(&old.resources), raws(&new.resources))
                || !same(raws(&old.templates), raws(&new.templates)),
            prompts: !same(raws(&old.prompts), raws(&new.prompts)),
        }
    }
}

fn raws(items: &[Item]) -> impl Iterator<Item = &RawObject> {
    items.iter().map(|item| &item.raw)
}

fn same<'a>(
    mut old: impl Iterator<Item = &'a RawObject>,
    mut new: impl Iterator<Item = &'a RawObject>,
) -> bool {
    loop {
        match (old.next(), new.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if members(a).eq(members(b)) => {}
            _ => return false,
        }
    }
}

fn members(object: &RawObject) -> impl Iterator<Item = (&str, &str)> {
    object.iter().map(|(key, value)| (key, value.get()))
}
