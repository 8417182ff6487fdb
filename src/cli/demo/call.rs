//! What each of the demo's tools does.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult,
    ProgressNotificationParam, ProtocolVersion, ServerRequest,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value, json};

use super::{stars, typed};

/// With the longest pause these are the 20 s that a call takes at most.
pub(super) const MOST_STEPS: u64 = 40;
/// In milliseconds.
pub(super) const LONGEST_PAUSE: u64 = 500;
/// How long a person may think about a question; whoever asked has given up by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
/// The key under which the one question of `greet` is asked and answered.
const NAME: &str = "name";
/// Names that an error about an unknown star offers.
const SIMILAR: usize = 3;

type ToolAnswer = Result<CallToolResponse, ErrorData>;

/// Calls a tool.
pub(super) async fn run(request: CallToolRequestParams, context: &RequestContext<RoleServer>) -> ToolAnswer {
    match request.name.as_ref() {
        "echo" => with(&request, |EchoArguments { message }| text(message)),
        "add" => with(&request, |AddArguments { a, b }| {
            CallToolResult::structured(json!({"sum": sum(&a, &b)}))
        }),
        "list_stars" => with(&request, list_stars),
        "find_star" => with(&request, find_star),
        "fail" => with(&request, |FailArguments { reason }| {
            failure(reason.unwrap_or_else(|| "it failed, as it always does".to_owned()))
        }),
        "greet" => greet(&request, context).await,
        "count" => match arguments(&request) {
            Ok(arguments) => count(arguments, context).await,
            Err(refused) => Ok((*refused).into()),
        },
        name => Err(ErrorData::invalid_params(format!("no tool `{name}`"), None)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EchoArguments {
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddArguments {
    a: Number,
    b: Number,
}

/// A whole number, where both are and their sum fits; else a fraction.
fn sum(a: &Number, b: &Number) -> Value {
    let whole = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b));
    let fraction = || json!(a.as_f64().unwrap_or_default() + b.as_f64().unwrap_or_default());
    whole.map_or_else(fraction, Value::from)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailArguments {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GreetArguments {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FindStarArguments {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListStarsArguments {
    constellation: Option<String>,
    brighter_than: Option<f64>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CountArguments {
    steps: u64,
    pause_ms: u64,
}

impl Default for CountArguments {
    fn default() -> Self {
        Self {
            steps: 5,
            pause_ms: 200,
        }
    }
}

/// The arguments; wrong ones are a result that the model can read and mend (2025-11-25, "Error Handling").
fn arguments<T: DeserializeOwned>(request: &CallToolRequestParams) -> Result<T, Box<CallToolResult>> {
    let given = Value::Object(request.arguments.clone().unwrap_or_default());
    serde_json::from_value(given).map_err(|cause| Box::new(failure(format!("wrong arguments: {cause}"))))
}

fn with<T: DeserializeOwned>(
    request: &CallToolRequestParams,
    run: impl FnOnce(T) -> CallToolResult,
) -> ToolAnswer {
    let result = arguments(request).map_or_else(|refused| *refused, run);
    Ok(result.into())
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn failure(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn list_stars(wanted: ListStarsArguments) -> CallToolResult {
    let mut found = stars::all();
    if let Some(name) = &wanted.constellation {
        let known = stars::constellations();
        if !known.contains(&name.as_str()) {
            return failure(format!(
                "no constellation `{name}`; there are {}",
                known.join(", ")
            ));
        }
        found.retain(|star| star.constellation == name);
    }
    if let Some(limit) = wanted.brighter_than {
        found.retain(|star| star.magnitude < limit);
    }
    let total = found.len();
    let shown: Vec<_> = found
        .into_iter()
        .skip(wanted.offset)
        .take(wanted.limit.unwrap_or(total))
        .collect();
    let end = wanted.offset.saturating_add(shown.len());
    let next = (end < total && !shown.is_empty()).then_some(end);
    CallToolResult::structured(json!({"total": total, "next": next, "stars": shown}))
}

fn find_star(wanted: FindStarArguments) -> CallToolResult {
    let name = wanted.name.trim().to_lowercase();
    let stars = stars::all();
    if let Some(star) = stars.iter().find(|star| star.name.to_lowercase() == name) {
        return CallToolResult::structured(json!(star));
    }
    let mut similar: Vec<(usize, &str)> = stars
        .iter()
        .map(|star| (likeness(&name, &star.name.to_lowercase()), star.name.as_str()))
        .filter(|(likeness, _)| *likeness > 1)
        .collect();
    similar.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
    let similar: Vec<&str> = similar.iter().take(SIMILAR).map(|(_, name)| *name).collect();
    let rest = match similar.as_slice() {
        [] => "`list_stars` names all".to_owned(),
        some => format!("similar ones are {}", some.join(", ")),
    };
    failure(format!("no star `{}`; {rest}", wanted.name))
}

/// Letters that the words of two names begin with alike.
fn likeness(name: &str, other: &str) -> usize {
    let words = name.split_whitespace().zip(other.split_whitespace());
    words
        .map(|(one, other)| {
            one.chars()
                .zip(other.chars())
                .take_while(|(one, other)| one == other)
                .count()
        })
        .sum()
}

async fn count(wanted: CountArguments, context: &RequestContext<RoleServer>) -> ToolAnswer {
    let CountArguments { steps, pause_ms } = wanted;
    if !(1..=MOST_STEPS).contains(&steps) || pause_ms > LONGEST_PAUSE {
        let why = format!("`steps` is 1 to {MOST_STEPS}, `pause_ms` 0 to {LONGEST_PAUSE}");
        return Ok(failure(why).into());
    }
    let token = context.meta.get_progress_token();
    for step in 1..=steps {
        tokio::select! {
            () = context.ct.cancelled() => return Ok(text(format!("cancelled after {} steps", step - 1)).into()),
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
        let Some(token) = token.clone() else { continue };
        let notice: ProgressNotificationParam = typed(json!({
            "progressToken": token, "progress": step, "total": steps,
            "message": format!("{step} of {steps}"),
        }))?;
        if context.peer.notify_progress(notice).await.is_err() {
            break;
        }
    }
    Ok(text(format!("counted to {steps}")).into())
}

async fn greet(request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> ToolAnswer {
    let given: GreetArguments = match arguments(request) {
        Ok(given) => given,
        Err(refused) => return Ok((*refused).into()),
    };
    if let Some(name) = given.name.filter(|name| !name.trim().is_empty()) {
        return Ok(text(greeting(&name)).into());
    }
    if !can_be_asked(context) {
        let why = "Nobody was greeted: this client cannot ask its user (it declares no elicitation by form). \
                   Call again with `name`.";
        return Ok(text(why).into());
    }
    let answers = request.input_responses.as_ref();
    if let Some(answer) = answers.and_then(|answers| answers.get(NAME)) {
        return Ok(text(answered(answer)).into());
    }
    // Clients of 2026-07-28 answer by calling again, older ones a request of ours.
    if context.protocol_version() == Some(ProtocolVersion::V_2026_07_28) {
        let asked = json!({"resultType": "input_required", "inputRequests": {NAME: question()}});
        return Ok(typed::<InputRequiredResult>(asked)?.into());
    }
    let question: ServerRequest = typed(question())?;
    let asking = tokio::time::timeout(ANSWER_WITHIN, context.peer.send_request(question));
    let outcome = tokio::select! {
        () = context.ct.cancelled() => "Nobody was greeted: the call was cancelled.".to_owned(),
        answer = asking => match answer {
            Ok(Ok(answer)) => answered(&json!(answer)),
            Ok(Err(_)) | Err(_) => {
                "Nobody was greeted: the client did not answer. Call again with `name`.".to_owned()
            }
        },
    };
    Ok(text(outcome).into())
}

/// A client that declares elicitation and no kind of it means forms (2025-11-25, "Elicitation").
fn can_be_asked(context: &RequestContext<RoleServer>) -> bool {
    let capabilities = context.client_capabilities().unwrap_or_default();
    let elicitation = capabilities.elicitation;
    elicitation.is_some_and(|kinds| kinds.form.is_some() || kinds.url.is_none())
}

fn question() -> Value {
    json!({"method": "elicitation/create", "params": {
        "mode": "form", "message": "Whom shall the demo greet?",
        "requestedSchema": {"type": "object", "required": [NAME], "properties": {
            NAME: {"type": "string", "title": "Name", "minLength": 1, "maxLength": 80},
        }},
    }})
}

fn answered(answer: &Value) -> String {
    let word = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    match (word("/action"), word("/content/name").map(str::trim)) {
        (Some("accept"), Some(name)) if !name.is_empty() => greeting(name),
        (Some("accept"), _) => "Nobody was greeted: the form came back without a name.".to_owned(),
        (Some("decline"), _) => "Nobody was greeted: the user declined.".to_owned(),
        _ => "Nobody was greeted: the user closed the question.".to_owned(),
    }
}

fn greeting(name: &str) -> String {
    format!("Hello, {}!", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn star(name: &str) -> Value {
        let wanted = FindStarArguments {
            name: name.to_owned(),
        };
        json!(find_star(wanted))
    }

    #[test]
    fn the_sum_of_whole_numbers_is_a_whole_number() {
        let number = |value: Value| serde_json::from_value::<Number>(value).unwrap();
        let of = |a: Value, b: Value| sum(&number(a), &number(b)).to_string();
        assert_eq!(of(json!(1), json!(2)), "3");
        assert_eq!(of(json!(1.5), json!(2)), "3.5");
        assert!(sum(&number(json!(i64::MAX)), &number(json!(1))).is_f64());
    }

    #[test]
    fn a_star_is_found_by_its_name_and_a_misspelt_one_is_offered() {
        assert_eq!(star(" alpha LYRAE ")["structuredContent"]["name"], "Alpha Lyrae");
        let refused = star("Alpha Lyre");
        assert_eq!(refused["isError"], true);
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(
            text.starts_with("no star `Alpha Lyre`; similar ones are Alpha Lyrae"),
            "{text}"
        );
        assert!(
            star("")["content"][0]["text"]
                .as_str()
                .unwrap()
                .contains("list_stars")
        );
    }

    #[test]
    fn pages_of_the_list_hold_every_row_once() {
        let page = |offset| {
            json!(list_stars(ListStarsArguments {
                constellation: None,
                brighter_than: None,
                limit: Some(100),
                offset,
            }))["structuredContent"]
                .clone()
        };
        let (mut offset, mut rows) = (0, Vec::new());
        loop {
            let page = page(offset);
            assert_eq!(page["total"], 384);
            rows.extend(page["stars"].as_array().unwrap().clone());
            match page["next"].as_u64() {
                Some(next) => offset = usize::try_from(next).unwrap(),
                None => break,
            }
        }
        assert_eq!(json!(rows), json!(stars::all()));
        assert_eq!(page(1_000)["next"], Value::Null);
    }

    #[test]
    fn every_end_of_the_question_is_said() {
        for (answer, outcome) in [
            (
                json!({"action": "accept", "content": {"name": " Ada "}}),
                "Hello, Ada!",
            ),
            (
                json!({"action": "accept", "content": {"name": " "}}),
                "without a name",
            ),
            (json!({"action": "accept"}), "without a name"),
            (json!({"action": "decline"}), "declined"),
            (json!({"action": "cancel"}), "closed the question"),
        ] {
            assert!(answered(&answer).contains(outcome), "{answer}");
        }
    }
}
