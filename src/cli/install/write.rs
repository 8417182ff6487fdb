//! Reading and writing a client's file: whole or not at all, and never over what somebody wrote meanwhile.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file, in bytes: `.claude.json` holds histories too.
pub(super) const LARGEST: u64 = 64 << 20;
/// Of a file that is made: it may come to hold keys.
const MODE: u32 = 0o600;

/// A file as it was read.
#[derive(Debug)]
pub(super) struct ClientFile {
    /// Where it is, links followed.
    pub(super) path: PathBuf,
    /// `None` when there is none.
    pub(super) bytes: Option<Vec<u8>>,
}

impl ClientFile {
    /// Reads a file, or finds that there is none.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        // A link to nothing is a fault: what it is to lead to is not ours to guess.
        let path = match path.symlink_metadata() {
            Ok(facts) if facts.is_symlink() => fs::canonicalize(path)?,
            _ => path.to_owned(),
        };
        let bytes = read(&path)?;
        Ok(Self { path, bytes })
    }

    /// The folder, which has to be there.
    pub(super) fn folder(&self) -> &Path {
        let folder = self.path.parent();
        folder
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// Puts a text in the file's place, unless the file changed since it was read ([`io::ErrorKind::ResourceBusy`]).
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let facts = match fs::metadata(&self.path) {
            Ok(facts) => Some(facts),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(cause),
        };
        let draft = self.draft();
        let written = write_draft(&draft, text, facts.as_ref())
            .and_then(|()| self.check_unchanged())
            .and_then(|()| fs::rename(&draft, &self.path));
        if written.is_err() {
            fs::remove_file(&draft).ok();
        }
        written
    }

    /// Removes the file, unless it changed since it was read.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.check_unchanged()?;
        fs::remove_file(&self.path)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        if read(&self.path)? == self.bytes {
            return Ok(());
        }
        let what = "the file was changed meanwhile; run this again";
        Err(io::Error::new(io::ErrorKind::ResourceBusy, what))
    }

    fn draft(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.folder().join(format!(".{name}.{}.tmp", std::process::id()))
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(Some(bytes))
}

/// Writes a file of the same mode and owner beside the old one.
fn write_draft(draft: &Path, text: &str, facts: Option<&Metadata>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(draft)?;
    file.write_all(text.as_bytes())?;
    if let Some(facts) = facts {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (facts.uid(), facts.gid()) {
            std::os::unix::fs::fchown(&file, Some(facts.uid()), Some(facts.gid()))?;
        }
        // After the owner: a change of owner takes bits away.
        file.set_permissions(fs::Permissions::from_mode(facts.mode() & 0o7777))?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_links_stay_and_no_draft_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        fs::write(&real, "{}").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        ClientFile::read(&link).unwrap().write("{\"a\": 1}").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "{\"a\": 1}");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let new = folder.path().join("new.json");
        ClientFile::read(&new).unwrap().write("{}").unwrap();
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_somebody_wrote_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for before in [None, Some("{}")] {
            fs::remove_file(&path).ok();
            if let Some(text) = before {
                fs::write(&path, text).unwrap();
            }
            let file = ClientFile::read(&path).unwrap();
            fs::write(&path, "[\"theirs\"]").unwrap();
            for refused in [file.write("ours").unwrap_err(), file.remove().unwrap_err()] {
                assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), "[\"theirs\"]");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_and_a_link_to_nothing_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ClientFile::read(folder.path()).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(ClientFile::read(&link).is_err());
    }
}
