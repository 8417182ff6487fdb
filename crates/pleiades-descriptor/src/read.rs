//! Reads descriptor files: every fault of a file at once, and ids that several files claim.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{
    Descriptor, DescriptorFile, Fault, ReadContext, Severity, meaning,
    reference::ReferenceResolver,
    report::{Report, say},
    schema,
    shape::ShapeCheck,
    yaml::{self, Kind, Node, Pos},
};

/// Reads one descriptor: shape and meaning of the whole file, every fault once.
#[must_use]
pub fn read(file: &Path, text: &[u8], world: &ReadContext) -> DescriptorFile {
    let mut report = Report::new(file);
    let mut root = match parse(text, &mut report) {
        Some(root) if !matches!(root.kind, Kind::Null) => root,
        Some(_) => {
            let finding = say("the file is empty").cure("a descriptor needs `id`, `upstream` and `auth`");
            report.fault(Pos::START, "syntax", finding);
            return without_descriptor(file, None, report);
        }
        None => return without_descriptor(file, None, report),
    };
    let enabled = root.at_path(&["enabled"]).and_then(Node::boolean).unwrap_or(true);
    if !enabled {
        report.relax();
    }
    resolve(&mut root, world, &mut report);
    ShapeCheck::new(schema::descriptor(), &mut report).run(&mut root);
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    meaning::check(&root, folder, world, &mut report);
    let descriptor: Option<Descriptor> =
        typed(&root, &mut report).map(|descriptor| resolve_paths(descriptor, folder));
    let mut read = without_descriptor(file, Some(&root), report);
    read.enabled = enabled;
    read.descriptor = descriptor;
    read
}

/// The tree of a file, its references resolved; `None` when it cannot be read or does not parse.
#[must_use]
pub fn resolved_tree(file: &Path, world: &ReadContext) -> Option<Node> {
    let mut report = Report::new(file);
    let mut root = parse(&bytes(file).ok()?, &mut report)?;
    resolve(&mut root, world, &mut report);
    Some(root)
}

fn resolve(root: &mut Node, world: &ReadContext, report: &mut Report) {
    let resolver = ReferenceResolver {
        env: &world.env,
        allowed: Some(&world.references),
        secrets: &world.secrets,
    };
    resolver.resolve(root, "", report);
}

/// The tree of a file; a null one when it is empty, `None` when it does not parse.
pub(crate) fn parse(text: &[u8], report: &mut Report) -> Option<Node> {
    match yaml::parse(text) {
        Ok(root) => Some(root.unwrap_or_else(|| Node::new(Pos::START, Kind::Null))),
        Err(syntax) => {
            let finding = say(syntax.message);
            report.fault(
                syntax.at,
                "syntax",
                match syntax.cure {
                    Some(cure) => finding.cure(cure),
                    None => finding,
                },
            );
            None
        }
    }
}

/// The typed form of a tree without faults; `None` too when a reference that is absent keeps it from
/// having one, which is no fault as long as the provider is disabled.
pub(crate) fn typed<T: DeserializeOwned>(root: &Node, report: &mut Report) -> Option<T> {
    if report.has_fatal() {
        return None;
    }
    match serde_json::from_value(root.to_json()) {
        Ok(value) => Some(value),
        // A reference that is absent stands where a URL or a duration should.
        Err(_) if root.is_unresolved() => None,
        // Only when types and schema disagree. serde's sentence could quote a secret.
        Err(_) => {
            report.fault(
                root.at,
                "syntax",
                say("the file cannot be read").cure("this is a bug: report it"),
            );
            None
        }
    }
}

/// Paths relative to the descriptor are made relative to the working folder.
fn resolve_paths(mut descriptor: Descriptor, folder: &Path) -> Descriptor {
    let tls = &mut descriptor.upstream.tls;
    for path in [
        &mut tls.ca_file,
        &mut tls.client_cert_file,
        &mut tls.client_key_file,
    ]
    .into_iter()
    .flatten()
    {
        *path = folder.join(&path);
    }
    descriptor
}

fn without_descriptor(file: &Path, root: Option<&Node>, report: Report) -> DescriptorFile {
    let id_node = root.and_then(|root| root.at_path(&["id"]));
    let id = id_node.and_then(Node::text).map(str::to_owned);
    let stem = file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let title = root.and_then(|root| root.text_at(&["title"])).map(str::to_owned);
    DescriptorFile {
        file: file.to_path_buf(),
        id_at: id_node.map_or((1, 1), |node| (node.at.line, node.at.column)),
        url_at: root
            .and_then(|root| root.at_path(&["upstream", "url"]))
            .map_or((1, 1), |node| (node.at.line, node.at.column)),
        title: title.or_else(|| id.clone()).unwrap_or(stem),
        id,
        enabled: true,
        descriptor: None,
        faults: report.finish(),
    }
}

/// The descriptor files of a folder: `*.yaml` and `*.yml` directly in it, symlinks followed, dot
/// names ignored, sorted by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        // A link to nothing is listed: reading it says so.
        if is_yaml && !name.starts_with('.') && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Adds a fault to every file whose id another one claims too. The first in the slice keeps its
/// `descriptor` (pass the one that runs already first); the others lose it.
pub fn mark_duplicates(reads: &mut [DescriptorFile]) {
    let mut claims: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, read) in reads.iter().enumerate() {
        if let Some(id) = &read.id {
            claims.entry(id.clone()).or_default().push(index);
        }
    }
    for (id, claims) in claims.iter().filter(|(_, claims)| claims.len() > 1) {
        let claiming = claims.iter().filter_map(|index| reads.get(*index));
        let files: Vec<PathBuf> = claiming.map(|read| read.file.clone()).collect();
        for (turn, index) in claims.iter().enumerate() {
            let Some(read) = reads.get_mut(*index) else {
                continue;
            };
            let runs = turn == 0 && read.enabled && read.descriptor.is_some();
            let others = files.iter().filter(|file| **file != read.file);
            let others = others.map(PathBuf::as_path);
            read.faults
                .push(duplicate_fault(id, (&read.file, read.id_at), others, runs));
            read.faults.sort_by_key(|fault| (fault.line, fault.column));
            if turn > 0 {
                read.descriptor = None;
            }
        }
    }
}

/// The fault of a file whose id others claim too. `runs`: it is the one that is loaded.
pub fn duplicate_fault<'a>(
    id: &str,
    (file, at): (&Path, (usize, usize)),
    others: impl Iterator<Item = &'a Path>,
    runs: bool,
) -> Fault {
    let others: Vec<String> = others.map(|file| format!("`{}`", file.display())).collect();
    let cure = if runs {
        "this file runs; give the other an id of its own"
    } else {
        "give this provider an id of its own"
    };
    Fault {
        file: file.to_path_buf(),
        line: at.0,
        column: at.1,
        field: "id".to_owned(),
        message: format!("the id `{id}` is claimed by {} too", others.join(", ")),
        cure: Some(cure.to_owned()),
        severity: Severity::Fault,
    }
}

/// A file that cannot even be read.
#[must_use]
pub fn unreadable(file: &Path, error: &io::Error) -> DescriptorFile {
    let mut report = Report::new(file);
    report.fault(
        Pos::START,
        "syntax",
        say(format!("the file {}", super::reference::reason(error)))
            .cure("name a file that exists and may be read"),
    );
    without_descriptor(file, None, report)
}

/// Reads a descriptor file from the disk: never more than the limit, never anything but a file.
#[must_use]
pub fn read_file(file: &Path, world: &ReadContext) -> DescriptorFile {
    match bytes(file) {
        Ok(text) => read(file, &text, world),
        Err(error) => unreadable(file, &error),
    }
}

/// At most one byte more than may be read, so that the limit is noticed.
pub fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let facts = std::fs::metadata(file)?;
    if facts.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    // Opening a pipe would wait for its writer.
    if !facts.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut text = Vec::new();
    std::fs::File::open(file)?
        .take(yaml::MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
