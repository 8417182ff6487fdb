//! Between revisions: results, list entries and errors of one as a peer of another knows them
//! (reference: `mcp-spec.md` section 5.2, units T4, T10, T11).

mod codes;
mod content;

use serde_json::json;

pub use self::codes::{addresses, fault, has};
use super::{RawObject, Revision, edit, raw};

/// Members that only modern results have.
const ENVELOPE: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
/// Answer to older peers for a call that waits for what only newer ones can give.
const UNFINISHED: &str = "the provider has not finished and wants something that this client cannot give";
/// Results that may be kept and therefore say for how long (2026-07-28, "Caching").
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

/// Who may cache a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// Anybody.
    Public,
    /// Only this caller.
    Private,
}

/// What a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// `tools/list`.
    Tool,
    /// `resources/list`.
    Resource,
    /// `resources/templates/list`.
    Template,
    /// `prompts/list`.
    Prompt,
}

/// Whether a result is the end of its request. Others ask for input or name a task, and mean nothing
/// to peers before 2026-07-28.
#[must_use]
fn is_complete(result: &RawObject) -> bool {
    result.get("resultType").is_none() || result.text("resultType").as_deref() == Some("complete")
}

/// A result made by a peer of `from`, for a peer of `to`.
///
/// Unknown members pass, and everything between equal revisions; but a peer of 2026-07-28 that left
/// out that its result is complete did not keep its own rule, and is read as the rule says.
///
/// A result that is not complete should not come here on its way to an older peer: a tool's
/// becomes a failed call, others lose what makes them incomplete.
#[must_use]
pub fn result(method: &str, mut result: RawObject, from: Revision, to: Revision) -> RawObject {
    if from == to {
        envelope(&mut result, to, None);
        return result;
    }
    edit::strip_hop_meta(&mut result);
    if to.is_modern() {
        // Of an older peer's answer nothing is known but that it came now.
        let cache = CACHEABLE.contains(&method).then_some((0, CacheScope::Private));
        envelope(&mut result, to, cache);
        return result;
    }
    if from.is_modern() {
        if !is_complete(&result) {
            return unfinished(method, result);
        }
        edit::remove(&mut result, &ENVELOPE);
    }
    if method == "tools/call" {
        content::structured_objects(&mut result);
    }
    blocks(method, &mut result, from, to);
    result
}

/// The content blocks of a result alone, as a peer of `to` knows them. [`result`] does this too.
pub fn blocks(method: &str, result: &mut RawObject, from: Revision, to: Revision) {
    if from > to {
        content::downgrade(method, result, to);
    }
}

fn unfinished(method: &str, mut result: RawObject) -> RawObject {
    if method == "tools/call" {
        let text = json!({ "content": [{ "type": "text", "text": UNFINISHED }], "isError": true });
        return RawObject::open(&raw::raw(&text)).unwrap_or_default();
    }
    edit::remove(&mut result, &ENVELOPE);
    edit::remove(&mut result, &["inputRequests", "requestState"]);
    result
}

/// The parameters of a notification on their way to a peer of another generation: what they say of
/// one hop alone is taken off.
pub fn notification(params: &mut RawObject) {
    edit::strip_hop_meta(params);
}

/// A list entry as a peer of this revision knows it.
#[must_use]
pub fn entry(kind: EntryKind, mut entry: RawObject, to: Revision) -> RawObject {
    if kind == EntryKind::Tool {
        // Tasks that a tool announces are of 2025-11-25 alone, and made here for whoever calls it.
        entry.remove("execution");
    }
    if to.is_modern() {
        return entry;
    }
    if kind == EntryKind::Tool {
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
    }
    entry
}

/// Completes a result that is built here. Modern peers learn that it is complete and how long it
/// may be kept (milliseconds); older ones have no such members.
pub fn envelope(result: &mut RawObject, to: Revision, cache: Option<(u64, CacheScope)>) {
    if !to.is_modern() {
        return;
    }
    if result.get("resultType").is_none() {
        result.put("resultType", "complete");
    }
    if let Some((ttl_ms, scope)) = cache {
        result.put("ttlMs", &ttl_ms);
        let scope = match scope {
            CacheScope::Public => "public",
            CacheScope::Private => "private",
        };
        result.put("cacheScope", scope);
    }
}

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
                object(&json!({ "content": [{}], "structuredContent": content })),
                M,
                J,
            ))
        };
        assert_eq!(call(json!([1])), json!({ "content": [{}] }));
        assert_eq!(
            call(json!({ "a": 1 })),
            json!({ "content": [{}], "structuredContent": { "a": 1 } })
        );
    }

    #[test]
    fn equal_revisions_pass_untouched() {
        let same = json!({ "structuredContent": [1], "ttlMs": 5, "resultType": "task" });
        assert_eq!(value(&result("tools/call", object(&same), M, M)), same);
        let same = json!({ "structuredContent": [1], "ttlMs": 5 });
        assert_eq!(value(&result("tools/call", object(&same), L, L)), same);
        let completed = json!({ "structuredContent": [1], "ttlMs": 5, "resultType": "complete" });
        assert_eq!(value(&result("tools/call", object(&same), M, M)), completed);
    }

    #[test]
    fn entries_lose_what_a_revision_does_not_know() {
        let tool = json!({ "name": "t", "icons": [], "execution": {}, "outputSchema": { "type": "array" }, "x": 1, "_meta": { "ui": {} } });
        let shown = |kind, to| value(&entry(kind, object(&tool), to));
        let without = |members: &[&str]| {
            let mut left = tool.clone();
            left.as_object_mut()
                .unwrap()
                .retain(|key, _| !members.contains(&key.as_str()));
            left
        };
        assert_eq!(
            shown(EntryKind::Tool, J),
            without(&["icons", "execution", "outputSchema"])
        );
        assert_eq!(shown(EntryKind::Tool, L), without(&["execution", "outputSchema"]));
        assert_eq!(shown(EntryKind::Tool, M), without(&["execution"]));
        for kind in [EntryKind::Resource, EntryKind::Template, EntryKind::Prompt] {
            assert_eq!(shown(kind, J), without(&["icons"]));
            assert_eq!(shown(kind, L), tool);
            assert_eq!(shown(kind, M), tool);
        }
    }

    #[test]
    fn an_output_schema_of_an_object_stays() {
        let tool = json!({ "name": "t", "outputSchema": { "type": "object", "$defs": {} } });
        for to in [J, L, M] {
            assert_eq!(value(&entry(EntryKind::Tool, object(&tool), to)), tool);
        }
    }

    #[test]
    fn a_value_that_is_no_object_is_said_in_text_when_nothing_else_is() {
        let downgraded = |modern: Value| value(&result("tools/call", object(&modern), M, L));
        assert_eq!(
            downgraded(json!({ "resultType": "complete", "content": [], "structuredContent": [1, 2] })),
            json!({ "content": [{ "type": "text", "text": "[1,2]" }] })
        );
        let text = json!([{ "type": "text", "text": "one and two" }]);
        assert_eq!(
            downgraded(json!({ "content": text, "structuredContent": 3 })),
            json!({ "content": text })
        );
    }

    #[test]
    fn blocks_of_kinds_that_came_later_become_text_and_links_lose_their_icons() {
        let link = json!({ "type": "resource_link", "uri": "a://b", "name": "b" });
        let mut with_icons = link.clone();
        with_icons["icons"] = json!([]);
        let call = json!({ "content": [with_icons, { "type": "hologram", "x": [1.0] }, { "type": "text", "text": "" }] });
        let downgraded = |to| value(&result("tools/call", object(&call), M, to))["content"].clone();
        let text = json!({ "type": "text", "text": "{\"type\":\"hologram\",\"x\":[1.0]}" });
        assert_eq!(downgraded(J), json!([link, text, { "type": "text", "text": "" }]));
        assert_eq!(downgraded(L)[0], with_icons);
        let prompt = json!({ "messages": [{ "role": "user", "content": with_icons }] });
        assert_eq!(
            value(&result("prompts/get", object(&prompt), L, J)),
            json!({ "messages": [{ "role": "user", "content": link }] })
        );
        assert_eq!(value(&result("prompts/get", object(&prompt), J, L)), prompt);
        let old = value(&result(
            "tools/call",
            object(&json!({ "content": [link] })),
            L,
            Revision::V2025_03_26,
        ));
        assert_eq!(old["content"][0]["type"], "text");
    }

    #[test]
    fn an_unfinished_result_never_reaches_an_older_peer_as_it_is() {
        let asks =
            json!({ "resultType": "input_required", "inputRequests": {}, "requestState": "s", "x": 1 });
        assert!(!is_complete(&object(&asks)));
        assert!(is_complete(&object(&json!({ "content": [] }))));
        let call = value(&result("tools/call", object(&asks), M, L));
        assert_eq!((&call["isError"], call.get("requestState")), (&json!(true), None));
        assert_eq!(
            value(&result("prompts/get", object(&asks), M, J)),
            json!({ "x": 1 })
        );
        assert_eq!(value(&result("tools/call", object(&asks), M, M)), asks);
    }

    #[test]
    fn marks_of_one_hop_stay_there_in_both_directions() {
        let older =
            json!({ "content": [], "_meta": { "io.modelcontextprotocol/related-task": {}, "own": 1.0 } });
        for (from, to) in [(L, J), (L, M), (J, M)] {
            assert_eq!(
                value(&result("tools/call", object(&older), from, to))["_meta"],
                json!({ "own": 1.0 })
            );
        }
    }
}
