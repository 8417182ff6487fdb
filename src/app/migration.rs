//! What `pleiades vault migrate` works with: the embedded store it reads and the one of the settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::credentials::{hashicorp, vault_file};
use super::{Fault, told_to_end};
use crate::credential::vault;
use crate::credential::vault::file::{File, Root};
use crate::credential::vault::hashicorp::Hashicorp;
use crate::credential::vault::migrate::{self, Moved};
use crate::settings::{FileVault, Settings};

/// Two stores, and a runtime to work in.
#[derive(Debug)]
pub struct Migration {
    control: Runtime,
    source: PathBuf,
    from: File,
    to: Arc<Hashicorp>,
}

impl Migration {
    /// Opens both; asks neither anything yet.
    ///
    /// # Errors
    /// [`Fault::Settings`] when the settings name no `vault.hashicorp`, or there is no embedded store;
    /// [`Fault::Machine`].
    pub fn open(settings: &Settings, from: Option<&Path>, key_file: Option<&Path>) -> Result<Self, Fault> {
        let control = super::control()?;
        let to = hashicorp(settings, control.handle())?.ok_or_else(|| {
            Fault::Settings(
                "the settings name no `vault.hashicorp`: say there where credentials are to go".to_owned(),
            )
        })?;
        let usual = || vault_file(&FileVault::default());
        let source = from.map(Path::to_path_buf).or_else(usual).ok_or_else(|| {
            Fault::Settings("there is no home folder: name the embedded vault with `--from`".to_owned())
        })?;
        if !source.is_file() {
            let place = source.display();
            return Err(Fault::Settings(format!(
                "there is no embedded vault at {place}: name it with `--from`"
            )));
        }
        let root = key_file.map_or_else(|| Root::beside(&source), |file| Root::KeyFile(file.to_path_buf()));
        Ok(Self {
            from: File::new(Some(source.clone()), root),
            control,
            source,
            to,
        })
    }

    /// The embedded store's file.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Copies and tells of each entry; `None` when a signal came first.
    ///
    /// # Errors
    /// [`vault::Fault`] when a store cannot be used.
    pub fn run(&self, told: impl FnMut(&Moved)) -> Option<Result<(), vault::Fault>> {
        self.control.block_on(async {
            tokio::select! {
                done = migrate::run(&self.from, self.to.as_ref(), told) => Some(done),
                () = told_to_end() => None,
            }
        })
    }
}
