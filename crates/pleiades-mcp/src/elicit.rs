//! Elicitation between revisions: what one asks as another can show it, and the answer back
//! (reference: `mcp-spec.md` section 5.2, unit T12; the schemas of the three revisions).
//!
//! | | 2025-06-18 | 2025-11-25 | 2026-07-28 |
//! |---|---|---|---|
//! | form | plain enum with `enumNames`, `default` on booleans alone | titled and multi-select enums, defaults | the same |
//! | url | none | with `elicitationId` | without |

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RawObject, Revision, edit, raw};

#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "const")]
    value: String,
    title: Option<String>,
}

/// Whether the parameters of an `elicitation/create` send the user to an address instead of showing a form.
#[must_use]
pub fn is_url(params: &RawObject) -> bool {
    params.text("mode").as_deref() == Some("url")
}

/// Whether parameters ask in a way that is known: by a form, or an address.
#[must_use]
pub fn is_question(params: &RawObject) -> bool {
    match params.get("mode").filter(|mode| mode.get() != "null") {
        Some(mode) => raw::text(mode).is_some_and(|mode| mode == "form" || mode == "url"),
        None => true,
    }
}

/// Whether a result answers an elicitation: a person accepted, declined or cancelled.
#[must_use]
pub fn is_answer(result: &RawObject) -> bool {
    let action = result.text("action");
    matches!(action.as_deref(), Some("accept" | "decline" | "cancel"))
}

/// The parameters of an `elicitation/create` of a peer of `from`, as a peer of `to` can take them.
///
/// `None` when they cannot be shown there: addresses and required multi-selects before 2025-11-25,
/// everything before 2025-06-18. What is optional and cannot be shown is left out of the form.
///
/// An address asked by a peer of 2026-07-28 has no `elicitationId`; 2025-11-25 requires one, so the
/// caller puts one it can recognise ([`is_url`] tells when). Going the other way it is taken off.
#[must_use]
pub fn elicitation(mut params: RawObject, from: Revision, to: Revision) -> Option<RawObject> {
    if from == to {
        return Some(params);
    }
    edit::strip_hop_meta(&mut params);
    if to != Revision::V2025_11_25 {
        // Tasks in core, and the id of an address, are of that revision alone.
        edit::remove(&mut params, &["task", "elicitationId"]);
    }
    if to >= Revision::V2025_11_25 {
        return Some(params);
    }
    if to < Revision::V2025_06_18 || params.text("mode").is_some_and(|mode| mode != "form") {
        return None;
    }
    params.remove("mode");
    let mut form: RawObject = params.read("requestedSchema")?;
    plain_form(&mut form)?;
    params.set("requestedSchema", form.close());
    Some(params)
}

/// The answer of a peer of `from` to an elicitation, for the peer of `to` that asked.
#[must_use]
pub fn elicited(mut result: RawObject, from: Revision, to: Revision) -> RawObject {
    if from == to {
        return result;
    }
    edit::strip_hop_meta(&mut result);
    // Clients that decline write `null` where the schemas know an object or nothing.
    let content = result.get("content");
    if content.is_some_and(|content| content.get() == "null") {
        result.remove("content");
    }
    result
}

/// A form as 2025-06-18 knows it; `None` when a required property cannot be said there.
fn plain_form(form: &mut RawObject) -> Option<()> {
    form.remove("$schema");
    let required: HashSet<String> = match form.get("required") {
        Some(_) => form.read("required")?,
        None => HashSet::new(),
    };
    let properties: RawObject = match form.get("properties") {
        Some(_) => form.read("properties")?,
        None => RawObject::new(),
    };
    let mut shown = Vec::with_capacity(properties.len());
    for (name, schema) in properties.iter() {
        match plain_property(schema) {
            Some(property) => shown.push((name.into(), property.close())),
            None if required.contains(name) => return None,
            None => {}
        }
    }
    form.set("properties", RawObject::of_distinct(shown).close());
    Some(())
}

/// A property as 2025-06-18 knows it: a string, a number, a boolean or an enum of strings.
fn plain_property(schema: &RawValue) -> Option<RawObject> {
    let mut property = RawObject::open(schema).ok()?;
    let kind = property.text("type")?.into_owned();
    match kind.as_str() {
        "boolean" => return Some(property),
        "string" | "number" | "integer" => {}
        _ => return None,
    }
    property.remove("default");
    if property.get("oneOf").is_some() {
        let choices: Vec<Choice> = property.read("oneOf")?;
        property.remove("oneOf");
        let values: Vec<&str> = choices.iter().map(|it| &*it.value).collect();
        let titles = choices.iter().map(|it| it.title.as_deref().unwrap_or(&it.value));
        let titles: Vec<&str> = titles.collect();
        property.put("enum", &values);
        property.put("enumNames", &titles);
    }
    Some(property)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::raw;

    const J: Revision = Revision::V2025_06_18;
    const L: Revision = Revision::V2025_11_25;
    const M: Revision = Revision::V2026_07_28;

    fn object(value: &Value) -> RawObject {
        RawObject::open(&raw::raw(value)).unwrap()
    }

    fn asked(params: &Value, from: Revision, to: Revision) -> Option<Value> {
        elicitation(object(params), from, to).map(|params| serde_json::to_value(params).unwrap())
    }

    fn form(properties: &Value, required: &Value) -> Value {
        json!({ "mode": "form", "message": "m", "requestedSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "properties": properties, "required": required } })
    }

    #[test]
    fn equal_revisions_pass_untouched() {
        let text =
            r#"{"mode":"url","url":"https://a.example/","elicitationId":"e","_meta":{"progressToken":1}}"#;
        for revision in [J, L, M] {
            let params = serde_json::from_str(text).unwrap();
            assert_eq!(
                elicitation(params, revision, revision).unwrap().close().get(),
                text
            );
            let result = serde_json::from_str(r#"{"action":"decline","content":null}"#).unwrap();
            assert_eq!(elicited(result, revision, revision).len(), 2);
        }
    }

    #[test]
    fn a_titled_enum_becomes_a_plain_one_with_names_before_2025_11_25() {
        let properties = json!({ "colour": { "type": "string", "title": "Colour", "default": "r", "x": 1,
            "oneOf": [{ "const": "r", "title": "Red" }, { "const": "g" }] } });
        for from in [L, M] {
            let shown = asked(&form(&properties, &json!(["colour"])), from, J).unwrap();
            assert_eq!(
                shown,
                json!({ "message": "m", "requestedSchema": { "type": "object", "required": ["colour"],
                "properties": { "colour": { "type": "string", "title": "Colour", "x": 1,
                    "enum": ["r", "g"], "enumNames": ["Red", "g"] } } } })
            );
        }
    }

    #[test]
    fn defaults_stay_on_booleans_alone_before_2025_11_25() {
        let properties = json!({
            "yes": { "type": "boolean", "default": true },
            "who": { "type": "string", "default": "me", "format": "email" },
            "many": { "type": "integer", "default": 3, "minimum": 1 },
            "plain": { "type": "string", "enum": ["a"], "enumNames": ["A"], "default": "a" } });
        let shown = asked(&form(&properties, &json!([])), L, J).unwrap();
        assert_eq!(
            shown["requestedSchema"]["properties"],
            json!({
                "yes": { "type": "boolean", "default": true },
                "who": { "type": "string", "format": "email" },
                "many": { "type": "integer", "minimum": 1 },
                "plain": { "type": "string", "enum": ["a"], "enumNames": ["A"] } })
        );
    }

    #[test]
    fn an_optional_multi_select_is_left_out_and_a_required_one_cannot_be_shown() {
        let properties = json!({
            "many": { "type": "array", "items": { "type": "string", "enum": ["a"] } },
            "titled": { "type": "array", "items": { "anyOf": [{ "const": "a", "title": "A" }] } },
            "name": { "type": "string" } });
        let shown = asked(&form(&properties, &json!(["name"])), M, J).unwrap();
        assert_eq!(
            shown["requestedSchema"]["properties"],
            json!({ "name": { "type": "string" } })
        );
        assert_eq!(asked(&form(&properties, &json!(["many"])), M, J), None);
        assert_eq!(asked(&form(&properties, &json!(["titled"])), L, J), None);
    }

    #[test]
    fn what_no_form_of_2025_06_18_can_say_counts_as_a_multi_select_does() {
        for odd in [
            json!({ "type": "object", "properties": {} }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            json!({ "type": "string", "oneOf": [{ "const": 1 }] }),
            json!(true),
        ] {
            let properties = json!({ "odd": odd });
            let shown = asked(&form(&properties, &json!([])), L, J).unwrap();
            assert_eq!(shown["requestedSchema"]["properties"], json!({}), "{odd}");
            assert_eq!(asked(&form(&properties, &json!(["odd"])), L, J), None, "{odd}");
        }
        assert_eq!(asked(&json!({ "message": "no form" }), M, J), None);
    }

    #[test]
    fn older_forms_are_understood_by_newer_peers_as_they_are() {
        let old = json!({ "message": "m", "requestedSchema": { "type": "object", "properties": {
            "size": { "type": "string", "enum": ["s"], "enumNames": ["Small"] } } } });
        for to in [L, M] {
            assert_eq!(asked(&old, J, to), Some(old.clone()));
        }
        let new = form(
            &json!({ "a": { "type": "string", "oneOf": [{ "const": "c", "title": "C" }], "default": "c" } }),
            &json!(["a"]),
        );
        assert_eq!(asked(&new, L, M), Some(new.clone()));
        assert_eq!(asked(&new, M, L), Some(new));
    }

    #[test]
    fn an_address_passes_between_2025_11_25_and_2026_07_28_and_never_to_2025_06_18() {
        let url = json!({ "mode": "url", "message": "m", "url": "https://a.example/?q=1", "elicitationId": "e",
            "task": { "ttl": 1 }, "_meta": { "progressToken": 1, "io.modelcontextprotocol/related-task": {}, "own": 2 } });
        assert!(is_url(&object(&url)));
        assert_eq!(asked(&url, L, J), None);
        assert_eq!(asked(&json!({ "mode": "voice" }), M, J), None);
        assert_eq!(
            asked(&url, L, M),
            Some(
                json!({ "mode": "url", "message": "m", "url": "https://a.example/?q=1", "_meta": { "own": 2 } })
            )
        );
        let modern = json!({ "mode": "url", "message": "m", "url": "https://a.example/" });
        assert_eq!(asked(&modern, M, L), Some(modern));
    }

    #[test]
    fn revisions_without_elicitation_are_never_asked() {
        let plain = form(&json!({}), &json!([]));
        assert_eq!(asked(&plain, M, Revision::V2025_03_26), None);
        assert_eq!(asked(&plain, L, Revision::V2024_11_05), None);
    }

    #[test]
    fn answers_lose_the_null_of_a_declined_form_and_marks_of_their_hop() {
        let answered =
            |result: Value, from, to| serde_json::to_value(elicited(object(&result), from, to)).unwrap();
        assert_eq!(
            answered(json!({ "action": "decline", "content": null }), J, M),
            json!({ "action": "decline" })
        );
        let accepted = json!({ "action": "accept", "content": { "a": ["x"], "n": 1.50 }, "x": 1,
            "_meta": { "io.modelcontextprotocol/related-task": {} } });
        assert_eq!(
            answered(accepted, L, J),
            json!({ "action": "accept", "content": { "a": ["x"], "n": 1.50 }, "x": 1 })
        );
    }
}
