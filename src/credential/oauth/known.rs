//! Whether a server still knows a client that it registered once: servers lose them, and then show an
//! error of their own to people, of which we hear nothing (RFC 6749 section 4.1.2.1).

use std::time::Duration;

use tokio::time::timeout;

use super::{Trouble, TroubleKind, authorize, is_unknown_client, may_be_unknown_client, token};
use crate::credential::connection::Connection;
use crate::credential::record::{ClientAuth, Source};
use crate::credential::web::Web;
use crate::secret::Secret;

/// How long the server may take for both questions: a person waits.
const PATIENCE: Duration = Duration::from_secs(6);
/// A code that no server ever made.
const NO_CODE: &str = "pleiades-asks-whether-this-client-is-known";

/// What a server says of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It knows it: another one, which it cannot know, is refused otherwise.
    Yes,
    /// It refuses the client.
    No,
    /// It did not say: it judges the code alone, or did not answer.
    Unclear,
}

/// Asks the token endpoint with a code that cannot exist: `invalid_client` means that the client is gone.
///
/// Where the code is what is refused, a client that cannot exist is asked for too: only a server that
/// tells the two apart has looked at the client at all.
pub async fn is_known(web: &dyn Web, connection: &Connection, source: &Source, redirect: &str) -> Known {
    let asking = async {
        match said(web, connection, source, redirect).await {
            Answer::UnknownClient => Known::No,
            Answer::Other => Known::Unclear,
            Answer::WrongCode => match stranger(source) {
                Some(stranger) => match said(web, connection, &stranger, redirect).await {
                    Answer::UnknownClient => Known::Yes,
                    Answer::WrongCode | Answer::Other => Known::Unclear,
                },
                None => Known::Unclear,
            },
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or(Known::Unclear)
}

/// The same source for a client that nobody ever registered.
fn stranger(source: &Source) -> Option<Source> {
    let mut stranger = source.clone();
    stranger.client.id = format!("pleiades-{}", authorize::unguessable().ok()?.expose());
    if stranger.client.secret.is_some() {
        stranger.client.secret = Some(authorize::unguessable().ok()?);
    }
    Some(stranger)
}

enum Answer {
    UnknownClient,
    WrongCode,
    Other,
}

async fn said(web: &dyn Web, connection: &Connection, source: &Source, redirect: &str) -> Answer {
    let (Ok(verifier), code) = (authorize::unguessable(), Secret::new(NO_CODE)) else {
        return Answer::Other;
    };
    debug_assert!(
        source.client.auth != ClientAuth::PrivateKeyJwt,
        "nobody registers with a key"
    );
    match token::exchange(web, connection, source, &code, Some(&verifier), redirect).await {
        Err(Trouble {
            error: Some(error), ..
        }) if is_unknown_client(&error) => Answer::UnknownClient,
        Err(trouble) if trouble.kind == TroubleKind::Grant => Answer::WrongCode,
        Err(trouble) if trouble.error.is_some() && may_be_unknown_client(&trouble.message) => {
            Answer::UnknownClient
        }
        _ => Answer::Other,
    }
}
