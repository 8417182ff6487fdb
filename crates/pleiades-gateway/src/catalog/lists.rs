//! The lists of a provider, entries kept as they came.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::checks::{ArgumentValidator, ValidatorSlot};
use super::{failure::ListFailure, meta_tools::MetaToolCache, names, repair::RespelledValues, search};
use pleiades_core::{error::Error, tokens::Counter};
use pleiades_mcp::{Raw, RawObject};
use pleiades_ranking::Index;
use pleiades_upstream::Profile;

/// The lists of a provider as its caller sees them upstream, all pages.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// What the provider is; `None` before it was reached.
    pub profile: Option<Profile>,
    /// Tools by position; allow and deny already applied; names as the provider spells them.
    pub tools: Vec<Arc<Tool>>,
    /// Position in `tools` by every name.
    pub by_name: BTreeMap<Box<str>, usize>,
    /// Whole resource objects.
    pub resources: Vec<Item>,
    /// Whole template objects.
    pub templates: Vec<Item>,
    /// Whole prompt objects.
    pub prompts: Vec<Item>,
    /// Whether every list the provider offers was read to its last page.
    pub complete: bool,
    /// Why the newest reading of the tools ended before their last page: some may be missing, or all.
    pub(crate) tools_failure: Option<Box<ListFailure>>,
    /// Smallest `ttlMs` the provider gave.
    pub ttl_ms: Option<u64>,
    /// Whether the provider said of any list that it is this caller's alone (`cacheScope: private`).
    pub is_private: bool,
    /// When they were read.
    pub(crate) read_at: Option<Instant>,
    pub(crate) cost: Cost,
    /// Positions of resources, then templates, in the order of their URIs; made when one is looked for first.
    pub(crate) by_uri: OnceLock<Vec<u32>>,
    /// The tools by their words; made when a prompt looks for one first, shared by lists of the same tools.
    pub(crate) index: Arc<OnceLock<Index>>,
    /// What stands for the tools where one tool does.
    pub(crate) meta_tools: Arc<MetaToolCache>,
}

/// What lists take, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(super) tools: usize,
    pub(super) others: usize,
}

impl Catalogue {
    /// How much longer the provider lets them be kept, in milliseconds; 0 when it said nothing of it.
    #[must_use]
    pub(crate) fn ttl_left_ms(&self) -> u64 {
        let age = self.read_at.map_or(Duration::ZERO, |at| at.elapsed());
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.ttl_ms.unwrap_or(0).saturating_sub(age)
    }

    /// The tool that a name means: the provider's own, or one that it is shown by.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<Tool>> {
        self.by_name.get(name).and_then(|at| self.tools.get(*at))
    }

    /// Why tools may be missing: the newest reading of them ended before their last page.
    #[must_use]
    pub(crate) fn tools_error(&self) -> Option<Error> {
        self.tools_failure.as_ref().map(|failure| failure.error())
    }

    /// Lists of tools alone.
    #[must_use]
    pub fn of(tools: Vec<Arc<Tool>>) -> Self {
        let mut catalogue = Self::default();
        catalogue.set_tools(tools);
        catalogue
    }

    /// About what the definitions of all tools cost a model.
    #[must_use]
    pub(crate) fn tokens(&self) -> usize {
        self.tools.iter().map(|tool| tool.tokens).sum()
    }

    pub(crate) fn set_tools(&mut self, tools: Vec<Arc<Tool>>) {
        // The provider's own names come last: none of ours takes one of them away.
        let names: [fn(&Tool) -> &Box<str>; 4] =
            [|it| &it.short, |it| &it.alias, |it| &it.name, |it| &it.upstream];
        self.by_name = BTreeMap::new();
        for name in names {
            let named = tools
                .iter()
                .enumerate()
                .map(|(at, tool)| (name(tool).clone(), at));
            self.by_name.extend(named);
        }
        self.tools = tools;
        self.index = Arc::default();
        self.meta_tools = Arc::default();
    }

    /// The tools by the words of their definitions, in their order. Making it takes some milliseconds for
    /// each hundred of them: it is asked for by a worker.
    #[must_use]
    pub(crate) fn index(&self) -> &Index {
        self.index.get_or_init(|| search::index(&self.tools))
    }

    /// Takes the index of lists of the very same tools in place of its own.
    pub(crate) fn share_index(&mut self, other: &Self) {
        let same = self
            .tools
            .iter()
            .zip(&other.tools)
            .all(|(own, theirs)| Arc::ptr_eq(own, theirs));
        if same && self.tools.len() == other.tools.len() {
            self.index = Arc::clone(&other.index);
        }
    }

    /// Whether a URI is that of a resource, or a template, as it is listed.
    #[must_use]
    pub(crate) fn has_uri(&self, uri: &str) -> bool {
        let by_uri = self.by_uri.get_or_init(|| {
            let count = u32::try_from(self.resources.len() + self.templates.len()).unwrap_or(0);
            let mut all: Vec<u32> = (0..count).collect();
            all.sort_unstable_by_key(|at| self.uri_at(*at));
            all
        });
        by_uri
            .binary_search_by_key(&Some(uri), |at| self.uri_at(*at))
            .is_ok()
    }

    fn uri_at(&self, at: u32) -> Option<&str> {
        let at = usize::try_from(at).ok()?;
        let item = match at.checked_sub(self.resources.len()) {
            None => self.resources.get(at),
            Some(at) => self.templates.get(at),
        };
        item.map(|item| &*item.key)
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
    /// What it is called here: as upstream where that is legal in MCP, else its alias.
    pub name: Box<str>,
    /// What it is called upstream.
    pub upstream: Box<str>,
    /// What clients are shown, at most 64 of `A-Z a-z 0-9 _ -`; no other tool of the provider is shown so.
    pub alias: Box<str>,
    /// What the provider's one tool calls it: `name` without what all of the provider's names begin with.
    pub short: Box<str>,
    /// The object as it came, repaired.
    pub raw: RawObject,
    /// Its `inputSchema`.
    pub schema: Raw,
    /// Arguments mirrored into headers (`x-mcp-header`): path of property names, header suffix.
    pub mirrored: Vec<(Vec<Box<str>>, Box<str>)>,
    /// What checks its arguments, once it was needed.
    pub checks: ValidatorSlot,
    declares_read: bool,
    /// About what its name, description and schema cost a model.
    tokens: usize,
    /// Values of its arguments that are shown otherwise than the provider spells them.
    pub(crate) respelled: RespelledValues,
    /// What was repaired of what defines it, as it came.
    pub(super) received: Option<Box<RawObject>>,
    /// The digest of its definition, once it was needed.
    pub(super) digest: OnceLock<Box<str>>,
}

impl Tool {
    /// A tool of this name upstream. `alias`: as [`super::names::fit_all`] made it; `raw`: a repaired
    /// definition.
    #[must_use]
    pub fn new(upstream: &str, alias: String, raw: RawObject) -> Self {
        let alias = alias.into_boxed_str();
        let anything = || pleiades_mcp::raw::raw(&serde_json::json!({ "type": "object" }));
        let name: Box<str> = match names::is_legal(upstream) {
            true => upstream.into(),
            false => alias.clone(),
        };
        Self {
            short: name.clone(),
            name,
            upstream: upstream.into(),
            alias,
            schema: raw.get("inputSchema").map_or_else(anything, RawValue::to_owned),
            declares_read: declares_read(&raw),
            tokens: tokens_of(&raw),
            raw,
            mirrored: Vec::new(),
            checks: ValidatorSlot::default(),
            respelled: RespelledValues::default(),
            received: None,
            digest: OnceLock::new(),
        }
    }

    /// What checks arguments; `None` when the schema cannot be compiled (then nothing is checked).
    #[must_use]
    pub fn checks(&self) -> Option<Arc<ArgumentValidator>> {
        self.checks.get(&self.schema)
    }

    /// Whether two lists hold the same tools, byte by byte.
    pub(super) fn are_same(these: &[Arc<Self>], those: &[Arc<Self>]) -> bool {
        these.len() == those.len() && same(these.iter().map(|it| &it.raw), those.iter().map(|it| &it.raw))
    }

    /// Whether this is one of its names, to the letter.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        [&self.short, &self.name, &self.upstream, &self.alias]
            .into_iter()
            .any(|it| **it == *name)
    }

    /// Whether it declares that it changes nothing. Whether it counts as a read:
    /// [`super::ReadRules::is_read`].
    pub(super) const fn declares_read(&self) -> bool {
        self.declares_read
    }
}

/// About what a model is handed of a tool: hosts keep annotations and `_meta` to themselves.
pub(crate) fn tokens_of(tool: &RawObject) -> usize {
    let mut counter = Counter::default();
    for member in ["name", "description", "inputSchema"].map(|key| tool.get(key)) {
        counter.add(member.map_or("", RawValue::get));
    }
    counter.tokens()
}

fn declares_read(tool: &RawObject) -> bool {
    let annotations: Option<RawObject> = tool.read("annotations");
    annotations
        .and_then(|annotations| annotations.read("readOnlyHint"))
        .unwrap_or(false)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    Tools,
    Resources,
    Templates,
    Prompts,
}

impl ListKind {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Prompts => "prompts/list",
        }
    }

    /// Where entries stand in a page, and what identifies one.
    pub(super) const fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Tools => ("tools", "name"),
            Self::Resources => ("resources", "uri"),
            Self::Templates => ("resourceTemplates", "uriTemplate"),
            Self::Prompts => ("prompts", "name"),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ListSet {
    pub(crate) tools: bool,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
}

impl ListSet {
    pub(crate) const ALL: Self = Self {
        tools: true,
        resources: true,
        prompts: true,
    };

    pub(crate) const fn any(self) -> bool {
        self.tools || self.resources || self.prompts
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self {
            tools: self.tools || other.tools,
            resources: self.resources || other.resources,
            prompts: self.prompts || other.prompts,
        }
    }

    /// Where two catalogues differ, byte by byte.
    pub(crate) fn differences(old: &Catalogue, new: &Catalogue) -> Self {
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
