//! The next snapshot, built beside the running one.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{Entry, Live, Provider, Snapshot, compile::Draft, diff::ReloadPlan, load::Parsed};
use pleiades_core::limit::Gate;
use pleiades_descriptor::{Fault, duplicate_fault};

/// Builds the next snapshot beside the running one; what did not change is the same object.
pub(super) fn snapshot(
    plan: &ReloadPlan,
    running: &BTreeMap<Arc<str>, Arc<Draft>>,
    old: &Snapshot,
) -> Snapshot {
    let run = plan.run.iter().map(|(id, draft)| {
        let before = running.get(id).zip(old.providers.get(id));
        (Arc::clone(id), provider(draft, before))
    });
    let stale = plan
        .stale
        .keys()
        .filter_map(|id| Some((Arc::clone(id), Arc::clone(old.providers.get(id)?))));
    Snapshot {
        generation: old.generation + 1,
        providers: run.chain(stale).collect(),
        entries: entries(plan, old),
    }
}

/// What `/providers` lists: a line for each file, under a name of its own.
fn entries(plan: &ReloadPlan, old: &Snapshot) -> BTreeMap<Arc<str>, Entry> {
    let duplicates = duplicate_faults(plan);
    let mut entries = BTreeMap::new();
    let mut add = |id: Arc<str>, title: &str, file: &Path, disabled: bool, own: &[String]| {
        let mut entry = Entry {
            id: Arc::clone(&id),
            title: title.to_owned(),
            file: file.to_path_buf(),
            disabled,
            faults: duplicates.get(file).map_or(own, Vec::as_slice).to_vec(),
            since: SystemTime::now(),
        };
        if let Some(before) = old.entries.get(&id) {
            let same = before.disabled == disabled && before.faults == entry.faults;
            entry.since = if same { before.since } else { entry.since };
        }
        entries.insert(id, entry);
    };
    for (id, draft) in &plan.run {
        add(Arc::clone(id), &draft.title, &draft.file, false, &[]);
    }
    for (id, parsed) in &plan.stale {
        let title = old
            .providers
            .get(id)
            .map_or(parsed.title.as_str(), |provider| &provider.title);
        add(Arc::clone(id), title, &parsed.path, false, &parsed.faults);
    }
    let losers = plan.duplicates.values().flat_map(|files| files.iter().skip(1));
    let mut taken: HashSet<Arc<str>> = plan.run.keys().chain(plan.stale.keys()).cloned().collect();
    for parsed in plan.idle.iter().chain(losers) {
        let id = free_name(parsed, &taken);
        taken.insert(Arc::clone(&id));
        add(id, &parsed.title, &parsed.path, !parsed.enabled, &parsed.faults);
    }
    entries
}

/// Faults of files that claim the same id, as `check` prints them.
fn duplicate_faults(plan: &ReloadPlan) -> BTreeMap<PathBuf, Vec<String>> {
    let with_own = |claim: Duplicate<'_>| (claim.file.path.clone(), claim.file.faults_with(&claim.fault));
    duplicates(plan).map(with_own).collect()
}

/// A file that claims an id that others claim too.
#[derive(Debug)]
pub(super) struct Duplicate<'a> {
    pub(super) file: &'a Parsed,
    pub(super) fault: Fault,
    /// The file that the id is given to, when this is another one.
    pub(super) winner: Option<&'a Parsed>,
}

/// All of them: of each id first the file that has it.
pub(super) fn duplicates(plan: &ReloadPlan) -> impl Iterator<Item = Duplicate<'_>> {
    plan.duplicates.iter().flat_map(|(id, files)| {
        files.iter().enumerate().map(move |(turn, file)| {
            let others = files.iter().filter(|other| other.path != file.path);
            let others = others.map(|other| other.path.as_path());
            let runs = turn == 0 && file.draft.is_some();
            Duplicate {
                file,
                fault: duplicate_fault(id, (&file.path, file.id_at), others, runs),
                winner: files.first().filter(|_| turn > 0).map(|first| &**first),
            }
        })
    })
}

/// Joins a draft with what is known of the provider under this id.
pub(super) fn provider(draft: &Arc<Draft>, before: Option<(&Arc<Draft>, &Arc<Provider>)>) -> Arc<Provider> {
    if let Some((_, old)) = before.filter(|(drafted, _)| Arc::ptr_eq(drafted, draft)) {
        return Arc::clone(old);
    }
    let same = before.filter(|(drafted, _)| drafted.endpoint.digest == draft.endpoint.digest);
    let live = match same {
        Some((drafted, old)) if drafted.rules == draft.rules => Arc::clone(&old.live),
        Some((_, old)) => Arc::new(old.live.with_rules(&draft.rules)),
        None => Arc::new(Live::default()),
    };
    // Buckets are not refilled by an edit of something else.
    let gate = same
        .filter(|(drafted, _)| drafted.limits == draft.limits)
        .map(|(_, old)| Arc::clone(&old.gate));
    Arc::new(Provider {
        id: Arc::clone(&draft.id),
        title: draft.title.clone(),
        about: draft.about.clone(),
        endpoint: same.map_or_else(
            || Arc::clone(&draft.endpoint),
            |(_, old)| Arc::clone(&old.endpoint),
        ),
        need: draft.need.clone(),
        rules: draft.rules.clone(),
        relay: draft.relay,
        facade: draft.facade.clone(),
        cache: draft.cache.clone(),
        gate: gate.unwrap_or_else(|| Arc::new(Gate::new(&draft.limits))),
        file: draft.file.clone(),
        live,
    })
}

/// A name for a file that runs nothing: its id, else its stem, else its whole name.
fn free_name(parsed: &Parsed, taken: &HashSet<Arc<str>>) -> Arc<str> {
    let path = &parsed.path;
    let stem = path.file_stem().map(|stem| Arc::from(stem.to_string_lossy()));
    let name = path.file_name().map(|name| Arc::from(name.to_string_lossy()));
    let mut names = [Some(parsed.name()), stem, name].into_iter().flatten();
    names
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| path.to_string_lossy().into())
}
