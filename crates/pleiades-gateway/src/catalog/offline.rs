//! A provider that is reached nowhere, with lists that somebody wrote down: for what needs nothing
//! but them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::bounds::{LeftOut, MemoryBounds};
use super::{Catalogue, FacadeConfig, Live, Provider, RelayAccess, ToolRules, pages, tools};
use pleiades_core::limit::{Gate, Rules};
use pleiades_credential::ProviderAuth;
use pleiades_mcp::Raw;
use pleiades_upstream::{Endpoint, SessionSharing, Transport};

/// A provider and its tools, without any connection.
#[derive(Debug)]
pub struct OfflineProvider {
    /// The provider; it has no rules and needs no credential.
    pub provider: Arc<Provider>,
    /// Its tools, as they would be had it listed them.
    pub lists: Arc<Catalogue>,
    /// What was left out of them, each in a sentence.
    pub left_out: Vec<String>,
}

impl OfflineProvider {
    /// A provider of these entries of `tools/list`, which are repaired and bounded as any other's.
    #[must_use]
    pub fn new(id: &str, entries: &[Raw]) -> Self {
        let mut left_out = LeftOut::default();
        let raws = pages::tools_of(entries, MemoryBounds::NAMED, &mut left_out);
        let tools = tools::compile(raws, false, &mut left_out);
        Self {
            provider: Arc::new(Self::bare(id)),
            lists: Arc::new(Catalogue::of(tools)),
            left_out: left_out.into_sentences(),
        }
    }

    /// A provider of this id alone: it has no rules and needs no credential.
    #[must_use]
    pub fn bare(id: &str) -> Provider {
        let no_time = Duration::from_secs(1);
        let endpoint = Endpoint {
            provider: id.into(),
            digest: [0; 32],
            target: Transport::Stdio {
                command: Vec::new(),
                env: Vec::new(),
                folder: PathBuf::new(),
            },
            revision: None,
            share: SessionSharing::User,
            connect: no_time,
            call: no_time,
            idle: no_time,
        };
        Provider {
            id: id.into(),
            title: id.to_owned(),
            about: None,
            endpoint: Arc::new(endpoint),
            need: ProviderAuth::None,
            rules: ToolRules::default(),
            relay: RelayAccess::Open,
            facade: FacadeConfig::default(),
            cache: None,
            gate: Arc::new(Gate::new(&Rules::default())),
            file: PathBuf::new(),
            live: Arc::new(Live::default()),
        }
    }
}
