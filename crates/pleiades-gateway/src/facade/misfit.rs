//! Arguments that do not fit a tool, said to whoever calls it by its own name.

use serde_json::{Map, Value};

use super::shape::declared;
use super::{example, faults, signature};
use crate::catalog::Tool;
use pleiades_mcp::RawObject;

/// Why a call is not made, and how it would be.
#[derive(Debug, Clone, PartialEq)]
pub struct Misfit {
    /// One line for each place that does not fit.
    pub faults: Vec<String>,
    /// The tool with its parameters, in a line.
    pub signature: String,
    /// Arguments that fit, where some could be made.
    pub example: Option<Value>,
}

/// What keeps a tool, as a list names it, from taking these arguments. `None` when they fit, and when only
/// the provider can judge: its schema cannot be read, or reading it takes too much.
#[must_use]
pub fn misfit(definition: RawObject, arguments: &Map<String, Value>) -> Option<Misfit> {
    let name = definition.text("name")?.into_owned();
    let tool = Tool::new(&name, name.clone(), definition);
    let schema = declared(&tool);
    let faults = faults::faults(&tool, &schema, arguments);
    if faults.is_empty() {
        return None;
    }
    let checks = tool.checks();
    let example = schema
        .is_object()
        .then(|| example::example(&schema, checks.as_deref()));
    Some(Misfit {
        faults: faults.into_iter().map(|fault| fault.text).collect(),
        signature: signature::line(&tool),
        example: example.flatten(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pleiades_mcp::raw::raw;

    fn of(arguments: &Value) -> Option<Misfit> {
        let definition = json!({ "name": "say", "description": "Says it. Aloud.",
            "inputSchema": { "type": "object", "required": ["message"],
                "properties": { "message": { "type": "string" }, "times": { "type": "integer" } } } });
        let definition = RawObject::open(&raw(&definition)).unwrap();
        misfit(definition, arguments.as_object().unwrap())
    }

    #[test]
    fn arguments_that_fit_are_left_to_the_call() {
        assert_eq!(of(&json!({ "message": "hi", "times": 2 })), None);
    }

    #[test]
    fn every_place_that_does_not_fit_is_named_with_an_example_that_does() {
        let found = of(&json!({ "mesage": "hi", "times": "x" })).unwrap();
        let faults = found.faults.join("\n");
        for part in [
            "arguments.message: missing",
            "arguments.times: got \"x\"",
            "did you mean `message`",
        ] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
        assert_eq!(
            found.signature,
            "say(message: string, times?: integer) — Says it."
        );
        assert_eq!(of(&found.example.unwrap()), None, "the example fits");
    }

    #[test]
    fn a_schema_that_cannot_be_read_leaves_the_judgement_to_the_provider() {
        let definition =
            json!({ "name": "odd", "inputSchema": { "$ref": "https://example.com/schema.json" } });
        let definition = RawObject::open(&raw(&definition)).unwrap();
        assert_eq!(misfit(definition, &Map::new()), None);
    }
}
