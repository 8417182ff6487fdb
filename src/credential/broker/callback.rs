//! The answer of an authorization server: from the right browser, once, at the right path, from the
//! right issuer; only then is its code redeemed.

use std::sync::Arc;

use url::form_urlencoded;

use super::flow::{OPERATORS, brought, cookie_name};
use super::pending::{Flow, Stage};
use super::standing::Outcome;
use super::{Broker, Ground, Refusal, flow};
use crate::credential::connection::Resource;
use crate::credential::oauth::{self, Sent, Verdict, trouble};
use crate::secret::Secret;

/// The query of a callback (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Debug, Clone)]
pub struct Callback {
    pub(super) state: String,
    pub(super) code: Option<Secret>,
    pub(super) error: Option<String>,
    pub(super) description: Option<String>,
    pub(super) iss: Option<String>,
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// It is connected, and the next call uses it.
    Connected {
        /// The provider's title.
        title: String,
        /// `accountId`.
        account: String,
        /// Email or name.
        label: Option<String>,
    },
    /// Another account of the provider was used than the one connected under this name, or maybe: the
    /// person is asked. Nothing is replaced yet.
    Confirm {
        /// The provider's title.
        title: String,
        /// Whether the provider says whose account it is, so that it is another one for certain.
        certain: bool,
        /// What [`Broker::confirm`] wants back.
        state: String,
    },
}

impl Callback {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Ground::Malformed`] without a state, or with one of its parameters twice.
    pub fn read(query: &str) -> Result<Self, Refusal> {
        let malformed = |why: &str| {
            Refusal::new(
                Ground::Malformed,
                why,
                "Open the connect link again and begin anew.",
            )
        };
        let one = |name: &str| -> Result<Option<String>, Refusal> {
            let mut found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            let first = found.next().map(|(_, value)| value.into_owned());
            if found.next().is_some() {
                return Err(malformed("This answer says one thing twice."));
            }
            Ok(first.filter(|value| !value.is_empty()))
        };
        Ok(Self {
            state: one("state")?.ok_or_else(|| malformed("This answer names no connection (`state`)."))?,
            code: one("code")?.map(Secret::new),
            error: one("error")?,
            description: one("error_description")?,
            iss: one("iss")?,
        })
    }

    /// The name of the cookie that it must bring.
    #[must_use]
    pub fn cookie_name(&self) -> String {
        cookie_name(&self.state)
    }

    /// The same for the state that a confirmation brings.
    #[must_use]
    pub fn cookie_of(state: &str) -> String {
        cookie_name(state)
    }
}

impl Broker {
    /// Takes an answer that came to `redirect`. What is redeemed is stored whatever becomes of the
    /// caller.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is connected then. One without its cookie leaves the flow as it is.
    pub async fn finish(
        self: &Arc<Self>,
        callback: Callback,
        cookie: Option<&str>,
        redirect: &str,
    ) -> Result<Finished, Refusal> {
        let (version, entry) = self.look(&callback.state).await?;
        let flow = match entry.stage {
            Stage::Begun(flow) => flow,
            Stage::Asked(flow, record) => {
                brought(&flow, cookie)?;
                return Ok(self.ask(&flow, callback.state, record.subject.is_some()));
            }
            Stage::Used => return Err(lost()),
        };
        brought(&flow, cookie)?;
        let (broker, redirect) = (Arc::clone(self), redirect.to_owned());
        let work = async move {
            broker.take(&callback.state, version).await?;
            let (id, whose, provider) = (flow.id.clone(), flow.whose(), flow.wish.provider.clone());
            let finished = broker.answered(callback, *flow, &redirect).await;
            if let Err(refusal) = &finished {
                broker.failed.note(&whose, &provider, refusal.told());
                broker.tell(&id, Outcome::Failed(refusal.told().to_owned())).await;
            }
            finished
        };
        self.detached(work).await
    }

    /// Whether tokens of another account may replace those that are there, as the person says.
    ///
    /// # Errors
    /// [`Refusal`], also when the person says no.
    pub async fn confirm(
        self: &Arc<Self>,
        state: &str,
        cookie: Option<&str>,
        yes: bool,
    ) -> Result<Finished, Refusal> {
        let (version, entry) = self.look(state).await?;
        let (Stage::Asked(flow, record), state) = (entry.stage, state.to_owned()) else {
            return Err(Refusal::new(
                Ground::Malformed,
                "Nothing waits for this confirmation.",
                "Open the connect link again and begin anew.",
            ));
        };
        brought(&flow, cookie)?;
        let broker = Arc::clone(self);
        let work = async move {
            broker.take(&state, version).await?;
            let id = flow.id.clone();
            let finished = if yes {
                broker.store(&flow, *record).await
            } else {
                broker.give_back(&flow, &record.tokens).await;
                Err(Refusal::new(
                    Ground::Conflict,
                    "The connection stays as it was.",
                    "Open the connect link again to sign in with the account that was connected before.",
                ))
            };
            if let Err(refusal) = &finished {
                broker.tell(&id, Outcome::Failed(refusal.told().to_owned())).await;
            }
            finished
        };
        self.detached(work).await
    }

    /// Work that a closed browser must not end.
    async fn detached(
        &self,
        work: impl Future<Output = Result<Finished, Refusal>> + Send + 'static,
    ) -> Result<Finished, Refusal> {
        let task = self.redeeming.spawn_on(work, &self.parts.control);
        task.await.unwrap_or_else(|_ended| Err(lost()))
    }

    pub(super) fn ask(&self, flow: &Flow, state: String, certain: bool) -> Finished {
        Finished::Confirm {
            title: self.title(&flow.wish.provider),
            certain,
            state,
        }
    }

    /// Judges an answer and redeems its code.
    async fn answered(
        self: &Arc<Self>,
        callback: Callback,
        flow: Flow,
        redirect: &str,
    ) -> Result<Finished, Refusal> {
        let judged = self.is_its_answer(&callback, &flow, redirect);
        // Whoever wrote it: a server that has lost the client sends nobody back.
        if let Some(name) = flow
            .client
            .as_ref()
            .filter(|_| judged.is_err() || callback.error.is_none())
        {
            self.came_back(name, &flow.source.client).await;
        }
        judged?;
        if let Some(error) = &callback.error {
            return Err(self.said_no(&flow, error, callback.description.as_deref()).await);
        }
        let Some(code) = callback.code else {
            let provider = &flow.wish.provider;
            tracing::warn!(
                provider,
                "a connection failed: the answer carries neither a code nor an error"
            );
            return Err(Refusal::new(
                Ground::Malformed,
                format!(
                    "The answer of {} carries neither a code nor an error.",
                    self.title(provider)
                ),
                "Open the connect link again and begin anew.",
            ));
        };
        self.redeem(&callback.state, flow, &code).await
    }

    /// Whether an answer came to the right path, from the server that was asked.
    fn is_its_answer(&self, callback: &Callback, flow: &Flow, redirect: &str) -> Result<(), Refusal> {
        let provider = &flow.wish.provider;
        if redirect != flow.redirect {
            tracing::warn!(
                provider,
                came = redirect,
                expected = flow.redirect,
                "a connection failed: its answer came to another redirect URI"
            );
            return Err(mixed_up());
        }
        let (issuer, promised) = (flow.issuer.as_deref(), flow.iss_supported);
        let checked = oauth::check_iss(issuer, promised, callback.iss.as_deref());
        let Err(trouble) = checked else { return Ok(()) };
        let said = callback
            .iss
            .as_deref()
            .map(|iss| trouble::plain(iss).unwrap_or_default());
        tracing::warn!(
            provider,
            expected = issuer,
            iss = said,
            error = callback.error.as_deref().and_then(trouble::plain),
            %trouble,
            cure = callback.iss.is_none().then_some(WITHOUT_ISS),
            "a connection failed"
        );
        if callback.iss.is_some() {
            return Err(mixed_up());
        }
        let title = self.title(provider);
        Err(Refusal::new(
            Ground::Malformed,
            format!(
                "The answer of {title} does not say which server it comes from (`iss`), though its metadata promises \
                 that (RFC 9207); such an answer may be another server's."
            ),
            format!(
                "Nothing was connected. Open the connect link again; if it happens again: {WITHOUT_ISS}. {OPERATORS}"
            ),
        ))
    }

    /// What an authorization server answers in the place of a code (RFC 6749 section 4.1.2.1), told to
    /// people with the cure, and to the log in full.
    async fn said_no(&self, flow: &Flow, error: &str, description: Option<&str>) -> Refusal {
        let provider = &flow.wish.provider;
        let title = self.title(provider);
        let said = description.and_then(trouble::plain);
        let code = trouble::plain(error).unwrap_or_default();
        let verdict = oauth::verdict(error, description);
        let connection = self.connection(provider);
        let declared = connection.as_ref().map_or(&Resource::Auto, |it| &it.resource);
        let cure = match (verdict, &flow.client) {
            (Verdict::UnknownClient, Some(_)) => oauth::MADE_ANEW.to_owned(),
            (verdict, _) => verdict.cure(Sent {
                client: &flow.source.client.id,
                redirect: &flow.redirect,
                scopes: &flow.scopes,
                resource: (flow.source.resource.as_deref(), declared),
            }),
        };
        tracing::warn!(
            provider,
            error = code,
            description = said,
            client = flow.source.client.id,
            issuer = flow.issuer,
            scopes = flow.scopes.join(" "),
            resource = flow.source.resource,
            cure,
            "a connection failed: the authorization server refused it"
        );
        if let Some(name) = &flow.client {
            match verdict {
                Verdict::UnknownClient => self.drop_client(name, &flow.source.client).await,
                // Reason enough to ask the server before the next flow.
                Verdict::PerhapsUnknownClient => {}
                _ => self.came_back(name, &flow.source.client).await,
            }
        }
        if verdict == Verdict::Denied {
            return Refusal::new(
                Ground::Conflict,
                format!("{title} was told not to give access, so nothing was connected."),
                "Open the connect link again if that was not meant.",
            );
        }
        let said = said
            .filter(|said| *said != code)
            .map_or_else(String::new, |said| format!(": “{said}”"));
        Refusal::new(
            Ground::Provider,
            format!("{title} refused with `{code}`{said}."),
            flow::advice(&cure),
        )
    }
}

/// What to do where the promised `iss` does not come.
const WITHOUT_ISS: &str = "the provider has to send `iss`, or to take `authorization_response_iss_parameter_supported` out of \
                           its metadata; until then `authorization_endpoint`, `token_endpoint` and `client_id` in the \
                           descriptor do without it";

/// Says nothing of what came: an attacker may have written it.
fn mixed_up() -> Refusal {
    Refusal::new(
        Ground::Malformed,
        "This answer came from another server than the one that was asked.",
        "Nothing was connected. Open the connect link again; if it happens again, ask whoever runs the \
         gateway, whose log names both.",
    )
}

fn lost() -> Refusal {
    Refusal::new(
        Ground::Gone,
        "The gateway could not finish this connection.",
        "Open the connect link again and begin anew.",
    )
}
