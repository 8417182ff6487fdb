//! What is wrong with arguments, one line a place: what came, what is expected.

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::{Map, Value};

use super::envelope::{OWN, printable};
use super::{name, shape::SchemaDocument};
use crate::catalog::{Effort, Tool};
use pleiades_core::text::{clipped, one_line};

/// Lines; more would not be read.
const MAX_FAULTS: usize = 8;
/// Characters of a value or message that are repeated, the mark of a cut included.
const MAX_SHOWN: usize = 121;
/// Bytes of a place that are repeated.
const MAX_LOCATION: usize = 256;

/// Keywords whose subschemas hold for some values of other places and not for others.
const CONDITIONAL: [&str; 10] = [
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "contains",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// A place where arguments do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArgumentFault {
    /// For whoever made the call.
    pub(super) text: String,
    /// For the log: the place and what is expected there, no value.
    pub(super) brief: String,
    /// The place, as a JSON pointer, where an example shows what may stand there.
    pub(super) pointer: Option<String>,
}

/// Where arguments do not fit an operation; empty when they do, and when that takes too much to find
/// out, or its schema cannot be compiled: then the provider judges.
pub(super) fn faults(tool: &Tool, schema: &Value, arguments: &Map<String, Value>) -> Vec<ArgumentFault> {
    let Some(checks) = tool.checks() else {
        return Vec::new();
    };
    let value = Value::Object(arguments.clone());
    if checks.fits(&value, Effort::AMPLE) != Some(false) {
        return Vec::new();
    }
    let shape = SchemaDocument::of(schema);
    let errors = checks.errors(&value).into_iter().flatten();
    errors
        .flat_map(|error| lines(shape, &error))
        .take(MAX_FAULTS)
        .collect()
}

/// The same where the values at some places (JSON pointers) are not known yet: what may depend on one of
/// them is no fault.
pub(super) fn known_faults(
    tool: &Tool,
    schema: &Value,
    arguments: &Map<String, Value>,
    open: &[&str],
) -> Vec<ArgumentFault> {
    let Some(checks) = tool.checks() else {
        return Vec::new();
    };
    let value = Value::Object(arguments.clone());
    let shape = SchemaDocument::of(schema);
    let errors = checks.errors(&value).into_iter().flatten();
    errors
        .filter(|error| is_known(error, open))
        .flat_map(|error| lines(shape, &error))
        .take(MAX_FAULTS)
        .collect()
}

/// Whether an error stands whatever the values at open places turn out to be.
fn is_known(error: &ValidationError<'_>, open: &[&str]) -> bool {
    let keywords = error.schema_path().to_string();
    if keywords.split('/').any(|keyword| CONDITIONAL.contains(&keyword)) {
        return false;
    }
    let place = error.instance_path().to_string();
    let is_within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (mut within, mut around) = (false, false);
    for open in open {
        within |= is_within(&place, open);
        around |= is_within(open, &place);
    }
    // Of what holds an open place its own members are known, and nothing that looks into their values.
    let of_members = matches!(
        error.kind(),
        ValidationErrorKind::Required { .. }
            | ValidationErrorKind::AdditionalProperties { .. }
            | ValidationErrorKind::PropertyNames { .. }
            | ValidationErrorKind::MinProperties { .. }
            | ValidationErrorKind::MaxProperties { .. }
            | ValidationErrorKind::MinItems { .. }
            | ValidationErrorKind::MaxItems { .. }
            | ValidationErrorKind::Type { .. }
    );
    !within && (!around || of_members)
}

fn lines(shape: SchemaDocument<'_>, error: &ValidationError<'_>) -> Vec<ArgumentFault> {
    let path = error.instance_path().to_string();
    let location = location_of(&path);
    let here = schema_at(shape, &path);
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().map(printable).unwrap_or_default();
            let expected = here
                .and_then(|schema| shape.member(schema, property.as_str()?))
                .map_or_else(String::new, |schema| expectation(shape, schema));
            let text = format!("{location}.{name}: missing{expected}");
            let mut fault = fault(text, &format!("{location}.{name}: missing"));
            let name = property.as_str().unwrap_or_default();
            fault.pointer = Some(format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")));
            vec![fault]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .take(MAX_FAULTS)
            .map(|name| {
                let brief = format!("{location}.{}: no such parameter", printable(name));
                fault(unknown(&location, name, (shape, here)), &brief)
            })
            .collect(),
        ValidationErrorKind::Enum { options } => {
            let text = format!(
                "{location}: got {}, expected one of {}",
                shown(error.instance()),
                choices(error.instance(), options)
            );
            vec![fault(text, &format!("{location}: none of the allowed values"))]
        }
        _ => {
            let expected = here.map_or_else(String::new, |schema| expectation(shape, schema));
            let why = clipped(&error.masked_with("it").to_string(), MAX_SHOWN);
            let text = format!("{location}: got {}{expected}: {why}", shown(error.instance()));
            let mut fault = fault(text, &format!("{location}: does not fit{expected}"));
            fault.pointer = Some(path);
            vec![fault]
        }
    }
}

fn fault(text: String, brief: &str) -> ArgumentFault {
    let brief = one_line(brief, MAX_SHOWN);
    ArgumentFault {
        text,
        brief,
        pointer: None,
    }
}

/// A JSON pointer as a path from `arguments`.
fn location_of(path: &str) -> String {
    let segments = path
        .split('/')
        .skip(1)
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    let mut location = "arguments".to_owned();
    for segment in segments {
        if location.len() + segment.len() > MAX_LOCATION {
            location.push('…');
            break;
        }
        location.push('.');
        location.push_str(&segment);
    }
    location
}

fn unknown(location: &str, name: &str, (shape, schema): (SchemaDocument<'_>, Option<&Value>)) -> String {
    let members = schema.map(|schema| shape.members(schema)).unwrap_or_default();
    let near = name::closest(name, members.iter().map(|(name, _)| *name));
    let is_own = location == "arguments" && OWN.contains(&name);
    let name = printable(name);
    match near {
        _ if is_own => format!("{location}.{name}: it belongs beside `tool`, not into `arguments`"),
        Some(near) => format!(
            "{location}.{name}: no such parameter, did you mean `{}`",
            printable(near)
        ),
        None => format!("{location}.{name}: no such parameter; the provider would ignore it"),
    }
}

/// The schema of a place, as far as members and items lead.
fn schema_at<'a>(shape: SchemaDocument<'a>, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(shape.root(), |schema, segment| {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        shape.member(schema, &segment).or_else(|| {
            let at = segment.parse().ok()?;
            shape.item(schema, at)
        })
    })
}

fn expectation(shape: SchemaDocument<'_>, schema: &Value) -> String {
    format!(", expected {}", shape.kind(schema))
}

/// The allowed values, the nearest ones first.
fn choices(value: &Value, options: &Value) -> String {
    let Some(options) = options.as_array() else {
        return shown(options);
    };
    let near = value
        .as_str()
        .and_then(|text| name::closest(text, options.iter().filter_map(Value::as_str)));
    let is_near = |option: &&Value| near.is_some() && option.as_str() == near;
    let others = options.iter().filter(|option| !is_near(option));
    let listed: Vec<String> = options
        .iter()
        .filter(is_near)
        .take(1)
        .chain(others)
        .take(MAX_FAULTS)
        .map(shown)
        .collect();
    let more = if options.len() > MAX_FAULTS { ", …" } else { "" };
    format!("{}{more}", listed.join(", "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(members) => format!("an object with {} members", members.len()),
        Value::String(text) => Value::String(clipped(text, MAX_SHOWN)).to_string(),
        other => other.to_string(),
    }
}
