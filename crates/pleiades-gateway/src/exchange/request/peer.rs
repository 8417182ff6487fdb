//! Who sent a message, and what came with it.

use std::{fmt, sync::Arc};

use http::HeaderMap;
use serde_json::json;

use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;
use pleiades_core::telemetry::events::RequestDone;
use pleiades_credential::access::Principal;
use pleiades_credential::{CallerKeys, ProviderAuth};
use pleiades_mcp::{ClientCapabilities, Raw, Revision};

/// The sender of a message.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is.
    pub principal: Principal,
    /// The revision it speaks.
    pub revision: Revision,
    /// What it can do when it is asked back.
    pub abilities: ClientCapabilities,
    /// The same in its own words, of a client of 2026-07-28.
    pub capabilities: Option<Raw>,
    /// Within it request ids are unique: a session, or a stdio connection. Requests without one
    /// cannot be cancelled by id.
    pub session: Option<Arc<str>>,
    /// The client's name as metrics know it, where neither the session's id nor the message tells it.
    pub client: Option<&'static str>,
    /// Where its own keys are found.
    pub keys: Keys,
    /// `traceparent` of the HTTP request, for when the message carries none.
    pub trace: Option<String>,
    /// Id of this request in logs and answers.
    pub request_id: String,
}

impl Peer {
    /// What the event of a request says of its sender.
    pub fn describe(&self, done: &mut RequestDone) {
        done.tenant = Some(Arc::clone(&self.principal.tenant));
        done.user = Some(Arc::clone(&self.principal.user));
        done.revision = Some(self.revision.as_str());
        done.trace = self.trace.as_deref().and_then(trace_id).map(Into::into);
    }
}

/// The trace id within a `traceparent` (W3C Trace Context section 3.2).
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Looks up a variable of the environment.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where a caller's keys are found; looked at only when a provider wants one.
#[derive(Clone)]
pub enum Keys {
    /// Headers of the HTTP request.
    Headers(HeaderMap),
    /// The environment of `pleiades stdio`.
    Environment(Variables),
}

impl Keys {
    /// What the caller brought for one provider, and nothing of what it brought for others.
    #[must_use]
    pub fn brought(&self, need: &ProviderAuth) -> CallerKeys {
        let mut brought = CallerKeys::default();
        match (self, need) {
            (Self::Headers(headers), ProviderAuth::ClientKey(_)) => {
                let own = need
                    .key_headers()
                    .filter_map(|name| Some((name, headers.get(name)?.to_str().ok()?)));
                brought
                    .headers
                    .extend(own.map(|(name, value)| (name.clone(), Secret::new(value))));
            }
            (Self::Environment(variable), ProviderAuth::ClientKey(key)) => {
                if let Some((name, value)) = key.env.as_ref().and_then(|name| Some((name, variable(name)?))) {
                    brought.environment.insert(name.clone(), Secret::new(value));
                }
            }
            (
                _,
                ProviderAuth::None
                | ProviderAuth::ApiKey { .. }
                | ProviderAuth::OAuth(_)
                | ProviderAuth::ClientCredentials(..),
            ) => {}
        }
        brought
    }

    /// The request's headers; a stdio peer has none.
    #[must_use]
    pub const fn headers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Headers(headers) => Some(headers),
            Self::Environment(_) => None,
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headers(_) => "Headers(…)",
            Self::Environment(_) => "Environment(…)",
        })
    }
}

/// The refusal of a revision that is not served, with those that are.
#[must_use]
pub fn unsupported(requested: &str) -> Error {
    let requested: String = requested.chars().take(32).collect();
    Error::new(
        Code::UnsupportedRevision,
        "this protocol revision is not served here",
    )
    .data(json!({ "supported": Revision::SERVED.map(Revision::as_str), "requested": requested }))
}
