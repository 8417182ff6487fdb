//! Sampling between revisions: what one asks of a model as another can take it, and the answer
//! back (the schemas of the three revisions). Tools and content of several blocks came with
//! 2025-11-25.

use serde_json::value::RawValue;

use super::translate::{self, EntryKind};
use super::{Raw, RawObject, Revision, edit, raw};

/// The parameters of a `sampling/createMessage` of a peer of `from`, as a peer of `to` can take them. `None`
/// when they cannot be taken there: tools, and messages about their use, before 2025-11-25.
#[must_use]
pub fn sampling(mut params: RawObject, from: Revision, to: Revision) -> Option<RawObject> {
    if from == to {
        return Some(params);
    }
    edit::strip_hop_meta(&mut params);
    if to != Revision::V2025_11_25 {
        params.remove("task");
    }
    if from < Revision::V2025_11_25 && to >= Revision::V2025_11_25 {
        // Since 2025-11-25 a client says first that it gives context to servers; none is the default.
        params.remove("includeContext");
    }
    if to >= Revision::V2025_11_25 {
        downgrade_tools(&mut params, to);
        return Some(params);
    }
    if wants_tools(&params) {
        return None;
    }
    edit::remove(&mut params, &["tools", "toolChoice"]);
    if let Some(messages) = params.read::<Vec<RawObject>>("messages") {
        let single: Option<Vec<Vec<RawObject>>> = messages.into_iter().map(split).collect();
        params.put("messages", &single?.concat());
    }
    Some(params)
}

/// The answer of a peer of `from`, for the peer of `to` that asked. `None` when it cannot be told
/// there: several blocks that are not all text, or the use of a tool, before 2025-11-25.
#[must_use]
pub fn sampled(mut result: RawObject, from: Revision, to: Revision) -> Option<RawObject> {
    if from == to {
        return Some(result);
    }
    edit::strip_hop_meta(&mut result);
    if to >= Revision::V2025_11_25 {
        return Some(result);
    }
    let blocks = blocks(&result)?;
    let block = match blocks.as_slice() {
        [only] => only.clone(),
        many => joined(many)?,
    };
    result.set("content", block);
    Some(result)
}

fn downgrade_tools(params: &mut RawObject, to: Revision) {
    edit::elements(params, "tools", |tool| {
        let before = tool.len();
        *tool = translate::entry(EntryKind::Tool, std::mem::take(tool), to);
        tool.len() != before
    });
    if to.is_modern() {
        return;
    }
    let objects_only = |block: &mut RawObject| translate::objects_only(block, "structuredContent");
    edit::elements(params, "messages", |message| {
        let wanted = |block: &RawValue| edit::kind(block).as_deref() == Some("tool_result");
        edit::chosen(message, "content", wanted, objects_only)
    });
}

/// Whether a model is to use tools: some are given and their use is not forbidden.
fn wants_tools(params: &RawObject) -> bool {
    let given = params
        .read::<Vec<&RawValue>>("tools")
        .is_some_and(|tools| !tools.is_empty());
    let choice: Option<RawObject> = params.read("toolChoice");
    given && choice.is_none_or(|choice| choice.text("mode").as_deref() != Some("none"))
}

/// One message for each block; `None` when a block is about tools.
fn split(message: RawObject) -> Option<Vec<RawObject>> {
    let blocks = blocks(&message)?;
    let alone = |block: Raw| {
        let mut message = message.clone();
        message.set("content", block);
        message
    };
    Some(blocks.into_iter().map(alone).collect())
}

/// The content as a list of blocks; `None` when one is about tools, or there is no content.
fn blocks(message: &RawObject) -> Option<Vec<Raw>> {
    let content = message.get("content")?;
    let blocks: Vec<Raw> = if edit::is_array(content) {
        message.read("content")?
    } else {
        vec![content.to_owned()]
    };
    let plain = |block: &Raw| {
        RawObject::open(block).is_ok_and(|block| {
            let kind = block.text("type");
            !matches!(kind.as_deref(), Some("tool_use" | "tool_result") | None)
        })
    };
    blocks.iter().all(plain).then_some(blocks)
}

fn joined(blocks: &[Raw]) -> Option<Raw> {
    let texts: Option<Vec<String>> = blocks
        .iter()
        .map(|block| {
            let block = RawObject::open(block).ok()?;
            let text = block.text("text")?.into_owned();
            (block.text("type").as_deref() == Some("text")).then_some(text)
        })
        .collect();
    let text = serde_json::json!({ "type": "text", "text": texts?.join("\n") });
    Some(raw::raw(&text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const J: Revision = Revision::V2025_06_18;
    const L: Revision = Revision::V2025_11_25;
    const M: Revision = Revision::V2026_07_28;

    fn object(value: &Value) -> RawObject {
        RawObject::open(&raw::raw(value)).unwrap()
    }

    fn asked(params: &Value, from: Revision, to: Revision) -> Option<Value> {
        sampling(object(params), from, to).map(|params| serde_json::to_value(params).unwrap())
    }

    fn answered(result: &Value, from: Revision, to: Revision) -> Option<Value> {
        sampled(object(result), from, to).map(|result| serde_json::to_value(result).unwrap())
    }

    fn message(content: &Value) -> Value {
        json!({ "role": "user", "content": content })
    }

    fn text(text: &str) -> Value {
        json!({ "type": "text", "text": text })
    }

    #[test]
    fn equal_revisions_pass_untouched() {
        let full =
            json!({ "messages": [message(&json!([text("a")]))], "tools": [{ "name": "t" }], "task": {} });
        for revision in [J, L, M] {
            assert_eq!(asked(&full, revision, revision), Some(full.clone()));
            assert_eq!(answered(&full, revision, revision), Some(full.clone()));
        }
    }

    #[test]
    fn several_blocks_become_several_messages_before_2025_11_25() {
        let image = json!({ "type": "image", "data": "x", "mimeType": "image/png" });
        let params =
            json!({ "maxTokens": 5, "messages": [message(&text("a")), message(&json!([text("b"), image]))] });
        assert_eq!(
            asked(&params, L, J),
            Some(
                json!({ "maxTokens": 5, "messages": [message(&text("a")), message(&text("b")), message(&image)] })
            )
        );
    }

    #[test]
    fn tools_and_their_use_never_reach_a_peer_of_2025_06_18() {
        let messages = json!([message(&text("a"))]);
        let tools = json!([{ "name": "t", "inputSchema": { "type": "object" } }]);
        assert_eq!(
            asked(&json!({ "messages": messages, "tools": tools }), L, J),
            None
        );
        let none = json!({ "messages": messages, "tools": tools, "toolChoice": { "mode": "none" } });
        assert_eq!(asked(&none, L, J), Some(json!({ "messages": messages })));
        let empty = json!({ "messages": messages, "tools": [] });
        assert_eq!(asked(&empty, M, J), Some(json!({ "messages": messages })));
        for kind in ["tool_use", "tool_result"] {
            let used = json!({ "messages": [message(&json!([text("a"), { "type": kind }]))] });
            assert_eq!(asked(&used, L, J), None);
        }
    }

    #[test]
    fn context_that_newer_clients_give_only_when_they_said_so_is_not_asked_for() {
        let params = json!({ "messages": [], "includeContext": "allServers", "temperature": 0.10 });
        assert_eq!(
            asked(&params, J, L),
            Some(json!({ "messages": [], "temperature": 0.10 }))
        );
        assert_eq!(asked(&params, L, J), Some(params));
    }

    #[test]
    fn modern_tools_and_their_results_are_told_as_2025_11_25_knows_them() {
        let result =
            json!({ "type": "tool_result", "toolUseId": "1", "content": [], "structuredContent": [1] });
        let params = json!({ "messages": [message(&json!([result]))],
            "tools": [{ "name": "t", "outputSchema": { "type": "array" } }] });
        assert_eq!(
            asked(&params, M, L),
            Some(json!({ "tools": [{ "name": "t" }],
                "messages": [message(&json!([{ "type": "tool_result", "toolUseId": "1", "content": [] }]))] }))
        );
        assert_eq!(asked(&params, L, M), Some(params));
    }

    #[test]
    fn an_answer_of_several_texts_is_one_text_before_2025_11_25() {
        let answer = |content: Value| json!({ "role": "assistant", "model": "m", "content": content });
        assert_eq!(
            answered(&answer(json!([text("a")])), L, J),
            Some(answer(text("a")))
        );
        assert_eq!(
            answered(&answer(json!([text("a"), text("b")])), L, J),
            Some(answer(text("a\nb")))
        );
        assert_eq!(answered(&answer(json!([{ "type": "tool_use" }])), L, J), None);
        assert_eq!(
            answered(&answer(json!([text("a"), { "type": "image" }])), L, J),
            None
        );
        assert_eq!(answered(&answer(text("a")), J, L), Some(answer(text("a"))));
    }
}
