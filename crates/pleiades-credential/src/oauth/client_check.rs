//! Whether a server still knows a client that it registered once: servers lose them, and then show an
//! error of their own to people, of which we hear nothing (RFC 6749 section 4.1.2.1).

use std::time::Duration;

use tokio::time::timeout;

use super::{OAuthError, OAuthErrorKind, is_unknown_client, may_be_unknown_client, token};
use crate::connection::Connection;
use crate::record::{ClientAuth, TokenSource};
use pleiades_core::{random, secret::Secret, web::HttpClient};

/// How long the server may take for both questions: a person waits.
const TIMEOUT: Duration = Duration::from_secs(6);
/// A code that no server ever made.
const NO_CODE: &str = "pleiades-asks-whether-this-client-is-known";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCheck {
    /// It knows it: another one, which it cannot know, is refused otherwise.
    Yes,
    No,
    /// It did not say: it judges the code alone, or did not answer.
    Unclear,
}

/// Asks the token endpoint with a code that cannot exist: `invalid_client` means that the client is gone.
///
/// Where the code is what is refused, a client that cannot exist is asked for too: only a server that
/// tells the two apart has looked at the client at all.
pub(crate) async fn check_client(
    web: &dyn HttpClient,
    connection: &Connection,
    source: &TokenSource,
    redirect: &str,
) -> ClientCheck {
    let asking = async {
        match ask(web, connection, source, redirect).await {
            ProbeAnswer::UnknownClient => ClientCheck::No,
            ProbeAnswer::Other => ClientCheck::Unclear,
            ProbeAnswer::WrongCode => match stranger(source) {
                Some(stranger) => match ask(web, connection, &stranger, redirect).await {
                    ProbeAnswer::UnknownClient => ClientCheck::Yes,
                    ProbeAnswer::WrongCode | ProbeAnswer::Other => ClientCheck::Unclear,
                },
                None => ClientCheck::Unclear,
            },
        }
    };
    timeout(TIMEOUT, asking).await.unwrap_or(ClientCheck::Unclear)
}

/// The same source for a client that nobody ever registered.
fn stranger(source: &TokenSource) -> Option<TokenSource> {
    let mut stranger = source.clone();
    stranger.client.id = format!("pleiades-{}", random::token::<32>().ok()?);
    if stranger.client.secret.is_some() {
        stranger.client.secret = Some(Secret::new(random::token::<32>().ok()?));
    }
    Some(stranger)
}

enum ProbeAnswer {
    UnknownClient,
    WrongCode,
    Other,
}

async fn ask(
    web: &dyn HttpClient,
    connection: &Connection,
    source: &TokenSource,
    redirect: &str,
) -> ProbeAnswer {
    let Ok(verifier) = random::token::<32>().map(Secret::new) else {
        return ProbeAnswer::Other;
    };
    let code = Secret::new(NO_CODE);
    debug_assert!(
        source.client.auth != ClientAuth::PrivateKeyJwt,
        "nobody registers with a key"
    );
    match token::exchange(web, connection, source, &code, Some(&verifier), redirect).await {
        Err(OAuthError {
            error: Some(error), ..
        }) if is_unknown_client(&error) => ProbeAnswer::UnknownClient,
        Err(trouble) if trouble.kind == OAuthErrorKind::Grant => ProbeAnswer::WrongCode,
        Err(trouble) if trouble.error.is_some() && may_be_unknown_client(&trouble.message) => {
            ProbeAnswer::UnknownClient
        }
        _ => ProbeAnswer::Other,
    }
}
