//! Questions and answers between peers of different revisions.

use serde_json::json;
use serde_json::value::RawValue;

use pleiades_core::error::RpcFault;
use pleiades_mcp::{Raw, RawObject, Revision, elicit, raw, reserved, sampling, task};

/// Largest question that is put (bytes): it is kept until it is answered.
const LARGEST: usize = 4 * 1024 * 1024;
/// The question to a person.
pub(crate) const ELICITATION: &str = "elicitation/create";

/// What a client says to a question.
pub(crate) type Answer = Result<Raw, RpcFault>;

/// A question of a peer of `from` as one of `to` can take it; `None` where it cannot be put.
pub(crate) fn question_for(
    method: &str,
    params: Option<Raw>,
    from: Revision,
    to: Revision,
) -> Option<RawObject> {
    let mut params = match params {
        Some(params) if params.get().len() > LARGEST => return None,
        Some(params) => RawObject::open(&params).ok()?,
        None => RawObject::new(),
    };
    if method == ELICITATION && !elicit::is_question(&params) {
        return None;
    }
    reserved::strip_params(&mut params);
    task::strip_related(&mut params);
    match method {
        ELICITATION => elicit::elicitation(params, from, to),
        "sampling/createMessage" => sampling::sampling(params, from, to),
        _ => Some(params),
    }
}

/// The answer of a peer of `from` as one of `to` understands it.
pub(crate) fn answer_for(method: &str, result: Raw, from: Revision, to: Revision) -> Raw {
    let Ok(opened) = RawObject::open(&result) else {
        return result;
    };
    match method {
        ELICITATION => elicit::elicited(opened, from, to).close(),
        "sampling/createMessage" => sampling::sampled(opened, from, to).map_or(result, |it| it.close()),
        _ => result,
    }
}

/// Whether what came back answers a question of this method: an elicitation says what a person did.
pub(crate) fn is_answer(method: &str, result: &RawValue) -> bool {
    method != ELICITATION || RawObject::open(result).is_ok_and(|result| elicit::is_answer(&result))
}

/// The answer to a question that nobody can be asked.
pub(crate) fn unanswerable(method: &str) -> Answer {
    if method == ELICITATION {
        return Ok(raw::raw(&json!({ "action": "decline" })));
    }
    Err(RpcFault {
        code: -32601,
        message: "this client offers no such method".to_owned(),
        data: None,
    })
}

/// What a provider is told when a question was closed without an answer.
pub(crate) fn cancelled(method: &str) -> Answer {
    if method == ELICITATION {
        return Ok(raw::raw(&json!({ "action": "cancel" })));
    }
    unanswerable(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGACY: Revision = Revision::V2025_11_25;
    const MODERN: Revision = Revision::V2026_07_28;

    fn elicitation() -> Raw {
        raw::raw(&json!({
            "message": "who?",
            "requestedSchema": { "type": "object", "properties": { "name": { "type": "string" } } },
            "_meta": { "io.modelcontextprotocol/related-task": { "taskId": "t" }, "own": 1 },
        }))
    }

    #[test]
    fn a_question_that_is_none_or_too_large_is_not_put() {
        let odd = raw::raw(&json!({ "mode": "telepathy" }));
        assert!(question_for(ELICITATION, Some(odd), LEGACY, LEGACY).is_none());
        let large = raw::raw(&json!({ "text": "x".repeat(LARGEST) }));
        assert!(question_for("sampling/createMessage", Some(large), LEGACY, LEGACY).is_none());
    }

    #[test]
    fn a_question_is_put_without_what_speaks_of_the_hop_before() {
        let put = question_for(ELICITATION, Some(elicitation()), LEGACY, LEGACY).expect("a question");
        assert!(!put.close().get().contains("related-task"));
        assert_eq!(put.text("message").as_deref(), Some("who?"));
    }

    #[test]
    fn only_an_elicitation_has_to_say_what_a_person_did() {
        let accepts = raw::raw(&json!({ "action": "accept", "content": {} }));
        let says_nothing = raw::raw(&json!({ "content": {} }));
        assert!(is_answer(ELICITATION, &accepts));
        assert!(!is_answer(ELICITATION, &says_nothing));
        assert!(is_answer("roots/list", &says_nothing));
    }

    #[test]
    fn a_question_that_nobody_can_be_asked_is_declined_or_unknown() {
        assert_eq!(
            unanswerable(ELICITATION).unwrap().get(),
            r#"{"action":"decline"}"#
        );
        assert_eq!(unanswerable("roots/list").unwrap_err().code, -32601);
    }

    #[test]
    fn a_question_that_was_closed_is_cancelled_or_unknown() {
        assert_eq!(cancelled(ELICITATION).unwrap().get(), r#"{"action":"cancel"}"#);
        assert_eq!(cancelled("sampling/createMessage").unwrap_err().code, -32601);
    }

    #[test]
    fn an_answer_that_is_no_object_passes_as_it_is() {
        let text = raw::raw("odd");
        assert_eq!(
            answer_for("roots/list", text.clone(), MODERN, LEGACY).get(),
            text.get()
        );
    }
}
