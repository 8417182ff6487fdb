//! What a person is shown of changed definitions, and their approval.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use serde_json::Value;

use super::{PinMode, file_beside, read_file, settle::LARGEST, state::PinVerdict};
use crate::catalog::{Catalog, Provider, Tool};

/// Writes that are tried while others write, too.
const WRITES: usize = 8;

/// The tools of a provider, as this process has listed them, beside what is approved.
#[derive(Debug)]
pub struct PinReview {
    /// The file that holds what is approved; `None`: the vault does.
    pub file: Option<PathBuf>,
    /// Names of those that were not there before, which are approved by that.
    pub first_seen: Vec<String>,
    /// Those whose definition is another.
    pub changed: Vec<ChangedTool>,
    /// How many are as they were approved.
    pub approved: usize,
    provider: Arc<Provider>,
    tools: Vec<Arc<Tool>>,
}

/// A tool whose definition is none of the approved ones.
#[derive(Debug)]
pub struct ChangedTool {
    /// Its name upstream.
    pub name: String,
    /// The definition that was approved last, where it is kept.
    pub before: Option<Value>,
    /// Its definition now.
    pub after: Value,
}

/// Why nothing was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalFault {
    /// `tools.pin` of the descriptor is `off`.
    Off,
    /// What is approved cannot be read or written.
    Store(String),
}

impl Catalog {
    /// Compares a provider's tools, as this process has listed them by now, with what is approved.
    ///
    /// # Errors
    /// When nothing is approved for this provider, or it cannot be read.
    pub fn review(&self, provider: &Arc<Provider>) -> Result<PinReview, ApprovalFault> {
        let (rules, pins) = (&provider.rules, &provider.live.pins);
        if rules.pins.mode == PinMode::Off {
            return Err(ApprovalFault::Off);
        }
        if let Some(fault) = pins.fault() {
            return Err(ApprovalFault::Store(fault));
        }
        let mut tools: BTreeMap<(Box<str>, Box<str>), Arc<Tool>> = BTreeMap::new();
        for tool in provider.live.all_offered().iter().flat_map(|list| list.iter()) {
            if rules.admits_tool(tool) {
                let key = (tool.upstream.clone(), tool.digest().into());
                tools.entry(key).or_insert_with(|| Arc::clone(tool));
            }
        }
        let tools: Vec<Arc<Tool>> = tools.into_values().collect();
        let first_seen = pins.first_seen();
        let is_changed = |tool: &&Arc<Tool>| pins.verdict(&rules.pins, tool) == PinVerdict::Changed;
        let changed = tools.iter().filter(is_changed).map(|tool| ChangedTool {
            name: tool.upstream.to_string(),
            before: pins.before(&rules.pins, tool),
            after: tool.definition(),
        });
        let changed: Vec<ChangedTool> = changed.collect();
        Ok(PinReview {
            file: rules
                .pins
                .file
                .as_ref()
                .map(|_| file_beside(&provider.file, &provider.id)),
            approved: tools.len().saturating_sub(changed.len() + first_seen.len()),
            first_seen: first_seen.iter().map(ToString::to_string).collect(),
            changed,
            provider: Arc::clone(provider),
            tools,
        })
    }

    /// Approves what a review showed. The text of the pins file that has to be written for it; `None`: it is done.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn approve(&self, review: &PinReview) -> Result<Option<String>, ApprovalFault> {
        if let Some(file) = &review.file {
            let record = read_file(file).map_err(ApprovalFault::Store)?;
            let mut record = record.unwrap_or_default();
            for tool in &review.tools {
                record.approve(&tool.upstream, tool.digest(), tool.definition());
            }
            return Ok(Some(record.to_pretty_json()));
        }
        if review.changed.is_empty() {
            return Ok(None);
        }
        self.store_approved(review).await.map_err(ApprovalFault::Store)?;
        Ok(None)
    }

    async fn store_approved(&self, review: &PinReview) -> Result<(), String> {
        let (store, id) = (&self.work.pins, &review.provider.id);
        for _ in 0..WRITES {
            let stored = store.read(id).await?;
            let mut record = stored.record;
            for tool in &review.tools {
                record.approve(&tool.upstream, tool.digest(), tool.definition());
            }
            if !record.fit(LARGEST) {
                let names: BTreeSet<&str> = review.tools.iter().map(|tool| &*tool.upstream).collect();
                record.retain(&names);
            }
            if !record.fit(LARGEST) {
                return Err("there are more tools than its record can hold: use a pins file".to_owned());
            }
            if store.write(id, stored.version, &record).await?.is_some() {
                return Ok(());
            }
        }
        Err("others write it all the time".to_owned())
    }
}
