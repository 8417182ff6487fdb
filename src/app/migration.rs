//! `pleiades vault migrate`: copies the embedded store to the one of the settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::credentials::{hashicorp, vault_file};
use super::{Fault, termination_signal};
use pleiades_credential::vault;
use pleiades_credential::vault::file::{File, RootKey};
use pleiades_credential::vault::hashicorp::HashicorpVault;
use pleiades_credential::vault::migrate::{self, CopiedEntry};
use pleiades_descriptor::settings::{FileVault, Settings};

#[derive(Debug)]
pub(crate) struct Migration {
    control: Runtime,
    source: PathBuf,
    from: File,
    to: Arc<HashicorpVault>,
}

impl Migration {
    /// Opens both; asks neither anything yet. Fails with [`Fault::Settings`] when the settings name no
    /// `vault.hashicorp`, or there is no embedded store.
    pub(crate) fn open(
        settings: &Settings,
        from: Option<&Path>,
        key_file: Option<&Path>,
    ) -> Result<Self, Fault> {
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
        let root = key_file.map_or_else(
            || RootKey::beside(&source),
            |file| RootKey::KeyFile(file.to_path_buf()),
        );
        Ok(Self {
            from: File::new(Some(source.clone()), root),
            control,
            source,
            to,
        })
    }

    /// The embedded store's file.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Copies, and reports each entry; `None` when a signal arrived first. Refuses while anybody uses the
    /// embedded store: what is renewed there meanwhile would not be in the copy.
    pub(crate) fn run(&self, on_entry: impl FnMut(&CopiedEntry)) -> Option<Result<(), vault::Fault>> {
        if let Err(fault) = self.from.claim() {
            return Some(Err(fault));
        }
        self.control.block_on(async {
            tokio::select! {
                done = migrate::run(&self.from, self.to.as_ref(), on_entry) => Some(done),
                () = termination_signal() => None,
            }
        })
    }
}
