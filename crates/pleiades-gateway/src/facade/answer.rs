//! What the meta tool answers: one object for every outcome, its text
//! enough on its own.

use std::{borrow::Cow, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeSeq};
use serde_json::{Map, Value, json, value::RawValue};

use super::blocks::{self, SortedBlocks};
use super::explain;
use super::form::AnswerForm;
use pleiades_core::error::{Code, Error, whole_seconds};
use pleiades_core::telemetry::names;
use pleiades_core::text::with_controls_shown;
use pleiades_mcp::{Raw, RawObject, Revision, raw};

pub use super::blocks::repair_result;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerStatus {
    /// It ran.
    Ok,
    /// A list of operations; nothing ran.
    Menu,
    /// One operation's schema; nothing ran.
    Schema,
    /// The arguments do not fit; nothing ran.
    InvalidArguments,
    /// There is no such operation; nothing ran.
    UnknownTool,
    /// Nothing fits the prompt.
    NoMatch,
    /// The caller is not connected.
    NeedsAuth,
    /// The caller was connected once.
    TokenExpired,
    /// The account may not do this.
    CapabilityMiss,
    /// Several accounts and no default.
    AccountAmbiguous,
    /// The credential store cannot be reached.
    Unavailable,
    /// A rule of ours forbids it.
    PolicyDenied,
    /// A person must agree first.
    ConfirmRequired,
    /// A limit of ours.
    RateLimited,
    /// A budget of ours.
    BudgetExceeded,
    /// The provider failed.
    UpstreamError,
    /// The provider did not answer in time.
    Timeout,
    /// Some of it ran.
    Partial,
}

impl AnswerStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Menu => "menu",
            Self::Schema => "schema",
            Self::InvalidArguments => "invalid_arguments",
            Self::UnknownTool => "unknown_tool",
            Self::NoMatch => "no_match",
            Self::NeedsAuth => "needs_auth",
            Self::TokenExpired => "token_expired",
            Self::CapabilityMiss => "capability_miss",
            Self::AccountAmbiguous => "account_ambiguous",
            Self::Unavailable => "unavailable",
            Self::PolicyDenied => "policy_denied",
            Self::ConfirmRequired => "confirm_required",
            Self::RateLimited => "rate_limited",
            Self::BudgetExceeded => "budget_exceeded",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::Partial => "partial",
        }
    }

    /// The status of an answer that tells of an error; `None` for errors that no answer tells of: those
    /// of messages and of HTTP.
    #[must_use]
    pub const fn of(code: Code) -> Option<Self> {
        Some(match code {
            Code::RateLimited | Code::Busy | Code::BreakerOpen => Self::RateLimited,
            Code::NeedsAuth => Self::NeedsAuth,
            Code::TokenExpired => Self::TokenExpired,
            Code::CapabilityMiss => Self::CapabilityMiss,
            Code::AccountAmbiguous => Self::AccountAmbiguous,
            Code::CredentialStore => Self::Unavailable,
            Code::PolicyDenied => Self::PolicyDenied,
            Code::UpstreamTimeout | Code::CredentialTimeout => Self::Timeout,
            Code::InvalidParams => Self::InvalidArguments,
            Code::MethodNotFound
            | Code::UnsupportedRevision
            | Code::UpstreamUnreachable
            | Code::UpstreamProtocol
            | Code::UpstreamError
            | Code::UpstreamAuth
            | Code::CallGone
            | Code::InputRequired
            | Code::ShuttingDown
            | Code::Internal => Self::UpstreamError,
            Code::Parse
            | Code::InvalidRequest
            | Code::MissingMeta
            | Code::HeaderMismatch
            | Code::MissingCapability
            | Code::ResourceNotFound
            | Code::UnknownPath
            | Code::UnknownProvider
            | Code::UnknownSession
            | Code::MethodNotAllowed
            | Code::NotAcceptable
            | Code::TooLarge
            | Code::BodyTooSlow
            | Code::TargetTooLong
            | Code::UnsupportedMedia
            | Code::HeadersTooLarge
            | Code::BadFraming
            | Code::HostRefused
            | Code::OriginRefused
            | Code::Unauthenticated
            | Code::UnknownQuestion
            | Code::Cancelled => return None,
        })
    }

    /// Whether `isError` is set.
    #[must_use]
    pub(crate) const fn is_error(self) -> bool {
        !matches!(
            self,
            Self::Ok | Self::Menu | Self::Schema | Self::Partial | Self::BudgetExceeded
        )
    }
}

/// An answer before it is written for a peer.
#[derive(Debug, Clone)]
pub struct MetaAnswer {
    /// What became of the call.
    pub status: AnswerStatus,
    /// The error that it tells of.
    code: Option<Code>,
    /// All of it in words.
    pub text: String,
    /// Details by status; for `ok` the provider's `structuredContent`.
    pub data: Option<Raw>,
    /// What was repaired or should be known.
    pub notes: Vec<String>,
    /// The call to make next.
    pub next: Option<Raw>,
    /// The handle under which the whole result is kept.
    pub result_id: Option<String>,
    /// Which part of a result it is, where it is not all of it.
    pub page: Option<AnswerPage>,
    /// Further content blocks of the provider.
    pub content: Vec<Raw>,
    /// The caller's accounts at the provider, where several exist.
    pub accounts: Vec<Value>,
    /// The account used.
    pub account: Option<Arc<str>>,
    /// The operation that it is about, by its name in the catalogue, for the log.
    pub(crate) tool: Option<Arc<str>>,
    /// Why nothing was run, for the log: names of arguments, none of their values.
    pub(crate) cause: Option<String>,
    /// Whether it answers a tool whose own results are of a schema: what is ours may not stand in
    /// `structuredContent` then, since clients check that (MCP 2025-11-25, tools, "Output Schema").
    pub is_of_schema: bool,
    /// How much of it stands in `structuredContent`.
    pub form: AnswerForm,
}

/// Which part of a result an answer holds, in items: elements, members, lines or characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AnswerPage {
    /// Items in this answer.
    pub shown: usize,
    /// Items of all pages.
    pub total: usize,
    /// The page after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

impl MetaAnswer {
    /// Names the provider in the calls that it tells of, as the one tool for all providers takes them.
    pub(crate) fn name_provider(&mut self, id: &str) {
        if self.status == AnswerStatus::Ok {
            return;
        }
        let next: Option<Map<String, Value>> = self
            .next
            .as_ref()
            .and_then(|next| serde_json::from_str(next.get()).ok());
        if let Some(mut next) =
            next.filter(|next| next.contains_key("tool") && !next.contains_key("provider"))
        {
            next.shift_insert(0, "provider".to_owned(), json!(id));
            self.next = Some(raw::raw(&next));
        }
        // Where a sentence tells of a call; a provider's own schemas are left as they are.
        for before in ["Next: ", "example: ", "Call: ", "; "] {
            let call = format!("{before}{{\"tool\":");
            if self.text.contains(&call) {
                let named = format!("{before}{{\"provider\":{},\"tool\":", json!(id));
                self.text = self.text.replace(&call, &named);
            }
        }
    }

    /// An answer of nothing but words; of a failure also its code.
    pub fn new(status: AnswerStatus, text: impl Into<String>) -> Self {
        let code = status
            .is_error()
            .then(|| raw::raw(&json!({ "code": outcome(status, None) })));
        Self {
            status,
            code: None,
            text: text.into(),
            data: code,
            notes: Vec::new(),
            next: None,
            result_id: None,
            page: None,
            content: Vec::new(),
            accounts: Vec::new(),
            account: None,
            tool: None,
            cause: None,
            is_of_schema: false,
            form: AnswerForm::Full,
        }
    }

    /// A provider's `CallToolResult`: its text blocks joined, its structured content as `data`,
    /// its other blocks behind them. Without any text the text is the JSON of `data`, since many
    /// hosts show their models nothing else (MCP 2025-11-25, tools, "Structured Content").
    #[must_use]
    pub fn of_result(result: &RawObject, notes: Vec<String>) -> Self {
        let answer = Self::new(Self::status_of(result), "");
        Self { notes, ..answer }.with_result(result)
    }

    /// Whether a provider's result is a success or its failure.
    #[must_use]
    pub(crate) fn status_of(result: &RawObject) -> AnswerStatus {
        match blocks::is_error(result) {
            true => AnswerStatus::UpstreamError,
            false => AnswerStatus::Ok,
        }
    }

    /// The outcome of the request that it answers, as logs and metrics have it; of a failure the
    /// `data.code`.
    #[must_use]
    pub(crate) const fn outcome(&self) -> &'static str {
        outcome(self.status, self.code)
    }

    /// The same answer with the content of a provider's result, whose data stay as they are.
    #[must_use]
    pub(crate) fn with_result(self, result: &RawObject) -> Self {
        let SortedBlocks { texts, content } = blocks::sorted(result);
        let data = result
            .get("structuredContent")
            .filter(|data| data.get() != "null");
        let text = match data {
            Some(data) if texts.is_empty() => data.get().to_owned(),
            _ => match texts.as_slice() {
                [text] => with_controls_shown(text).into_owned(),
                texts => with_controls_shown(&texts.join("\n")).into_owned(),
            },
        };
        Self {
            text,
            data: data.map(ToOwned::to_owned).or(self.data),
            content,
            ..self
        }
    }

    /// A failure in words. `title` and `id` are of the provider; `writes`: whether the operation may change
    /// something.
    #[must_use]
    pub(crate) fn of_error(error: &Error, (title, id): (&str, &str), writes: bool) -> Self {
        let status = AnswerStatus::of(error.code).unwrap_or(AnswerStatus::UpstreamError);
        let text = match (&error.rpc, error.code) {
            (Some(fault), _) => format!(
                "{title} answered with an error: {}. {}",
                fault.message.trim_end_matches('.'),
                after_refusal(fault.code, writes)
            ),
            (None, Code::UpstreamAuth) => format!(
                "{title}: {}; the operator has to check the provider's `auth`",
                error.message
            ),
            (
                None,
                Code::UpstreamUnreachable
                | Code::UpstreamTimeout
                | Code::UpstreamProtocol
                | Code::ShuttingDown
                | Code::Internal,
            ) => {
                format!("{title}: {}. {}", error.message, retry_advice(error, id, writes))
            }
            (None, _) => error.message.to_string(),
        };
        let mut answer = Self::new(status, text);
        answer.code = Some(error.code);
        answer.data = Some(data_of(error));
        let listed = error.data.as_ref().and_then(|data| data.get("accounts"));
        answer.accounts = listed.and_then(Value::as_array).cloned().unwrap_or_default();
        answer
    }

    /// The answer to a wrong call that was made and answered before: shorter, and with the call to make.
    #[must_use]
    pub(crate) fn repeated(self) -> Self {
        explain::repeated(self)
    }

    /// The answer object alone.
    #[must_use]
    pub fn object(&self, telemetry_id: &str) -> Raw {
        raw::raw(&self.structured(telemetry_id))
    }

    fn structured<'a>(&'a self, telemetry_id: &'a str) -> StructuredAnswer<'a> {
        StructuredAnswer {
            status: self.status.as_str(),
            text: Some(&self.text),
            data: self.data.as_deref(),
            accounts: &self.accounts,
            account_id: self.account.as_deref(),
            result_id: self.result_id.as_deref(),
            page: self.page,
            next: self.next.as_deref(),
            notes: &self.notes,
            telemetry_id,
        }
    }

    /// The `CallToolResult` for a peer. The object stands in `structuredContent` and its text in
    /// the first block, because hosts show their models the one or the other.
    #[must_use]
    pub fn into_result(self, revision: Revision, telemetry_id: &str) -> Raw {
        let text = &*self.text;
        let mut object = self.structured(telemetry_id);
        let (beside, structured_content) = match (self.is_of_schema, self.form) {
            (true, _) => (Some(AnswerMeta { answer: object }), None),
            (false, AnswerForm::Full) => (None, Some(object)),
            (false, AnswerForm::Meta) => {
                object.text = None;
                (None, Some(object))
            }
            (false, AnswerForm::Off) => (None, None),
        };
        raw::raw(&AnswerResult {
            result_type: revision.is_modern().then_some("complete"),
            content: ContentBlocks {
                first: TextBlock { kind: "text", text },
                others: &self.content,
            },
            structured_content,
            is_error: self.status.is_error(),
            meta: beside,
        })
    }
}

/// A `CallToolResult` as it is written, without a copy of what it passes on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerResult<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    result_type: Option<&'static str>,
    content: ContentBlocks<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_content: Option<StructuredAnswer<'a>>,
    is_error: bool,
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<AnswerMeta<'a>>,
}

#[derive(Serialize)]
struct AnswerMeta<'a> {
    #[serde(rename = "pleiades/answer")]
    answer: StructuredAnswer<'a>,
}

struct ContentBlocks<'a> {
    first: TextBlock<'a>,
    others: &'a [Raw],
}

impl Serialize for ContentBlocks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut blocks = serializer.serialize_seq(Some(1 + self.others.len()))?;
        blocks.serialize_element(&self.first)?;
        for block in self.others {
            blocks.serialize_element(block)?;
        }
        blocks.end()
    }
}

#[derive(Serialize)]
struct TextBlock<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StructuredAnswer<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    accounts: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<AnswerPage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    telemetry_id: &'a str,
}

/// The outcome of a provider's result: a tool may report a failure of its own.
pub(crate) fn outcome_of(result: &RawObject) -> &'static str {
    outcome(MetaAnswer::status_of(result), None)
}

const fn outcome(status: AnswerStatus, code: Option<Code>) -> &'static str {
    match (code, status) {
        (Some(code), _) => code.as_str(),
        (None, AnswerStatus::UpstreamError) => names::TOOL_ERROR,
        (None, status) => status.as_str(),
    }
}

/// What may have happened when a provider answered with a JSON-RPC error of this code, and what to do.
const fn after_refusal(code: i64, writes: bool) -> &'static str {
    match (code, writes) {
        // JSON-RPC 2.0 section 5.1: it did not understand the call, or knows no such operation.
        (-32700 | -32602..=-32600, _) => "It refused the call, so nothing was run: change it as that says.",
        (_, false) => "The operation only reads, so nothing was changed.",
        (_, true) => {
            "Whether it changed something before that is not known: look before you make the same call again."
        }
    }
}

/// What to do after a failure of the provider: who has to act, and when the same call is worth a try.
fn retry_advice(error: &Error, id: &str, writes: bool) -> Cow<'static, str> {
    let act = format!("Whoever runs the gateway has to look at it (`pleiades doctor {id}`)");
    match (error.sent, writes) {
        (false, _) => {
            // The same time stands in `data.retry_after`.
            let after = error
                .retry_after
                .map(whole_seconds)
                .map(|seconds| format!("; the same call is not worth another try before {seconds} s"));
            format!("Nothing was run. {act}{}.", after.unwrap_or_default()).into()
        }
        (true, _) if error.code == Code::UpstreamProtocol && !writes => {
            format!("It only reads, and will fail alike until somebody acts. {act}.").into()
        }
        (true, false) => "It only reads, so the same call may be made again.".into(),
        (true, true) => "It may have been carried out: look before you make the same call again.".into(),
    }
}

fn data_of(error: &Error) -> Raw {
    let mut data = error.details();
    if let Some(fault) = &error.rpc {
        // Of details that no value holds (1e400) their text.
        let details = fault.data.as_ref().map(|details| {
            serde_json::from_str(details.get()).unwrap_or_else(|_| Value::from(details.get()))
        });
        let own = match details {
            Some(details) => json!({ "code": fault.code, "message": fault.message, "data": details }),
            None => json!({ "code": fault.code, "message": fault.message }),
        };
        data.insert("error".to_owned(), own);
    }
    raw::raw(&data)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use pleiades_core::error::RpcFault;

    fn written(answer: MetaAnswer) -> Value {
        serde_json::from_str(answer.into_result(Revision::V2025_11_25, "t-1").get()).unwrap()
    }

    #[test]
    fn calls_for_the_one_tool_name_their_provider_and_results_stay_as_they_are() {
        let text = "Next: {\"tool\":\"a\",\"arguments\":{…}}\nIts schema: {\"properties\": {\"tool\": {}}}";
        let mut answer = MetaAnswer::new(AnswerStatus::Menu, text.to_owned());
        answer.next = Some(raw::raw(&json!({ "tool": "a", "arguments": {} })));
        answer.name_provider("git");
        answer.name_provider("git");
        let next = answer.next.as_ref().unwrap().get();
        assert_eq!(next, r#"{"provider":"git","tool":"a","arguments":{}}"#);
        assert!(answer.text.starts_with(r#"Next: {"provider":"git","tool":"a","#));
        assert!(answer.text.ends_with(r#"{"properties": {"tool": {}}}"#));
        let mut result = MetaAnswer::new(AnswerStatus::Ok, text.to_owned());
        result.name_provider("git");
        assert_eq!(result.text, text);
    }

    #[test]
    fn text_blocks_are_joined_and_others_follow() {
        let result = json!({ "content": [
            { "type": "text", "text": "one" }, { "type": "image", "data": "x" }, { "type": "text", "text": "two" } ],
            "structuredContent": { "kept": [1, null] } });
        let answer = MetaAnswer::of_result(&RawObject::open(&raw::raw(&result)).unwrap(), Vec::new());
        let written = written(answer);
        assert_eq!(written["content"][0]["text"], "one\ntwo");
        assert_eq!(written["content"][1]["type"], "image");
        assert_eq!(written["structuredContent"]["data"], json!({ "kept": [1, null] }));
        assert_eq!(written["structuredContent"]["status"], "ok");
        assert_eq!(written["isError"], false);
    }

    fn of(result: &str) -> Value {
        let result = serde_json::from_str(result).expect("an object");
        written(MetaAnswer::of_result(&result, Vec::new()))
    }

    #[test]
    fn a_result_without_text_has_the_json_of_its_data_as_text() {
        for content in [
            r#""content":[],"#,
            "",
            r#""content":null,"#,
            r#""content":[{"type":"text","text":null}],"#,
        ] {
            let answer = of(&format!(r#"{{{content}"structuredContent":{{"n": 1.50}}}}"#));
            assert_eq!(answer["content"][0]["text"], r#"{"n": 1.50}"#, "{content}");
            assert_eq!(answer["structuredContent"]["text"], r#"{"n": 1.50}"#);
            assert_eq!(answer["structuredContent"]["data"], json!({ "n": 1.5 }));
        }
        let image =
            of(r#"{"content":[{"type":"image","data":"x","mimeType":"image/png"}],"structuredContent":[1]}"#);
        assert_eq!(
            (&image["content"][0]["text"], &image["content"][1]["type"]),
            (&json!("[1]"), &json!("image"))
        );
        assert_eq!(
            of(r#"{"content":[{"type":"text","text":"t"}],"structuredContent":[1]}"#)["content"][0]["text"],
            "t"
        );
    }

    #[test]
    fn where_a_tool_has_a_schema_for_results_a_failure_of_ours_stands_beside_them() {
        let mut answer = MetaAnswer::of_error(&Error::new(Code::Busy, "full"), ("X", "x"), true);
        answer.is_of_schema = true;
        let written = written(answer);
        assert!(written.get("structuredContent").is_none(), "{written}");
        assert_eq!(written["_meta"]["pleiades/answer"]["data"]["code"], "busy");
        assert_eq!(
            (&written["content"][0]["text"], &written["isError"]),
            (&json!("full"), &json!(true))
        );
    }

    #[test]
    fn only_modern_peers_get_a_result_type() {
        let answer = || MetaAnswer::new(AnswerStatus::Menu, "");
        assert!(written(answer()).get("resultType").is_none());
        let modern: Value =
            serde_json::from_str(answer().into_result(Revision::V2026_07_28, "t").get()).unwrap();
        assert_eq!(modern["resultType"], "complete");
    }

    #[test]
    fn a_failure_says_whether_a_write_may_have_happened() {
        let lost = || Error::new(Code::UpstreamTimeout, "no answer in time").sent();
        assert!(
            MetaAnswer::of_error(&lost(), ("X", "x"), true)
                .text
                .contains("may have been carried out")
        );
        assert!(
            MetaAnswer::of_error(&lost(), ("X", "x"), false)
                .text
                .contains("only reads")
        );
        let unsent = Error::new(Code::UpstreamUnreachable, "cannot be reached");
        let answer = written(MetaAnswer::of_error(&unsent, ("X", "x"), true));
        let text = answer["structuredContent"]["text"].as_str().unwrap();
        assert!(text.contains("Nothing was run"), "{text}");
        assert!(
            !text.contains("another try"),
            "no time but that of `retry_after`: {text}"
        );
        assert_eq!(answer["structuredContent"]["data"]["retry_after"], Value::Null);
        let away = unsent.retry_after(Duration::from_secs(5));
        let text = MetaAnswer::of_error(&away, ("X", "x"), true).text;
        assert!(
            text.contains("`pleiades doctor x`") && text.contains("before 5 s"),
            "{text}"
        );
    }

    #[test]
    fn a_refusal_is_told_as_the_provider_meant_it_and_not_always_as_of_a_credential() {
        let error = Error::new(Code::UpstreamAuth, "the provider forbids this (status 403)").sent();
        let text = MetaAnswer::of_error(&error, ("X", "x"), true).text;
        assert!(
            text.starts_with("X: the provider forbids this (status 403);"),
            "{text}"
        );
        assert!(
            text.contains("`auth`") && !text.contains("refused the credential"),
            "{text}"
        );
    }

    #[test]
    fn a_refusal_by_a_limit_never_asks_to_come_back_too_early() {
        let error = Error::new(Code::RateLimited, "too many calls").retry_after(Duration::from_millis(1200));
        let answer = written(MetaAnswer::of_error(&error, ("X", "x"), true));
        assert_eq!(answer["structuredContent"]["status"], "rate_limited");
        assert_eq!(answer["structuredContent"]["data"]["retry_after"], 2);
    }

    #[test]
    fn a_failed_result_of_the_provider_is_its_error_and_its_data_stay_as_they_are() {
        let failed = |data: Value| {
            let result = json!({ "content": [{ "type": "text", "text": "no" }], "structuredContent": data,
                "isError": true });
            let result = RawObject::open(&raw::raw(&result)).unwrap();
            assert_eq!(outcome_of(&result), "tool_error");
            let answer = MetaAnswer::of_result(&result, Vec::new());
            assert_eq!(answer.outcome(), "tool_error");
            written(answer)
        };
        let answer = failed(Value::Null);
        assert_eq!(
            (&answer["structuredContent"]["status"], &answer["isError"]),
            (&json!("upstream_error"), &json!(true))
        );
        assert_eq!(
            answer["structuredContent"]["data"],
            json!({ "code": "tool_error" })
        );
        let own = failed(json!({ "code": 7 }));
        assert_eq!(own["structuredContent"]["data"], json!({ "code": 7 }));
        assert_eq!(own["content"][0]["text"], "no");
    }

    #[test]
    fn a_failing_answer_says_the_code_that_log_and_metrics_say() {
        for code in Code::ALL {
            let answer = MetaAnswer::of_error(&Error::new(code, "no"), ("X", "x"), true);
            assert!(answer.status.is_error(), "{code:?}");
            assert_eq!(answer.outcome(), code.as_str());
            let written = written(answer);
            assert_eq!(written["structuredContent"]["data"]["code"], code.as_str());
        }
        for status in [AnswerStatus::InvalidArguments, AnswerStatus::UnknownTool] {
            let answer = MetaAnswer::new(status, "no");
            assert_eq!(answer.outcome(), status.as_str());
            let written = written(answer);
            assert_eq!(written["structuredContent"]["data"]["code"], status.as_str());
        }
        assert!(
            written(MetaAnswer::new(AnswerStatus::Menu, ""))["structuredContent"]
                .get("data")
                .is_none()
        );
    }

    #[test]
    fn a_providers_own_error_is_passed_on_with_its_code_and_data() {
        let data = Some(raw::raw(&json!({ "a": 1 })));
        let error = Error::rpc(RpcFault {
            code: -32000,
            message: "no".to_owned(),
            data,
        });
        let answer = written(MetaAnswer::of_error(&error, ("X", "x"), true));
        assert_eq!(
            answer["structuredContent"]["data"],
            json!({ "code": "upstream_error", "error": { "code": -32000, "message": "no", "data": { "a": 1 } } })
        );
        assert_eq!(answer["isError"], true);
    }

    #[test]
    fn a_providers_own_error_says_whether_a_write_may_have_happened() {
        let text = |code, writes| {
            let message = "no.".to_owned();
            let error = Error::rpc(RpcFault {
                code,
                message,
                data: None,
            });
            MetaAnswer::of_error(&error, ("X", "x"), writes).text
        };
        assert!(
            text(-32602, true).starts_with("X answered with an error: no. It refused the call, so nothing")
        );
        assert!(text(-32603, true).contains("Whether it changed something"));
        assert!(text(-32000, false).contains("only reads"));
    }

    #[test]
    fn a_client_that_shows_both_gets_the_text_once_and_one_that_shows_content_no_object() {
        let answer = |form| {
            let mut answer = of_both();
            answer.form = form;
            written(answer)
        };
        let meta = answer(AnswerForm::Meta);
        assert_eq!(meta["content"][0]["text"], "one");
        assert_eq!(meta["structuredContent"]["data"], json!({ "n": 1 }));
        assert!(meta["structuredContent"].get("text").is_none(), "{meta}");
        let off = answer(AnswerForm::Off);
        assert_eq!(
            (&off["content"][0]["text"], off.get("structuredContent")),
            (&json!("one"), None)
        );
        assert_eq!(answer(AnswerForm::Full)["structuredContent"]["text"], "one");
    }

    fn of_both() -> MetaAnswer {
        let result =
            json!({ "content": [{ "type": "text", "text": "one" }], "structuredContent": { "n": 1 } });
        MetaAnswer::of_result(&RawObject::open(&raw::raw(&result)).unwrap(), Vec::new())
    }
}
