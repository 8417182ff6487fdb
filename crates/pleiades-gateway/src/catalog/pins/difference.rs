//! Where two definitions differ, member by member.

use serde_json::{Map, Value, json};

/// Differences that are told of one tool.
const MOST: usize = 200;

/// A difference between two definitions.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where: names of members, joined by dots, such as `inputSchema.properties.body.description`.
    pub place: String,
    /// What stood there; `None`: nothing.
    pub before: Option<Value>,
    /// What stands there now; `None`: nothing.
    pub after: Option<Value>,
}

impl Difference {
    /// As a program reads it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut all = Map::from_iter([("field".to_owned(), json!(self.place))]);
        all.extend(self.before.clone().map(|before| ("before".to_owned(), before)));
        all.extend(self.after.clone().map(|after| ("after".to_owned(), after)));
        all.into()
    }
}

/// The differences in the order in which they stand, and how many more there are.
#[must_use]
pub fn between(before: &Value, after: &Value) -> (Vec<Difference>, usize) {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    (found, more)
}

fn compare(place: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            for (name, old) in before {
                compare(&within(place, name), Some(old), after.get(name), found);
            }
            for (name, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                compare(&within(place, name), None, Some(new), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) if is_set(before) && is_set(after) => {
            let of = |value: &Value, is_new: bool| Difference {
                place: place.to_owned(),
                before: (!is_new).then(|| value.clone()),
                after: is_new.then(|| value.clone()),
            };
            let count = found.len();
            found.extend(
                before
                    .iter()
                    .filter(|it| !after.contains(it))
                    .map(|it| of(it, false)),
            );
            found.extend(
                after
                    .iter()
                    .filter(|it| !before.contains(it))
                    .map(|it| of(it, true)),
            );
            if found.len() == count {
                // In another order, or one of them twice.
                found.push(Difference {
                    place: place.to_owned(),
                    before: Some(before.clone().into()),
                    after: Some(after.clone().into()),
                });
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for at in 0..before.len().max(after.len()) {
                compare(
                    &within(place, &at.to_string()),
                    before.get(at),
                    after.get(at),
                    found,
                );
            }
        }
        (before, after) => found.push(Difference {
            place: place.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

/// Lists of few values, as `enum` and `required` are: their order means nothing.
fn is_set(items: &[Value]) -> bool {
    items.len() <= MOST && items.iter().all(|item| !item.is_object() && !item.is_array())
}

fn within(place: &str, name: &str) -> String {
    match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_place_and_what_stood_there() {
        let before = json!({ "description": "a", "inputSchema": { "required": ["x"], "properties": {
            "x": { "enum": ["a", "b"] }, "gone": {} }, "oneOf": [{ "type": "a" }] } });
        let after = json!({ "description": "b", "inputSchema": { "required": ["x"], "properties": {
            "x": { "enum": ["b", "c"] }, "new": { "type": "string" } }, "oneOf": [{ "type": "b" }] } });
        let (found, more) = between(&before, &after);
        let shown: Vec<Value> = found.iter().map(Difference::to_json).collect();
        let x = "inputSchema.properties.x.enum";
        let expected = json!([
            { "field": "description", "before": "a", "after": "b" },
            { "field": x, "before": "a" },
            { "field": x, "after": "c" },
            { "field": "inputSchema.properties.gone", "before": {} },
            { "field": "inputSchema.properties.new", "after": { "type": "string" } },
            { "field": "inputSchema.oneOf.0.type", "before": "a", "after": "b" },
        ]);
        assert_eq!((Value::from(shown), more), (expected, 0));
        assert!(between(&before, &before).0.is_empty());
        let order = between(&json!({ "enum": [1, 2] }), &json!({ "enum": [2, 1] })).0;
        assert_eq!(order.len(), 1);
        let many: Vec<Value> = (0..1_000).map(|at| json!({ "a": at })).collect();
        assert_eq!(between(&json!([]), &Value::from(many)).1, 1_000 - MOST);
    }
}
