//! Which files run under which ids, and what a reload changes. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{compile::Draft, load::Parsed};

#[derive(Debug, Default)]
pub(super) struct ReloadPlan {
    pub(super) run: BTreeMap<Arc<str>, Arc<Draft>>,
    /// Keeps running although this newer version of its file is broken.
    pub(super) stale: BTreeMap<Arc<str>, Arc<Parsed>>,
    /// Claims an id that another file has: the file that has it comes first.
    pub(super) duplicates: BTreeMap<Arc<str>, Vec<Arc<Parsed>>>,
    /// Does not run: broken from the start, or disabled.
    pub(super) idle: Vec<Arc<Parsed>>,
}

/// Decides by what runs already: it is never displaced by a file that came later.
pub(super) fn plan(files: &[Arc<Parsed>], running: &BTreeMap<Arc<str>, Arc<Draft>>) -> ReloadPlan {
    let mut plan = ReloadPlan::default();
    let mut claims: BTreeMap<Arc<str>, Vec<&Arc<Parsed>>> = BTreeMap::new();
    for file in files {
        match &file.id {
            Some(id) => claims.entry(Arc::clone(id)).or_default().push(file),
            None => plan.idle.push(Arc::clone(file)),
        }
    }
    for (id, mut files) in claims {
        let at = running.get(&id).map(|draft| draft.file.as_path());
        // Stable: else by file name. What was broken all along does not take an id from what is not.
        files.sort_by_key(|file| (Some(file.path.as_path()) != at, !file.faults.is_empty()));
        if files.len() > 1 {
            plan.duplicates.insert(
                Arc::clone(&id),
                files.iter().map(|file| Arc::clone(file)).collect(),
            );
        }
        if let Some(first) = files.first() {
            match (
                &first.draft,
                running.contains_key(&id) && !first.faults.is_empty(),
            ) {
                (Some(draft), _) => drop(plan.run.insert(id, Arc::clone(draft))),
                (None, true) => drop(plan.stale.insert(id, Arc::clone(first))),
                (None, false) => plan.idle.push(Arc::clone(first)),
            }
        }
    }
    keep_by_path(&mut plan, running);
    plan
}

/// A broken file may have no readable id: then it is the one that ran from this path.
fn keep_by_path(plan: &mut ReloadPlan, running: &BTreeMap<Arc<str>, Arc<Draft>>) {
    let by_path: BTreeMap<&Path, &Arc<str>> = running
        .iter()
        .map(|(id, draft)| (draft.file.as_path(), id))
        .collect();
    let taken: BTreeSet<Arc<str>> = plan.run.keys().chain(plan.stale.keys()).cloned().collect();
    let mut rest = std::mem::take(&mut plan.idle);
    rest.retain(|file| {
        let Some(id) = by_path
            .get(file.path.as_path())
            .filter(|_| !file.faults.is_empty())
        else {
            return true;
        };
        if taken.contains(*id) {
            return true;
        }
        plan.stale.insert(Arc::clone(id), Arc::clone(file));
        false
    });
    plan.idle = rest;
}
