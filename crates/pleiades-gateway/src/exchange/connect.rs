//! Asking a client to connect an account, in the way that it declared (URL mode elicitation,
//! SEP-1036; reference: `mcp-spec.md` section 4): an error of 2025-11-25 that ends the call, an
//! `input_required` result of 2026-07-28 whose retry waits for the connection. All others are told in
//! the answer itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::accounts::Waiting;
use super::outward::malformed;
use super::session::now;
use super::talk::URL_REQUIRED;
use super::{Done, Step};
use crate::catalog::Provider;
use crate::facade::answer::MetaAnswer;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::telemetry::View;
use pleiades_credential::manager::Reason;
use pleiades_mcp::{ClientCapabilities, Raw, RawObject, Revision, elicit, raw};

/// The methods of 2026-07-28 that may be answered by a question.
const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// The key of the one question, and of its answer.
const QUESTION: &str = "connect";
/// Where our data stand in a result that asks.
const META: &str = "pleiades/needs_auth";
const PURPOSE: &str = "connecting";
/// How long a client may take until it comes back (seconds).
const LIFETIME_SECS: u64 = 3_600;
/// How long a retry waits for the connection before it asks again: below the minute that common
/// clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often one call asks.
const ROUNDS: u8 = 8;

/// What a client carries from the question to its retry. It grants nothing: a retry is signed with
/// what its caller has then.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    #[serde(rename = "p")]
    provider: String,
    /// Fingerprint of the account that did not do.
    #[serde(rename = "w")]
    was: Option<[u8; 32]>,
    /// Scopes that it lacked.
    #[serde(rename = "s", default)]
    scopes: Vec<String>,
    #[serde(rename = "r")]
    rounds: u8,
}

/// The data of an error that a connection would mend: where to connect.
fn address(error: &Error) -> Option<&str> {
    let mended = matches!(
        error.code,
        Code::NeedsAuth | Code::TokenExpired | Code::CapabilityMiss
    );
    let data = error.data.as_ref().filter(|_| mended && error.rpc.is_none())?;
    data.get("connect_url")?.as_str()
}

/// Whether a retry goes on: its question was accepted, or is not answered in it.
fn action(responses: Option<&RawValue>) -> Result<bool, Error> {
    let Some(responses) = responses.filter(|raw| raw.get() != "null") else {
        return Ok(true);
    };
    let responses = RawObject::open(responses).map_err(|cause| malformed(QUESTION).because(cause))?;
    let Some(answer) = responses.get(QUESTION) else {
        return Ok(true);
    };
    let answer = RawObject::open(answer).map_err(|cause| malformed(QUESTION).because(cause))?;
    match elicit::is_answer(&answer) {
        true => Ok(answer.text("action").as_deref() == Some("accept")),
        false => Err(malformed(QUESTION)),
    }
}

impl Step<'_> {
    /// Whether this client is asked to open an address, instead of being told in an answer.
    pub(super) fn is_asked(&self, error: &Error) -> bool {
        let spent = self.waiting.as_ref().is_some_and(|it| it.rounds >= ROUNDS);
        let asks = match self.revision() {
            Revision::V2026_07_28 => ASKING.contains(&&*self.record.method) && !spent,
            revision => revision >= Revision::V2025_11_25,
        };
        asks && self.scope.view != View::Relay
            && self.peer.abilities.has(ClientCapabilities::URL)
            && address(error).is_some()
    }

    /// An error as this client can take it: a question where it can be asked to connect.
    pub(super) fn asking(&mut self, error: Error) -> Result<Done, Error> {
        if !self.is_asked(&error) {
            return Err(error);
        }
        if self.revision().is_modern() {
            self.record.outcome = "input_required";
            return Ok(Done::Result(self.question(&error)));
        }
        Err(self.required(error))
    }

    /// -32042 of 2025-11-25, our data beside its own.
    fn required(&self, mut error: Error) -> Error {
        let mut data = error.data.clone().unwrap_or_else(|| json!({}));
        let url = address(&error).unwrap_or_default().to_owned();
        let id = match data.get("connection_id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => self.exchange.ticket(),
        };
        let message = self.wording(&data);
        let provider = data.get("provider_id").and_then(Value::as_str);
        let provider = provider.and_then(|id| self.snapshot.providers.get(id));
        if let (Some(lane), Some(connection)) =
            (&self.peer.lane, provider.and_then(|it| it.need.connection()))
        {
            self.exchange.lanes.asked(lane, self.owner(connection), &id);
        }
        let elicitation = json!({ "mode": "url", "elicitationId": id, "url": url, "message": message });
        if let Some(data) = data.as_object_mut() {
            data.insert("elicitations".to_owned(), json!([elicitation]));
        }
        error.rpc = Some(Box::new(RpcFault {
            code: URL_REQUIRED,
            message,
            data: Some(raw::raw(&data)),
        }));
        error
    }

    /// The `input_required` result of 2026-07-28.
    fn question(&self, error: &Error) -> Raw {
        let data = error.data.clone().unwrap_or_else(|| json!({}));
        let provider = data.get("provider_id").and_then(Value::as_str);
        let scopes = data.get("missing_scopes");
        let pending = Pending {
            provider: provider.unwrap_or_default().to_owned(),
            was: self.insufficient.get().copied(),
            scopes: scopes
                .and_then(|it| serde_json::from_value(it.clone()).ok())
                .unwrap_or_default(),
            rounds: self.waiting.as_ref().map_or(0, |it| it.rounds).saturating_add(1),
        };
        let state = self.exchange.sessions.sealer().seal(
            PURPOSE,
            &self.peer.principal.binding(),
            now() + LIFETIME_SECS,
            raw::raw(&pending).get().as_bytes(),
        );
        let url = address(error).unwrap_or_default();
        let params = json!({ "mode": "url", "url": url, "message": self.wording(&data) });
        raw::raw(&json!({
            "resultType": "input_required",
            "inputRequests": { QUESTION: { "method": "elicitation/create", "params": params } },
            "requestState": state,
            "_meta": { META: data },
        }))
    }

    /// What a person is asked: by whom, for which provider, and why.
    fn wording(&self, data: &Value) -> String {
        let id = data
            .get("provider_id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let title = self.snapshot.providers.get(id).map_or(id, |it| it.title.as_str());
        let reason = data.get("reason").and_then(Value::as_str).unwrap_or_default();
        let detail = data.get("detail").and_then(Value::as_str);
        let why = super::invite::sentence(detail, reason);
        format!("{} asks you to connect {title}: {why}", self.exchange.name)
    }

    /// Takes out of a retry what belongs to a connection that was asked for, and prepares to wait for
    /// it.
    ///
    /// # Errors
    /// [`Code::NeedsAuth`] when the person declined; [`Code::InvalidParams`] at once for an answer that
    /// is none, instead of a wait for a connection that nobody makes.
    pub(super) fn returned(&mut self, params: &mut RawObject) -> Result<(), (Option<String>, Error)> {
        let asked = self.revision().is_modern() && self.scope.view != View::Relay;
        let Some(pending) = asked.then(|| self.pending(params)).flatten() else {
            return Ok(());
        };
        match action(params.get("inputResponses")) {
            Ok(true) => {}
            Ok(false) => return Err(self.declined(&pending.provider)),
            Err(error) => return Err((None, error)),
        }
        params.remove("requestState");
        params.remove("inputResponses");
        self.waiting = Some(Waiting {
            provider: pending.provider.into(),
            until: Instant::now() + PATIENCE,
            was: pending.was,
            scopes: pending.scopes,
            rounds: pending.rounds,
        });
        Ok(())
    }

    fn pending(&self, params: &RawObject) -> Option<Pending> {
        let token = params.text("requestState")?;
        let binding = self.peer.principal.binding();
        let sealer = self.exchange.sessions.sealer();
        let opened = sealer.open(PURPOSE, &binding, now(), &token)?;
        serde_json::from_slice(&opened).ok()
    }

    fn declined(&self, provider: &str) -> (Option<String>, Error) {
        let known: Option<&std::sync::Arc<Provider>> = self.snapshot.providers.get(provider);
        let title = known.map_or_else(|| provider.to_owned(), |it| it.title.clone());
        let error = Error::new(
            Code::NeedsAuth,
            format!("connecting {title} was declined; nothing was run"),
        )
        .data(json!({ "provider_id": provider, "reason": Reason::NeverConnected.as_str() }));
        let error = match known.and_then(|it| it.need.connection()) {
            Some(connection) => {
                let principal = &self.peer.principal;
                self.exchange.invite(principal, connection, error, (None, &[]))
            }
            None => error,
        };
        (known.map(|it| it.title.clone()), error)
    }

    /// A declined connection as a result that a model reads, where the method has one.
    pub(super) fn turned_down(&mut self, (title, error): (Option<String>, Error)) -> Result<Done, Error> {
        if self.record.method != "tools/call" || error.code == Code::InvalidParams {
            return Err(error);
        }
        let answer = MetaAnswer::of_error(&error, &title.unwrap_or_default(), false);
        self.record.outcome = answer.status.as_str();
        let result = answer.into_result(self.revision(), &self.peer.request_id);
        Ok(Done::Result(result))
    }
}
