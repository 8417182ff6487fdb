//! What an error in the place of a code means (RFC 6749 section 4.1.2.1, RFC 8707 section 2, OpenID
//! Connect Core section 3.1.2.6), and what can be done about it.

use super::failure::{self, is_unknown_client, may_be_unknown_client};
use crate::connection::ResourceParameter;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The person, or a rule of theirs, refused.
    Denied,
    UnknownClient,
    /// Its words sound as if it did not know our client.
    PerhapsUnknownClient,
    /// `resource` (RFC 8707) is not taken.
    Resource,
    Scope,
    RedirectUri,
    /// The person is wanted, and was not shown anything.
    Person,
    Later,
    /// PKCE is not taken, or wanted in another way.
    Pkce,
    Other,
}

/// Judges an error by its name, then by its words: Entra and others have one name for many things.
pub(crate) fn verdict(error: &str, description: Option<&str>) -> Verdict {
    let words = description.unwrap_or_default().to_ascii_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
    let word = failure::word(error);
    if has(&["aadsts9010010", "aadsts901002", "aadsts500011"]) {
        return Verdict::Resource;
    }
    if has(&["aadsts50011"]) {
        return Verdict::RedirectUri;
    }
    match word.as_str() {
        _ if is_unknown_client(error) => Verdict::UnknownClient,
        "access_denied" => Verdict::Denied,
        "invalid_target" | "invalid_resource" => Verdict::Resource,
        "invalid_scope" | "insufficient_scope" => Verdict::Scope,
        "redirect_uri_mismatch" | "invalid_redirect_uri" | "bad_redirect_uri" => Verdict::RedirectUri,
        "login_required" | "consent_required" | "interaction_required" | "account_selection_required" => {
            Verdict::Person
        }
        "server_error" | "temporarily_unavailable" => Verdict::Later,
        _ if has(&["redirect_uri", "redirect uri", "callback url"]) => Verdict::RedirectUri,
        _ if has(&["code_challenge", "pkce"]) => Verdict::Pkce,
        _ if has(&["resource"]) => Verdict::Resource,
        _ if has(&["scope"]) => Verdict::Scope,
        _ if may_be_unknown_client(&words) => Verdict::PerhapsUnknownClient,
        _ => Verdict::Other,
    }
}

/// What to do once a registration was dropped.
pub(crate) const MADE_ANEW: &str = "its registration of this gateway was dropped here: open the link again, and the \
                             gateway registers itself anew";

#[derive(Debug, Clone, Copy)]
pub(crate) struct SentRequest<'a> {
    pub client: &'a str,
    pub redirect: &'a str,
    pub scopes: &'a [String],
    /// `resource` (RFC 8707), and what the descriptor says of it.
    pub resource: (Option<&'a str>, &'a ResourceParameter),
}

/// What to do about a `resource` that is not taken: it depends on which was sent, and why.
pub(super) fn other_resource((sent, declared): (Option<&str>, &ResourceParameter)) -> String {
    match (declared, sent.map(failure::quoted)) {
        (ResourceParameter::Off, None) => {
            "no `resource` was sent (`resource: off` in the provider's descriptor): remove that, or \
                                  write the one that the server expects"
                .to_owned()
        }
        (ResourceParameter::Url(_), Some(sent)) => format!(
            "the `resource` that was sent is {sent}, from the provider's descriptor: correct it, or write `off`"
        ),
        (_, Some(sent)) => format!(
            "the `resource` that was sent is {sent}: write `resource: off` into the provider's descriptor to send none, \
             or the one that the server expects"
        ),
        (_, None) => {
            "no `resource` was sent: write the one that the server expects as `resource` into the provider's \
                      descriptor"
                .to_owned()
        }
    }
}

impl Verdict {
    pub(crate) fn cure(self, sent: SentRequest<'_>) -> String {
        let SentRequest {
            client,
            redirect,
            scopes,
            resource,
        } = sent;
        match self {
            Self::Denied => "open the link again if that was a mistake".to_owned(),
            Self::UnknownClient => format!(
                "check `client_id` in the descriptor against the provider's settings: `{client}` was sent"
            ),
            Self::PerhapsUnknownClient => format!(
                "open the link again: if the provider has lost the client `{client}`, the gateway finds out and \
                 registers anew; for a client of your own check `client_id` in the descriptor"
            ),
            Self::Resource => other_resource(resource),
            Self::Scope => {
                let asked = if scopes.is_empty() { "none".to_owned() } else { scopes.join(" ") };
                format!(
                    "write the `scopes` that the provider knows and gives to this client into its descriptor; asked for: \
                     {asked}"
                )
            }
            Self::RedirectUri => format!(
                "register the redirect URI `{redirect}` at the provider, to the letter, for the client `{client}`"
            ),
            Self::Person => "take `prompt` out of `parameters` in the provider's descriptor, if it stands there, and open the \
                             link again"
                .to_owned(),
            Self::Later => "open the link again in a minute".to_owned(),
            Self::Pkce => "check `pkce` in the provider's descriptor: `off` only for a server that chokes on it".to_owned(),
            Self::Other => "open the link again; if it goes on, compare `auth.oauth` in the provider's descriptor with \
                            the provider's documentation"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_judged_by_its_name_then_by_its_words() {
        for (error, description, expected) in [
            ("access_denied", None, Verdict::Denied),
            ("invalid_client", None, Verdict::UnknownClient),
            ("INVALID_CLIENT", None, Verdict::UnknownClient),
            ("unauthorized-client", None, Verdict::UnknownClient),
            ("unauthorizedClient", Some("x"), Verdict::UnknownClient),
            ("unknown_client", None, Verdict::UnknownClient),
            (
                "invalid_request",
                Some("Client not found."),
                Verdict::PerhapsUnknownClient,
            ),
            ("invalid_target", None, Verdict::Resource),
            (
                "invalid_request",
                Some("AADSTS9010010: The resource parameter provided in the request doesn't match"),
                Verdict::Resource,
            ),
            (
                "invalid_request",
                Some("AADSTS50011: The reply URL"),
                Verdict::RedirectUri,
            ),
            ("invalid_scope", None, Verdict::Scope),
            (
                "invalid_request",
                Some("Invalid redirect_uri"),
                Verdict::RedirectUri,
            ),
            ("temporarily_unavailable", None, Verdict::Later),
            ("interaction_required", None, Verdict::Person),
            ("something", None, Verdict::Other),
        ] {
            assert_eq!(verdict(error, description), expected, "{error} {description:?}");
        }
    }

    #[test]
    fn each_cure_names_the_field_or_the_value() {
        let scopes = ["read".to_owned()];
        let sent = SentRequest {
            client: "client-1",
            redirect: "https://gw.example/oauth/callback",
            scopes: &scopes,
            resource: (Some("https://mcp.example/mcp"), &ResourceParameter::Auto),
        };
        let cure = |verdict: Verdict| verdict.cure(sent);
        assert!(cure(Verdict::Resource).contains("`resource: off`"));
        assert!(cure(Verdict::Scope).contains("`scopes`") && cure(Verdict::Scope).contains("read"));
        assert!(cure(Verdict::RedirectUri).contains("https://gw.example/oauth/callback"));
        assert!(cure(Verdict::UnknownClient).contains("client-1"));
    }

    #[test]
    fn what_to_do_about_a_resource_depends_on_the_one_that_was_sent() {
        let sent = Some("https://mcp.example/mcp");
        let url = ResourceParameter::Url("https://mcp.example/mcp".to_owned());
        for (resource, parts) in [
            (
                (None, &ResourceParameter::Off),
                ["no `resource` was sent (`resource: off`", "remove that"],
            ),
            (
                (sent, &url),
                [
                    "`https://mcp.example/mcp`, from the provider's descriptor",
                    "write `off`",
                ],
            ),
            (
                (sent, &ResourceParameter::Auto),
                ["`https://mcp.example/mcp`: write `resource: off`", "expects"],
            ),
        ] {
            let cure = other_resource(resource);
            assert!(parts.iter().all(|part| cure.contains(part)), "{cure}");
        }
        assert!(!other_resource((None, &ResourceParameter::Off)).contains("write `resource: off`"));
    }
}
