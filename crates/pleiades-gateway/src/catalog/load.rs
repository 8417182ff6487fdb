//! The folder as it is on disk: names, bytes, digests. Parses what changed and nothing else.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::digest::{Context, SHA256};

use super::compile::{self, CompileContext, Draft, describe_io};
use pleiades_descriptor::{DescriptorFile, Fault, Severity, reader::bytes};

/// Listings before a file that is named but not there is believed to be broken.
const TRIES: usize = 3;
/// Where references to what may change without the descriptor begin in its text.
const REFERENCES: [&[u8]; 2] = [b"${file:", b"${vault:"];

/// Reads a descriptor's text; what it may depend on besides is inside.
pub type DescriptorReader = Arc<dyn Fn(&Path, &[u8]) -> DescriptorFile + Send + Sync>;

/// A descriptor file as it was read last.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) path: PathBuf,
    /// The id, when the file has a legal one.
    pub(super) id: Option<Arc<str>>,
    pub(super) title: String,
    pub(super) enabled: bool,
    /// What runs of it, when it is enabled and without faults.
    pub(super) draft: Option<Arc<Draft>>,
    /// Where the id stands.
    pub(super) id_at: (usize, usize),
    /// As `check` prints them, by position; empty when it runs, or could.
    pub(super) faults: Vec<String>,
    /// Positions of those that its reader found.
    positions: Vec<(usize, usize)>,
    pub(super) warnings: Vec<String>,
    /// SHA-256 of name, text, and the files it names.
    digest: [u8; 32],
    /// Files it was compiled from besides.
    sources: Vec<PathBuf>,
    /// Whether its text refers to files or entries of Vault whose contents are in the compiled form.
    refers: bool,
}

/// Reads the folder. Files that are as they were in `before` keep their place in memory, so that
/// equality is equality of pointers.
pub(super) fn folder(
    folder: &Path,
    before: &[Arc<Parsed>],
    reader: &DescriptorReader,
    context: &CompileContext,
) -> Result<Vec<Arc<Parsed>>, String> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let files = pleiades_descriptor::files(folder)
            .map_err(|error| format!("`{}`: {}", folder.display(), describe_io(&error)))?;
        let texts: Vec<_> = files.into_iter().map(|path| (bytes(&path), path)).collect();
        // A file may be renamed between listing and reading; the next listing is right.
        let vanished = |text: &io::Result<Vec<u8>>| matches!(text, Err(error) if error.kind() == io::ErrorKind::NotFound);
        if tries > 0 && texts.iter().any(|(text, _)| vanished(text)) {
            continue;
        }
        let mut predecessors = before.iter().peekable();
        return Ok(texts
            .into_iter()
            .map(|(text, path)| {
                // Both are sorted by path: one walk finds each predecessor.
                while predecessors.next_if(|parsed| parsed.path < path).is_some() {}
                let old = predecessors.peek().filter(|parsed| parsed.path == path).copied();
                file(path, text, old, reader, context)
            })
            .collect());
    }
}

fn file(
    path: PathBuf,
    text: io::Result<Vec<u8>>,
    old: Option<&Arc<Parsed>>,
    reader: &DescriptorReader,
    context: &CompileContext,
) -> Arc<Parsed> {
    let new = match text {
        Ok(text) => {
            if let Some(old) = old.filter(|old| old.is_current(&text)) {
                return Arc::clone(old);
            }
            Parsed::of(path, &text, reader, context)
        }
        Err(error) => Parsed::unreadable(path, &error),
    };
    match old {
        // A broken file is read each time, as its cure may lie elsewhere: a missing file appears.
        Some(old) if old.is_equivalent(&new) => Arc::clone(old),
        _ => Arc::new(new),
    }
}

impl Parsed {
    fn of(path: PathBuf, text: &[u8], reader: &DescriptorReader, context: &CompileContext) -> Self {
        let read = reader(&path, text);
        let of = |severity| move |fault: &&Fault| fault.severity == severity;
        let fatal = || read.faults.iter().filter(of(Severity::Fault));
        let positions = fatal().map(|fault| (fault.line, fault.column)).collect();
        let mut faults: Vec<_> = fatal().map(ToString::to_string).collect();
        let warnings = read.faults.iter().filter(of(Severity::Warning));
        let warnings = warnings.map(ToString::to_string).collect();
        let mut sources = Vec::new();
        let mut draft = None;
        if let Some(descriptor) = &read.descriptor {
            sources = compile::sources(&path, descriptor);
            if descriptor.enabled {
                match compile::compile(&path, descriptor, context) {
                    Ok(compiled) => draft = Some(Arc::new(compiled)),
                    Err(fault) => faults.push(format!("{}:1:1: {fault}", path.display())),
                }
            }
        }
        let refers = REFERENCES
            .iter()
            .any(|one| text.windows(one.len()).any(|window| window == *one));
        Self {
            digest: digest(text, &sources),
            id: read.id.map(Into::into),
            title: read.title,
            enabled: read.enabled,
            draft,
            id_at: read.id_at,
            faults,
            positions,
            warnings,
            sources,
            refers,
            path,
        }
    }

    fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self {
            id: None,
            title: stem.unwrap_or_default(),
            enabled: true,
            draft: None,
            faults: pleiades_descriptor::unreadable(&path, error)
                .faults
                .iter()
                .map(ToString::to_string)
                .collect(),
            id_at: (1, 1),
            positions: Vec::new(),
            warnings: Vec::new(),
            digest: [0; 32],
            sources: Vec::new(),
            refers: false,
            path,
        }
    }

    fn is_current(&self, text: &[u8]) -> bool {
        self.faults.is_empty() && !self.refers && self.digest == digest(text, &self.sources)
    }

    fn is_equivalent(&self, new: &Self) -> bool {
        let compiled = |it: &Self| it.draft.as_ref().map(|draft| draft.endpoint.digest);
        // The digest of a broken file does not matter: it has no other effect than its faults.
        compiled(self) == compiled(new)
            && self.faults == new.faults
            && self.id == new.id
            && (self.digest == new.digest || self.draft.is_none())
            && self.enabled == new.enabled
            && self.title == new.title
    }

    /// The id, or the file's stem when it has none.
    pub(super) fn name(&self) -> Arc<str> {
        let stem = || self.path.file_stem().unwrap_or_default().to_string_lossy().into();
        self.id.clone().unwrap_or_else(stem)
    }

    /// Its faults with one more, by position.
    pub(super) fn faults_with(&self, fault: &Fault) -> Vec<String> {
        let at = (fault.line, fault.column);
        let mut faults = self.faults.clone();
        faults.insert(
            self.positions.partition_point(|before| *before <= at),
            fault.to_string(),
        );
        faults
    }

    /// Why it cannot run, in one line.
    pub(super) fn reason(&self) -> Option<String> {
        let first = self.faults.first()?.lines().next()?.to_owned();
        let others = self.faults.len() - 1;
        Some(match others {
            0 => first,
            _ => format!("{first} (and {others} more)"),
        })
    }
}

fn digest(text: &[u8], sources: &[PathBuf]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&text.len().to_le_bytes());
    context.update(text);
    for source in sources {
        let bytes = bytes(source).unwrap_or_default();
        context.update(&bytes.len().to_le_bytes());
        context.update(&bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
