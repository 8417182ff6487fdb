//! The head of an upstream's answer on the relay: what of it comes down, and what a refusal means.

use http::{HeaderName, HeaderValue, StatusCode};
use pingora_core::{Error as ProxyError, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout;

use super::context::{Context, Passage};
use super::gateway::Gateway;
use super::respond::SESSION;
use super::{bridge, heads, way};
use crate::credential::oauth::{self, Challenge};
use crate::error::{Code, Error};
use crate::exchange::{self, ACCOUNT_HEADER};
use crate::upstream::challenge;

impl Gateway {
    /// What of the upstream's head comes down.
    ///
    /// # Errors
    /// When nothing does: the request is sent once more with a newer credential, or refused.
    pub(super) async fn incoming(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(passage) = ctx.passage.as_mut() else {
            return Ok(());
        };
        passage.answered = passage.sent.map(|sent| sent.elapsed());
        let said = said(response);
        let failure = match response.status {
            _ if said.1.is_refusal() => self.refused_above(session, passage, said).await,
            status if status.is_redirection() => Some(Error::new(
                Code::UpstreamProtocol,
                "the provider answered with a redirect, which is not followed",
            )),
            _ if response.headers.contains_key(SESSION) && !self.sealer.is_ready() => {
                Some(exchange::unsealed())
            }
            _ => {
                self.passed(passage, response.status);
                self.returned(response, passage)?;
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
    fn returned(&self, response: &mut ResponseHeader, passage: &Passage) -> Result<()> {
        let kept_back: Vec<HeaderName> = response
            .headers
            .keys()
            .filter(|name| !heads::is_returned(name))
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
            let sealed = self.sealed(&passage.provider, &passage.principal, &passage.way, id);
            response.insert_header(SESSION, sealed)?;
        }
        let account = passage.way.account.as_deref();
        if let Some(Ok(account)) = account.map(|it| HeaderValue::from_bytes(it.as_bytes())) {
            response.insert_header(ACCOUNT_HEADER, account)?;
        }
        Ok(())
    }

    /// The upstream took the credential.
    fn passed(&self, passage: &Passage, status: StatusCode) {
        let way = &passage.way;
        if passage.is_renewed {
            way.signature.accepted(way.signed.seq);
        }
        if status.is_success() {
            way.signature.taken(way.signed.seq);
            if let Some(account) = &way.account {
                let used = way::used(account, &way.signature, &passage.method);
                self.exchange.took(&passage.principal, &passage.provider, used);
            }
        }
    }

    /// The upstream refuses the credential; `None` when the request is sent again with a newer one.
    async fn refused_above(
        &self,
        session: &Session,
        passage: &mut Passage,
        (header, challenge): (Option<String>, Challenge),
    ) -> Option<Error> {
        let said = (challenge.status, header);
        let error = if !passage.is_renewed && passage.way.signature.may_help(&challenge) {
            passage.is_renewed = true;
            match renewed(passage).await {
                Ok(true) if !session.as_ref().retry_buffer_truncated() => {
                    passage.goes_again = true;
                    // The same body is counted anew.
                    passage.received = 0;
                    return None;
                }
                Ok(true) => return Some(again(&passage.provider.title)),
                Ok(false) => refused(said),
                Err(error) => error,
            }
        } else {
            refused(said)
        };
        let way = &passage.way;
        let account = way.account.as_ref();
        let used = account.map(|account| way::used(account, &way.signature, &passage.method));
        Some(
            self.judged(&passage.provider, &passage.principal, (used, error))
                .await,
        )
    }
}

/// What a head says of the credential, and in which words.
fn said(response: &ResponseHeader) -> (Option<String>, Challenge) {
    let header = response
        .status
        .is_client_error()
        .then(|| challenge(&response.headers))
        .flatten();
    let challenge = oauth::challenge(response.status.as_u16(), header.as_deref());
    (header, challenge)
}

/// Has something newer put on the request; `false` when there is nothing else.
async fn renewed(passage: &mut Passage) -> Result<bool, Error> {
    let way = &mut passage.way;
    if way.signature.settled().is_some() {
        return Ok(false);
    }
    let refused = way.signature.refused(way.signed.seq);
    let newer = timeout(passage.provider.endpoint.call, refused).await;
    match newer.unwrap_or_else(|_elapsed| Err(way::late()))? {
        Some(signed) => {
            way.signed = signed;
            Ok(true)
        }
        None => Ok(false),
    }
}

fn refused(said: (u16, Option<String>)) -> Error {
    let mut error = Error::new(
        Code::UpstreamAuth,
        "the provider refused the credential of this call",
    );
    error.refusal = Some(Box::new(said));
    error
}

/// What was read of the body is not at hand any more.
fn again(title: &str) -> Error {
    Error::new(
        Code::CredentialTimeout,
        format!("the credential of {title} was renewed meanwhile; nothing was run, send the request again"),
    )
    .retry_after(std::time::Duration::from_secs(1))
}
