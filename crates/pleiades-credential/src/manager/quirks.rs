//! Renewals without the parameters that their servers refuse. `scope` is optional there (RFC 6749 section 6)
//! and refused by some servers, and so is `resource` (RFC 8707 section 2.2); others give less without.

use pleiades_core::{bounded::Bounded, secret::Secret, web::HttpClient};

use crate::connection::{Connection, ResourceParameter};
use crate::oauth::{self, OAuthError, OAuthErrorKind, TokenResponse};
use crate::record::TokenSource;

/// Registrations that are remembered; one that is forgotten costs a refused request.
const REMEMBERED: usize = 4_096;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OmittedParams {
    scope: bool,
    resource: bool,
}

/// Parameters that servers refuse at a renewal, by token endpoint and client.
#[derive(Debug)]
pub(super) struct RenewalQuirks(Bounded<(String, String), OmittedParams>);

impl Default for RenewalQuirks {
    fn default() -> Self {
        Self(Bounded::new(REMEMBERED))
    }
}

impl RenewalQuirks {
    fn of(&self, source: &TokenSource) -> OmittedParams {
        self.0.get(&registration(source)).unwrap_or_default()
    }

    fn learn(&self, source: &TokenSource, without: OmittedParams) {
        self.0.insert(registration(source), without);
    }

    /// Redeems a refresh token, and again without `scope` or `resource` when the refusal may be about
    /// those: a refused request used nothing up. The next renewal leaves them out at once.
    pub(super) async fn renew(
        &self,
        web: &dyn HttpClient,
        connection: &Connection,
        (source, refresh): (&TokenSource, &Secret),
        scopes: Option<&[String]>,
    ) -> Result<TokenResponse, OAuthError> {
        let learned = self.of(source);
        let mut without = learned;
        loop {
            let mut lean = source.clone();
            lean.resource = lean.resource.filter(|_| !without.resource);
            let scopes = scopes.filter(|all| !without.scope && !all.is_empty());
            let answer = oauth::refresh(web, connection, &lean, refresh, scopes).await;
            let Err(trouble) = &answer else {
                if without != learned {
                    self.learn(source, without);
                }
                return answer;
            };
            let sent = OmittedParams {
                scope: scopes.is_some(),
                // What the operator wrote out is sent as it is.
                resource: lean.resource.is_some() && connection.resource == ResourceParameter::Auto,
            };
            match refused_param(trouble) {
                Some(RefusedParam::Scope) if sent.scope => without.scope = true,
                Some(RefusedParam::Resource) if sent.resource => without.resource = true,
                _ => return answer,
            }
        }
    }
}

fn registration(source: &TokenSource) -> (String, String) {
    (source.token_endpoint.clone(), source.client.id.clone())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusedParam {
    Scope,
    Resource,
}

fn refused_param(trouble: &OAuthError) -> Option<RefusedParam> {
    if trouble.kind != OAuthErrorKind::Client || trouble.unread || !trouble.sent {
        return None;
    }
    let code = trouble.error.as_deref().unwrap_or_default().to_ascii_lowercase();
    match &*code {
        "invalid_scope" => return Some(RefusedParam::Scope),
        "invalid_target" => return Some(RefusedParam::Resource),
        // Whoever says that means the client, the person or the grant.
        "invalid_client"
        | "unauthorized_client"
        | "access_denied"
        | "unsupported_grant_type"
        | "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required" => return None,
        _ => {}
    }
    let words = trouble.description.as_deref().unwrap_or_default();
    let words = words.to_ascii_lowercase();
    let is_resource = ["resource", "audience", "target"]
        .iter()
        .any(|it| words.contains(it));
    Some(if is_resource && !words.contains("scope") {
        RefusedParam::Resource
    } else {
        RefusedParam::Scope
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: OAuthErrorKind) -> OAuthError {
        let mut trouble = OAuthError::new(kind, "refused");
        trouble.sent = true;
        trouble
    }

    fn refusal(error: Option<&str>, description: Option<&str>) -> OAuthError {
        let mut trouble = of(OAuthErrorKind::Client);
        trouble.error = error.map(str::to_owned);
        trouble.description = description.map(str::to_owned);
        trouble
    }

    #[test]
    fn refusals_of_the_scope_or_the_resource_are_distinguished_from_those_of_the_client_or_the_person() {
        let scope = Some(RefusedParam::Scope);
        let resource = Some(RefusedParam::Resource);
        for (error, description, expected) in [
            (Some("invalid_scope"), None, scope),
            (Some("INVALID_SCOPE"), None, scope),
            (Some("invalid_target"), None, resource),
            (
                Some("invalid_request"),
                Some("scope parameter not supported"),
                scope,
            ),
            (
                Some("invalid_request"),
                Some("the resource does not match the scope"),
                scope,
            ),
            (
                Some("invalid_request"),
                Some("AADSTS9010010: the resource is unknown"),
                resource,
            ),
            (Some("invalid_request"), None, scope),
            (None, Some("bad request"), scope),
            (Some("invalid_client"), Some("scope"), None),
            (Some("interaction_required"), Some("scope"), None),
            (Some("access_denied"), None, None),
        ] {
            assert_eq!(
                refused_param(&refusal(error, description)),
                expected,
                "{error:?} {description:?}"
            );
        }
        let others = [
            OAuthErrorKind::Transient,
            OAuthErrorKind::Grant,
            OAuthErrorKind::Metadata,
        ];
        assert!(others.iter().all(|kind| refused_param(&of(*kind)).is_none()));
    }

    #[test]
    fn quirks_are_bounded() {
        let quirks = RenewalQuirks::default();
        let mut source = super::super::tests::world::record("ann", "rt", 0).source;
        let bare = OmittedParams {
            scope: true,
            resource: false,
        };
        for at in 0..=REMEMBERED {
            source.client.id = format!("client-{at}");
            quirks.learn(&source, bare);
        }
        assert_eq!(quirks.0.lock().len(), REMEMBERED);
        assert_eq!(quirks.of(&source), bare);
    }
}
