//! The head of an upstream's answer: passed down, or a refusal that a newer credential may help.

use http::StatusCode;
use pingora_core::{Error as ProxyError, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout;

use super::credential::{CredentialLookup, renewal_timeout};
use super::{headers, state::RelayState};
use crate::exchange::{self, Exchange};
use crate::proxy::{context::Context, respond::SESSION, services::GatewayServices};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::line_without_tokens;
use pleiades_credential::oauth::{self, Challenge};
use pleiades_upstream::{Transport, challenge, redirect_target};

/// An upstream's answer about the credential: its meaning, and the header as it came.
type Refusal = (Challenge, Option<String>);

/// Turns an upstream's head into the client's.
/// Errors: when nothing comes down: the request is sent once more with a newer credential, or refused.
pub(in crate::proxy) async fn filter_response(
    services: &GatewayServices,
    session: &Session,
    response: &mut ResponseHeader,
    (relay, ctx): (&mut RelayState, &Context),
) -> Result<()> {
    relay.answered = relay.sent.map(|sent| sent.elapsed());
    let refusal = read_refusal(response);
    let failure = match response.status {
        _ if refusal.0.is_refusal() => credential_refused(&services.exchange, session, relay, refusal).await,
        status if status.is_redirection() => Some(
            Error::new(
                Code::UpstreamProtocol,
                "the provider answered with a redirect, which is not followed",
            )
            .because(redirected(status, relay, response)),
        ),
        _ if response.headers.contains_key(SESSION) && !services.sealer.is_ready() => {
            Some(exchange::unsealed())
        }
        status => {
            credential_accepted(&services.exchange, relay, status);
            headers::filter_response(response, relay, &services.sealer)?;
            return ctx.sign(response);
        }
    };
    relay.failure = failure;
    Err(ProxyError::new_up(ErrorType::InvalidHTTPHeader))
}

/// Where a redirect leads, for the operator.
fn redirected(status: StatusCode, relay: &RelayState, response: &ResponseHeader) -> String {
    let from = match &relay.provider.endpoint.target {
        Transport::Http { url, .. } => Some(url),
        Transport::Stdio { .. } => None,
    };
    let to = from.and_then(|from| redirect_target(&response.headers, from));
    let to = to.map(|to| format!(", to {to}")).unwrap_or_default();
    format!("status {}{to}", status.as_u16())
}

fn credential_accepted(exchange: &Exchange, relay: &RelayState, status: StatusCode) {
    let credential = &relay.credential;
    if relay.is_renewed {
        credential.signature.accepted(credential.signed.seq);
    }
    if status.is_success() {
        credential.signature.taken(credential.signed.seq);
        if let Some(used) = credential.account_use(&relay.method) {
            exchange.accounts.took(&relay.principal, &relay.provider, used);
        }
    }
}

/// The error of a refused credential; `None` when the request is sent again with a newer one.
async fn credential_refused(
    exchange: &Exchange,
    session: &Session,
    relay: &mut RelayState,
    (challenge, words): Refusal,
) -> Option<Error> {
    let error = if !relay.is_renewed && relay.credential.signature.may_help(&challenge) {
        relay.is_renewed = true;
        match renew(relay).await {
            Ok(true) if !session.as_ref().retry_buffer_truncated() => {
                relay.is_retried = true;
                // The same body is counted anew.
                relay.received = 0;
                return None;
            }
            Ok(true) => return Some(send_again(&relay.provider.title)),
            Ok(false) => refused(&challenge, words),
            Err(error) => error,
        }
    } else {
        refused(&challenge, words)
    };
    let lookup = CredentialLookup {
        exchange,
        provider: &relay.provider,
        principal: &relay.principal,
    };
    let used = relay.credential.account_use(&relay.method);
    Some(lookup.judge_refusal(used, error).await)
}

fn read_refusal(response: &ResponseHeader) -> Refusal {
    let words = response
        .status
        .is_client_error()
        .then(|| challenge(&response.headers))
        .flatten();
    let challenge = oauth::challenge(response.status.as_u16(), words.as_deref());
    (challenge, words)
}

/// Renews what signs the request; `false` when there is nothing newer.
async fn renew(relay: &mut RelayState) -> Result<bool, Error> {
    let credential = &mut relay.credential;
    if credential.signature.settled().is_some() {
        return Ok(false);
    }
    let renewal = credential.signature.refused(credential.signed.seq);
    let newer = timeout(relay.provider.endpoint.call, renewal).await;
    match newer.unwrap_or_else(|_elapsed| Err(renewal_timeout()))? {
        Some(signed) => {
            credential.signed = signed;
            Ok(true)
        }
        None => Ok(false),
    }
}

fn refused(challenge: &Challenge, header: Option<String>) -> Error {
    let mut error = Error::new(
        Code::UpstreamAuth,
        "the provider refused the credential of this call",
    );
    let mut cause = format!("status {}", challenge.status);
    for words in [&challenge.error, &challenge.description].into_iter().flatten() {
        cause = format!("{cause}: {}", line_without_tokens(words, 160));
    }
    error.refusal = Some(Box::new((challenge.status, header)));
    error.because(cause)
}

/// The error for a request that would go again, had its body not been streamed on.
fn send_again(title: &str) -> Error {
    Error::new(
        Code::CredentialTimeout,
        format!("the credential of {title} was renewed meanwhile; nothing was run, send the request again"),
    )
    .retry_after(std::time::Duration::from_secs(1))
}
