//! `pleiades import`: servers of a client's configuration as descriptors.
//!
//! Nothing that may be a secret is written or printed, nothing that exists is written over, and what
//! is written is what `check` accepts: a server that lacks a variable waits, `enabled: false`.

mod address;
mod command;
pub(super) mod document;
mod entry;
mod filter;
pub(super) mod json;
mod oauth;
mod outcome;
mod pairs;
mod remote;
mod rewrite;
mod secret;
mod servers;
mod tell;
mod transport;
pub(super) mod tree;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Global, exit, file, install, ui};
use document::FileFormat;
use outcome::{ImportOutcome, ImportedServer};
use pleiades_descriptor::ReadContext;
use pleiades_descriptor::reader::{self, Pos};
use pleiades_descriptor::settings;
use rewrite::Rewriter;
use servers::ServerEntry;
use transport::ServerTransport;
use tree::{DocumentNode, Kind, SyntaxFault, shown};
use url::Url;

/// Largest file, in bytes; the descriptors' own limit.
const LARGEST: usize = 1 << 20;

/// Why an entry that [`install`] wrote is no provider.
const LEADS_HERE: &str = "it leads to this gateway, which would call itself";

/// How a shipped example says what it waits for.
const EXAMPLE: &str = "To enable:";

/// Where descriptors go.
struct ImportTarget<'a> {
    folder: &'a Path,
    world: &'a ReadContext,
    /// This gateway as clients reach it.
    own: Option<Url>,
}

impl ImportTarget<'_> {
    /// Whether a server is this gateway, over HTTP or as a command of this program.
    fn leads_here(&self, transport: &ServerTransport) -> bool {
        match transport {
            ServerTransport::Command { words, .. } => {
                let program = words.first().map(Path::new).and_then(Path::file_name);
                program.is_some_and(|name| name == "pleiades") && words.iter().any(|word| word == "stdio")
            }
            ServerTransport::Url { url, .. } => Url::parse(url).is_ok_and(|url| Some(url) == self.own),
        }
    }
}

pub(super) fn run(global: &Global, path: &Path) -> Result<u8, u8> {
    let loaded = super::settings(global, &global.overrides())?;
    let world = settings::read_context(&loaded);
    let into = ImportTarget {
        folder: &loaded.providers,
        world: &world,
        own: install::address(&loaded).ok(),
    };
    let planned = open(path).and_then(|root| plan(&root, path, &into));
    let mut outcomes = planned.map_err(|message| {
        ui::fail(message);
        exit::USAGE
    })?;
    if let Err((file, cause)) = save(&loaded.providers, &mut outcomes) {
        ui::fail(format_args!("{}: {cause}; nothing was written", file.display()));
        return Err(exit::UNAVAILABLE);
    }
    if global.json {
        ui::out(tell::report(&outcomes));
    } else {
        tell::print(&outcomes);
    }
    let is_any = outcomes
        .iter()
        .any(|outcome| matches!(outcome.became, ImportOutcome::Ready { .. }));
    Ok(if is_any { exit::OK } else { exit::USAGE })
}

fn open(path: &Path) -> Result<DocumentNode, String> {
    let start = Pos::START;
    let bytes = reader::bytes(path).map_err(|error| {
        let message = format!("the file {}", reader::reason(&error));
        fault_text(path, start, &message, "name a file that may be read")
    })?;
    if bytes.len() > LARGEST {
        let cure = "keep the servers alone in a file, and import that";
        return Err(fault_text(path, start, "larger than 1 MiB", cure));
    }
    let format = FileFormat::of(path);
    if format != FileFormat::Json {
        ui::err(format_args!("{} is read as {}", path.display(), format.name()));
    }
    format.read(&bytes).map_err(|wrong| at_fault(path, &wrong))
}

fn at_fault(path: &Path, wrong: &SyntaxFault) -> String {
    fault_text(path, wrong.at, &wrong.message, wrong.cure)
}

fn fault_text(path: &Path, pos: Pos, message: &str, cure: &str) -> String {
    format!(
        "{}:{}:{}: {message}\n    {cure}",
        path.display(),
        pos.line,
        pos.column
    )
}

/// Plans the import; writes nothing. Fails when the file names no server, or too many.
fn plan(root: &DocumentNode, path: &Path, into: &ImportTarget<'_>) -> Result<Vec<ImportedServer>, String> {
    let (folder, world) = (into.folder, into.world);
    let servers = servers::find(root).map_err(|wrong| at_fault(path, &wrong))?;
    let base = base(path);
    let mut words = Rewriter::new(&world.env, &base);
    words.inputs = inputs(root);
    let existing = existing(folder, world);
    let examples = examples(folder, world);
    let mut taken = BTreeSet::new();
    let outcome = |server: &ServerEntry<'_>| {
        let mut id = free(&server.name, &mut taken);
        let example = examples.get(&id).cloned();
        if example.is_some() {
            // An example that nobody enabled stays as it is, and is no provider that this one could be.
            let numbered = (2..).map(|number| file::numbered(&id, number));
            let mut candidates = numbered.filter(|id| !taken.contains(id) && !existing.contains_key(id));
            if let Some(other) =
                candidates.find(|id| existing_file(&folder.join(format!("{id}.yaml"))).is_none())
            {
                taken.insert(other.clone());
                id = other;
            }
        }
        let file = folder.join(format!("{id}.yaml"));
        let mut outcome = ImportedServer {
            server: shown(&server.name),
            file,
            id,
            became: ImportOutcome::Skipped(String::new()),
            variables: Vec::new(),
            notes: Vec::new(),
        };
        let known = existing
            .get(&outcome.id)
            .cloned()
            .or_else(|| existing_file(&outcome.file));
        outcome.became = match known {
            Some(known) => ImportOutcome::Skipped(exists(&known, &outcome.id)),
            None => match entry::read(server, &outcome.id, &mut words) {
                Err(why) => ImportOutcome::Skipped(why),
                Ok(entry) if into.leads_here(&entry.way) => ImportOutcome::Skipped(LEADS_HERE.to_owned()),
                Ok(entry) => {
                    let became = write::descriptor(&entry, path, &outcome.file, world);
                    (outcome.variables, outcome.notes) = (entry.variables, entry.notes);
                    outcome.notes.extend(example.map(|file| {
                        let (file, id) = (file.display(), &outcome.id);
                        format!("its id is `{id}`: {file} is a disabled example, and stays")
                    }));
                    became
                }
            },
        };
        outcome
    };
    Ok(servers.iter().map(outcome).collect())
}

fn existing_file(file: &Path) -> Option<PathBuf> {
    file.symlink_metadata().is_ok().then(|| file.to_path_buf())
}

fn exists(file: &Path, id: &str) -> String {
    format!(
        "{} is there already, and stays: edit it, or move it away, or give the server another name than `{id}`",
        file.display()
    )
}

/// Files by the ids that they claim.
fn existing(folder: &Path, world: &ReadContext) -> BTreeMap<String, PathBuf> {
    let files = pleiades_descriptor::files(folder).unwrap_or_default();
    let reads = files
        .iter()
        .map(|file| pleiades_descriptor::read_file(file, world));
    reads.filter_map(|read| Some((read.id?, read.file))).collect()
}

/// Shipped examples that wait to be enabled, by their ids.
fn examples(folder: &Path, world: &ReadContext) -> BTreeMap<String, PathBuf> {
    let is_example = |file: &Path| {
        let text = reader::bytes(file).ok();
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        text.is_some_and(|text| {
            text.lines()
                .any(|line| line.starts_with('#') && line.contains(EXAMPLE))
        })
    };
    let files = pleiades_descriptor::files(folder).unwrap_or_default();
    let reads = files
        .iter()
        .map(|file| pleiades_descriptor::read_file(file, world));
    let waiting = reads.filter(|read| !read.enabled && is_example(&read.file));
    waiting.filter_map(|read| Some((read.id?, read.file))).collect()
}

/// A legal id that no other server of the file has.
fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let id = file::id(name, &['-', '_']);
    let numbered = (2..).map(|number| file::numbered(&id, number));
    let mut candidates = std::iter::once(id.clone()).chain(numbered);
    let free = candidates.find(|id| !taken.contains(id)).unwrap_or(id);
    taken.insert(free.clone());
    free
}

/// The folder that a client starts from: above `.vscode` and `.cursor`, else the file's own.
fn base(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let is_hidden = folder
        .file_name()
        .is_some_and(|name| name == ".vscode" || name == ".cursor");
    let above = folder.parent().filter(|_| is_hidden);
    above.unwrap_or(folder).to_path_buf()
}

/// Descriptions of what an editor would ask for.
fn inputs(root: &DocumentNode) -> BTreeMap<String, String> {
    let lists = [
        root.get("inputs"),
        root.get("mcp").and_then(|mcp| mcp.get("inputs")),
    ];
    let items = lists.into_iter().flatten().flat_map(|list| match &list.kind {
        Kind::List(items) => items.as_slice(),
        _ => &[],
    });
    items
        .filter_map(|item| {
            let about = item
                .get("description")
                .and_then(DocumentNode::scalar)
                .unwrap_or_default();
            Some((item.get("id")?.scalar()?, shown(&about)))
        })
        .collect()
}

/// Writes all, or none: a failure takes back what was written before it.
fn save(folder: &Path, outcomes: &mut [ImportedServer]) -> Result<(), (PathBuf, io::Error)> {
    let mut written: Vec<PathBuf> = Vec::new();
    for outcome in outcomes {
        let ImportOutcome::Ready { text, .. } = &outcome.became else {
            continue;
        };
        match file::create(folder, &outcome.file, text) {
            Ok(()) => written.push(outcome.file.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                outcome.became = ImportOutcome::Skipped(exists(&outcome.file, &outcome.id));
            }
            Err(error) => {
                for file in written {
                    std::fs::remove_file(file).ok();
                }
                return Err((outcome.file.clone(), error));
            }
        }
    }
    Ok(())
}
