//! What is known of the approved definitions of one provider, and which of its tools are others now.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{PinMode, PinRule, StoredPins, record::PinRecord};
use crate::catalog::{Tool, ToolRules};

/// Changes that the log has told of, at most; beyond them it may tell of one again.
const MAX_LOGGED: usize = 4_096;
/// Names that a reason or a line of the log repeats.
const NAMED: usize = 5;

/// What the approved definitions say of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::catalog) enum PinVerdict {
    Approved,
    /// Other definitions of its name are approved.
    Changed,
    /// None is, or nobody could read which.
    Unknown,
}

/// The approved definitions of one provider, as far as this process knows them.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Pins(Mutex<PinState>);

#[derive(Debug, Default)]
struct PinState {
    /// What the store holds, once it was read.
    stored: Option<StoredPins>,
    /// Beside a file, which is never written here: what was seen first in this process.
    added: PinRecord,
    /// Names that were approved here because they were seen first.
    first_seen: Vec<Box<str>>,
    /// Why the store could not be read or written last time.
    fault: Option<String>,
    counts: PinCounts,
    /// Whether the rules are others than those that the counts were made by.
    is_outdated: bool,
    /// Name and digest of each change that the log has told of.
    logged: HashSet<(Box<str>, Box<str>)>,
}

/// The tools of all lists of a provider by what the approved definitions say of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::catalog) struct PinCounts {
    pub(super) approved: usize,
    /// Names of the changed ones.
    pub(super) changed: BTreeSet<Box<str>>,
    /// Names of those of which nothing could be read.
    pub(super) unknown: BTreeSet<Box<str>>,
}

impl PinState {
    fn verdict(&self, rule: &PinRule, tool: &Tool) -> PinVerdict {
        let stored = || self.stored.as_ref().map(|stored| &stored.record);
        let kept = match &rule.file {
            Some(file) => file.of(&tool.upstream).or_else(|| self.added.of(&tool.upstream)),
            None => stored().and_then(|record| record.of(&tool.upstream)),
        };
        match kept {
            None => PinVerdict::Unknown,
            Some(all) if all.iter().any(|one| one.sha256 == tool.digest()) => PinVerdict::Approved,
            Some(_) => PinVerdict::Changed,
        }
    }
}

impl Pins {
    /// The tools that the rules let callers have: those by name, and by what is approved.
    pub(in crate::catalog) fn admitted(&self, rules: &ToolRules, tools: &[Arc<Tool>]) -> Vec<Arc<Tool>> {
        let named = tools.iter().filter(|tool| rules.admits_tool(tool));
        if rules.pins.mode != PinMode::Enforce {
            return named.cloned().collect();
        }
        let state = self.0.lock();
        let approved = named.filter(|tool| state.verdict(&rules.pins, tool) == PinVerdict::Approved);
        approved.cloned().collect()
    }

    /// Those that the approved definitions say something else of.
    pub(super) fn unapproved<'a>(
        &self,
        rule: &PinRule,
        tools: impl Iterator<Item = &'a Arc<Tool>>,
    ) -> Vec<&'a Arc<Tool>> {
        let state = self.0.lock();
        tools
            .filter(|tool| state.verdict(rule, tool) != PinVerdict::Approved)
            .collect()
    }

    pub(super) fn verdict(&self, rule: &PinRule, tool: &Tool) -> PinVerdict {
        self.0.lock().verdict(rule, tool)
    }

    /// Approves for this process what a file does not name.
    pub(super) fn add(&self, rule: &PinRule, tools: &[&Arc<Tool>]) -> Vec<Box<str>> {
        let mut state = self.0.lock();
        let mut names = Vec::new();
        for tool in tools {
            if state.verdict(rule, tool) == PinVerdict::Unknown {
                state
                    .added
                    .approve(&tool.upstream, tool.digest(), tool.definition());
                names.push(tool.upstream.clone());
            }
        }
        state.first_seen.extend(names.iter().cloned());
        names
    }

    /// Takes what the store holds now. Whether the store could not be read before.
    pub(super) fn load(&self, stored: StoredPins, first_seen: &[Box<str>]) -> bool {
        let mut state = self.0.lock();
        state.stored = Some(stored);
        state.first_seen.extend_from_slice(first_seen);
        state.fault.take().is_some()
    }

    /// Notes that the store failed; whether that is new.
    pub(super) fn fail(&self, why: String) -> bool {
        let mut state = self.0.lock();
        let is_new = state.fault.is_none();
        state.fault = Some(why);
        is_new
    }

    pub(super) fn first_seen(&self) -> Vec<Box<str>> {
        self.0.lock().first_seen.clone()
    }

    /// The approved definition that stands nearest to a tool's: the newest of its name.
    pub(super) fn before(&self, rule: &PinRule, tool: &Tool) -> Option<serde_json::Value> {
        let state = self.0.lock();
        let stored = state.stored.as_ref().map(|stored| &stored.record);
        let record = rule.file.as_deref().or(stored)?;
        record.of(&tool.upstream)?.last()?.definition.clone()
    }

    /// Counts the tools of all lists. The names of those that changed in a way that the log has not told yet.
    pub(in crate::catalog) fn review(
        &self,
        rules: &ToolRules,
        lists: &[Arc<[Arc<Tool>]>],
    ) -> (PinCounts, Vec<Box<str>>) {
        let rule = &rules.pins;
        let mut state = self.0.lock();
        let (mut by_name, mut news) = (BTreeMap::<&str, PinVerdict>::new(), Vec::new());
        let is_on = rule.mode != PinMode::Off;
        let tools = lists.iter().flat_map(|list| list.iter()).filter(|_| is_on);
        for tool in tools.filter(|tool| rules.admits_tool(tool)) {
            let verdict = state.verdict(rule, tool);
            if verdict == PinVerdict::Changed {
                if state.logged.len() >= MAX_LOGGED {
                    state.logged.clear();
                }
                if state.logged.insert((tool.upstream.clone(), tool.digest().into())) {
                    news.push(tool.upstream.clone());
                }
            }
            let worst = by_name.entry(&tool.upstream).or_insert(verdict);
            if *worst == PinVerdict::Approved {
                *worst = verdict;
            }
        }
        let named = |wanted| {
            let names = by_name.iter().filter(move |(_, verdict)| **verdict == wanted);
            names.map(|(name, _)| Box::from(*name))
        };
        let counts = PinCounts {
            approved: named(PinVerdict::Approved).count(),
            changed: named(PinVerdict::Changed).collect(),
            unknown: named(PinVerdict::Unknown).collect(),
        };
        state.counts = counts.clone();
        state.is_outdated = false;
        (counts, news)
    }

    /// Notes that other rules hold from now on.
    pub(in crate::catalog) fn outdate(&self) {
        self.0.lock().is_outdated = true;
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.0.lock().is_outdated
    }

    /// Whether the store may know what this process does not: a change that was approved, or anything where it
    /// could not be read.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.0.lock();
        state.fault.is_some() || !state.counts.changed.is_empty() || !state.counts.unknown.is_empty()
    }

    /// Why tools are withheld.
    pub(in crate::catalog) fn reason(&self, provider: &str, rule: &PinRule) -> Option<String> {
        let state = self.0.lock();
        if rule.mode != PinMode::Enforce {
            return None;
        }
        let mut reasons = Vec::new();
        if !state.counts.changed.is_empty() {
            let names = name_some(&state.counts.changed);
            reasons.push(format!(
                "withheld until `pleiades tools {provider} --approve`, as its definition changed: {names}"
            ));
        }
        if !state.counts.unknown.is_empty() {
            let names = name_some(&state.counts.unknown);
            let why = state.fault.as_deref().unwrap_or("they were not read yet");
            reasons.push(format!(
                "withheld while approved definitions cannot be read ({why}): {names}"
            ));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// The fault of the store, where tools are withheld for it.
    pub(in crate::catalog) fn fault(&self) -> Option<String> {
        self.0.lock().fault.clone()
    }
}

/// The first few names.
pub(super) fn name_some<'a>(names: impl IntoIterator<Item = &'a Box<str>>) -> String {
    let (mut text, mut count) = (String::new(), 0);
    for name in names {
        if count < NAMED {
            let shown = pleiades_core::text::printable(name, crate::catalog::names::NAMED);
            text.push_str(&format!("{}`{shown}`", if count == 0 { "" } else { ", " }));
        }
        count += 1;
    }
    if count > NAMED {
        text.push_str(&format!(" and {} more", count - NAMED));
    }
    text
}
