//! The head of an upstream's answer on the relay: what of it comes down, and what a refusal means.

use http::{HeaderName, HeaderValue, StatusCode};
use pingora_core::{Error as ProxyError, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout;

use super::context::{Context, RelayState};
use super::gateway::Gateway;
use super::respond::SESSION;
use super::{bridge, relay_credential, relay_headers};
use crate::exchange::{self, ACCOUNT_HEADER};
use pleiades_core::error::{Code, Error};
use pleiades_credential::oauth::{self, Challenge};
use pleiades_upstream::challenge;

impl Gateway {
    /// What of the upstream's head comes down.
    ///
    /// # Errors
    /// When nothing does: the request is sent once more with a newer credential, or refused.
    pub(super) async fn filter_response(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(passage) = ctx.relay.as_mut() else {
            return Ok(());
        };
        passage.answered = passage.sent.map(|sent| sent.elapsed());
        let refusal = refusal(response);
        let failure = match response.status {
            _ if refusal.1.is_refusal() => self.credential_refused(session, passage, refusal).await,
            status if status.is_redirection() => Some(Error::new(
                Code::UpstreamProtocol,
                "the provider answered with a redirect, which is not followed",
            )),
            _ if response.headers.contains_key(SESSION) && !self.sealer.is_ready() => {
                Some(exchange::unsealed())
            }
            _ => {
                self.credential_accepted(passage, response.status);
                self.filter_headers(response, passage)?;
                return match ctx.origin.clone() {
                    Some(origin) => bridge::cors(response, Some(&origin)),
                    None => Ok(()),
                };
            }
        };
        passage.failure = failure;
        Err(ProxyError::new_up(ErrorType::InvalidHTTPHeader))
    }

    /// Leaves of a head what describes the message, and what is ours.
    fn filter_headers(&self, response: &mut ResponseHeader, passage: &RelayState) -> Result<()> {
        let kept_back: Vec<HeaderName> = response
            .headers
            .keys()
            .filter(|name| !relay_headers::is_returned(name))
            .cloned()
            .collect();
        for name in kept_back {
            response.remove_header(&name);
        }
        if let Some(id) = response
            .headers
            .get(SESSION)
            .and_then(|value| value.to_str().ok())
        {
            let sealed = self.seal_session(&passage.provider, &passage.principal, &passage.credential, id);
            response.insert_header(SESSION, sealed)?;
        }
        let account = passage.credential.account.as_deref();
        if let Some(Ok(account)) = account.map(|it| HeaderValue::from_bytes(it.as_bytes())) {
            response.insert_header(ACCOUNT_HEADER, account)?;
        }
        Ok(())
    }

    /// The upstream took the credential.
    fn credential_accepted(&self, passage: &RelayState, status: StatusCode) {
        let way = &passage.credential;
        if passage.is_renewed {
            way.signature.accepted(way.signed.seq);
        }
        if status.is_success() {
            way.signature.taken(way.signed.seq);
            if let Some(account) = &way.account {
                let used = relay_credential::account_use(account, &way.signature, &passage.method);
                self.exchange.took(&passage.principal, &passage.provider, used);
            }
        }
    }

    /// The upstream refuses the credential; `None` when the request is sent again with a newer one.
    async fn credential_refused(
        &self,
        session: &Session,
        passage: &mut RelayState,
        (header, challenge): (Option<String>, Challenge),
    ) -> Option<Error> {
        let refusal = (challenge.status, header);
        let error = if !passage.is_renewed && passage.credential.signature.may_help(&challenge) {
            passage.is_renewed = true;
            match renew(passage).await {
                Ok(true) if !session.as_ref().retry_buffer_truncated() => {
                    passage.is_retried = true;
                    // The same body is counted anew.
                    passage.received = 0;
                    return None;
                }
                Ok(true) => return Some(retry_error(&passage.provider.title)),
                Ok(false) => refused_error(refusal),
                Err(error) => error,
            }
        } else {
            refused_error(refusal)
        };
        let way = &passage.credential;
        let account = way.account.as_ref();
        let used =
            account.map(|account| relay_credential::account_use(account, &way.signature, &passage.method));
        Some(
            self.judge_refusal(&passage.provider, &passage.principal, (used, error))
                .await,
        )
    }
}

/// What a head says of the credential, and in which words.
fn refusal(response: &ResponseHeader) -> (Option<String>, Challenge) {
    let header = response
        .status
        .is_client_error()
        .then(|| challenge(&response.headers))
        .flatten();
    let challenge = oauth::challenge(response.status.as_u16(), header.as_deref());
    (header, challenge)
}

/// Has something newer put on the request; `false` when there is nothing else.
async fn renew(passage: &mut RelayState) -> Result<bool, Error> {
    let way = &mut passage.credential;
    if way.signature.settled().is_some() {
        return Ok(false);
    }
    let refused = way.signature.refused(way.signed.seq);
    let newer = timeout(passage.provider.endpoint.call, refused).await;
    match newer.unwrap_or_else(|_elapsed| Err(relay_credential::renewal_timeout()))? {
        Some(signed) => {
            way.signed = signed;
            Ok(true)
        }
        None => Ok(false),
    }
}

fn refused_error(refusal: (u16, Option<String>)) -> Error {
    let mut error = Error::new(
        Code::UpstreamAuth,
        "the provider refused the credential of this call",
    );
    error.refusal = Some(Box::new(refusal));
    error
}

/// What was read of the body is not at hand any more.
fn retry_error(title: &str) -> Error {
    Error::new(
        Code::CredentialTimeout,
        format!("the credential of {title} was renewed meanwhile; nothing was run, send the request again"),
    )
    .retry_after(std::time::Duration::from_secs(1))
}
