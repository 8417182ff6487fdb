//! How the gateway logs in to Vault.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::auth::oidc::requests::JWTLoginRequest;
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest};

use super::transport::{TokenGrant, VaultReply, VaultTransport};
use super::{breaker::jittered, failure::RequestFailure};
use crate::vault::{Fault, Kind};
use pleiades_core::secret::Secret;

const WITHIN: Duration = Duration::from_secs(6);
/// Largest file of a token.
const MAX_TOKEN: u64 = 64 << 10;

/// How to log in: exactly one way.
#[derive(Debug, Clone)]
pub enum LoginMethod {
    /// With a token that somebody made for us.
    Token(Secret),
    /// With a token in a file, read again when it changes.
    TokenFile(PathBuf),
    /// With a role id and a secret id.
    AppRole {
        /// Mount of the login method.
        mount: String,
        /// Role id.
        role_id: String,
        /// Secret id.
        secret_id: Secret,
    },
    /// With the service account of a pod; the file is read at each login, as the cluster replaces it.
    Kubernetes {
        /// Mount of the login method.
        mount: String,
        /// Role in Vault.
        role: String,
        /// File of the service account's token.
        token_file: PathBuf,
    },
    /// With a JSON Web Token.
    Jwt {
        /// Mount of the login method.
        mount: String,
        /// Role in Vault.
        role: String,
        /// The token.
        token: Secret,
    },
}

impl LoginMethod {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::TokenFile(_) => "token_file",
            Self::AppRole { .. } => "approle",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Jwt { .. } => "jwt",
        }
    }

    pub(super) const fn can_log_in(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::TokenFile(_))
    }

    /// A token: a new one, or the one that was given.
    pub(super) async fn log_in(&self, wire: &VaultTransport) -> Result<VaultToken, Fault> {
        let what = "login";
        let reply = match self {
            Self::Token(token) => return VaultToken::given(token.clone(), wire).await,
            Self::TokenFile(file) => return VaultToken::given(read(file).await?, wire).await,
            Self::AppRole {
                mount,
                role_id,
                secret_id,
            } => {
                let mut request = LoginWithApproleRequest::builder();
                request
                    .mount(mount)
                    .role_id(role_id)
                    .secret_id(secret_id.expose());
                let request = request.build().map_err(|_error| unbuilt(what))?;
                wire.ask(request, None, WITHIN).await
            }
            Self::Kubernetes {
                mount,
                role,
                token_file,
            } => {
                let token = read(token_file).await?;
                let mut request = LoginWithKubernetesRequest::builder();
                request.mount(mount).role(role).jwt(token.expose());
                let request = request.build().map_err(|_error| unbuilt(what))?;
                wire.ask(request, None, WITHIN).await
            }
            Self::Jwt { mount, role, token } => {
                let mut request = JWTLoginRequest::builder();
                request.mount(mount).role(role).jwt(token.expose());
                let request = request.build().map_err(|_error| unbuilt(what))?;
                wire.ask(request, None, WITHIN).await
            }
        };
        self.granted(wire, reply)
    }

    fn granted(
        &self,
        wire: &VaultTransport,
        reply: Result<VaultReply<()>, RequestFailure>,
    ) -> Result<VaultToken, Fault> {
        let what = format!("login to vault by {}", self.name());
        match reply {
            Ok(VaultReply {
                auth: Some(granted), ..
            }) => Ok(granted.into()),
            Ok(_) => Err(RequestFailure::unreadable().fault(wire.base(), &what)),
            Err(mut trouble) => {
                // Vault may quote what it was given.
                let refused = matches!(trouble.kind, Kind::Refused | Kind::Denied);
                if !matches!(trouble.kind, Kind::Unreachable) {
                    trouble.text.clear();
                }
                let mut fault = trouble.fault(wire.base(), &what);
                if refused {
                    fault.kind = Kind::Denied;
                    fault.message = format!("{what}: vault at {} refused it: {}", wire.base(), self.cure());
                }
                Err(fault)
            }
        }
    }

    fn cure(&self) -> String {
        match self {
            Self::Token(_) | Self::TokenFile(_) => "give a token that holds".to_owned(),
            Self::AppRole { mount, .. } => {
                format!("check `role_id`, `secret_id` and the mount `auth/{mount}`")
            }
            Self::Kubernetes { mount, role, .. } => {
                format!(
                    "check the role `{role}` at `auth/{mount}`, its service accounts, namespaces and audience"
                )
            }
            Self::Jwt { mount, role, .. } => {
                format!(
                    "check the role `{role}` at `auth/{mount}`, its bound claims, and whether the token has ended"
                )
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct VaultToken {
    pub(super) token: Secret,
    /// `None`: for ever, or nobody knows.
    pub(super) ttl: Option<Duration>,
    pub(super) renewable: bool,
}

impl From<TokenGrant> for VaultToken {
    fn from(granted: TokenGrant) -> Self {
        Self {
            token: granted.client_token,
            ttl: (granted.lease_duration > 0).then(|| Duration::from_secs(granted.lease_duration)),
            renewable: granted.renewable,
        }
    }
}

/// What `lookup-self` says of a token.
#[derive(Deserialize)]
struct TokenInfo {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl VaultToken {
    /// A token that somebody gave us: how long it holds is asked. A policy that does not allow the
    /// question is no fault, the token may still serve.
    async fn given(token: Secret, wire: &VaultTransport) -> Result<Self, Fault> {
        let request = LookupTokenSelfRequest {};
        let (ttl, renewable) = match wire.ask::<TokenInfo>(request, Some(&token), WITHIN).await {
            Ok(VaultReply {
                data: Some(looked), ..
            }) => (looked.ttl, looked.renewable),
            Ok(_) => (0, false),
            Err(trouble) if matches!(trouble.kind, Kind::Denied | Kind::Refused) => (0, false),
            Err(trouble) => return Err(trouble.fault(wire.base(), "look at our own token")),
        };
        Ok(Self {
            token,
            ttl: (ttl > 0).then(|| Duration::from_secs(ttl)),
            renewable,
        })
    }

    /// Renews the token; the answer may grant less than was left when its end is fixed.
    pub(super) async fn renewed(token: &Secret, wire: &VaultTransport) -> Result<Self, RequestFailure> {
        let request = RenewTokenSelfRequest { increment: None };
        let reply = wire.ask::<()>(request, Some(token), WITHIN).await?;
        reply.auth.map(Self::from).ok_or_else(RequestFailure::unreadable)
    }

    /// When to renew: after two thirds of its life, a little earlier by chance.
    pub(super) fn renew_after(&self) -> Option<Duration> {
        self.ttl.map(|ttl| jittered(ttl * 2 / 3))
    }
}

/// A token in a file, without the white space around it.
pub(super) async fn read(file: &std::path::Path) -> Result<Secret, Fault> {
    let shown = file.display();
    let fault = |why: &str| {
        let message = format!("the token file `{shown}` {why}: make it readable for the gateway");
        Fault::new(Kind::Denied, message)
    };
    let facts = tokio::fs::metadata(file).await;
    let facts = facts.map_err(|cause| fault("cannot be read").because(cause))?;
    if !facts.is_file() || facts.len() > MAX_TOKEN {
        return Err(fault("is no file of a token"));
    }
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|cause| fault("cannot be read").because(cause))?;
    let text = zeroize::Zeroizing::new(text);
    match text.trim() {
        "" => Err(fault("is empty")),
        token => Ok(Secret::new(token)),
    }
}

fn unbuilt(what: &str) -> Fault {
    Fault::new(Kind::Refused, format!("{what}: the request cannot be written"))
}
