//! What defines a tool, and its digest.
//!
//! The definition as the provider gives it, not as it is shown: what is left out of lists because nobody can see
//! it is a change all the same, and a newer release that shows more of it is none.

use serde_json::{Map, Value};

use crate::catalog::Tool;
use pleiades_core::digest::sha256_hex;
use pleiades_mcp::{RawObject, raw};

/// Members that define a tool beside its name.
pub(super) const MEMBERS: [&str; 3] = ["description", "inputSchema", "outputSchema"];

/// What of an entry defines a tool.
pub(in crate::catalog) fn defining(entry: &RawObject) -> RawObject {
    let mut defining = RawObject::new();
    for member in MEMBERS {
        if let Some(value) = entry.get(member) {
            defining.set(member, value.to_owned());
        }
    }
    defining
}

/// The members of that which an entry says otherwise now; null for those that it did not have.
pub(in crate::catalog) fn repaired(mut defining: RawObject, entry: &RawObject) -> Option<RawObject> {
    for member in MEMBERS {
        match (defining.get(member), entry.get(member)) {
            (Some(received), Some(now)) if received.get() == now.get() => {
                defining.remove(member);
            }
            (None, Some(_)) => defining.set(member, raw::null()),
            (None | Some(_), _) => {}
        }
    }
    (!defining.is_empty()).then_some(defining)
}

impl Tool {
    /// What defines it beside its name; null is nothing.
    pub(super) fn definition(&self) -> Value {
        let member = |key: &str| {
            let received = self
                .received
                .as_ref()
                .filter(|received| received.get(key).is_some());
            let value: Value = received.map_or(&self.raw, |received| received).read(key)?;
            (!value.is_null()).then(|| (key.to_owned(), value))
        };
        MEMBERS
            .into_iter()
            .filter_map(member)
            .collect::<Map<_, _>>()
            .into()
    }

    /// The digest of its name and definition, in hexadecimal digits.
    pub(super) fn digest(&self) -> &str {
        self.digest
            .get_or_init(|| digest(&self.upstream, &self.definition()).into())
    }
}

/// SHA-256 of name and definition as JSON without blanks, keys of every object in order.
pub(super) fn digest(name: &str, definition: &Value) -> String {
    let mut whole = definition.clone();
    if let Value::Object(members) = &mut whole {
        members.insert("name".to_owned(), name.into());
    }
    whole.sort_all_objects();
    sha256_hex(whole.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(entry: &Value) -> Tool {
        let raw = RawObject::open(&pleiades_mcp::raw::raw(entry)).unwrap();
        Tool::new("t", "t".to_owned(), raw)
    }

    #[test]
    fn a_definition_is_the_one_that_came_and_only_what_was_repaired_of_it_is_kept_twice() {
        let open = |value: Value| RawObject::open(&raw::raw(&value)).unwrap();
        let received = open(json!({ "description": "d\u{200b}", "outputSchema": { "type": "object" } }));
        let mut now = received.clone();
        now.put("description", "d");
        now.set("inputSchema", raw::raw(&json!({ "type": "object" })));
        let kept = repaired(defining(&received), &now).unwrap();
        assert_eq!(
            kept.close().get(),
            "{\"description\":\"d\u{200b}\",\"inputSchema\":null}"
        );
        let mut tool = Tool::new("t", "t".to_owned(), now);
        tool.received = Some(kept.into());
        let own: Value = serde_json::from_str(received.close().get()).unwrap();
        assert_eq!(tool.definition(), own);
        assert!(repaired(defining(&received), &received).is_none());
    }

    #[test]
    fn a_definition_is_its_name_description_and_schemas_and_no_order_of_keys() {
        let own = json!({ "description": "d", "inputSchema": { "type": "object", "properties": { "a": {}, "b": {} } } });
        let digest = |entry: Value| tool(&entry).digest().to_owned();
        let first = digest(own.clone());
        assert_eq!(first.len(), 64);
        let ordered = json!({ "inputSchema": { "properties": { "b": {}, "a": {} }, "type": "object" }, "description": "d" });
        assert_eq!(digest(ordered), first);
        for (key, value, is_change) in [
            ("title", json!("x"), false),
            ("annotations", json!({ "readOnlyHint": true }), false),
            ("_meta", json!({ "a": 1 }), false),
            ("outputSchema", Value::Null, false),
            ("outputSchema", json!({ "type": "object" }), true),
            ("description", json!("d "), true),
            ("description", json!("d\u{200b}"), true),
            (
                "inputSchema",
                json!({ "type": "object", "properties": { "a": {}, "b": { "enum": [1] } } }),
                true,
            ),
        ] {
            let mut entry = own.clone();
            entry[key] = value;
            assert_eq!(digest(entry.clone()) != first, is_change, "{entry}");
        }
        let named = super::digest("u", &tool(&own).definition());
        assert_ne!(named, first);
    }
}
