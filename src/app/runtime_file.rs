//! The file that a running gateway leaves for commands of the same settings: which process it is and where
//! it listens. Commands ask that process, instead of starting what it has started already.
//!
//! `{runtime folder}/pleiades/{SHA-256 of the settings' path}.json`. The runtime folder is
//! `$XDG_RUNTIME_DIR` where that is ours, else `pleiades-{uid}` in the folder of temporary files. Nothing is
//! believed that another user could have put there, and no number of a process that another one has taken
//! over since.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, geteuid, test_kill_process};
use serde::{Deserialize, Serialize};

use pleiades_core::{digest::sha256_hex, random};
use pleiades_descriptor::settings::{LoadedSettings, Overrides, runtime_folder};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1_024;

/// When a process began, as its system counts.
type StartTime = u64;

/// A gateway that runs, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningGateway {
    pid: u32,
    started: StartTime,
    /// The public listener.
    pub(crate) address: SocketAddr,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
}

/// Where the gateway of certain settings leaves its file.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeFile {
    runtime: PathBuf,
    /// Whether the runtime folder is ours to make: the one in the folder of temporary files.
    is_own: bool,
    name: String,
}

impl RunningGateway {
    /// This process; `None` where the kernel does not say when it began.
    fn own(address: SocketAddr, admin: SocketAddr) -> Option<Self> {
        let pid = std::process::id();
        Some(Self {
            pid,
            started: start_time(pid)?,
            address,
            admin,
        })
    }

    /// One that nobody has to run.
    #[cfg(test)]
    pub(super) const fn at(address: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            pid: 0,
            started: 0,
            address,
            admin,
        }
    }

    /// Whether the process that wrote this still runs, and its addresses are of this machine.
    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let lives = pid.is_some_and(|pid| test_kill_process(pid).is_ok());
        lives
            && start_time(self.pid) == Some(self.started)
            && [self.address, self.admin].into_iter().all(is_of_this_machine)
    }

    /// The same with addresses that can be connected to: an unspecified one is reached through loopback.
    fn reachable(self) -> Self {
        Self {
            address: reachable(self.address),
            admin: reachable(self.admin),
            ..self
        }
    }
}

impl RuntimeFile {
    /// The file of these settings. Without a settings file, or with another folder of descriptors than the
    /// settings name, the folder tells gateways apart.
    pub(crate) fn of(loaded: &LoadedSettings, overrides: &Overrides) -> Self {
        let providers = &loaded.settings.providers;
        let identity = identity(loaded.file.as_deref(), providers, overrides.providers.is_some());
        let given = runtime_folder().filter(|folder| is_ours(folder));
        let is_own = given.is_none();
        let runtime =
            given.unwrap_or_else(|| std::env::temp_dir().join(format!("pleiades-{}", geteuid().as_raw())));
        Self {
            runtime,
            is_own,
            name: format!("{}.json", sha256_hex(&identity)),
        }
    }

    fn folder(&self) -> PathBuf {
        self.runtime.join("pleiades")
    }

    fn path(&self) -> PathBuf {
        self.folder().join(&self.name)
    }

    /// The gateway that runs with these settings. A file that is stale, foreign or none counts as none.
    pub(crate) fn running(&self) -> Option<RunningGateway> {
        self.check_folders().ok()?;
        let gateway = read(&self.path()).ok()?;
        gateway.is_alive().then(|| gateway.reachable())
    }

    /// Says that this process serves at these addresses, in place of whoever said so before.
    pub(super) fn write(&self, address: SocketAddr, admin: SocketAddr) -> io::Result<()> {
        let own = RunningGateway::own(address, admin);
        let own = own.ok_or_else(|| io::Error::other("it is not known when this process began"))?;
        self.make_folders()?;
        let draft = self
            .folder()
            .join(random::token::<9>().map_err(io::Error::other)?);
        let text = serde_json::to_vec(&own)?;
        // A name in a folder of ours alone, and whole before anybody sees it.
        let written = create(&draft)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&draft, self.path()));
        if written.is_err() {
            fs::remove_file(&draft).ok();
        }
        written
    }

    /// Takes back what [`write`](Self::write) said; the file of another process stays.
    pub(super) fn remove(&self) {
        let is_own = self.check_folders().and_then(|()| read(&self.path()));
        if is_own.is_ok_and(|written| written.pid == std::process::id()) {
            fs::remove_file(self.path()).ok();
        }
    }

    fn make_folders(&self) -> io::Result<()> {
        for folder in self.own_folders() {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(cause) if cause.kind() != ErrorKind::AlreadyExists => return Err(cause),
                _ => check_folder(&folder)?,
            }
        }
        Ok(())
    }

    fn check_folders(&self) -> io::Result<()> {
        self.own_folders()
            .iter()
            .try_for_each(|folder| check_folder(folder))
    }

    /// The folders that have to be ours alone, outermost first.
    fn own_folders(&self) -> Vec<PathBuf> {
        let runtime = self.is_own.then(|| self.runtime.clone());
        runtime.into_iter().chain([self.folder()]).collect()
    }
}

/// What tells the gateways of one user apart.
fn identity(file: Option<&Path>, providers: &Path, is_override: bool) -> Vec<u8> {
    let providers = absolute(providers);
    let providers = [b"\0", providers.as_os_str().as_bytes()].concat();
    let mut identity = file.map_or_else(Vec::new, |file| absolute(file).as_os_str().as_bytes().to_vec());
    if file.is_none() || is_override {
        identity.extend_from_slice(&providers);
    }
    identity
}

/// Whether only this user puts into a folder.
///
/// One that is given may be another user's (`sudo -E`, `su`), who could exchange what is below it while it is read.
fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0)
}

/// Refuses a folder that is a link, another user's, or open to others.
fn check_folder(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let message = format!(
        "{} is not a folder of this user alone (mode 0700): remove it",
        folder.display()
    );
    Err(io::Error::new(ErrorKind::PermissionDenied, message))
}

fn create(draft: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
}

/// Reads a file of ours; a link, another user's file and one that others may write are refused.
fn read(path: &Path) -> io::Result<RunningGateway> {
    // Nobody else can put another in its place meanwhile: the folder is ours alone.
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// An absolute path that is the same however a file is named; its last part may be a link, which changes
/// where it leads when settings are replaced under a gateway that runs.
fn absolute(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let found = match path.file_name() {
        Some(name) => parent
            .unwrap_or_else(|| Path::new("."))
            .canonicalize()
            .map(|parent| parent.join(name)),
        None => path.canonicalize(),
    };
    found
        .or_else(|_gone| std::path::absolute(path))
        .unwrap_or_else(|_odd| path.to_owned())
}

/// An unspecified address is reached through loopback.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Whether an address is one that this machine has: only to such a one can a socket be bound.
fn is_of_this_machine(address: SocketAddr) -> bool {
    address.port() != 0 && UdpSocket::bind((reachable(address).ip(), 0)).is_ok()
}

/// When a process began, in ticks since the machine did: field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`).
#[cfg(target_os = "linux")]
fn start_time(pid: u32) -> Option<StartTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    started_of(&stat)
}

/// The field behind the program's name, which may hold spaces and parentheses itself.
#[cfg(target_os = "linux")]
fn started_of(stat: &str) -> Option<StartTime> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// When a process began, to the second: a number made of the words of `ps(1)`.
#[cfg(not(target_os = "linux"))]
fn start_time(pid: u32) -> Option<StartTime> {
    let output = std::process::Command::new("/bin/ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()
        .ok()?;
    let words = output.stdout.trim_ascii();
    let number = |number: u64, byte: &u8| number.wrapping_mul(31).wrapping_add(u64::from(*byte));
    (!words.is_empty()).then(|| words.iter().fold(0, number))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const ADDRESS: &str = "0.0.0.0:8787";

    fn address() -> SocketAddr {
        ADDRESS.parse().unwrap()
    }

    fn in_folder(runtime: &Path) -> RuntimeFile {
        RuntimeFile {
            runtime: runtime.to_owned(),
            is_own: false,
            name: "a.json".to_owned(),
        }
    }

    fn written(runtime: &Path) -> RuntimeFile {
        let file = in_folder(runtime);
        file.write(address(), "127.0.0.1:8788".parse().unwrap()).unwrap();
        file
    }

    fn rewrite(file: &RuntimeFile, change: impl FnOnce(&mut serde_json::Value)) {
        let mut value = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        change(&mut value);
        fs::write(file.path(), value.to_string()).unwrap();
    }

    #[test]
    fn a_gateway_that_runs_is_found_and_reached_through_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        let found = file.running().unwrap();
        assert_eq!(found.address, "127.0.0.1:8787".parse().unwrap());
        assert_eq!(found.pid, std::process::id());
        let modes =
            [file.folder(), file.path()].map(|it| fs::metadata(it).unwrap().permissions().mode() & 0o777);
        assert_eq!(modes, [0o700, 0o600]);
        assert_eq!(
            fs::read_dir(file.folder()).unwrap().count(),
            1,
            "no draft is left"
        );
        file.remove();
        assert!(file.running().is_none() && !file.path().exists());
    }

    #[test]
    fn a_file_of_a_process_that_is_gone_or_another_one_now_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        rewrite(&file, |value| value["started"] = 1.into());
        assert!(file.running().is_none(), "another process has the number now");
        let file = written(folder.path());
        rewrite(&file, |value| value["pid"] = i32::MAX.into());
        assert!(file.running().is_none(), "nobody has the number");
        fs::write(file.path(), "{").unwrap();
        assert!(file.running().is_none(), "no JSON");
    }

    #[test]
    fn the_file_of_a_gateway_that_came_later_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        rewrite(&file, |value| value["pid"] = 1.into());
        file.remove();
        assert!(file.path().exists());
    }

    #[test]
    fn an_address_of_another_machine_is_not_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        // TEST-NET-1 (RFC 5737) is nobody's.
        rewrite(&file, |value| value["address"] = "192.0.2.1:8787".into());
        assert!(file.running().is_none());
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&file.path(), 0o644);
        assert!(file.running().is_none(), "a file that others may read");
        mode(&file.path(), 0o600);
        mode(&file.folder(), 0o777);
        assert!(file.running().is_none(), "a folder that others may write");
        let refused = file.write(address(), address()).unwrap_err();
        assert!(refused.to_string().contains("0700"), "{refused}");
        mode(&file.folder(), 0o700);
        let real = file.folder().join("real");
        fs::rename(file.path(), &real).unwrap();
        symlink(&real, file.path()).unwrap();
        assert!(file.running().is_none(), "a link");
    }

    #[test]
    fn a_runtime_folder_that_others_may_change_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(is_ours(folder.path()));
        mode(0o755);
        assert!(is_ours(folder.path()));
        for open in [0o777, 0o1777, 0o775] {
            mode(open);
            assert!(!is_ours(folder.path()), "{open:o}");
        }
        mode(0o700);
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(!is_ours(&link) && !is_ours(&folder.path().join("none")));
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
        symlink(&elsewhere, folder.path().join("pleiades")).unwrap();
        assert!(in_folder(folder.path()).write(address(), address()).is_err());
    }

    #[test]
    fn settings_have_one_file_however_they_are_named_and_folders_tell_gateways_apart() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let (settings, providers) = (base.join("pleiades.yaml"), base.join("providers.d"));
        let by_path = identity(Some(&settings), &providers, false);
        assert_eq!(by_path, settings.as_os_str().as_bytes(), "the path alone");
        let link = base.join("link");
        symlink(&base, &link).unwrap();
        let linked = link.join("pleiades.yaml");
        assert_eq!(identity(Some(&linked), &providers, false), by_path);
        let others = [
            identity(Some(&settings), &base.join("other.d"), true),
            identity(Some(&settings), &providers, true),
            identity(None, &providers, true),
            identity(None, &base.join("other.d"), true),
        ];
        assert!(!others.contains(&by_path));
        assert_eq!(
            identity(None, &providers, true),
            identity(None, &providers, false)
        );
        let distinct: std::collections::BTreeSet<_> = others.iter().collect();
        assert_eq!(distinct.len(), others.len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_start_of_a_process_is_read_behind_whatever_name_it_has() {
        let stat = "7 (a ) (b c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1";
        assert_eq!(started_of(stat), Some(4711));
        assert_eq!(started_of("7 (a"), None);
    }
}
