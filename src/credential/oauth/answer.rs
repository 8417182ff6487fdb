//! What a token endpoint answered, in all the ways in which they do.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::{Map, Value};

use super::fetch::{failing, retry_after, text};
use super::{Issued, Trouble, TroubleKind, challenge, trouble};
use crate::credential::signature::MAX_TOKEN;
use crate::secret::Secret;

/// Longer lifetimes are mistakes of units; a token is renewed after ten years at the latest.
const LONGEST: f64 = 315_360_000.0;

/// Reads the tokens of an answer. `secrets` are what was sent: none of them is in any message.
///
/// # Errors
/// [`Trouble`], which may always have been sent; [`TroubleKind::Grant`] only for `invalid_grant` and
/// what well-known servers say instead.
pub(super) fn tokens(response: &Response<Bytes>, secrets: &[&Secret]) -> Result<Issued, Trouble> {
    let status = response.status();
    if failing(status) {
        // Whatever the body says: a server that fails knows nothing about a grant.
        return Err(unsure(response, "the token endpoint is failing"));
    }
    let Some(fields) = fields(response) else {
        return Err(unsure(response, "the token endpoint did not answer with tokens"));
    };
    if let Some(code) = error(&fields) {
        return Err(refused(response, &fields, &code, secrets));
    }
    if !status.is_success() {
        return Err(wordless(response));
    }
    issued(&fields).unwrap_or_else(|| {
        Err(unsure(
            response,
            "the answer of the token endpoint holds no token",
        ))
    })
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

/// The error that an answer of any status carries.
fn error(fields: &Map<String, Value>) -> Option<String> {
    let refused = fields.get("ok") == Some(&Value::Bool(false));
    match fields.get("error") {
        Some(Value::String(code)) if !code.is_empty() => Some(code.clone()),
        Some(Value::Object(inner)) => {
            let code = ["code", "type", "status"].iter().find_map(|key| text(inner, key));
            Some(code.unwrap_or_default())
        }
        _ if refused => Some(String::new()),
        _ => None,
    }
}

fn refused(
    response: &Response<Bytes>,
    fields: &Map<String, Value>,
    code: &str,
    secrets: &[&Secret],
) -> Trouble {
    let kind = kind(code);
    let said = trouble::code(code, secrets).unwrap_or_else(|| "an error without a name".to_owned());
    let why = text(fields, "error_description").and_then(|it| trouble::shown(&it, secrets));
    let mut message = format!("the token endpoint answered `{said}`");
    if let Some(why) = why {
        message = format!("{message} ({why})");
    }
    let mut trouble = Trouble::new(kind, message).sent();
    trouble.error = trouble::registered(code);
    match kind {
        TroubleKind::Transient => trouble.after(retry_after(response)),
        TroubleKind::Grant => trouble.cure("connect the account again"),
        TroubleKind::Client | TroubleKind::Metadata => {
            let cure = cure(code);
            trouble.cure(cure)
        }
    }
}

/// What an error code means for the grant. GitHub and Slack have names of their own for a grant that
/// is over; everything unknown leaves it alone.
fn kind(code: &str) -> TroubleKind {
    match code {
        "invalid_grant"
        | "bad_refresh_token"
        | "bad_verification_code"
        | "invalid_refresh_token"
        | "invalid_code"
        | "code_already_used" => TroubleKind::Grant,
        "temporarily_unavailable"
        | "slow_down"
        | "server_error"
        | "authorization_pending"
        | "ratelimited"
        | "rate_limited"
        | "rate_limit_exceeded"
        | "too_many_requests"
        | "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "UNAVAILABLE"
        | "INTERNAL"
        | "RESOURCE_EXHAUSTED" => TroubleKind::Transient,
        _ => TroubleKind::Client,
    }
}

fn cure(code: &str) -> &'static str {
    match code {
        "invalid_client" | "unauthorized_client" | "incorrect_client_credentials" | "bad_client_secret" => {
            "check `client_id`, `client_secret` and `token_auth` in the descriptor against the provider's settings"
        }
        "invalid_scope" => "check `scopes` in the descriptor against what the provider knows",
        "invalid_target" => "check `resource` in the descriptor; `off` sends none",
        "redirect_uri_mismatch" | "bad_redirect_uri" => {
            "register the gateway's callback at the provider, to the letter"
        }
        _ => "check `auth` in the descriptor against the provider's documentation",
    }
}

/// A refusal without a word: of what a client may have done wrong, or of something in between.
fn wordless(response: &Response<Bytes>) -> Trouble {
    let status = response.status();
    let ours = [
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
    ];
    if ours.contains(&status) {
        let message = format!(
            "the token endpoint answered {} without saying why",
            status.as_u16()
        );
        return Trouble::client(message)
            .cure("check `auth` in the descriptor against the provider's settings")
            .sent();
    }
    unsure(response, "the token endpoint did not answer with tokens")
}

/// An answer that says nothing about the grant.
fn unsure(response: &Response<Bytes>, what: &str) -> Trouble {
    Trouble::transient(format!("{what} (status {})", response.status().as_u16()))
        .after(retry_after(response))
        .sent()
}

/// The tokens of an answer without an error; `None` when there is none in it.
fn issued(fields: &Map<String, Value>) -> Option<Result<Issued, Trouble>> {
    // Slack puts the tokens of people one level down, and those of bots on top.
    let inner = fields.get("authed_user").and_then(Value::as_object);
    let fields = if text(fields, "access_token").is_some() {
        fields
    } else {
        inner?
    };
    let access = text(fields, "access_token")?;
    let foreign = text(fields, "token_type")
        .is_some_and(|it| ["dpop", "mac", "pop"].contains(&it.to_ascii_lowercase().as_str()));
    let unfit = !access.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    let cure = "ask the provider for bearer tokens";
    if foreign || unfit {
        let message = if foreign {
            "the token endpoint gave a token of a type that is not spoken here"
        } else {
            "the token endpoint gave a token that no header can carry"
        };
        return Some(Err(Trouble::client(message).cure(cure).sent()));
    }
    if access.len() > MAX_TOKEN {
        return Some(Err(Trouble::client(
            "the token endpoint gave a token of more than 16 KiB, which no header can carry",
        )
        .cure("ask for fewer scopes, or have the provider leave groups and roles out of its tokens")
        .sent()));
    }
    Some(Ok(Issued {
        access: Secret::new(access),
        refresh: text(fields, "refresh_token").map(Secret::new),
        expires_in: lifetime(fields.get("expires_in").or_else(|| fields.get("expires"))),
        scopes: scopes(fields.get("scope")),
        id_token: text(fields, "id_token").map(Secret::new),
    }))
}

/// `expires_in` as a number, a fraction or a text; zero and less are no lifetime that was meant.
fn lifetime(value: Option<&Value>) -> Option<u64> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (seconds.is_finite() && seconds >= 1.0).then(|| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and ten years"
        )]
        let whole = seconds.min(LONGEST) as u64;
        whole
    })
}

/// `scope` as a list in a text, by spaces or by commas, or as a list. An empty one says nothing: GitHub
/// sends it for its apps, whose rights are no scopes.
fn scopes(value: Option<&Value>) -> Option<Vec<String>> {
    let all = match value? {
        Value::String(text) if text.contains(' ') => challenge::split(text),
        Value::String(text) => challenge::split(&text.replace(',', " ")),
        Value::Array(all) => {
            let texts: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
            challenge::split(&texts.join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    (!all.is_empty()).then_some(all)
}
