//! A renewal with no more in it than its server takes. `scope` is optional there (RFC 6749 section 6)
//! and refused by some servers, and so is `resource` (RFC 8707 section 2.2); others give less without.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::credential::connection::{Connection, Resource};
use crate::credential::oauth::{self, Issued, Trouble, TroubleKind};
use crate::credential::record::Source;
use crate::credential::web::Web;
use crate::secret::Secret;

/// Registrations that are remembered; beyond it all are forgotten, which costs each one refused request.
const REMEMBERED: usize = 4_096;

/// What is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Without {
    scope: bool,
    resource: bool,
}

/// What the servers of registrations do not take at a renewal, by token endpoint and client.
#[derive(Debug, Default)]
pub(super) struct Habits(Mutex<HashMap<(String, String), Without>>);

impl Habits {
    fn of(&self, source: &Source) -> Without {
        let key = (source.token_endpoint.clone(), source.client.id.clone());
        self.0.lock().get(&key).copied().unwrap_or_default()
    }

    fn learn(&self, source: &Source, without: Without) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let key = (source.token_endpoint.clone(), source.client.id.clone());
        known.insert(key, without);
    }

    /// Redeems a refresh token, and again without `scope` or `resource` when what is refused may be
    /// about those: a refused request used nothing up. What its server does not take is left out from
    /// the beginning the next time.
    ///
    /// # Errors
    /// [`Trouble`] of the last request.
    pub(super) async fn renew(
        &self,
        web: &dyn Web,
        connection: &Connection,
        (source, refresh): (&Source, &Secret),
        scopes: Option<&[String]>,
    ) -> Result<Issued, Trouble> {
        let known = self.of(source);
        let mut without = known;
        loop {
            let mut lean = source.clone();
            lean.resource = lean.resource.filter(|_| !without.resource);
            let scopes = scopes.filter(|all| !without.scope && !all.is_empty());
            let answer = oauth::refresh(web, connection, &lean, refresh, scopes).await;
            let Err(trouble) = &answer else {
                if without != known {
                    self.learn(source, without);
                }
                return answer;
            };
            let sent = Without {
                scope: scopes.is_some(),
                // What the operator wrote out is sent as it is.
                resource: lean.resource.is_some() && connection.resource == Resource::Auto,
            };
            match about(trouble) {
                Some(About::Scope) if sent.scope => without.scope = true,
                Some(About::Resource) if sent.resource => without.resource = true,
                _ => return answer,
            }
        }
    }
}

/// What a refusal may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Scope,
    Resource,
}

fn about(trouble: &Trouble) -> Option<About> {
    if trouble.kind != TroubleKind::Client || trouble.unread || !trouble.sent {
        return None;
    }
    let code = trouble.error.as_deref().unwrap_or_default().to_ascii_lowercase();
    match &*code {
        "invalid_scope" => return Some(About::Scope),
        "invalid_target" => return Some(About::Resource),
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
    let words = trouble
        .description
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_resource = ["resource", "audience", "target"]
        .iter()
        .any(|it| words.contains(it));
    Some(if is_resource && !words.contains("scope") {
        About::Resource
    } else {
        About::Scope
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: TroubleKind) -> Trouble {
        let mut trouble = Trouble::new(kind, "refused");
        trouble.sent = true;
        trouble
    }

    fn said(error: Option<&str>, description: Option<&str>) -> Trouble {
        let mut trouble = of(TroubleKind::Client);
        trouble.error = error.map(str::to_owned);
        trouble.description = description.map(str::to_owned);
        trouble
    }

    #[test]
    fn what_may_be_about_the_scope_or_the_resource_is_told_from_what_is_about_the_client_or_the_person() {
        let scope = Some(About::Scope);
        let resource = Some(About::Resource);
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
                about(&said(error, description)),
                expected,
                "{error:?} {description:?}"
            );
        }
        let others = [TroubleKind::Transient, TroubleKind::Grant, TroubleKind::Metadata];
        assert!(others.iter().all(|kind| about(&of(*kind)).is_none()));
    }

    #[test]
    fn habits_are_bounded() {
        let habits = Habits::default();
        let mut source = super::super::tests::world::record("ann", "rt", 0).source;
        let bare = Without {
            scope: true,
            resource: false,
        };
        for at in 0..=REMEMBERED {
            source.client.id = format!("client-{at}");
            habits.learn(&source, bare);
        }
        assert_eq!(habits.0.lock().len(), 1);
        assert_eq!(habits.of(&source), bare);
    }
}
