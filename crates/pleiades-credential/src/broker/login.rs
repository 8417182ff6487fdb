//! `OpenID` login of whoever opens a link. Nothing is stored for it: what the answer needs is sealed
//! into a cookie of the browser that began.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{BrowserRedirect, Callback, ConnectError, ConnectErrorKind, Endpoints, now, short};
use super::{LinkPayload, error::OF_SOMEBODY_ELSE, link::Links};
use crate::connection::{Connection, Pkce, ResourceParameter};
use crate::oauth::{self, AuthServer, Redirects, TokenClaims, TokenResponse};
use crate::{access::Principal, manager::CredentialManager, record::OAuthClient};
use pleiades_core::{secret::Secret, text::one_line, web::AddressPolicy};
use pleiades_mcp::seal::Sealer;

const FLOW: &str = "login flow";
const PROOF: &str = "login proof";

/// `OpenID` login of whoever opens a connect link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginConfig {
    /// The issuer, as its metadata names it.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there.
    pub client_secret: Option<Secret>,
    /// Which tenant logs in: a principal is tenant and user.
    pub tenant: Tenant,
    /// The claim that names the user; `email` only counts when it is verified.
    pub user_claim: String,
}

/// Which tenant a login proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// This one.
    Named(String),
    /// The one that this claim names.
    Claim(String),
}

/// Of a value that a login proves so many characters are logged.
const PROVED: usize = 128;

#[derive(Serialize, Deserialize)]
struct LoginCookie {
    link: String,
    verifier: Option<String>,
    nonce: Option<String>,
}

/// The login of people who open links.
#[derive(Debug)]
pub struct LoginFlow {
    pub(super) config: LoginConfig,
    pub(super) manager: Arc<CredentialManager>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) links: Arc<Links>,
    pub(super) endpoints: Arc<Endpoints>,
    /// How long a login may take, and how long it counts.
    pub(super) ttl: Duration,
}

impl LoginFlow {
    /// Sends the opener of a link to the login.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn begin(&self, link: &str) -> Result<BrowserRedirect, ConnectError> {
        let (connection, server, client) = self.server().await?;
        let scopes = connection.scopes.clone().unwrap_or_default();
        let redirect = self.endpoints.redirect_uri(None);
        let authorization = oauth::authorize(&connection, &server, &client, &redirect, &scopes)
            .map_err(|trouble| ConnectError::of_provider(&connection, "cannot begin", &trouble))?;
        let cookie = LoginCookie {
            link: link.to_owned(),
            verifier: authorization.verifier.map(|it| it.expose().to_owned()),
            nonce: authorization.nonce,
        };
        let payload = serde_json::to_vec(&cookie).unwrap_or_default();
        let state = authorization.state.expose();
        let cookie = self.sealer.seal(FLOW, state, self.until(), &payload);
        Ok(BrowserRedirect {
            url: authorization.url,
            cookie: Some((login_cookie(state), Secret::new(cookie))),
        })
    }

    /// The link of a login that this browser began, for the log.
    #[must_use]
    pub fn link_of(&self, callback: &Callback, cookie: &str) -> Option<LinkPayload> {
        let opened = self.sealer.open(FLOW, &callback.state, now(), cookie)?;
        let cookie: LoginCookie = serde_json::from_slice(&opened).ok()?;
        self.links.open(&cookie.link).ok()
    }

    /// Takes the answer of a login. `Ok`: the page to go back to, and the cookie that proves it there.
    ///
    /// # Errors
    /// [`ConnectError`]: another browser, another server, or another person than the link's.
    pub async fn finish(&self, callback: &Callback, cookie: &str) -> Result<BrowserRedirect, ConnectError> {
        let config = &self.config;
        let opened = self.sealer.open(FLOW, &callback.state, now(), cookie);
        let cookie: Option<LoginCookie> = opened.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let cookie = cookie.ok_or_else(stale)?;
        let link = self.links.open(&cookie.link)?;
        let (connection, server, client) = self.server().await?;
        let iss = callback.iss.as_deref();
        if iss.map_or(server.iss_supported, |iss| iss != config.issuer) {
            return Err(stale());
        }
        let Some(code) = callback.code.as_ref().filter(|_| callback.error.is_none()) else {
            return Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "You were not logged in.",
                "Open the link again and log in.",
            ));
        };
        let source = oauth::source(&connection, &server, client);
        let verifier = cookie.verifier.map(Secret::new);
        let web = &**self.manager.web();
        let redirect = self.endpoints.redirect_uri(None);
        let issued = oauth::exchange(web, &connection, &source, code, verifier.as_ref(), &redirect)
            .await
            .map_err(|trouble| ConnectError::of_provider(&connection, "did not finish", &trouble))?;
        let expected = oauth::ExpectedToken {
            issuer: Some(&config.issuer),
            any_tenant: false,
            client: &config.client_id,
            // It is what binds the login to this browser: none was sent means none that counts.
            nonce: Some(cookie.nonce.as_deref().ok_or_else(stale)?),
        };
        let token = issued.id_token.as_ref().ok_or_else(stale)?;
        let claims = oauth::validate(token, expected).map_err(|_refused| stale())?;
        self.check_principal(&claims, &link.principal, (&connection, &server, &issued))
            .await?;
        let proof = self.sealer.seal(PROOF, &link.id, self.until(), b"");
        let url = Url::parse(&self.endpoints.connect_page(&cookie.link)).map_err(|_malformed| stale())?;
        let cookie = Some((proof_cookie(&link.id), Secret::new(proof)));
        Ok(BrowserRedirect { url, cookie })
    }

    /// Whether a login proves to be the link's principal, which is a tenant and a user.
    async fn check_principal(
        &self,
        claims: &TokenClaims,
        principal: &Principal,
        (connection, server, issued): (&Connection, &AuthServer, &TokenResponse),
    ) -> Result<(), ConnectError> {
        let config = &self.config;
        let all = Value::Object(claims.clone());
        if !is_tenant(&all, &config.tenant, &principal.tenant) {
            let (claim, proved) = match &config.tenant {
                Tenant::Named(name) => (None, Some(name.as_str())),
                Tenant::Claim(claim) => (Some(claim.as_str()), at(&all, claim)),
            };
            log_other(principal, ("tenant", claim, proved));
            return Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "You are logged in, but this link was made for somebody of another tenant.",
                format!(
                    "{OF_SOMEBODY_ELSE} Whoever runs the gateway says in `access.login.tenant`, or `tenant_claim`, whose \
                     people log in."
                ),
            ));
        }
        let mut user = user_of(&all, &config.user_claim);
        if config.user_claim == "email" && !claims.contains_key("email") {
            let web = &**self.manager.web();
            let profile = oauth::profile(web, connection, server, &issued.access, claims).await;
            let subject = claims.get("sub").and_then(Value::as_str);
            let is_same = subject.is_some() && profile.subject.as_deref() == subject;
            user = profile.verified_email.filter(|_| is_same);
        }
        if user.as_deref() != Some(&*principal.user) {
            log_other(principal, ("user", Some(&config.user_claim), user.as_deref()));
            return Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "You are logged in, but this link was made for somebody else.",
                OF_SOMEBODY_ELSE,
            ));
        }
        Ok(())
    }

    /// Whether a cookie proves the login that the link of a connection wants.
    pub(super) fn is_proven(&self, handle: &str, cookie: &str) -> bool {
        self.sealer.open(PROOF, handle, now(), cookie).is_some()
    }

    fn until(&self) -> u64 {
        now().saturating_add(self.ttl.as_secs())
    }

    /// The login as the protocol's functions know servers. The operator named it, so it may be anywhere.
    async fn server(&self) -> Result<(Connection, AuthServer, OAuthClient), ConnectError> {
        let config = &self.config;
        let upstream = Url::parse(&config.issuer).map_err(|_malformed| stale())?;
        let anywhere = AddressPolicy {
            private: true,
            loopback: true,
            ca: None,
        };
        let mut connection = Connection {
            client_id: Some(config.client_id.clone()),
            client_secret: config.client_secret.clone(),
            scopes: Some(["openid", "email", "profile"].map(str::to_owned).to_vec()),
            issuer: Some(config.issuer.clone()),
            resource: ResourceParameter::Off,
            ..Connection::discovering("login".into(), "the login".to_owned(), upstream, anywhere)
        };
        let server = oauth::discover(&**self.manager.web(), &connection, None)
            .await
            .map_err(|trouble| ConnectError::of_provider(&connection, "cannot begin", &trouble))?;
        // Many OpenID providers take PKCE without saying so; the nonce and the client's secret stand
        // in where one says nothing.
        if server.challenge_methods.is_none() {
            connection.pkce = Pkce::Off;
        }
        let redirect = self.endpoints.redirect_uri(None);
        let redirects = Redirects {
            registered: vec![redirect.clone()],
            used: redirect,
            document: None,
        };
        let client = oauth::known_client(&connection, &server, &redirects).ok_or_else(stale)?;
        Ok((connection, server, client))
    }
}

fn login_cookie(state: &str) -> String {
    format!("pleiades_login_{}", short(state))
}

impl Callback {
    /// The name of the cookie that it brings when it answers a login.
    #[must_use]
    pub fn login_cookie(&self) -> String {
        login_cookie(&self.state)
    }
}

/// The name of the cookie by which a login is proven for the link of a connection.
#[must_use]
pub fn proof_cookie(handle: &str) -> String {
    format!("pleiades_proof_{}", short(handle))
}

/// The user whom the claims name; an email only once its issuer has verified it.
fn user_of(claims: &Value, claim: &str) -> Option<String> {
    let is_email = matches!(claim, "email" | "/email");
    let is_verified = claims.as_object().is_some_and(oauth::is_email_verified);
    let name = at(claims, claim)?;
    (is_verified || !is_email).then(|| name.to_owned())
}

/// Logs a login that is not the link's: of somebody else, which is for that person to mend, or one that proves
/// nobody, which the settings have to mend.
fn log_other(principal: &Principal, (what, claim, proved): (&str, Option<&str>, Option<&str>)) {
    let (tenant, user) = (&*principal.tenant, &*principal.user);
    let outcome = ConnectErrorKind::Unproven.as_str();
    match proved {
        Some(proved) => tracing::info!(
            principal.tenant = tenant,
            principal.user = user,
            outcome,
            error = format!("the person who logged in is not the one whose link it is: another {what}"),
            cure = "the person of the link opens it; if it was that person, `access.login` takes the wrong claim or \
                    tenant",
            oauth.claim = claim,
            oauth.proved = one_line(proved, PROVED),
            "a login was refused"
        ),
        None => tracing::warn!(
            principal.tenant = tenant,
            principal.user = user,
            outcome,
            error = format!("the login has no claim that proves its {what}"),
            cure = format!(
                "`access.login.{what}_claim` has to name the claim whose value is the {what} of `access`"
            ),
            oauth.claim = claim,
            "a login was refused"
        ),
    }
}

fn is_tenant(claims: &Value, proves: &Tenant, tenant: &str) -> bool {
    match proves {
        Tenant::Named(name) => name == tenant,
        Tenant::Claim(claim) => at(claims, claim) == Some(tenant),
    }
}

/// A claim by its name, or by a JSON pointer.
fn at<'a>(claims: &'a Value, claim: &str) -> Option<&'a str> {
    let found = match claim.starts_with('/') {
        true => claims.pointer(claim),
        false => claims.get(claim),
    };
    found?.as_str().filter(|text| !text.is_empty())
}

pub(super) fn stale() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Unproven,
        "This login does not belong to a link that was opened in this browser.",
        "Open the link again and log in.",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_login_proves_one_tenant_and_never_another() {
        let claims = json!({ "sub": "ann", "tid": "acme", "org": { "id": "globex" } });
        let named = Tenant::Named("acme".to_owned());
        assert!(is_tenant(&claims, &named, "acme") && !is_tenant(&claims, &named, "globex"));
        let claim = |name: &str| Tenant::Claim(name.to_owned());
        assert!(is_tenant(&claims, &claim("tid"), "acme") && !is_tenant(&claims, &claim("tid"), "globex"));
        assert!(is_tenant(&claims, &claim("/org/id"), "globex"));
        for missing in ["tenant", "/org", "/org/name", "org", ""] {
            assert!(!is_tenant(&claims, &claim(missing), ""), "{missing}");
            assert!(!is_tenant(&claims, &claim(missing), "acme"), "{missing}");
        }
    }

    #[test]
    fn a_user_is_named_by_its_claim_alone_and_an_email_has_to_be_verified() {
        let claims = |verified: Value| json!({ "sub": "s-1", "email": "ann@x", "email_verified": verified });
        assert_eq!(user_of(&claims(json!(true)), "sub").as_deref(), Some("s-1"));
        assert_eq!(user_of(&claims(json!(true)), "email").as_deref(), Some("ann@x"));
        for unproven in [json!(false), json!("false"), json!(null), json!(1)] {
            assert_eq!(user_of(&claims(unproven.clone()), "email"), None, "{unproven}");
            assert_eq!(user_of(&claims(unproven), "/email"), None);
        }
        assert_eq!(user_of(&json!({ "sub": 7 }), "sub"), None);
        assert_eq!(user_of(&json!({ "sub": "" }), "sub"), None);
    }
}
