//! Reads the answers of token endpoints, in all their forms.

use bytes::Bytes;
use http::{Response, header};
use serde_json::{Map, Value};

use super::fetch::{failing, retry_after, text};
use super::{OAuthError, OAuthErrorKind, TokenResponse, failure, verdict};
use crate::connection::ResourceParameter;
use pleiades_core::{secret::Secret, signature::MAX_TOKEN, www_authenticate::split};

/// Longer lifetimes are mistakes of units; a token is renewed after ten years at the latest.
const LONGEST: u64 = 315_360_000;

/// What was asked, as far as the sentences about the answer name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenRequestInfo<'a> {
    pub(super) endpoint: &'a str,
    /// The redirect URI of the code that is redeemed; `None` where none is.
    pub(super) redirect: Option<&'a str>,
    /// `resource` (RFC 8707), and what the descriptor says of it.
    pub(super) resource: (Option<&'a str>, &'a ResourceParameter),
}

impl TokenRequestInfo<'_> {
    fn full(&self, message: &str) -> String {
        let named = format!("the token endpoint {}", failure::quoted(self.endpoint));
        message.replacen("the token endpoint", &named, 1)
    }
}

/// Reads the tokens of an answer. `secrets` are what was sent: none of them is in any message.
/// Errors: [`OAuthError`], which may always have been sent. [`OAuthErrorKind::Grant`] only for
/// `invalid_grant` and what well-known servers say instead; [`OAuthErrorKind::Transient`] only for what a
/// failing or busy server says (RFC 6749 section 5.2 knows no such error, RFC 9110 section 15.6 does).
/// Whatever else holds no token is a refusal: it would be "not yet" for ever.
pub(super) fn tokens(
    response: &Response<Bytes>,
    asked: TokenRequestInfo<'_>,
    secrets: &[&Secret],
) -> Result<TokenResponse, OAuthError> {
    let status = response.status();
    if failing(status) {
        // Whatever the body says: a server that fails knows nothing about a grant.
        let message = format!("the token endpoint is failing (status {})", status.as_u16());
        let mut trouble = OAuthError::transient(message).after(retry_after(response)).sent();
        trouble.full = Some(asked.full(&trouble.message));
        return Err(trouble);
    }
    let fields = fields(response);
    if status.is_success()
        && let Some(issued) = fields.as_ref().filter(|it| error(it).is_none()).and_then(issued)
    {
        return issued.map_err(|mut trouble| {
            trouble.full = Some(asked.full(&trouble.message));
            trouble
        });
    }
    let mut trouble = refused(response, &fields.unwrap_or_default(), secrets);
    let (full, cure) = in_full(&trouble, response, asked, secrets);
    trouble.full = Some(full);
    trouble.cure = cure.or(trouble.cure);
    Err(trouble)
}

/// The members of an answer: a JSON object, or a form, as GitHub sends without being asked for JSON.
fn fields(response: &Response<Bytes>) -> Option<Map<String, Value>> {
    let body = response.body();
    if let Ok(fields) = serde_json::from_slice(body) {
        return Some(fields);
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_form = kind.starts_with("application/x-www-form-urlencoded")
        || body.starts_with(b"access_token=")
        || body.starts_with(b"error=");
    is_form.then(|| {
        url::form_urlencoded::parse(body)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect()
    })
}

/// The error that an answer of any status carries (RFC 6749 section 5.2).
fn error(fields: &Map<String, Value>) -> Option<String> {
    match fields.get("error") {
        Some(Value::String(code)) if !code.is_empty() => Some(code.clone()),
        Some(Value::Object(inner)) => Some(code_of(inner, &["code", "type", "status"]).unwrap_or_default()),
        _ => (fields.get("ok") == Some(&Value::Bool(false))).then(String::new),
    }
}

/// The first member that may be the name of an error: a word, and none that says only that there is one.
fn code_of(fields: &Map<String, Value>, members: &[&str]) -> Option<String> {
    let is_name = |code: &String| {
        let says_nothing = ["error", "fail", "failed", "failure", "false"];
        !code.bytes().all(|it| it.is_ascii_digit()) && !says_nothing.contains(&&*code.to_ascii_lowercase())
    };
    members
        .iter()
        .find_map(|member| text(fields, member).filter(is_name))
}

/// The description beside an error: of RFC 6749, of RFC 9457, and of those who follow neither.
fn description(fields: &Map<String, Value>) -> Option<String> {
    const MEMBERS: [&str; 8] = [
        "error_description",
        "message",
        "error_message",
        "errmsg",
        "detail",
        "msg",
        "title",
        "description",
    ];
    let of = |fields: &Map<String, Value>| MEMBERS.iter().find_map(|member| text(fields, member));
    let inner = fields.get("error").and_then(Value::as_object);
    let listed = fields.get("errors").and_then(Value::as_array);
    let listed = listed.and_then(|all| all.first()).and_then(Value::as_object);
    of(fields)
        .or_else(|| inner.and_then(of))
        .or_else(|| listed.and_then(of))
}

fn refused(response: &Response<Bytes>, fields: &Map<String, Value>, secrets: &[&Secret]) -> OAuthError {
    let status = response.status();
    // Of some servers the name of an error stands elsewhere; an answer that succeeds names none there.
    let elsewhere = || code_of(fields, &["error_code", "errorCode", "code", "status", "type"]);
    let named = error(fields);
    let code = match &named {
        Some(code) if !code.is_empty() => Some(code.clone()),
        _ if !status.is_success() => elsewhere(),
        _ => None,
    };
    let why = description(fields).or_else(|| plain(response));
    let why = why.and_then(|it| failure::shown(&it, secrets));
    let error_code = code.as_deref().and_then(|code| failure::code(code, secrets));
    let message = match (&error_code, status.is_success() && named.is_none()) {
        (Some(error_code), _) => format!("the token endpoint answered `{error_code}`"),
        (None, true) => format!(
            "the token endpoint answered {} without a token in it",
            status.as_u16()
        ),
        (None, false) if code.is_some() || (named.is_some() && why.is_some()) => {
            format!("the token endpoint refused (status {})", status.as_u16())
        }
        (None, false) => format!(
            "the token endpoint answered {} without saying why",
            status.as_u16()
        ),
    };
    let message = match &why {
        Some(why) => format!("{} ({why})", message.trim_end_matches(" without saying why")),
        None => message,
    };
    let kind = code.as_deref().map_or(OAuthErrorKind::Client, kind);
    let mut trouble = OAuthError::new(kind, message).sent();
    // In the registered spelling where it is a registered word.
    trouble.error = code.as_deref().and_then(failure::registered).or(error_code);
    trouble.description = why;
    trouble.unread = status.is_success() && named.is_none() && trouble.description.is_none();
    match kind {
        OAuthErrorKind::Transient => trouble.after(retry_after(response)),
        OAuthErrorKind::Grant => trouble.cure("connect the account again"),
        OAuthErrorKind::Client | OAuthErrorKind::Metadata => {
            let cure = cure(code.as_deref().unwrap_or_default());
            trouble.cure(cure)
        }
    }
}

/// The sentence with the answer and its endpoint, and a cure that is better than the one of the error alone.
fn in_full(
    trouble: &OAuthError,
    response: &Response<Bytes>,
    asked: TokenRequestInfo<'_>,
    secrets: &[&Secret],
) -> (String, Option<String>) {
    let status = response.status();
    let number = status.as_u16();
    let header = |name| {
        let text = response.headers().get(name).and_then(|it| it.to_str().ok())?;
        failure::shown(&text.replace('`', "'"), secrets)
    };
    let kind = header(header::CONTENT_TYPE).map_or_else(String::new, |kind| format!(" (`{kind}`)"));
    let endpoint = format!("the token endpoint {}", failure::quoted(asked.endpoint));
    let full = || asked.full(&trouble.message);
    match (trouble.error.as_deref(), asked.redirect) {
        (Some("invalid_target"), _) => (full(), Some(verdict::other_resource(asked.resource))),
        (Some("redirect_uri_mismatch" | "bad_redirect_uri" | "invalid_redirect_uri"), Some(uri)) => (
            full(),
            Some(format!(
                "register the redirect URI `{uri}` at the provider, to the letter"
            )),
        ),
        (Some(error), Some(uri)) if trouble.kind == OAuthErrorKind::Grant => {
            let why = trouble.description.as_deref();
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            (
                format!("{endpoint} refused the code with `{error}`{why}"),
                Some(format!(
                    "open the link again; if it is refused again, compare the redirect URI `{uri}` and `pkce` with the \
                     provider"
                )),
            )
        }
        (Some(_), _) => (full(), None),
        _ if status.is_redirection() => {
            let target =
                header(header::LOCATION).map_or_else(|| "nowhere".to_owned(), |it| format!("`{it}`"));
            (
                format!("{endpoint} redirects ({number}) to {target}, and redirects are not followed with a secret"),
                Some(
                    "if that is the provider's token endpoint, write it as `token_endpoint` into the descriptor".to_owned(),
                ),
            )
        }
        _ if trouble.unread => (
            format!("{endpoint} answered {number}{kind} without `access_token`"),
            Some(ELSEWHERE.to_owned()),
        ),
        _ if trouble.description.is_none() && matches!(number, 404 | 405 | 410) => (
            format!("{endpoint} answered {number}{kind} without saying why"),
            Some(ELSEWHERE.to_owned()),
        ),
        _ => (full(), None),
    }
}

/// What to do where the token endpoint seems to be none.
const ELSEWHERE: &str = "check `token_endpoint`, in the descriptor or else in the server's metadata, against the provider's \
                         documentation";

fn plain(response: &Response<Bytes>) -> Option<String> {
    let text = std::str::from_utf8(response.body()).ok()?.trim();
    let is_text = !text.starts_with(['<', '{', '[']) && !response.status().is_success();
    (is_text && !text.is_empty()).then(|| text.to_owned())
}

/// What an error code means for the grant, under whatever name; everything unknown leaves it alone.
fn kind(code: &str) -> OAuthErrorKind {
    match &*code.trim().to_ascii_lowercase().replace(['-', ' '], "_") {
        "invalid_grant"
        | "bad_refresh_token"
        | "bad_verification_code"
        | "invalid_refresh_token"
        | "invalid_code"
        | "code_already_used" => OAuthErrorKind::Grant,
        "temporarily_unavailable"
        | "slow_down"
        | "server_error"
        | "authorization_pending"
        | "ratelimited"
        | "rate_limited"
        | "rate_limit_exceeded"
        | "too_many_requests"
        | "internal_error"
        | "internal_server_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "unavailable"
        | "internal"
        | "resource_exhausted" => OAuthErrorKind::Transient,
        _ => OAuthErrorKind::Client,
    }
}

fn cure(code: &str) -> &'static str {
    match code {
        "invalid_client" | "unauthorized_client" | "incorrect_client_credentials" | "bad_client_secret" => {
            "check `client_id`, `client_secret` and `token_auth` in the descriptor against the provider's settings: \
             connecting again helps only after they are right"
        }
        "invalid_scope" => "check `scopes` in the descriptor against what the provider knows",
        "invalid_target" => "check `resource` in the descriptor; `off` sends none",
        "redirect_uri_mismatch" | "bad_redirect_uri" => {
            "register the gateway's callback at the provider, to the letter"
        }
        "interaction_required" | "login_required" | "consent_required" | "account_selection_required" => {
            "connect the account again"
        }
        _ => "check `auth` in the descriptor against the provider's documentation",
    }
}

/// The tokens of an answer without an error; `None` when there is none in it.
fn issued(fields: &Map<String, Value>) -> Option<Result<TokenResponse, OAuthError>> {
    // Slack puts the tokens of people one level down, and those of bots on top.
    let inner = fields.get("authed_user").and_then(Value::as_object);
    let fields = match fields {
        bare if text(bare, "access_token").is_some() => bare,
        _ => inner?,
    };
    let access = text(fields, "access_token")?;
    let foreign = text(fields, "token_type")
        .is_some_and(|it| ["dpop", "mac", "pop"].contains(&it.to_ascii_lowercase().as_str()));
    if foreign || !is_visible(&access) {
        let message = match foreign {
            true => "the token endpoint gave a token of a type that is not spoken here",
            false => "the token endpoint gave a token that no header can carry",
        };
        let cure = "ask the provider for bearer tokens";
        return Some(Err(OAuthError::client(message).cure(cure).sent()));
    }
    if access.len() > MAX_TOKEN {
        return Some(Err(OAuthError::client(
            "the token endpoint gave a token of more than 16 KiB, which no header can carry",
        )
        .cure("ask for fewer scopes, or have the provider leave groups and roles out of its tokens")
        .sent()));
    }
    Some(Ok(TokenResponse {
        access: Secret::new(access),
        refresh: text(fields, "refresh_token").map(Secret::new),
        expires_in: lifetime(fields.get("expires_in").or_else(|| fields.get("expires"))),
        scopes: scopes(fields.get("scope")),
        id_token: text(fields, "id_token").map(Secret::new),
    }))
}

/// `expires_in`; zero and less are no lifetime that was meant.
fn lifetime(value: Option<&Value>) -> Option<u64> {
    Some(seconds(value?).filter(|it| *it > 0)?.min(LONGEST))
}

pub(crate) fn seconds(value: &Value) -> Option<u64> {
    let seconds: f64 = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not below zero, and cut at the end of the type"
    )]
    let whole = (seconds.is_finite() && seconds >= 0.0).then_some(seconds as u64);
    whole
}

/// Whether a token is made of what a header can carry: visible ASCII.
pub(crate) fn is_visible(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `scope` as a list in a text, by spaces or by commas, or as a list. An empty one says nothing: GitHub
/// sends it for its apps, whose rights are no scopes.
pub(crate) fn scopes(value: Option<&Value>) -> Option<Vec<String>> {
    let all = match value? {
        Value::String(text) if text.contains(' ') => split(text),
        Value::String(text) => split(&text.replace(',', " ")),
        Value::Array(all) => {
            let texts: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
            split(&texts.join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    (!all.is_empty()).then_some(all)
}
