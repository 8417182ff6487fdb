//! Between revisions: results, list entries and errors of one as a peer of another knows them
//! (reference: `mcp-spec.md` section 5.2, units T4, T10, T11).

use super::{RawObject, Revision, edit, raw};
use crate::error::RpcFault;

/// Members that only modern results have.
const ENVELOPE: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
/// `_meta` keys of the protocol itself, which speak of one hop.
const PROTOCOL: &str = "io.modelcontextprotocol/";
/// Results that may be kept and therefore say for how long (2026-07-28, "Caching").
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

/// Who may keep a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Anybody.
    Public,
    /// Only this caller.
    Private,
}

/// What a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `tools/list`.
    Tool,
    /// `resources/list`.
    Resource,
    /// `resources/templates/list`.
    Template,
    /// `prompts/list`.
    Prompt,
}

/// A result made by a peer of `from`, for a peer of `to`. Unknown members pass.
#[must_use]
pub fn result(method: &str, mut result: RawObject, from: Revision, to: Revision) -> RawObject {
    if from == to {
        return result;
    }
    match (from.is_modern(), to.is_modern()) {
        (true, false) => {
            for member in ENVELOPE {
                result.remove(member);
            }
            strip_meta(&mut result);
        }
        (false, true) => {
            // Of an older peer's answer nothing is known but that it came now.
            let cache = CACHEABLE.contains(&method).then_some((0, Scope::Private));
            envelope(&mut result, to, cache);
        }
        _ => {}
    }
    if !to.is_modern() && method == "tools/call" {
        objects_only(&mut result, "structuredContent");
    }
    result
}

/// A list entry as a peer of this revision knows it.
#[must_use]
pub fn entry(kind: Kind, mut entry: RawObject, to: Revision) -> RawObject {
    if to.is_modern() {
        return entry;
    }
    if kind == Kind::Tool {
        let object_schema = entry
            .get("outputSchema")
            .and_then(|schema| RawObject::open(schema).ok())
            .is_some_and(|schema| schema.text("type").as_deref() == Some("object"));
        if !object_schema {
            entry.remove("outputSchema");
        }
    }
    if to < Revision::V2025_11_25 {
        entry.remove("icons");
        entry.remove("execution");
    }
    entry
}

/// An error made by a peer of `from` in answer to `method`, for a peer of `to`.
///
/// The codes of 2026-07-28 speak of our own request and never reach an older peer; what older ones
/// call not found, newer ones call a bad parameter.
#[must_use]
pub fn fault(method: &str, mut fault: RpcFault, from: Revision, to: Revision) -> RpcFault {
    if from == to {
        return fault;
    }
    fault.code = match fault.code {
        -32099..=-32020 if from.is_modern() => -32603,
        -32002 if to.is_modern() => -32602,
        // Reading has no parameter but the URI, so it is the URI that was not found.
        -32602 if method == "resources/read" && from.is_modern() && !to.is_modern() => -32002,
        -32042 if to.is_modern() => -32603,
        code => code,
    };
    fault
}

/// Completes a result that is built here. Modern peers learn that it is complete and how long it
/// may be kept (milliseconds); older ones have no such members.
pub fn envelope(result: &mut RawObject, to: Revision, cache: Option<(u64, Scope)>) {
    if !to.is_modern() {
        return;
    }
    if result.get("resultType").is_none() {
        result.put("resultType", "complete");
    }
    if let Some((ttl_ms, scope)) = cache {
        result.put("ttlMs", &ttl_ms);
        result.put(
            "cacheScope",
            if scope == Scope::Public {
                "public"
            } else {
                "private"
            },
        );
    }
}

fn strip_meta(result: &mut RawObject) {
    let Some(mut meta) = result.get("_meta").and_then(|meta| RawObject::open(meta).ok()) else {
        return;
    };
    let members = meta.len();
    meta.retain(|key| !key.starts_with(PROTOCOL));
    if meta.len() == members {
        return;
    }
    if meta.is_empty() {
        result.remove("_meta");
    } else {
        result.set("_meta", raw::raw(&meta));
    }
}

/// Removes a member that is anything but an object; says whether it did.
pub(super) fn objects_only(result: &mut RawObject, member: &str) -> bool {
    let other = result.get(member).is_some_and(|value| !edit::is_object(value));
    if other {
        result.remove(member);
    }
    other
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

    fn value(object: &RawObject) -> Value {
        serde_json::to_value(object).unwrap()
    }

    #[test]
    fn a_modern_envelope_is_taken_off_for_older_peers_and_the_rest_stays() {
        let modern = json!({ "resultType": "complete", "ttlMs": 1, "cacheScope": "public", "tools": [], "x": 1,
            "_meta": { "io.modelcontextprotocol/serverInfo": {}, "own": 2 } });
        let legacy = result("tools/list", object(&modern), M, L);
        assert_eq!(
            value(&legacy),
            json!({ "tools": [], "x": 1, "_meta": { "own": 2 } })
        );
    }

    #[test]
    fn an_older_result_is_complete_and_not_to_be_kept() {
        let modern = result("resources/read", object(&json!({ "contents": [] })), L, M);
        assert_eq!(
            value(&modern),
            json!({ "contents": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private" })
        );
        let call = result("tools/call", object(&json!({ "content": [] })), J, M);
        assert_eq!(value(&call), json!({ "content": [], "resultType": "complete" }));
    }

    #[test]
    fn older_peers_get_structured_content_only_when_it_is_an_object() {
        let call = |content: Value| {
            value(&result(
                "tools/call",
                object(&json!({ "structuredContent": content })),
                M,
                J,
            ))
        };
        assert_eq!(call(json!([1])), json!({}));
        assert_eq!(
            call(json!({ "a": 1 })),
            json!({ "structuredContent": { "a": 1 } })
        );
    }

    #[test]
    fn equal_revisions_pass_untouched() {
        let same = json!({ "structuredContent": [1], "ttlMs": 5 });
        assert_eq!(value(&result("tools/call", object(&same), M, M)), same);
    }

    #[test]
    fn tools_lose_what_a_revision_does_not_know() {
        let tool =
            json!({ "name": "t", "icons": [], "execution": {}, "outputSchema": { "type": "array" }, "x": 1 });
        assert_eq!(
            value(&entry(Kind::Tool, object(&tool), J)),
            json!({ "name": "t", "x": 1 })
        );
        assert_eq!(value(&entry(Kind::Tool, object(&tool), M)), tool);
    }

    #[test]
    fn codes_of_one_generation_are_said_in_the_words_of_the_other() {
        let coded = |code: i64, from, to| {
            fault(
                "tools/call",
                RpcFault {
                    code,
                    message: String::new(),
                    data: None,
                },
                from,
                to,
            )
            .code
        };
        assert_eq!(coded(-32002, L, M), -32602);
        assert_eq!(coded(-32602, M, L), -32602);
        assert_eq!(coded(-32021, M, L), -32603);
        assert_eq!(coded(-32042, L, M), -32603);
        assert_eq!(coded(-32001, L, L), -32001);
        let missing = RpcFault {
            code: -32602,
            message: String::new(),
            data: None,
        };
        assert_eq!(fault("resources/read", missing, M, J).code, -32002);
    }
}
