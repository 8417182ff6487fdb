//! Providers and catalogues for the tests of this module.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::catalog::{Catalogue, FacadeConfig, Live, Provider, RelayAccess, Tool, ToolRules, prefix};
use pleiades_core::limit::{Gate, Rules};
use pleiades_credential::ProviderAuth;
use pleiades_mcp::{RawObject, raw};
use pleiades_upstream::{Endpoint, SessionSharing, Transport};

/// A provider without rules that is reached nowhere.
pub(super) fn provider(id: &str) -> Provider {
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
        connect: Duration::from_secs(1),
        call: Duration::from_secs(1),
        idle: Duration::from_secs(1),
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

/// A catalogue of these entries of `tools/list`.
pub(super) fn catalogue(tools: impl IntoIterator<Item = Value>) -> Catalogue {
    let tools = tools.into_iter().map(|tool| {
        let raw = RawObject::open(&raw::raw(&tool)).expect("an object");
        let name = raw.text("name").expect("a name").into_owned();
        Tool::new(&name, name.clone(), raw)
    });
    let mut tools: Vec<Tool> = tools.collect();
    prefix::shorten(&mut tools);
    Catalogue::of(tools.into_iter().map(Arc::new).collect())
}
