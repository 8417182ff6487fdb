//! Asking a client to connect an account, in the way that it declared (URL mode elicitation,
//! SEP-1036; reference: `mcp-spec.md` section 4): an error of 2025-11-25 that ends the call, an
//! `input_required` result of 2026-07-28 whose retry waits for the connection. All others are told in
//! the answer itself.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Accounts;
use super::invite::sentence;
use super::resolve::owner;
use crate::catalog::Provider;
use crate::exchange::fault::{URL_REQUIRED, malformed_answer};
use crate::exchange::reply::Done;
use crate::exchange::request::{AwaitedConnection, Request};
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
const RETRY_WAIT: Duration = Duration::from_secs(20);
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
    let is_curable = matches!(
        error.code,
        Code::NeedsAuth | Code::TokenExpired | Code::CapabilityMiss
    );
    let data = error
        .data
        .as_ref()
        .filter(|_| is_curable && error.rpc.is_none())?;
    data.get("connect_url")?.as_str()
}

/// Whether a retry goes on: its question was accepted, or is not answered in it.
fn is_accepted(responses: Option<&RawValue>) -> Result<bool, Error> {
    let Some(responses) = responses.filter(|raw| raw.get() != "null") else {
        return Ok(true);
    };
    let responses = RawObject::open(responses).map_err(|cause| malformed_answer(QUESTION).because(cause))?;
    let Some(answer) = responses.get(QUESTION) else {
        return Ok(true);
    };
    let answer = RawObject::open(answer).map_err(|cause| malformed_answer(QUESTION).because(cause))?;
    match elicit::is_answer(&answer) {
        true => Ok(answer.text("action").as_deref() == Some("accept")),
        false => Err(malformed_answer(QUESTION)),
    }
}

impl Accounts {
    /// Whether this client is asked to open an address, instead of being told in an answer.
    pub(crate) fn is_asked(&self, request: &Request<'_>, error: &Error) -> bool {
        let spent = request.awaited().is_some_and(|it| it.rounds >= ROUNDS);
        let asks = match request.revision() {
            Revision::V2026_07_28 => ASKING.contains(&request.method()) && !spent,
            revision => revision >= Revision::V2025_11_25,
        };
        asks && request.view() != View::Relay
            && request.peer().abilities.has(ClientCapabilities::URL)
            && address(error).is_some()
    }

    /// An error as this client can take it: a question where it can be asked to connect, which is the
    /// whole `input_required` result of 2026-07-28.
    pub(crate) fn ask_to_connect(&self, request: &Request<'_>, error: Error) -> Result<Raw, Error> {
        if !self.is_asked(request, &error) {
            return Err(error);
        }
        if request.is_modern() {
            return Ok(self.question(request, &error));
        }
        Err(self.required(request, error))
    }

    /// -32042 of 2025-11-25, our data beside its own.
    fn required(&self, request: &Request<'_>, mut error: Error) -> Error {
        let mut data = Value::Object(error.details());
        let url = address(&error).unwrap_or_default().to_owned();
        let id = match data.get("connection_id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => self.tokens.ticket(),
        };
        let message = self.wording(request, &data);
        let provider = data.get("provider_id").and_then(Value::as_str);
        let provider = provider.and_then(|id| request.snapshot().providers.get(id));
        if let (Some(session), Some(connection)) =
            (request.session(), provider.and_then(|it| it.need.connection()))
        {
            let owner = owner(request.principal(), connection);
            self.remembered.asked(session, owner, &id);
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
    fn question(&self, request: &Request<'_>, error: &Error) -> Raw {
        let data = Value::Object(error.details());
        let provider = data.get("provider_id").and_then(Value::as_str);
        let scopes = data.get("missing_scopes");
        let pending = Pending {
            provider: provider.unwrap_or_default().to_owned(),
            was: request.facts().refused(),
            scopes: scopes
                .and_then(|it| serde_json::from_value(it.clone()).ok())
                .unwrap_or_default(),
            rounds: request.awaited().map_or(0, |it| it.rounds).saturating_add(1),
        };
        let state = self
            .tokens
            .seal(PURPOSE, &request.holder(), LIFETIME_SECS, &pending);
        let url = address(error).unwrap_or_default();
        let params = json!({ "mode": "url", "url": url, "message": self.wording(request, &data) });
        raw::raw(&json!({
            "resultType": "input_required",
            "inputRequests": { QUESTION: { "method": "elicitation/create", "params": params } },
            "requestState": state,
            "_meta": { META: data },
        }))
    }

    /// What a person is asked: by whom, for which provider, and why.
    fn wording(&self, request: &Request<'_>, data: &Value) -> String {
        let text = |key| data.get(key).and_then(Value::as_str);
        let id = text("provider_id").unwrap_or_default();
        let provider = request.snapshot().providers.get(id);
        let title = provider.map_or(id, |it| it.title.as_str());
        let why = sentence(text("detail"), text("reason").unwrap_or_default());
        format!("{} asks you to connect {title}: {why}", self.name)
    }

    /// Takes out of a retry what belongs to a connection that was asked for; how that is waited for.
    ///
    /// # Errors
    /// [`Code::NeedsAuth`] when the person declined, with the provider's title; [`Code::InvalidParams`] at
    /// once for an answer that is none, instead of a wait for a connection that nobody makes.
    pub(crate) async fn take_retry(
        &self,
        request: &Request<'_>,
        params: &mut RawObject,
    ) -> Result<Option<AwaitedConnection>, (Option<String>, Error)> {
        let asked = request.is_modern() && request.view() != View::Relay;
        let token = params.text("requestState").filter(|_| asked);
        let pending = token.and_then(|token| self.tokens.open::<Pending>(PURPOSE, &request.holder(), &token));
        let Some(pending) = pending else {
            return Ok(None);
        };
        match is_accepted(params.get("inputResponses")) {
            Ok(true) => {}
            Ok(false) => return Err(self.declined(request, &pending.provider).await),
            Err(error) => return Err((None, error)),
        }
        params.remove("requestState");
        params.remove("inputResponses");
        Ok(Some(AwaitedConnection {
            provider: pending.provider.into(),
            until: Instant::now() + RETRY_WAIT,
            was: pending.was,
            scopes: pending.scopes,
            rounds: pending.rounds,
        }))
    }

    async fn declined(&self, request: &Request<'_>, provider: &str) -> (Option<String>, Error) {
        let known: Option<&Arc<Provider>> = request.snapshot().providers.get(provider);
        let title = known.map_or_else(|| provider.to_owned(), |it| it.title.clone());
        let error = Error::new(
            Code::NeedsAuth,
            format!("connecting {title} was declined; nothing was run"),
        )
        .data(json!({ "provider_id": provider, "reason": Reason::NeverConnected.as_str() }));
        let error = match known.and_then(|it| it.need.connection()) {
            Some(connection) => {
                let principal = request.principal();
                self.invite(principal, connection, error, (None, &[])).await
            }
            None => error,
        };
        (known.map(|it| it.title.clone()), error)
    }
}

/// A declined connection as a result that a model reads, where the method has one.
pub(crate) fn declined_answer(
    request: &Request<'_>,
    (title, error): (Option<String>, Error),
) -> Result<Done, Error> {
    if request.method() != "tools/call" || error.code == Code::InvalidParams {
        return Err(error);
    }
    request.facts().fail(&error);
    let answer = MetaAnswer::of_error(&error, (&title.unwrap_or_default(), ""), false);
    let outcome = answer.outcome();
    let result = answer.into_result(request.revision(), &request.peer().request_id);
    Ok(Done::Result(result, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::object;

    #[test]
    fn only_an_error_that_a_connection_would_mend_says_where_to_connect() {
        let data = json!({ "connect_url": "https://gateway.example/connect/mail" });
        let at = |code| address(&Error::new(code, "x").data(data.clone())).map(str::to_owned);
        for code in [Code::NeedsAuth, Code::TokenExpired, Code::CapabilityMiss] {
            assert!(at(code).is_some(), "{code:?}");
        }
        assert_eq!(at(Code::UpstreamAuth), None);
        assert_eq!(address(&Error::new(Code::NeedsAuth, "no link")), None);
    }

    #[test]
    fn a_providers_own_error_never_says_where_to_connect() {
        let mut error = Error::new(Code::NeedsAuth, "x").data(json!({ "connect_url": "https://a.example/" }));
        error.rpc = Some(Box::new(RpcFault {
            code: 1,
            message: String::new(),
            data: None,
        }));
        assert_eq!(address(&error), None);
    }

    #[test]
    fn a_retry_goes_on_when_its_question_was_accepted_or_is_not_answered_in_it() {
        let accepted = |responses: &Value| {
            let params = object(&json!({ "inputResponses": responses }));
            is_accepted(params.get("inputResponses")).map_err(|error| error.code)
        };
        assert_eq!(is_accepted(None).map_err(|error| error.code), Ok(true));
        assert_eq!(accepted(&Value::Null), Ok(true));
        assert_eq!(accepted(&json!({ "other": { "action": "decline" } })), Ok(true));
        assert_eq!(accepted(&json!({ "connect": { "action": "accept" } })), Ok(true));
        assert_eq!(
            accepted(&json!({ "connect": { "action": "decline" } })),
            Ok(false)
        );
        assert_eq!(
            accepted(&json!({ "connect": { "action": "perhaps" } })),
            Err(Code::InvalidParams)
        );
        assert_eq!(accepted(&json!({ "connect": 7 })), Err(Code::InvalidParams));
    }
}
