//! Tasks of the extension for clients of 2026-07-28 that look after them themselves (SEP-2663): in
//! the tool view, under sealed ids that say whose they are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::drive::offers;
use super::forward::optional;
use super::outward::{Came, Outgoing, answers};
use super::session::now;
use super::{Exchange, Step};
use crate::catalog::{Catalogue, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::capabilities::TASKS;
use pleiades_mcp::task::Task;
use pleiades_mcp::{Raw, RawObject, raw, translate};

/// How long an id is good at least (seconds), and at most; between them as long as its task is kept.
/// A provider may keep a task longer than it said first, and knows best when it is gone.
const SHORTEST: u64 = 86_400;
const LONGEST: u64 = 30 * 86_400;
const PURPOSE: &str = "task";

/// What an id says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    #[serde(rename = "p")]
    pub(super) provider: String,
    /// Fingerprint of the account.
    #[serde(rename = "a")]
    account: Option<[u8; 32]>,
    /// Its name, where it has one.
    #[serde(rename = "n", default)]
    name: Option<String>,
    /// What its provider calls it.
    #[serde(rename = "t")]
    pub(super) id: String,
}

impl Exchange {
    /// The id under which a principal knows a task.
    pub(super) fn seal_task(
        &self,
        holder: &str,
        provider: &str,
        (account, name): (Option<[u8; 32]>, Option<&str>),
        told: &Task,
    ) -> String {
        let named = Named {
            provider: provider.to_owned(),
            account,
            name: name.map(str::to_owned),
            id: told.id.clone(),
        };
        let kept = told.ttl_ms.map_or(SHORTEST, |millis| millis / 1_000);
        let expires = now() + kept.clamp(SHORTEST, LONGEST);
        let named = raw::raw(&named);
        self.sessions
            .sealer()
            .seal(PURPOSE, holder, expires, named.get().as_bytes())
    }

    fn open_task(&self, holder: &str, id: &str) -> Option<Named> {
        let opened = self.sessions.sealer().open(PURPOSE, holder, now(), id)?;
        serde_json::from_slice(&opened).ok()
    }
}

impl Step<'_> {
    /// Whether there can be tasks here: in the tool view, for clients of 2026-07-28, of providers
    /// that offer the extension, as far as it is known.
    pub(super) fn has_tasks(&self) -> bool {
        let may = |provider: &Arc<Provider>| {
            self.known(provider)
                .is_none_or(|it| it.profile.is_none() || offers(&it))
        };
        self.scope.view == View::Tool && self.revision().is_modern() && self.in_scope().any(may)
    }

    /// `tasks/get`, `tasks/update`, `tasks/cancel`.
    pub(super) async fn task(&mut self, method: &'static str, mut params: RawObject) -> Result<Raw, Error> {
        if !self.tends_tasks() {
            let required = json!({ "extensions": { TASKS: {} } });
            return Err(Error::new(
                Code::MissingCapability,
                "tasks are for clients that declare the extension",
            )
            .data(json!({ "requiredCapabilities": required })));
        }
        let outer: String = params.read("taskId").ok_or_else(unknown)?;
        if params.get("inputResponses").is_some() {
            answers(&optional(&params, "inputResponses")?)?;
        }
        if self.wanted.is_none() {
            self.wanted = self.task_account(&outer);
        }
        let (provider, catalogue, inner) = self.known_task(&outer).await?;
        params.put("taskId", &inner);
        let out = Outgoing {
            provider: &provider,
            catalogue: &catalogue,
            tool: None,
            method,
            params,
        };
        let (mut result, from) = match self.outward(out).await? {
            Came::Result(result, from) => (result, from),
            Came::Asked(result) => return Ok(result),
        };
        if result.get("taskId").is_some() {
            result.put("taskId", &outer);
        }
        // The extension knows none, and one that is not sealed would not be ours to take back.
        result.remove("requestState");
        self.outer_uris(&provider, method, &mut result, None);
        Ok(translate::result(method, result, from, self.revision()).close())
    }

    /// The account that a task was made with.
    fn task_account(&self, outer: &str) -> Option<Arc<str>> {
        let holder = self.peer.principal.binding();
        self.exchange.open_task(&holder, outer)?.name.map(Arc::from)
    }

    /// Whose task an id names, and its name there.
    pub(super) async fn known_task(
        &self,
        outer: &str,
    ) -> Result<(Arc<Provider>, Arc<Catalogue>, String), Error> {
        self.exchange.sessions.sealed()?;
        let holder = self.peer.principal.binding();
        let named = self.exchange.open_task(&holder, outer).ok_or_else(unknown)?;
        let only = self.scope.provider.as_deref();
        if only.is_some_and(|only| *only != *named.provider) {
            return Err(unknown());
        }
        let provider = self.provider(&named.provider).ok().ok_or_else(unknown)?;
        let account = self.behalf(&provider).await.ok().map(|it| it.signature.account);
        if account != Some(named.account) {
            return Err(unknown());
        }
        let catalogue = self.connected(&provider).await?;
        if !self.leg(&catalogue)?.is_modern() {
            return Err(unknown());
        }
        Ok((provider, catalogue, named.id))
    }
}

fn unknown() -> Error {
    Error::new(
        Code::InvalidParams,
        "no such task: `taskId` was changed, has expired or belongs to another caller, account or path",
    )
}
