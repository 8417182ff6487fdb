//! Providers, lists and requests for the tests of the rooms.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};

use super::request::{Facts, Keys, Peer, Request, Scope};
use super::session::Tokens;
use crate::catalog::{Catalogue, FacadeConfig, Item, Live, Provider, RelayAccess, Snapshot, Tool, ToolRules};
use pleiades_core::limit::{Gate, Rules};
use pleiades_core::secret::Secret;
use pleiades_core::telemetry::View;
use pleiades_credential::ProviderAuth;
use pleiades_credential::access::Principal;
use pleiades_mcp::seal::Sealer;
use pleiades_mcp::{ClientCapabilities, RawObject, Revision, Revisions, raw};
use pleiades_upstream::{Endpoint, Identity, Profile, SessionSharing, Transport};

pub(super) const LEGACY: Revision = Revision::V2025_11_25;
pub(super) const MODERN: Revision = Revision::V2026_07_28;

/// A provider without rules that is reached nowhere.
pub(super) fn provider(id: &str) -> Arc<Provider> {
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
    Arc::new(Provider {
        id: id.into(),
        title: id.to_uppercase(),
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
    })
}

pub(super) fn object(value: &Value) -> RawObject {
    RawObject::open(&raw::raw(value)).expect("an object")
}

/// Lists of a provider that speaks these revisions and offers these capabilities.
pub(super) fn lists(revisions: &[Revision], capabilities: &Value, tools: &[Value]) -> Catalogue {
    let tools = tools.iter().map(|tool| {
        let raw = object(tool);
        let name = raw.text("name").expect("a name").into_owned();
        Arc::new(Tool::new(&name, name.clone(), raw))
    });
    let mut lists = Catalogue::of(tools.collect());
    lists.complete = true;
    lists.profile = Some(Profile {
        revisions: revisions
            .iter()
            .fold(Revisions::default(), |all, one| all.with(*one)),
        capabilities: raw::raw(capabilities),
        server_info: None,
        instructions: None,
        legacy: None,
    });
    lists
}

/// Lists of tools alone, of a provider of 2025-11-25.
pub(super) fn tools(names: &[&str]) -> Arc<Catalogue> {
    let tools: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    Arc::new(lists(&[LEGACY], &json!({ "tools": {} }), &tools))
}

pub(super) fn items(keys: &[&str]) -> Vec<Item> {
    let item = |key: &&str| Item {
        key: (*key).into(),
        raw: object(&json!({ "name": key, "uri": key })),
    };
    keys.iter().map(item).collect()
}

pub(super) fn tokens() -> Tokens {
    Tokens::new(Arc::new(Sealer::new(&[Secret::new("a key of enough bytes")])))
}

pub(super) fn identity() -> Identity {
    Identity {
        session: None,
        tenant: "acme".into(),
        user: "ann".into(),
        signature: Arc::default(),
    }
}

/// A request of `acme/ann` in the tool view of all providers.
pub(super) struct Sent {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) scope: Scope,
    pub(super) peer: Peer,
    pub(super) facts: Facts,
}

impl Sent {
    pub(super) fn new(revision: Revision, abilities: ClientCapabilities) -> Self {
        Self {
            snapshot: Arc::default(),
            scope: Scope::new(View::Tool, None),
            peer: Peer {
                principal: Principal::new("acme", "ann"),
                revision,
                abilities,
                capabilities: None,
                session: None,
                client: None,
                keys: Keys::Headers(HeaderMap::new()),
                trace: None,
                request_id: "1".to_owned(),
            },
            facts: Facts::default(),
        }
    }

    pub(super) fn with_providers(mut self, ids: &[&str]) -> Self {
        let providers = ids.iter().map(|id| (Arc::from(*id), provider(id)));
        self.snapshot = Arc::new(Snapshot {
            providers: providers.collect(),
            ..Snapshot::default()
        });
        self
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request::new(
            &self.snapshot,
            (&self.scope, &self.peer),
            "tools/call",
            &self.facts,
        )
    }
}
