//! Providers that say what a test tells them to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::super::Lister;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::raw::raw;
use pleiades_mcp::{Raw, Revision, Revisions};
use pleiades_upstream::{Call, Endpoint, Identity, LegacyProbe, Profile, ProviderChange};

/// All providers of a test.
#[derive(Default)]
pub(super) struct FakeLister {
    providers: Mutex<BTreeMap<String, FakeProvider>>,
    pub(super) retired: watch::Sender<Vec<[u8; 32]>>,
    /// Grows with each probe.
    pub(super) probes: Mutex<BTreeMap<String, usize>>,
    /// The same with each question for older revisions.
    pub(super) questions: watch::Sender<usize>,
}

/// One provider: one tool `{id}_tool` unless it is told otherwise.
#[derive(Clone)]
pub(super) struct FakeProvider {
    /// Pages by method.
    pub(super) pages: BTreeMap<&'static str, Vec<Value>>,
    pub(super) failing: BTreeSet<&'static str>,
    /// What reading a list of this method fails with.
    pub(super) refuses: Option<(&'static str, Code)>,
    pub(super) down: Option<Code>,
    /// Lets only those in who bring a credential: the challenge, and of which method.
    pub(super) wants: Option<(&'static str, &'static str)>,
    /// Declares no capability, whatever it has.
    pub(super) quiet: bool,
    /// Answers nothing while this is true.
    pub(super) hangs: watch::Sender<bool>,
    /// It names 2026-07-28 alone, and speaks 2025-11-25 too.
    pub(super) modern: bool,
    /// Answers nothing to that question while this is true.
    pub(super) withholds_older: watch::Sender<bool>,
    listeners: Vec<mpsc::Sender<ProviderChange>>,
}

impl FakeProvider {
    fn new(id: &str) -> Self {
        let tools = json!({"tools": [{"name": format!("{id}_tool"), "inputSchema": {"type": "object"}}]});
        Self {
            pages: BTreeMap::from([("tools/list", vec![tools])]),
            failing: BTreeSet::new(),
            refuses: None,
            down: None,
            wants: None,
            quiet: false,
            hangs: watch::Sender::new(false),
            modern: false,
            withholds_older: watch::Sender::new(false),
            listeners: Vec::new(),
        }
    }

    pub(super) fn tools(&mut self, names: &[&str]) {
        let tools: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "inputSchema": {}}))
            .collect();
        self.pages.insert("tools/list", vec![json!({"tools": tools})]);
    }
}

impl FakeLister {
    pub(super) fn set(&self, id: &str, change: impl FnOnce(&mut FakeProvider)) {
        change(
            self.providers
                .lock()
                .entry(id.to_owned())
                .or_insert_with(|| FakeProvider::new(id)),
        );
    }

    fn let_in(&self, endpoint: &Endpoint, identity: &Identity, method: &str) -> Result<(), Error> {
        match self.of(endpoint).wants {
            Some((header, of)) if of == method && identity.signature.is_empty() => {
                let mut error = Error::new(Code::UpstreamAuth, "the fake wants a credential");
                error.refusal = Some(Box::new((401, Some(header.to_owned()))));
                Err(error)
            }
            _ => Ok(()),
        }
    }

    fn of(&self, endpoint: &Endpoint) -> FakeProvider {
        let id = &*endpoint.provider;
        self.providers
            .lock()
            .entry(id.to_owned())
            .or_insert_with(|| FakeProvider::new(id))
            .clone()
    }

    pub(super) fn probed(&self, id: &str) -> usize {
        self.probes.lock().get(id).copied().unwrap_or(0)
    }

    /// A word of the provider; waits until somebody listens.
    pub(super) async fn announce(&self, id: &str, change: ProviderChange) {
        loop {
            let listeners = self
                .providers
                .lock()
                .get(id)
                .map(|faked| faked.listeners.clone())
                .unwrap_or_default();
            if let Some(last) = listeners.last() {
                last.send(change).await.expect("somebody listens");
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Lister for Arc<FakeLister> {
    async fn probe(&self, endpoint: &Arc<Endpoint>, identity: &Identity) -> Result<Profile, Error> {
        *self
            .probes
            .lock()
            .entry(endpoint.provider.to_string())
            .or_default() += 1;
        let faked = self.of(endpoint);
        faked
            .hangs
            .subscribe()
            .wait_for(|is_blocked| !is_blocked)
            .await
            .expect("the fake is there");
        let faked = self.of(endpoint);
        if let Some(code) = faked.down {
            return Err(Error::new(code, "the fake is down"));
        }
        self.let_in(endpoint, identity, "server/discover")?;
        let has = |method: &str| faked.pages.contains_key(method).then(|| json!({}));
        let named = if faked.modern {
            Revision::V2026_07_28
        } else {
            Revision::V2025_11_25
        };
        Ok(Profile {
            revisions: Revisions::default().with(named),
            capabilities: match faked.quiet {
                true => raw(&json!({})),
                false => raw(&json!({
                    "tools": has("tools/list"), "resources": has("resources/list"), "prompts": has("prompts/list"),
                })),
            },
            server_info: None,
            instructions: None,
            legacy: faked.modern.then(LegacyProbe::default),
        })
    }

    async fn older(&self, endpoint: &Arc<Endpoint>, _: &Identity, profile: &Profile) -> Option<Profile> {
        let mut coy = self.of(endpoint).withholds_older.subscribe();
        let question = async {
            self.questions.send_modify(|questions| *questions += 1);
            coy.wait_for(|coy| !coy).await.expect("the fake is there");
            Ok(Profile {
                revisions: Revisions::default().with(Revision::V2025_11_25),
                ..profile.clone()
            })
        };
        profile.legacy.as_ref()?.ask(question).await;
        profile.settled()
    }

    async fn request(&self, endpoint: &Arc<Endpoint>, identity: &Identity, call: Call) -> Result<Raw, Error> {
        let faked = self.of(endpoint);
        if let Some(code) = faked.down {
            return Err(Error::new(code, "the fake is down"));
        }
        self.let_in(endpoint, identity, call.method)?;
        if let Some((_, code)) = faked.refuses.filter(|(method, _)| *method == call.method) {
            return Err(Error::new(code, "the fake refuses"));
        }
        if faked.failing.contains(call.method) {
            return Err(Error::new(Code::UpstreamTimeout, "the list hangs"));
        }
        let Some(pages) = faked.pages.get(call.method) else {
            return Err(Error::rpc(RpcFault {
                code: -32601,
                message: "no such method".into(),
                data: None,
            }));
        };
        let at = call
            .params
            .read::<String>("cursor")
            .map_or(0, |cursor| cursor.parse().expect("a cursor of ours"));
        let mut page = pages[at].clone();
        // Shows in a list for whom it was read.
        if let (Some((_, key)), Some(tools)) = (
            identity.signature.now().headers.first(),
            page["tools"].as_array_mut(),
        ) {
            tools.push(json!({"name": format!("of_{}", key.to_str().expect("text"))}));
        }
        Ok(raw(&page))
    }

    fn listen(&self, endpoint: &Arc<Endpoint>, _: &Identity, _: &Profile) -> mpsc::Receiver<ProviderChange> {
        let (sender, receiver) = mpsc::channel(8);
        self.set(&endpoint.provider, |faked| faked.listeners.push(sender));
        receiver
    }

    fn retire(&self, digest: &[u8; 32]) {
        self.retired.send_modify(|retired| retired.push(*digest));
    }
}
