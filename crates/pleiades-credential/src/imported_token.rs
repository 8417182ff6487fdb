//! Tokens that were obtained elsewhere, by the operator's own means, and put in through the admin
//! listener or `pleiades accounts set`.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::connection::{Connection, GrantType};
use super::oauth::{self, AuthServer, Challenge, OAuthErrorKind, Redirects, token_response};
use super::record::{AccountRecord, ClientAuth, OAuthClient, TokenSet, TokenSource};
use super::{AccountKey, manager::CredentialManager, pinned, vault::Fault};
use pleiades_core::{random, secret::Secret, signature::MAX_TOKEN, text::head, time::unix_now};

/// Above this a time in seconds is one in milliseconds: it lies in the year 5138.
const MILLIS: u64 = 100_000_000_000;

/// A token and its origin.
#[derive(Debug)]
pub struct ImportedToken {
    access: Secret,
    refresh: Option<Secret>,
    expires_at: Option<u64>,
    scopes: Option<Vec<String>>,
    label: Option<String>,
    from: TokenOrigin,
}

#[derive(Debug, Default)]
struct TokenOrigin {
    token_endpoint: Option<Url>,
    revocation_endpoint: Option<Url>,
    issuer: Option<String>,
    resource: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    auth: Option<ClientAuth>,
}

/// A token answer as RFC 6749 section 5.1 has it, and beside it who issued it to whom. That section
/// lets clients ignore what they do not know; what a person says here and is not heard (`expiry` for
/// `expires_at`) would be missed later.
#[derive(Deserialize)]
struct ImportDocument {
    token_type: Option<Value>,
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<Value>,
    expires_at: Option<Value>,
    scope: Option<Value>,
    label: Option<String>,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    issuer: Option<String>,
    resource: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    token_endpoint_auth_method: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Members of servers' answers that change nothing of how a token is used.
const IGNORED: [&str; 6] = [
    "id_token",
    "refresh_token_expires_in",
    "refresh_expires_in",
    "ext_expires_in",
    "session_state",
    "not-before-policy",
];
/// Unknown members that are named, and characters of each.
const NAMED: usize = 5;
const NAME: usize = 40;

/// Why a token is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The document is wrong; a sentence with the cure.
    #[error("{0}")]
    Invalid(String),
    /// No loaded provider has accounts under this name.
    #[error("no such provider with accounts is loaded")]
    UnknownProvider,
    /// Where it is to be refreshed could not be found out now.
    #[error("{0}")]
    Unreached(String),
    /// The store did not take it.
    #[error("the credential store cannot be reached")]
    Store(#[source] Fault),
}

impl ImportedToken {
    /// Reads a token answer.
    ///
    /// # Errors
    /// [`ImportError::Invalid`]; nothing of the token is repeated.
    pub fn read(json: &[u8]) -> Result<Self, ImportError> {
        let answer: ImportDocument = serde_json::from_slice(json)
            .map_err(|_cause| wrong("send a JSON object with `access_token`, as a token endpoint answers"))?;
        check_unknown(&answer.others)?;
        bearer(answer.token_type.as_ref())?;
        let from = TokenOrigin {
            token_endpoint: endpoint("token_endpoint", answer.token_endpoint)?,
            revocation_endpoint: endpoint("revocation_endpoint", answer.revocation_endpoint)?,
            issuer: filled(answer.issuer),
            resource: filled(answer.resource),
            client_id: filled(answer.client_id),
            client_secret: filled(answer.client_secret).map(Secret::new),
            auth: method(answer.token_endpoint_auth_method.as_deref())?,
        };
        Ok(Self {
            access: token("access_token", answer.access_token)?,
            refresh: filled(answer.refresh_token)
                .map(|text| token("refresh_token", text))
                .transpose()?,
            expires_at: ends(answer.expires_at.as_ref(), answer.expires_in.as_ref())?,
            scopes: scopes(answer.scope.as_ref())?,
            label: filled(answer.label).map(|label| head(&label, 256).to_owned()),
            from,
        })
    }

    /// A bare access token, of which nothing else is known.
    ///
    /// # Errors
    /// [`ImportError::Invalid`].
    pub fn bare(text: &str) -> Result<Self, ImportError> {
        Ok(Self {
            access: token("access_token", text.trim().to_owned())?,
            refresh: None,
            expires_at: None,
            scopes: None,
            label: None,
            from: TokenOrigin::default(),
        })
    }

    /// Whether it can be renewed.
    #[must_use]
    pub const fn is_refreshable(&self) -> bool {
        self.refresh.is_some()
    }

    /// Whether it can be stored without asking any server where it is renewed.
    #[must_use]
    pub fn needs_no_discovery(&self, connection: &Connection) -> bool {
        self.from.token_endpoint.is_some() || connection.token_endpoint.is_some()
    }

    /// Stores it as an account of a provider: what was there under this name is replaced.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn store(
        self,
        manager: &CredentialManager,
        connection: &Connection,
        challenge: Option<&Challenge>,
        key: &AccountKey,
    ) -> Result<(), ImportError> {
        if connection.grant != GrantType::AuthorizationCode {
            return Err(ImportError::UnknownProvider);
        }
        let source = self.source(manager, connection, challenge).await?;
        let united = manager
            .loaded()
            .and_then(|loaded| loaded.scopes(&connection.name));
        let requested = self.scopes.clone().or(united).unwrap_or_default();
        let now = unix_now();
        let record = AccountRecord {
            grant_id: random::token::<16>()
                .map_err(|_none| ImportError::Unreached("this machine gives no randomness".to_owned()))?,
            seq: 1,
            account: key.account.to_string(),
            label: self.label,
            subject: None,
            provider: connection.provider.to_string(),
            source,
            requested,
            granted: self.scopes,
            tokens: TokenSet {
                access: self.access,
                refresh: self.refresh,
                expires_at: self.expires_at,
                obtained_at: now,
            },
            lease: None,
            failures: 0,
            ended: None,
            chosen: 0,
            none_chosen: 0,
            since: 0,
            connected_at: now,
            unanswered: false,
            refusal: None,
            missed: None,
        };
        manager.connect(key, record).await.map_err(ImportError::Store)
    }

    async fn discovered_source(
        &self,
        manager: &CredentialManager,
        connection: &Connection,
        server: &oauth::AuthServer,
    ) -> Result<TokenSource, ImportError> {
        let from = &self.from;
        check_secret_issuer(manager, connection, server).await?;
        let nowhere = Redirects {
            used: String::new(),
            registered: Vec::new(),
            document: None,
        };
        let usual = || oauth::known_client(connection, server, &nowhere);
        let client = match self.own_client(connection).or_else(usual) {
            Some(client) => client,
            None if self.refresh.is_none() => nobody(),
            None => {
                return Err(wrong(
                    "a refresh token needs `client_id`: the client that it was issued to, because the \
                     descriptor names none",
                ));
            }
        };
        Ok(TokenSource {
            issuer: server.issuer.clone(),
            token_endpoint: server.token_endpoint.clone(),
            revocation_endpoint: server.revocation_endpoint.clone(),
            client,
            resource: from.resource.clone().or(server.resource.clone()),
        })
    }

    async fn source(
        &self,
        manager: &CredentialManager,
        connection: &Connection,
        challenge: Option<&Challenge>,
    ) -> Result<TokenSource, ImportError> {
        let from = &self.from;
        if let Some(endpoint) = &from.token_endpoint {
            // The descriptor's client is known to the descriptor's server, and its secret is told to
            // nobody else.
            let client = self.own_client(connection).ok_or_else(|| {
                wrong("`token_endpoint` needs `client_id`: the client that the token was issued to")
            })?;
            return Ok(TokenSource {
                issuer: from.issuer.clone(),
                token_endpoint: endpoint.to_string(),
                revocation_endpoint: from.revocation_endpoint.as_ref().map(Url::to_string),
                client,
                resource: from.resource.clone(),
            });
        }
        match oauth::discover(&**manager.web(), connection, challenge).await {
            Ok(server) => self.discovered_source(manager, connection, &server).await,
            // What cannot be renewed needs no endpoint to be renewed at.
            Err(_) if self.refresh.is_none() => Ok(TokenSource {
                issuer: from.issuer.clone(),
                token_endpoint: String::new(),
                revocation_endpoint: from.revocation_endpoint.as_ref().map(Url::to_string),
                client: self.own_client(connection).unwrap_or_else(nobody),
                resource: from.resource.clone(),
            }),
            Err(trouble) => {
                let reason = format!(
                    "where the refresh token is redeemed is not known: {}; say `token_endpoint` and `client_id`",
                    trouble.message
                );
                Err(match trouble.kind {
                    OAuthErrorKind::Transient => ImportError::Unreached(reason),
                    OAuthErrorKind::Grant | OAuthErrorKind::Client | OAuthErrorKind::Metadata => {
                        ImportError::Invalid(reason)
                    }
                })
            }
        }
    }

    fn own_client(&self, connection: &Connection) -> Option<OAuthClient> {
        let id = self.from.client_id.clone()?;
        let secret = self.from.client_secret.clone();
        if secret.is_none()
            && connection.client_id.as_deref() == Some(&id)
            && self.from.token_endpoint.is_none()
        {
            // The descriptor's own, named once more.
            return None;
        }
        let auth = self.from.auth.unwrap_or(if secret.is_some() {
            ClientAuth::Basic
        } else {
            ClientAuth::None
        });
        Some(OAuthClient {
            id,
            auth,
            secret,
            declared: false,
        })
    }
}

/// The client of a token that is never renewed.
fn nobody() -> OAuthClient {
    OAuthClient {
        id: String::new(),
        auth: ClientAuth::None,
        secret: None,
        declared: false,
    }
}

async fn check_secret_issuer(
    manager: &CredentialManager,
    connection: &Connection,
    server: &AuthServer,
) -> Result<(), ImportError> {
    let destination = (server.issuer.as_deref(), server.token_endpoint.as_str());
    let conflict = pinned::conflict(&**manager.vault(), connection, destination).await;
    let Some(pinned) = conflict.map_err(ImportError::Store)? else {
        return Ok(());
    };
    let (message, cure) = pinned::refusal(connection, &pinned, destination.0.unwrap_or(destination.1));
    Err(wrong(format!("{message}; {cure}")))
}

fn wrong(message: impl Into<String>) -> ImportError {
    ImportError::Invalid(message.into())
}

fn check_unknown(others: &Map<String, Value>) -> Result<(), ImportError> {
    let shown = |name: &String| -> String {
        let fits = name.chars().map(|it| {
            if it.is_ascii_graphic() && it != '`' {
                it
            } else {
                '?'
            }
        });
        fits.take(NAME).collect()
    };
    let unknown = others.keys().filter(|name| !IGNORED.contains(&name.as_str()));
    let named: Vec<String> = unknown
        .take(NAMED)
        .map(|name| format!("`{}`", shown(name)))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    Err(wrong(format!(
        "{} is not known here; beside `access_token` there may be `token_type`, `refresh_token`, `expires_in`, \
         `expires_at`, `scope`, `label`, `token_endpoint`, `revocation_endpoint`, `issuer`, `resource`, \
         `client_id`, `client_secret` and `token_endpoint_auth_method`",
        named.join(", ")
    )))
}

/// A token of another type is not carried as a bearer token is (RFC 6749 section 7.1).
fn bearer(kind: Option<&Value>) -> Result<(), ImportError> {
    let is_bearer = match kind {
        None | Some(Value::Null) => true,
        Some(Value::String(kind)) => kind.trim().eq_ignore_ascii_case("bearer"),
        Some(_) => false,
    };
    is_bearer.then_some(()).ok_or_else(|| {
        wrong("`token_type` is `Bearer`: tokens of other types (DPoP, MAC) are not spoken here")
    })
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

fn token(member: &str, text: String) -> Result<Secret, ImportError> {
    if (1..=MAX_TOKEN).contains(&text.len()) && token_response::is_visible(&text) {
        return Ok(Secret::new(text));
    }
    Err(wrong(format!(
        "`{member}` is no token: 1 to {MAX_TOKEN} visible ASCII characters without spaces"
    )))
}

fn endpoint(member: &str, text: Option<String>) -> Result<Option<Url>, ImportError> {
    let Some(text) = filled(text) else { return Ok(None) };
    let url = Url::parse(&text).ok().filter(Url::has_host);
    let is_sound = |url: &Url| {
        matches!(url.scheme(), "https" | "http") && url.fragment().is_none() && url.username().is_empty()
    };
    url.filter(is_sound)
        .map(Some)
        .ok_or_else(|| wrong(format!("`{member}` is not the URL of an endpoint")))
}

fn method(text: Option<&str>) -> Result<Option<ClientAuth>, ImportError> {
    match text {
        None | Some("") => Ok(None),
        Some("client_secret_basic") => Ok(Some(ClientAuth::Basic)),
        Some("client_secret_post") => Ok(Some(ClientAuth::Post)),
        Some("none") => Ok(Some(ClientAuth::None)),
        Some(_) => Err(wrong(
            "`token_endpoint_auth_method` is `client_secret_basic`, `client_secret_post` or `none`",
        )),
    }
}

/// When the access token ends, in unix seconds: `expires_at` wins over `expires_in`.
fn ends(at: Option<&Value>, within: Option<&Value>) -> Result<Option<u64>, ImportError> {
    if let Some(at) = at.filter(|value| !value.is_null()) {
        let at =
            token_response::seconds(at).ok_or_else(|| wrong("`expires_at` is a unix time in seconds"))?;
        return Ok(Some(if at > MILLIS { at / 1_000 } else { at }));
    }
    let Some(within) = within.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let within =
        token_response::seconds(within).ok_or_else(|| wrong("`expires_in` is a number of seconds"))?;
    Ok(Some(unix_now().saturating_add(within)))
}

fn scopes(value: Option<&Value>) -> Result<Option<Vec<String>>, ImportError> {
    let is_list = match value {
        None | Some(Value::Null | Value::String(_)) => true,
        Some(Value::Array(all)) => all.iter().all(Value::is_string),
        Some(_) => false,
    };
    is_list
        .then(|| token_response::scopes(value))
        .ok_or_else(|| wrong("`scope` is a text of scopes separated by spaces"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImportedToken, ImportError> {
        ImportedToken::read(text.as_bytes())
    }

    #[test]
    fn a_token_answer_is_read_as_servers_write_them() {
        let imported = read(
            r#"{"access_token":"at","token_type":"bearer","refresh_token":"rt","expires_in":"3600",
               "scope":"a  b","id_token":"x","label":"Me","ext_expires_in":3600}"#,
        )
        .unwrap();
        assert!(imported.is_refreshable());
        assert_eq!(imported.scopes.unwrap(), ["a", "b"]);
        let left = imported.expires_at.unwrap().saturating_sub(unix_now());
        assert!((3_590..=3_600).contains(&left), "{left}");
    }

    #[test]
    fn an_end_in_milliseconds_is_understood_and_wins() {
        let imported = read(r#"{"access_token":"at","expires_at":1795253857123,"expires_in":5}"#).unwrap();
        assert_eq!(imported.expires_at, Some(1_795_253_857));
        let imported = read(r#"{"access_token":"at","expires_at":null,"expires_in":null}"#).unwrap();
        assert_eq!(imported.expires_at, None);
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"s3cret with space"}"#,
            r#"{"access_token":"s3cret\n"}"#,
            r#"{"access_token":"at","refresh_token":"s3cret "}"#,
            r#"{"access_token":"at","expires_in":"soon"}"#,
            r#"{"access_token":"at","expires_in":-1}"#,
            r#"{"access_token":"at","scope":7}"#,
            r#"{"access_token":"at","token_endpoint":"file:///x"}"#,
            r#"{"access_token":"at","token_endpoint_auth_method":"tls"}"#,
            r#"{"access_token":"s3cret","access_token":"s3cret"}"#,
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, ImportError::Invalid(_)), "{text}");
            assert!(!format!("{error:?} {error}").contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn members_that_are_not_known_are_named_and_other_types_refused() {
        for (text, words) in [
            (
                r#"{"access_token":"at","expiry":"2026-12-01T00:00:00Z"}"#,
                "`expiry`",
            ),
            (
                r#"{"access_token":"at","expires":5,"tokenType":"x"}"#,
                "`expires`, `tokenType`",
            ),
            (r#"{"access_token":"at","a`\nb":1}"#, "`a??b`"),
            (r#"{"access_token":"at","token_type":"DPoP"}"#, "DPoP"),
            (r#"{"access_token":"at","token_type":"mac"}"#, "`token_type`"),
            (r#"{"access_token":"at","token_type":""}"#, "`token_type`"),
            (r#"{"access_token":"at","token_type":7}"#, "`token_type`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        for text in [
            r#"{"access_token":"at","token_type":"BEARER","session_state":"s"}"#,
            r#"{"access_token":"at","token_type":null}"#,
        ] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_bare_token_is_trimmed() {
        let imported = ImportedToken::bare(" at\n").unwrap();
        assert_eq!(
            (imported.access.expose(), imported.is_refreshable()),
            ("at", false)
        );
        assert!(ImportedToken::bare("two words").is_err());
        assert!(!format!("{imported:?}").contains("at\""));
    }
}
