//! `OpenID` login of whoever opens a link. Nothing is stored for it: what the answer needs is sealed
//! into a cookie of the browser that began.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::start::provider_error;
use super::{Broker, BrowserRedirect, Callback, ConnectError, ConnectErrorKind, hashed, now, short};
use crate::access::Principal;
use crate::connection::{Connection, GrantType, Pkce, ResourceParameter};
use crate::oauth::{self, AuthServer, Redirects, TokenClaims, TokenResponse};
use crate::record::OAuthClient;
use pleiades_core::secret::Secret;
use pleiades_core::web::AddressPolicy;

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
    /// Whose people log in: a principal is tenant and user.
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

/// What the answer to a login needs.
#[derive(Serialize, Deserialize)]
struct LoginCookie {
    link: String,
    verifier: Option<String>,
    nonce: Option<String>,
}

impl Broker {
    /// Sends the opener of a link to the login.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn begin_login(&self, link: &str) -> Result<BrowserRedirect, ConnectError> {
        let login = self.login()?;
        let (connection, server, client) = self.login_server(login).await?;
        let scopes = connection.scopes.clone().unwrap_or_default();
        let authorization =
            oauth::authorize(&connection, &server, &client, &self.redirect_uri(None), &scopes)
                .map_err(|trouble| provider_error(&connection, "cannot begin", &trouble))?;
        let sealed = LoginCookie {
            link: link.to_owned(),
            verifier: authorization.verifier.map(|it| it.expose().to_owned()),
            nonce: authorization.nonce,
        };
        let payload = serde_json::to_vec(&sealed).unwrap_or_default();
        let state = authorization.state.expose();
        let until = now().saturating_add(self.config.pending_ttl.as_secs());
        let cookie = self.config.sealer.seal(FLOW, state, until, &payload);
        Ok(BrowserRedirect {
            url: authorization.url,
            cookie: Some((login_cookie(state), Secret::new(cookie))),
        })
    }

    /// Takes the answer of a login. `Ok`: the page to go back to, and the cookie that proves it there.
    ///
    /// # Errors
    /// [`Refusal`]: another browser, another server, or another person than the link's.
    pub async fn finish_login(
        &self,
        callback: &Callback,
        cookie: &str,
    ) -> Result<BrowserRedirect, ConnectError> {
        let login = self.login()?;
        let opened = self.config.sealer.open(FLOW, &callback.state, now(), cookie);
        let sealed: Option<LoginCookie> = opened.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let sealed = sealed.ok_or_else(stale)?;
        let link = self.open_link(&sealed.link)?;
        let (connection, server, client) = self.login_server(login).await?;
        let iss = callback.iss.as_deref();
        if iss.map_or(server.iss_supported, |iss| iss != login.issuer) {
            return Err(stale());
        }
        let Some(code) = callback.code.as_ref().filter(|_| callback.error.is_none()) else {
            return Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "You were not logged in.",
                "Open the connect link again and log in.",
            ));
        };
        let source = oauth::source(&connection, &server, client);
        let verifier = sealed.verifier.map(Secret::new);
        let web = &**self.config.manager.web();
        let redirect = self.redirect_uri(None);
        let issued = oauth::exchange(web, &connection, &source, code, verifier.as_ref(), &redirect)
            .await
            .map_err(|trouble| provider_error(&connection, "did not finish", &trouble))?;
        let expected = oauth::ExpectedToken {
            issuer: Some(&login.issuer),
            any_tenant: false,
            client: &login.client_id,
            // It binds the login to this browser, so that a login without one does not count.
            nonce: Some(sealed.nonce.as_deref().ok_or_else(stale)?),
        };
        let token = issued.id_token.as_ref().ok_or_else(stale)?;
        let claims = oauth::validate(token, expected).map_err(|_refused| stale())?;
        self.check_principal(&claims, login, &link.principal, (&connection, &server, &issued))
            .await?;
        let until = now().saturating_add(self.config.pending_ttl.as_secs());
        let proof = self.config.sealer.seal(PROOF, &hashed(&sealed.link), until, b"");
        let url = Url::parse(&self.at(&format!("/oauth/connect/{}", sealed.link)));
        let url = url.map_err(|_malformed| stale())?;
        let cookie = Some((proof_cookie(&sealed.link), Secret::new(proof)));
        Ok(BrowserRedirect { url, cookie })
    }

    /// Whether a login proves to be the link's principal, which is a tenant and a user.
    async fn check_principal(
        &self,
        claims: &TokenClaims,
        login: &LoginConfig,
        principal: &Principal,
        (connection, server, issued): (&Connection, &AuthServer, &TokenResponse),
    ) -> Result<(), ConnectError> {
        let web = &**self.config.manager.web();
        let all = Value::Object(claims.clone());
        if !is_tenant(&all, &login.tenant, &principal.tenant) {
            tracing::warn!("a login was refused: it does not prove the tenant that the link is for");
            return Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "This link was made for another tenant than the one that this login proves.",
                "If somebody sent you this link, do not use it: make the call yourself to get one of your own. Whoever \
                 runs the gateway says in `access.login.tenant`, or `tenant_claim`, whose people log in.",
            ));
        }
        let mut user = user_of(&all, &login.user_claim);
        if login.user_claim == "email" && !claims.contains_key("email") {
            let profile = oauth::profile(web, connection, server, &issued.access, claims).await;
            let subject = claims.get("sub").and_then(Value::as_str);
            let is_same = subject.is_some() && profile.subject.as_deref() == subject;
            user = profile.verified_email.filter(|_| is_same);
        }
        if user.as_deref() != Some(&*principal.user) {
            tracing::warn!(
                claim = login.user_claim,
                named = user.is_some(),
                "a login was refused: it does not prove the user that the link is for"
            );
            return Err(ConnectError::new(
                ConnectErrorKind::Unproven,
                "This link was made for somebody else than who is logged in.",
                "If somebody sent you this link, do not use it: make the call yourself to get one of your own.",
            ));
        }
        Ok(())
    }

    /// Whether a cookie proves the login that a link wants.
    pub(super) fn is_logged_in(&self, link: &str, cookie: &str) -> bool {
        let sealer = &self.config.sealer;
        sealer.open(PROOF, &hashed(link), now(), cookie).is_some()
    }

    fn login(&self) -> Result<&LoginConfig, ConnectError> {
        self.config.login.as_ref().ok_or_else(stale)
    }

    async fn login_server(
        &self,
        login: &LoginConfig,
    ) -> Result<(Connection, AuthServer, OAuthClient), ConnectError> {
        let mut connection = connection(login)?;
        let web = &**self.config.manager.web();
        let server = oauth::discover(web, &connection, None)
            .await
            .map_err(|trouble| provider_error(&connection, "cannot begin", &trouble))?;
        // Many OpenID providers take PKCE without saying so; the nonce and the client's secret stand
        // in where one says nothing.
        if server.challenge_methods.is_none() {
            connection.pkce = Pkce::Off;
        }
        let redirect = self.redirect_uri(None);
        let redirects = Redirects {
            registered: vec![redirect.clone()],
            used: redirect,
            document: None,
        };
        let client = oauth::known_client(&connection, &server, &redirects).ok_or_else(stale)?;
        Ok((connection, server, client))
    }
}

impl Callback {
    /// The name of the cookie that it brings when it answers a login.
    #[must_use]
    pub fn login_cookie(&self) -> String {
        login_cookie(&self.state)
    }
}

fn login_cookie(state: &str) -> String {
    format!("pleiades_login_{}", short(state))
}

/// The name of the cookie by which a login is proven for a link.
#[must_use]
pub fn proof_cookie(link: &str) -> String {
    format!("pleiades_proof_{}", short(link))
}

/// The login as the protocol's functions know servers. The operator named it, so it may be anywhere.
fn connection(login: &LoginConfig) -> Result<Connection, ConnectError> {
    let upstream = Url::parse(&login.issuer).map_err(|_malformed| stale())?;
    Ok(Connection {
        name: "login".into(),
        provider: "login".into(),
        title: "the login".to_owned(),
        grant: GrantType::AuthorizationCode,
        upstream,
        reach: AddressPolicy {
            private: true,
            loopback: true,
            ca: None,
        },
        client_id: Some(login.client_id.clone()),
        client_secret: login.client_secret.clone(),
        private_key: None,
        scopes: Some(["openid", "email", "profile"].map(str::to_owned).to_vec()),
        authorization_endpoint: None,
        token_endpoint: None,
        revocation_endpoint: None,
        issuer: Some(login.issuer.clone()),
        metadata: None,
        token_auth: None,
        pkce: Pkce::Auto,
        audience: None,
        resource: ResourceParameter::Off,
        parameters: BTreeMap::new(),
        connect_url: None,
        lead: Duration::ZERO,
        attempts: 1,
    })
}

/// The user whom the claims name; an email only once its issuer has verified it.
fn user_of(claims: &Value, claim: &str) -> Option<String> {
    let is_email = matches!(claim, "email" | "/email");
    let is_verified = claims.as_object().is_some_and(oauth::is_email_verified);
    let name = at(claims, claim)?;
    (is_verified || !is_email).then(|| name.to_owned())
}

/// Whether a login proves this tenant.
fn is_tenant(claims: &Value, proves: &Tenant, tenant: &str) -> bool {
    match proves {
        Tenant::Named(name) => name == tenant,
        Tenant::Claim(claim) => at(claims, claim) == Some(tenant),
    }
}

/// A claim by its name, or by a JSON pointer.
fn at<'a>(claims: &'a Value, claim: &str) -> Option<&'a str> {
    let found = if claim.starts_with('/') {
        claims.pointer(claim)
    } else {
        claims.get(claim)
    };
    found?.as_str().filter(|text| !text.is_empty())
}

fn stale() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Unproven,
        "This login does not belong to a connect link that was opened in this browser.",
        "Open the connect link again and log in.",
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
