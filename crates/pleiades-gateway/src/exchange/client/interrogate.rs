//! What a provider wants a person to do, for clients whose revision says that another way: the
//! questions of 2026-07-28 for a legacy client, and addresses to be opened.

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::channel::ClientChannel;
use super::convert::{Answer, answer_for, cancelled, question_for, unanswerable};
use super::pending::PendingQuestion;
use crate::exchange::fault::URL_REQUIRED;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::raw::raw;
use pleiades_mcp::{ClientCapabilities, Raw, RawObject, Revision, elicit, reserved, translate};

/// To a provider that asks what it was told nobody can answer.
const UNASKABLE: &str = "the provider asked for something that this client does not offer";
/// Where connecting is said by ours, so that no provider can say it.
const OURS: [&str; 6] = [
    "connect_url",
    "connection_id",
    "provider_id",
    "reason",
    "scopes",
    "missing_scopes",
];

/// Puts the questions of a provider of 2026-07-28 to a legacy client; its answers by their keys.
/// `title`: who asks. `ends`: the call is over already, and could be made anew once an address was
/// opened.
///
/// # Errors
/// -32042 when all it has to do is to open addresses and the client knows that; an error it
/// can read when it does not know, or cannot take a question.
pub(crate) async fn interrogate(
    channel: &ClientChannel<'_>,
    result: &RawObject,
    title: &str,
    (from, ends): (Revision, bool),
) -> Result<RawObject, Error> {
    let asked = questions_of(result)?;
    let urls = asked.iter().filter(|(_, _, params)| elicit::is_url(params));
    let urls: Vec<&RawObject> = urls.map(|(_, _, params)| params).collect();
    let instead = ends && urls.len() == asked.len();
    if !urls.is_empty() && (instead || !channel.abilities.has(ClientCapabilities::URL)) {
        return Err(to_open(channel, title, &urls));
    }
    let put = asked
        .iter()
        .map(|(_, method, params)| put(channel, method, params, from));
    let answers = join_all(put).await;
    let mut responses = RawObject::new();
    for ((key, ..), answer) in asked.iter().zip(answers) {
        responses.set(key, answer?);
    }
    Ok(responses)
}

async fn put(
    channel: &ClientChannel<'_>,
    method: &str,
    params: &RawObject,
    from: Revision,
) -> Result<Raw, Error> {
    let refused = |answer: Answer| {
        answer.map_err(|fault| {
            Error::new(Code::UpstreamProtocol, UNASKABLE)
                .because(fault.message)
                .sent()
        })
    };
    let asked = params.close();
    if !channel.abilities.takes(method, Some(&asked)) {
        return refused(unanswerable(method));
    }
    let Some(mut params) = question_for(method, Some(asked), from, channel.client) else {
        return refused(unanswerable(method));
    };
    if elicit::is_url(&params) {
        params.put("elicitationId", &channel.questions.ticket());
    }
    let _turn = channel.turn().await;
    let (sender, answered) = oneshot::channel();
    let Ok(question) = PendingQuestion::put(channel, method, &params, sender).await else {
        return refused(cancelled(method));
    };
    match question.answer(channel, answered).await {
        Some(Ok(result)) => Ok(answer_for(method, result, channel.client, from)),
        _ => refused(cancelled(method)),
    }
}

/// An error of the provider as the client can take it: an address that a person has to open first
/// becomes the whole `input_required` result where the client's protocol has one.
///
/// # Errors
/// What cannot be asked.
pub(crate) fn failing(
    channel: &ClientChannel<'_>,
    (title, method): (&str, &str),
    error: Error,
    from: Revision,
) -> Result<Raw, Error> {
    let fault = error.rpc.as_ref().filter(|fault| fault.code == URL_REQUIRED);
    let data = fault.and_then(|fault| RawObject::open(fault.data.as_deref()?).ok());
    let urls: Vec<RawObject> = data
        .and_then(|data| data.read("elicitations"))
        .unwrap_or_default();
    if urls.is_empty() {
        return Err(translated(method, error, from, channel.client));
    }
    match (
        channel.client.is_modern(),
        channel.abilities.has(ClientCapabilities::URL),
    ) {
        (true, true) => Ok(to_visit(urls, from, channel.client)),
        (false, true) => Err(without_ours(error)),
        (_, false) => Err(readable(title, &urls.iter().collect::<Vec<_>>())),
    }
}

/// An upstream's own error as a peer of another revision may be told it.
fn translated(method: &str, mut error: Error, from: Revision, to: Revision) -> Error {
    if let Some(mut fault) = error.rpc.take() {
        fault.data = fault.data.map(reserved::strip);
        error.rpc = Some(Box::new(translate::fault(method, *fault, from, to)));
    }
    error
}

/// Addresses as questions of 2026-07-28; the call is over, and its retry makes a new one.
fn to_visit(urls: Vec<RawObject>, from: Revision, client: Revision) -> Raw {
    let mut requests = RawObject::new();
    for (at, mut params) in urls.into_iter().enumerate() {
        params.put("mode", "url");
        let Some(params) = elicit::elicitation(params, from, client) else {
            continue;
        };
        let request = json!({ "method": "elicitation/create", "params": params });
        requests.put(&format!("open-{}", at + 1), &request);
    }
    raw(&json!({ "resultType": "input_required", "inputRequests": requests }))
}

/// What a legacy client is told when a person has to open addresses first.
fn to_open(channel: &ClientChannel<'_>, title: &str, urls: &[&RawObject]) -> Error {
    if !channel.abilities.has(ClientCapabilities::URL) {
        return readable(title, urls);
    }
    let elicitations: Vec<_> = urls
        .iter()
        .map(|params| {
            let mut params = (*params).clone();
            params.put("mode", "url");
            if params.get("elicitationId").is_none() {
                params.put("elicitationId", &channel.questions.ticket());
            }
            params
        })
        .collect();
    Error::rpc(RpcFault {
        code: URL_REQUIRED,
        message: format!("{title} needs you to open an address first"),
        data: Some(raw(&json!({ "elicitations": elicitations }))),
    })
}

/// What a provider of 2026-07-28 asks, by its keys.
fn questions_of(result: &RawObject) -> Result<Vec<(String, String, RawObject)>, Error> {
    let requests = match result.get("inputRequests") {
        Some(requests) => RawObject::open(requests).map_err(unreadable)?,
        None => RawObject::new(),
    };
    let requests = requests.iter();
    requests
        .map(|(key, request)| {
            let (method, params) = question_of(request)?;
            Ok((key.to_owned(), method, params))
        })
        .collect()
}

fn question_of(request: &RawValue) -> Result<(String, RawObject), Error> {
    #[derive(Deserialize)]
    struct QuestionParams {
        method: String,
        #[serde(default)]
        params: Option<RawObject>,
    }
    let QuestionParams { method, params } = serde_json::from_str(request.get()).map_err(unreadable)?;
    Ok((method, params.unwrap_or_default()))
}

/// Of a question that is none: left out, it would be asked again without end.
fn unreadable(cause: serde_json::Error) -> Error {
    Error::new(
        Code::UpstreamProtocol,
        "the provider asked for something in a form that is not MCP",
    )
    .because(cause)
    .sent()
}

/// A provider's wish to have an address opened, without the names under which ours says where to
/// connect.
fn without_ours(mut error: Error) -> Error {
    if let Some(fault) = &mut error.rpc
        && let Some(mut data) = fault.data.as_deref().and_then(|data| RawObject::open(data).ok())
    {
        data.retain(|key| !OURS.contains(&key));
        fault.data = Some(reserved::strip(data.close()));
    }
    error
}

/// What a client is told that cannot be sent to an address by its protocol.
fn readable(title: &str, urls: &[&RawObject]) -> Error {
    let wanted: Vec<String> = urls
        .iter()
        .map(|params| {
            let why = params.text("message").unwrap_or_default();
            let url = params.text("url").unwrap_or_default();
            format!("open {url} ({why})")
        })
        .collect();
    Error::new(
        Code::InputRequired,
        format!(
            "{title} wants a person to act first: {}. Then make the call again",
            wanted.join("; ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exchange::client::Questions;
    use crate::exchange::session::{Mailboxes, Tokens};
    use pleiades_core::secret::Secret;
    use pleiades_mcp::seal::Sealer;

    const LEGACY: Revision = Revision::V2025_11_25;
    const MODERN: Revision = Revision::V2026_07_28;

    fn with_channel<T>(
        client: Revision,
        abilities: ClientCapabilities,
        run: impl FnOnce(&ClientChannel<'_>) -> T,
    ) -> T {
        let sealer = Sealer::new(&[Secret::new("a key of enough bytes")]);
        let questions = Questions::new(Tokens::new(Arc::new(sealer)), "one");
        run(&ClientChannel {
            questions: &questions,
            mailboxes: &Mailboxes::default(),
            holder: "ann",
            client,
            abilities,
            outlet: None,
            session: None,
            logs: false,
        })
    }

    fn wants_url() -> Error {
        Error::rpc(RpcFault {
            code: URL_REQUIRED,
            message: "open it".to_owned(),
            data: Some(raw(&json!({
                "elicitations": [{ "mode": "url", "url": "https://a.example/", "message": "sign in" }],
                "connect_url": "https://phish.example/",
                "own": 1,
            }))),
        })
    }

    fn failed(client: Revision, abilities: ClientCapabilities, error: Error) -> Result<Raw, Error> {
        with_channel(client, abilities, |channel| {
            failing(channel, ("Mail", "tools/call"), error, LEGACY)
        })
    }

    #[test]
    fn an_address_to_open_is_a_question_for_a_client_of_2026_07_28() {
        let asked = failed(MODERN, ClientCapabilities::URL, wants_url()).unwrap();
        let asked = RawObject::open(&asked).unwrap();
        assert_eq!(asked.text("resultType").as_deref(), Some("input_required"));
        assert!(
            asked
                .get("inputRequests")
                .unwrap()
                .get()
                .contains("https://a.example/")
        );
    }

    #[test]
    fn a_provider_cannot_say_where_to_connect_under_our_names() {
        let error = failed(LEGACY, ClientCapabilities::URL, wants_url()).unwrap_err();
        let data = error.rpc.unwrap().data.unwrap();
        assert!(data.get().contains("https://a.example/") && data.get().contains("own"));
        assert!(!data.get().contains("connect_url"), "{}", data.get());
    }

    #[test]
    fn a_client_that_opens_no_addresses_reads_which_one_it_is() {
        for client in [LEGACY, MODERN] {
            let error = failed(client, ClientCapabilities::NONE, wants_url()).unwrap_err();
            assert_eq!(error.code, Code::InputRequired);
            assert!(
                error.message.contains("https://a.example/ (sign in)"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn any_other_error_stays_an_error() {
        let error = Error::new(Code::UpstreamTimeout, "late");
        assert_eq!(
            failed(MODERN, ClientCapabilities::URL, error).unwrap_err().code,
            Code::UpstreamTimeout
        );
    }

    #[tokio::test]
    async fn questions_that_are_all_addresses_are_an_error_once_the_call_is_over() {
        let result = json!({ "inputRequests": { "one": {
            "method": "elicitation/create",
            "params": { "mode": "url", "url": "https://a.example/", "message": "sign in" },
        } } });
        let result = RawObject::open(&raw(&result)).unwrap();
        let error = {
            let sealer = Sealer::new(&[Secret::new("a key of enough bytes")]);
            let questions = Questions::new(Tokens::new(Arc::new(sealer)), "one");
            let mailboxes = Mailboxes::default();
            let channel = ClientChannel {
                questions: &questions,
                mailboxes: &mailboxes,
                holder: "ann",
                client: LEGACY,
                abilities: ClientCapabilities::URL,
                outlet: None,
                session: None,
                logs: false,
            };
            interrogate(&channel, &result, "Mail", (MODERN, true))
                .await
                .unwrap_err()
        };
        let fault = error.rpc.unwrap();
        assert_eq!(fault.code, URL_REQUIRED);
        assert!(fault.data.unwrap().get().contains("elicitationId"));
    }

    #[test]
    fn a_question_that_is_none_is_an_error_instead_of_being_asked_without_end() {
        let result = RawObject::open(&raw(&json!({ "inputRequests": { "one": 7 } }))).unwrap();
        assert_eq!(questions_of(&result).unwrap_err().code, Code::UpstreamProtocol);
        assert!(questions_of(&RawObject::new()).unwrap().is_empty());
    }
}
