//! Dynamic client registration (RFC 7591).

use http::{Method, Request, header};
use serde_json::{Map, Value, json};
use url::Url;

use super::authorize::beside;
use super::{Redirects, Server, Trouble, TroubleKind, fetch, trouble};
use crate::credential::connection::Connection;
use crate::credential::record::{Client, ClientAuth};
use crate::credential::web::Web;
use crate::secret::Secret;

/// The name that people read on consent pages where the caller gives none.
const NAME: &str = "Pleiades";

/// A client as a server registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Who we are there.
    pub client: Client,
    /// When its secret ends, in unix seconds: register again before that. `None`: never.
    pub secret_expires_at: Option<u64>,
}

/// Registers a client (RFC 7591); what [`registration`] does, for those who keep no expiry.
///
/// # Errors
/// [`Trouble`].
pub async fn register(
    web: &dyn Web,
    connection: &Connection,
    server: &Server,
    redirects: &Redirects,
) -> Result<Client, Trouble> {
    Ok(registration(web, connection, server, redirects).await?.client)
}

/// Registers a client (RFC 7591) with all callbacks of ours, and says when its secret ends.
///
/// # Errors
/// [`TroubleKind::Client`] when the server registers nobody, or not us; [`TroubleKind::Transient`]
/// when it could not be asked.
pub async fn registration(
    web: &dyn Web,
    connection: &Connection,
    server: &Server,
    redirects: &Redirects,
) -> Result<Registered, Trouble> {
    const CURE: &str = "register a client by hand and put its `client_id` into the descriptor";
    let endpoint = server.registration_endpoint.as_deref().and_then(fetch::usable);
    let endpoint = endpoint.ok_or_else(|| {
        Trouble::client("the authorization server registers no clients by itself").cure(CURE)
    })?;
    let auth = method(connection, server)?;
    let asked = request(server, redirects, auth);
    let body = serde_json::to_vec(&asked).unwrap_or_default();
    let request = Request::builder()
        .method(Method::POST)
        .uri(endpoint.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(body)
        .map_err(|_error| Trouble::metadata("the registration endpoint is no address to ask"))?;
    let response = web.send(&fetch::reach(connection, &endpoint), request).await?;
    let status = response.status();
    if fetch::failing(status) {
        let message = format!("registration is failing with status {}", status.as_u16());
        return Err(Trouble::transient(message)
            .after(fetch::retry_after(&response))
            .sent());
    }
    let said: Option<Map<String, Value>> = serde_json::from_slice(response.body()).ok();
    let said = said.unwrap_or_default();
    // Some servers answer 200 where the specification has 201.
    if !status.is_success() || said.contains_key("error") {
        return Err(refused(&said, status.as_u16()).cure(CURE));
    }
    accepted(&said, auth).ok_or_else(|| {
        Trouble::client("the answer to the registration holds no client that can be used").cure(CURE)
    })
}

/// The method to be registered with: the descriptor's, else the best that the server takes. A secret in
/// the form comes before one in a header: what is registered is ours to choose, and the servers built on
/// the Python SDK want `client_id` in the form whatever they were told.
fn method(connection: &Connection, server: &Server) -> Result<ClientAuth, Trouble> {
    let takes = |auth: ClientAuth| match &server.auth_methods {
        Some(all) => all.iter().any(|it| it == auth.as_str()),
        // What is not said is basic (RFC 8414 section 2).
        None => auth == ClientAuth::Basic,
    };
    let wanted = connection
        .token_auth
        .filter(|it| *it != ClientAuth::PrivateKeyJwt);
    let known = [ClientAuth::Post, ClientAuth::Basic, ClientAuth::None];
    let best = known.into_iter().find(|auth| takes(*auth));
    wanted.filter(|it| takes(*it)).or(best).ok_or_else(|| {
        Trouble::client("the authorization server takes no client authentication that a registration gives")
            .cure("register a client by hand, with a `private_key` in the descriptor")
    })
}

fn request(server: &Server, redirects: &Redirects, auth: ClientAuth) -> Value {
    let native =
        Url::parse(&redirects.used).is_ok_and(|url| url.scheme() == "http" && fetch::is_loopback(&url));
    let mut uris = redirects.registered.clone();
    if !uris.contains(&redirects.used) {
        uris.insert(0, redirects.used.clone());
    }
    let mut asked = json!({
        "client_name": NAME,
        "application_type": if native { "native" } else { "web" },
        "redirect_uris": uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": auth.as_str(),
    });
    let scopes = server.resource_scopes.as_deref().unwrap_or_default();
    if let (Some(asked), false) = (asked.as_object_mut(), scopes.is_empty()) {
        let mut scopes = scopes.to_vec();
        // A server that binds clients to scopes would refuse it later.
        for scope in beside(server) {
            if !scopes.iter().any(|it| it == scope) {
                scopes.push(scope.to_owned());
            }
        }
        asked.insert("scope".to_owned(), json!(scopes.join(" ")));
    }
    asked
}

fn accepted(said: &Map<String, Value>, asked: ClientAuth) -> Option<Registered> {
    let id = fetch::text(said, "client_id")?;
    let secret = fetch::text(said, "client_secret").map(Secret::new);
    let auth = match fetch::text(said, "token_endpoint_auth_method") {
        Some(name) => ClientAuth::parse(&name)?,
        None => asked,
    };
    let auth = match (auth, &secret) {
        // There is nothing to prove it with.
        (ClientAuth::Basic | ClientAuth::Post, None) => ClientAuth::None,
        (auth, _) => auth,
    };
    let ends = said.get("client_secret_expires_at").and_then(Value::as_u64);
    let secret = secret.filter(|_| matches!(auth, ClientAuth::Basic | ClientAuth::Post));
    Some(Registered {
        secret_expires_at: ends.filter(|at| *at > 0 && secret.is_some()),
        client: Client {
            id,
            auth,
            secret,
            declared: false,
        },
    })
}

fn refused(said: &Map<String, Value>, status: u16) -> Trouble {
    let code = fetch::text(said, "error").and_then(|it| trouble::code(&it, &[]));
    let why = fetch::text(said, "error_description").and_then(|it| trouble::shown(&it, &[]));
    let mut message = format!(
        "the registration was refused: {}",
        code.clone().unwrap_or_else(|| format!("status {status}"))
    );
    if let Some(why) = why {
        message = format!("{message} ({why})");
    }
    let mut trouble = Trouble::new(TroubleKind::Client, message).sent();
    trouble.error = code.and_then(|it| trouble::registered(&it));
    trouble
}
