//! `${NAME}`, `${file:/path}` and `${vault:path#key}` in texts: read within what is allowed. `$${` is a
//! literal `${`.
//!
//! Nothing of a malformed reference is ever printed: it may be a secret with a typing error.

use std::path::{Component, Path, PathBuf};

use super::{
    Environment, References, SecretSource,
    report::{Finding, Report, say},
    yaml::{Kind, Node},
};

/// Fields of a descriptor in which nothing is a reference: what stands there is shown to every caller and
/// every model, and is often a server's own word.
const WORDS: [&str; 2] = ["title", "about"];
const MAX_FILE: u64 = 1 << 20;

pub(crate) struct ReferenceResolver<'a> {
    pub(crate) env: &'a Environment,
    /// `None`: everything, as in the settings.
    pub(crate) allowed: Option<&'a References>,
    pub(crate) secrets: &'a SecretSource,
}

enum Unresolved {
    /// Wrong wherever it stands.
    Fault(Finding),
    /// Wrong here and now: no harm while the provider is disabled.
    Absent(Finding),
    /// Not asked for.
    Unasked,
}

impl ReferenceResolver<'_> {
    /// Resolves every text below a node, reporting at the text.
    pub(crate) fn resolve(&self, node: &mut Node, path: &str, report: &mut Report) {
        let at = node.at;
        match &mut node.kind {
            Kind::Text(_) if self.allowed.is_some() && WORDS.contains(&path) => {}
            Kind::Text(text) if text.raw.contains("${") => {
                text.has_references = reference_names(&text.raw).next().is_some();
                let mut faults = Vec::new();
                let value = self.replace(&text.raw, &mut faults, report);
                text.resolved = faults.is_empty().then_some(value);
                for fault in faults {
                    match fault {
                        Unresolved::Fault(finding) => report.fault(at, path, finding),
                        Unresolved::Absent(finding) => report.lenient(at, path, finding),
                        Unresolved::Unasked => {}
                    }
                }
            }
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.resolve(item, &join(path, &index.to_string()), report);
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    self.resolve(&mut entry.value, &join(path, &entry.key), report);
                }
            }
            _ => {}
        }
    }

    fn replace(&self, raw: &str, faults: &mut Vec<Unresolved>, report: &mut Report) -> String {
        let mut value = String::with_capacity(raw.len());
        for piece in pieces(raw) {
            match piece {
                Piece::Literal(text) => value.push_str(text),
                Piece::Unclosed => {
                    let finding = say("a reference `${` without its `}`");
                    faults.push(Unresolved::Fault(
                        finding.cure("close it, or write `$${` for a literal `${`"),
                    ));
                }
                Piece::Reference(inner) => match self.read(inner) {
                    Ok(text) => {
                        report.hide(&text);
                        value.push_str(&text);
                    }
                    Err(refusal) => faults.push(refusal),
                },
            }
        }
        value
    }

    fn read(&self, inner: &str) -> Result<String, Unresolved> {
        if let Some(path) = inner.strip_prefix("file:") {
            return self.file(path);
        }
        if let Some(path) = inner.strip_prefix("vault:") {
            return self.vault(path);
        }
        if !is_variable(inner) {
            return Err(Unresolved::Fault(malformed("a malformed reference")));
        }
        self.variable(inner)
    }

    fn variable(&self, name: &str) -> Result<String, Unresolved> {
        if let Some(allowed) = self.allowed {
            if name.starts_with("PLEIADES_") {
                let finding = say(format!(
                    "`${{{name}}}` is the gateway's own and never read by a descriptor"
                ));
                return Err(Unresolved::Fault(finding.cure("use another name")));
            }
            if !allowed.env.iter().any(|glob| matches(glob, name)) {
                let finding = say(format!(
                    "`${{{name}}}` is outside `references.env` of the settings"
                ));
                let finding = finding.cure(format!("add `{name}` to `references.env`"));
                return Err(Unresolved::Fault(finding));
            }
        }
        (self.env)(name).ok_or_else(|| {
            let finding = say(format!("the environment variable `{name}` is not set"));
            Unresolved::Absent(finding.cure(format!("set `{name}` where the gateway starts")))
        })
    }

    fn vault(&self, given: &str) -> Result<String, Unresolved> {
        let sound = given
            .split_once('#')
            .filter(|(path, key)| is_entry(path) && !key.is_empty() && !key.contains("${"));
        let Some((path, key)) = sound else {
            return Err(Unresolved::Fault(malformed(
                "a reference to Vault without a plain path and a key",
            )));
        };
        let Some(allowed) = self.allowed else {
            let finding = say("the settings cannot read Vault: they say where it is");
            let finding = finding.cure("use `${NAME}` or `${file:/path}`");
            return Err(Unresolved::Fault(finding));
        };
        let SecretSource::Vault {
            mount,
            prefix,
            lookup,
        } = self.secrets
        else {
            let finding = say("references to Vault need `vault.hashicorp` in the settings");
            let finding = finding.cure("set `vault.hashicorp`, or use `${NAME}` or `${file:/path}`");
            return Err(Unresolved::Absent(finding));
        };
        let path = strip_folder(path, mount);
        if path == prefix || strip_folder(path, prefix) != path {
            let finding = say("the gateway's own entries in Vault are never read by a descriptor");
            let finding = finding.cure("keep the secret under another path");
            return Err(Unresolved::Fault(finding));
        }
        let is_allowed = |glob: &String| matches(strip_folder(glob, mount), path);
        if !allowed.vault.iter().any(is_allowed) {
            let finding = say(format!("`{path}` is outside `references.vault` of the settings"));
            let finding = finding.cure(format!("add `{path}` to `references.vault`"));
            return Err(Unresolved::Fault(finding));
        }
        let Some(lookup) = lookup else {
            return Err(Unresolved::Unasked);
        };
        let found = lookup(path, key).map(|text| text.expose().to_owned());
        found.map_err(|why| {
            Unresolved::Absent(say(why).cure("`vault kv get` with the gateway's policy must show it"))
        })
    }

    fn file(&self, given: &str) -> Result<String, Unresolved> {
        let path = Path::new(given);
        if !path.is_absolute() || given.contains("${") {
            return Err(Unresolved::Fault(malformed(
                "a reference to a file without an absolute path",
            )));
        }
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            let finding = say("a reference to a file may not contain `..`");
            return Err(Unresolved::Fault(finding.cure("write the path out")));
        }
        // `/a//b` and `/a/./b` are `/a/b` for the globs too.
        let path: PathBuf = path.components().collect();
        let shown = path.display();
        let outside = || {
            let finding = say(format!("`{shown}` is outside `references.files` of the settings"));
            Unresolved::Fault(finding.cure(format!("add `{shown}` to `references.files`")))
        };
        let globs = self.allowed.map(|allowed| allowed.files.as_slice());
        let globs: Option<Vec<&String>> =
            globs.map(|globs| globs.iter().filter(|glob| path_matches(glob, &path)).collect());
        if globs.as_ref().is_some_and(Vec::is_empty) {
            return Err(outside());
        }
        let absent = |why: &str| {
            let finding = say(format!("the file `{shown}` {why}"));
            Unresolved::Absent(finding.cure("make the file readable for the gateway"))
        };
        let real = path.canonicalize().map_err(|error| absent(reason(&error)))?;
        // A link may lead elsewhere below the folder that a glob names (as Kubernetes mounts do), not
        // out of it.
        if globs.is_some_and(|globs| !globs.iter().any(|glob| real.starts_with(folder_of(glob)))) {
            return Err(outside());
        }
        read_bounded(&real).map_err(absent)
    }
}

enum Piece<'a> {
    Literal(&'a str),
    /// What stands between `${` and `}`.
    Reference(&'a str),
    /// `${` without its `}`; the last piece.
    Unclosed,
}

fn pieces(raw: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix("$${") {
            rest = after;
            return Some(Piece::Literal("${"));
        }
        if let Some(reference) = rest.strip_prefix("${") {
            let closed = reference.split_once('}');
            rest = closed.map_or("", |(_, after)| after);
            return Some(closed.map_or(Piece::Unclosed, |(inner, _)| Piece::Reference(inner)));
        }
        let end = [rest.find("$${"), rest.find("${")].into_iter().flatten().min();
        let (literal, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(Piece::Literal(literal))
    })
}

/// The inner text of each reference.
pub fn reference_names(raw: &str) -> impl Iterator<Item = &str> {
    pieces(raw).filter_map(|piece| match piece {
        Piece::Reference(inner) => Some(inner),
        Piece::Unclosed => Some(""),
        Piece::Literal(_) => None,
    })
}

/// Whether a path is one of an entry, however a server cleans it up.
fn is_entry(path: &str) -> bool {
    let is_plain =
        |part: &str| !matches!(part, "" | "." | "..") && part.trim() == part && !part.contains(['%', '\\']);
    path.split('/').all(is_plain) && !path.contains("${") && !path.chars().any(char::is_control)
}

/// A path without the folder that it begins with, as it is when it does not begin with it.
fn strip_folder<'a>(path: &'a str, folder: &str) -> &'a str {
    path.strip_prefix(folder)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(path)
}

/// The text of a file, without the line break at its end.
fn read_bounded(path: &Path) -> Result<String, &'static str> {
    let facts = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if !facts.is_file() {
        return Err("is not a regular file");
    }
    if facts.len() > MAX_FILE {
        return Err("is larger than 1 MiB");
    }
    let text = std::fs::read_to_string(path).map_err(|error| reason(&error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Why a file cannot be read, in our words.
pub fn reason(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => "does not exist",
        std::io::ErrorKind::PermissionDenied => "may not be read",
        std::io::ErrorKind::InvalidData => "is not UTF-8",
        std::io::ErrorKind::IsADirectory => "is a folder",
        std::io::ErrorKind::InvalidInput => "is not a regular file",
        _ => "cannot be read",
    }
}

fn malformed(message: &str) -> Finding {
    say(message).cure("write `${NAME}`, `${file:/path}` or `${vault:path#key}`")
}

/// Whether a text is a name that the environment can have.
pub fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The folder above a glob's first wildcard, links followed.
fn folder_of(glob: &str) -> PathBuf {
    let fixed = glob.split(['*', '?']).next().unwrap_or_default();
    let folder = fixed
        .rsplit_once('/')
        .map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    Path::new(folder)
        .canonicalize()
        .unwrap_or_else(|_| PathBuf::from(folder))
}

fn path_matches(glob: &str, path: &Path) -> bool {
    path.to_str().is_some_and(|path| matches(glob, path))
}

/// Whether a glob matches a whole text: `*` and `?` do not cross a `/`, `**` does. In time that grows
/// with their product, whatever stands in them.
fn matches(glob: &str, text: &str) -> bool {
    let steps = glob_tokens(glob);
    // The number of steps that can have matched what was read so far.
    let mut here = vec![false; steps.len() + 1];
    if let Some(start) = here.first_mut() {
        *start = true;
    }
    skip_stars(&steps, &mut here);
    for byte in text.bytes() {
        let mut next = vec![false; here.len()];
        for (index, step) in steps.iter().enumerate() {
            if !here.get(index).copied().unwrap_or_default() {
                continue;
            }
            let (stays, passes) = match step {
                GlobToken::All => (true, false),
                GlobToken::Part => (byte != b'/', false),
                GlobToken::Any => (false, byte != b'/'),
                GlobToken::Byte(literal) => (false, *literal == byte),
            };
            let target = if stays { index } else { index + 1 };
            if let Some(reached) = next.get_mut(target).filter(|_| stays || passes) {
                *reached = true;
            }
        }
        skip_stars(&steps, &mut next);
        here = next;
    }
    here.last().copied().unwrap_or_default()
}

enum GlobToken {
    /// `**`
    All,
    /// `*`
    Part,
    /// `?`
    Any,
    Byte(u8),
}

fn glob_tokens(glob: &str) -> Vec<GlobToken> {
    let mut steps = Vec::new();
    let mut rest = glob.as_bytes();
    while let [first, after @ ..] = rest {
        let (step, after) = match (first, after) {
            (b'*', [b'*', after @ ..]) => (GlobToken::All, after),
            (b'*', _) => (GlobToken::Part, after),
            (b'?', _) => (GlobToken::Any, after),
            (literal, _) => (GlobToken::Byte(*literal), after),
        };
        steps.push(step);
        rest = after;
    }
    steps
}

/// Stars may match nothing.
fn skip_stars(steps: &[GlobToken], here: &mut [bool]) {
    for (index, step) in steps.iter().enumerate() {
        let is_star = matches!(step, GlobToken::All | GlobToken::Part);
        if is_star
            && here.get(index).copied().unwrap_or_default()
            && let Some(after) = here.get_mut(index + 1)
        {
            *after = true;
        }
    }
}

/// A dotted path and one more step.
pub(crate) fn join(path: &str, step: &str) -> String {
    if path.is_empty() {
        step.to_owned()
    } else {
        format!("{path}.{step}")
    }
}

#[cfg(test)]
mod tests;
