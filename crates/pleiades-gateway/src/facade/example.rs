//! Arguments that fit a schema, as small as they can be: what an answer offers as the call to make.
//! Each is put to the test before it is offered.

use std::collections::HashMap;

use regex_syntax::hir::{Class, ClassUnicode, Hir, HirKind};
use serde_json::{Map, Number, Value};

use super::shape::SchemaDocument;
use crate::catalog::{ArgumentValidator, Effort};

/// Values in one example, and levels in it.
const MAX_VALUES: usize = 500;
const MAX_DEPTH: usize = 12;
/// Branches of a union that are tried.
const MAX_BRANCHES: usize = 6;
/// Characters that a text is given at most, and items a list.
const MAX_TEXT: u64 = 1_000;
const MAX_ITEMS: u64 = 16;
/// An example that is longer than this teaches nothing (bytes).
const MAX_BYTES: usize = 4 * 1024;
/// Longest pattern that is followed (bytes), and its nesting.
const MAX_PATTERN: usize = 1_024;
const MAX_NESTED: u32 = 32;
pub(super) const NO_TEXT: &str = "…";
/// A text of each format.
const FORMATS: [(&str, &str); 16] = [
    ("date-time", "2026-01-31T12:00:00Z"),
    ("date", "2026-01-31"),
    ("time", "12:00:00Z"),
    ("duration", "PT1H"),
    ("email", "name@example.com"),
    ("idn-email", "name@example.com"),
    ("hostname", "example.com"),
    ("idn-hostname", "example.com"),
    ("ipv4", "192.0.2.1"),
    ("ipv6", "2001:db8::1"),
    ("uri", "https://example.com/"),
    ("iri", "https://example.com/"),
    ("uri-reference", "/path"),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
    ("json-pointer", "/a"),
    ("regex", "^a$"),
];

/// Arguments that fit; `None` when none were found. Without a validator none is tested.
pub(super) fn example(schema: &Value, checks: Option<&ArgumentValidator>) -> Option<Value> {
    let ways = [(true, 0, false), (false, 0, false), (false, 0, true)]
        .into_iter()
        .chain((1..MAX_BRANCHES).flat_map(|branch| [(false, branch, false), (false, branch, true)]));
    ways.filter_map(|(given, branch, all)| {
        let mut maker = Maker {
            shape: SchemaDocument::of(schema),
            given,
            branch,
            all,
            left: MAX_VALUES,
        };
        maker.value(schema, 0).or_else(|| Some(Value::Object(Map::new())))
    })
    .filter(|example| example.is_object() && is_short(example))
    .find(|example| checks.is_none_or(|checks| checks.fits(example, Effort::AMPLE) == Some(true)))
}

/// Whether an example is not longer than one that teaches something.
pub(super) fn is_short(example: &Value) -> bool {
    example.to_string().len() <= MAX_BYTES
}

struct Maker<'a> {
    shape: SchemaDocument<'a>,
    /// Whether values that the schema itself gives are taken.
    given: bool,
    /// Which branch of a union is taken.
    branch: usize,
    /// Whether optional members are made too.
    all: bool,
    left: usize,
}

impl<'a> Maker<'a> {
    /// A value; `None` where there is none, or it has no end.
    fn value(&mut self, schema: &'a Value, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth > MAX_DEPTH || *schema == Value::Bool(false) {
            return None;
        }
        let constraints = self.constraints_of(schema);
        let constant = constraints.first("const").or_else(|| {
            constraints
                .first("enum")?
                .get(self.branch_of("enum", &constraints))
        });
        if let Some(value) = constant {
            return Some(value.clone());
        }
        if self.given
            && let Some(value) = constraints
                .first("default")
                .or_else(|| constraints.first("examples")?.get(0))
            && !value.is_null()
        {
            return Some(value.clone());
        }
        match self.kind(&constraints, depth) {
            "object" => self.object(&constraints, depth),
            "array" => self.array(&constraints, depth),
            "integer" => number(&constraints, true),
            "number" => number(&constraints, false),
            "boolean" => Some(true.into()),
            "null" => Some(Value::Null),
            _ => Some(text(&constraints).into()),
        }
    }

    fn branch_of(&self, keyword: &str, constraints: &Constraints<'a>) -> usize {
        let count = constraints
            .first(keyword)
            .and_then(Value::as_array)
            .map_or(1, Vec::len)
            .max(1);
        self.branch % count
    }

    /// The schemas that apply to a value: itself and the branches of this variant.
    fn constraints_of(&self, schema: &'a Value) -> Constraints<'a> {
        let mut constraints = Vec::new();
        let mut left = vec![(schema, 0)];
        while let Some((schema, depth)) = left.pop() {
            constraints.push(schema);
            if depth == MAX_DEPTH || constraints.len() >= MAX_VALUES {
                continue;
            }
            for keyword in ["oneOf", "anyOf"] {
                let branches = schema.get(keyword).and_then(Value::as_array);
                let is_real = |branch: &&Value| branch.get("type").and_then(Value::as_str) != Some("null");
                let real: Vec<&Value> = branches.into_iter().flatten().filter(is_real).collect();
                let taken = real.get(self.branch % real.len().max(1));
                left.extend(taken.map(|branch| (*branch, depth + 1)));
            }
            let all = schema.get("allOf").and_then(Value::as_array);
            left.extend(all.into_iter().flatten().rev().map(|branch| (branch, depth + 1)));
            if let Some(then) = schema.get("then").filter(|_| self.branch % 2 == 1) {
                left.extend([(then, depth + 1)]);
                left.extend(schema.get("if").map(|condition| (condition, depth + 1)));
            }
            if schema.get("$ref").is_some() {
                let target = self.shape.resolved(schema);
                if !std::ptr::eq(target, schema) {
                    left.push((target, depth + 1));
                }
            }
        }
        Constraints(constraints)
    }

    fn kind(&self, constraints: &Constraints<'a>, depth: usize) -> &'a str {
        let named = match constraints.first("type") {
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(Value::Array(kinds)) => {
                let real: Vec<&str> = kinds
                    .iter()
                    .filter_map(Value::as_str)
                    .filter(|kind| *kind != "null")
                    .collect();
                real.get(self.branch % real.len().max(1))
                    .copied()
                    .or(Some("null"))
            }
            _ => None,
        };
        let has = |keywords: &[&str]| {
            keywords
                .iter()
                .any(|keyword| constraints.first(keyword).is_some())
        };
        named.unwrap_or(match () {
            () if depth == 0 || has(&["properties", "required", "additionalProperties"]) => "object",
            () if has(&["items", "prefixItems", "minItems"]) => "array",
            () if has(&["pattern", "format", "minLength", "maxLength"]) => "string",
            () if has(&[
                "minimum",
                "maximum",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "multipleOf",
            ]) =>
            {
                "number"
            }
            () => "string",
        })
    }

    fn object(&mut self, constraints: &Constraints<'a>, depth: usize) -> Option<Value> {
        let members = constraints
            .each("properties")
            .filter_map(Value::as_object)
            .flatten();
        let members: Vec<(&str, &'a Value)> = members.map(|(name, schema)| (name.as_str(), schema)).collect();
        self.left = self.left.checked_sub(members.len() / MAX_BRANCHES)?;
        let by_name: HashMap<&str, &'a Value> = members.iter().rev().copied().collect();
        let required: Vec<&str> = constraints
            .each("required")
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut object = Map::new();
        for name in &required {
            let own = by_name.get(name).copied();
            let others = || {
                constraints
                    .first("additionalProperties")
                    .filter(|schema| schema.is_object())
            };
            let value = match own.or_else(others) {
                Some(schema) => self.value(schema, depth + 1)?,
                None => NO_TEXT.into(),
            };
            object.insert((*name).to_owned(), value);
        }
        let wanted = constraints.count("minProperties").unwrap_or(0);
        for (name, schema) in members {
            let is_short = (object.len() as u64) < wanted;
            if (self.all || is_short)
                && !object.contains_key(name)
                && let Some(value) = self.value(schema, depth + 1)
            {
                object.insert(name.to_owned(), value);
            }
        }
        Some(Value::Object(object))
    }

    fn array(&mut self, constraints: &Constraints<'a>, depth: usize) -> Option<Value> {
        let least = constraints.count("minItems").unwrap_or(0).min(MAX_ITEMS);
        let most = constraints.count("maxItems").unwrap_or(MAX_ITEMS);
        let firsts = constraints
            .first("prefixItems")
            .or_else(|| constraints.first("items").filter(|items| items.is_array()));
        let firsts = firsts
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let schema = constraints
            .first("contains")
            .or_else(|| constraints.first("items").filter(|items| !items.is_array()));
        let mut items: Vec<Value> = Vec::new();
        for first in firsts.iter().take(most.try_into().ok()?) {
            items.push(self.value(first, depth + 1)?);
        }
        while (items.len() as u64) < least.max(1).min(most) {
            let made = match schema {
                Some(schema) => self.value(schema, depth + 1),
                None if least == 0 => None,
                None => Some(NO_TEXT.into()),
            };
            let Some(made) = made else { break };
            let choices = schema.and_then(|schema| self.constraints_of(schema).first("enum")?.as_array());
            let unlike = match choices {
                Some(choices) => choices.iter().find(|choice| !items.contains(choice)).cloned(),
                None => Some(other_than(made, &items)),
            };
            items.push(unlike?);
        }
        Some(Value::Array(items))
    }
}

/// A value that is not yet in a list: its number counted up, its text with a number behind it.
fn other_than(value: Value, items: &[Value]) -> Value {
    if !items.contains(&value) {
        return value;
    }
    let at = items.len() as u64;
    match &value {
        Value::Number(number) => number
            .as_u64()
            .map_or(value, |number| number.saturating_add(at).into()),
        Value::String(text) => format!("{text}{at}").into(),
        Value::Bool(taken) => (!taken).into(),
        _ => value,
    }
}

/// Schemas that apply to one value, the nearest first.
struct Constraints<'a>(Vec<&'a Value>);

impl<'a> Constraints<'a> {
    fn each(&self, keyword: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter_map(move |schema| schema.get(keyword))
    }

    fn first(&self, keyword: &str) -> Option<&'a Value> {
        self.each(keyword).next()
    }

    fn count(&self, keyword: &str) -> Option<u64> {
        let count = self.first(keyword)?;
        count.as_u64().or_else(|| whole(count.as_f64()?))
    }

    fn bound(&self, keyword: &str) -> Option<f64> {
        self.first(keyword)?.as_f64()
    }
}

/// A whole number of a float that is one.
fn whole(number: f64) -> Option<u64> {
    let text = format!("{number:.0}");
    (number.fract() == 0.0).then(|| text.parse().ok()).flatten()
}

/// A number within its bounds, 1 if that is.
fn number(constraints: &Constraints<'_>, is_integer: bool) -> Option<Value> {
    let step = constraints.bound("multipleOf").filter(|step| *step > 0.0);
    let apart = step.unwrap_or(if is_integer { 1.0 } else { 0.5 });
    // Drafts up to 4 say `exclusiveMinimum: true` beside `minimum`.
    let is_open = |keyword: &str| constraints.first(keyword) == Some(&Value::Bool(true));
    let beyond = |exclusive: &str, bound: &str| {
        let flagged = || constraints.bound(bound).filter(|_| is_open(exclusive));
        constraints.bound(exclusive).or_else(flagged)
    };
    let low = beyond("exclusiveMinimum", "minimum");
    let high = beyond("exclusiveMaximum", "maximum");
    let mut value = 1.0_f64;
    if let Some(most) = constraints.bound("maximum") {
        value = value.min(most);
    }
    if let Some(above) = high.filter(|high| value >= *high) {
        value = above - apart;
    }
    if let Some(least) = constraints.bound("minimum") {
        value = value.max(least);
    }
    if let Some(below) = low.filter(|low| value <= *low) {
        value = below + apart;
    }
    if let Some(step) = step {
        value = (value / step).ceil() * step;
        if constraints.bound("maximum").is_some_and(|most| value > most) {
            value -= step;
        }
    }
    if is_integer {
        value = value.ceil();
    }
    let plain = (value.fract() == 0.0)
        .then(|| format!("{value:.0}").parse::<i64>().ok())
        .flatten();
    plain
        .map(Value::from)
        .or_else(|| Number::from_f64(value).map(Value::Number))
}

fn text(constraints: &Constraints<'_>) -> String {
    let format = constraints.first("format").and_then(Value::as_str);
    let formatted = format.and_then(|format| FORMATS.iter().find(|(name, _)| *name == format));
    if let Some((_, text)) = formatted {
        return (*text).to_owned();
    }
    let pattern = constraints.first("pattern").and_then(Value::as_str);
    if let Some(text) = pattern.and_then(matching) {
        return text;
    }
    let least = constraints.count("minLength").unwrap_or(1).min(MAX_TEXT);
    let most = constraints.count("maxLength").unwrap_or(MAX_TEXT);
    NO_TEXT.repeat(least.max(1).min(most).try_into().unwrap_or(1))
}

/// A text that a pattern fits; none of a pattern that is no regular expression, or a long one.
fn matching(pattern: &str) -> Option<String> {
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(MAX_NESTED).build();
    let parsed = parser
        .parse(Some(pattern).filter(|it| it.len() <= MAX_PATTERN)?)
        .ok()?;
    let mut writer = PatternWriter {
        text: String::new(),
        left: MAX_TEXT,
    };
    writer.write(&parsed)?;
    Some(writer.text)
}

struct PatternWriter {
    text: String,
    /// Parts that may still be written.
    left: u64,
}

impl PatternWriter {
    fn write(&mut self, part: &Hir) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        match part.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.text.push_str(std::str::from_utf8(&literal.0).ok()?),
            HirKind::Class(Class::Unicode(class)) => self.text.push(char_of(class)?),
            HirKind::Class(Class::Bytes(_)) => return None,
            HirKind::Repetition(repetition) => {
                let least = repetition.min.max(u32::from(repetition.max != Some(0)));
                (0..least).try_for_each(|_| self.write(&repetition.sub))?;
            }
            HirKind::Capture(capture) => self.write(&capture.sub)?,
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.write(part))?,
            HirKind::Alternation(parts) => self.write(parts.first()?)?,
        }
        Some(())
    }
}

/// A character of a class, a letter or a digit if there is one.
fn char_of(class: &ClassUnicode) -> Option<char> {
    let ranges = class.ranges();
    let within = |char: &char| {
        ranges
            .iter()
            .any(|range| (range.start()..=range.end()).contains(char))
    };
    let plain = ('a'..='z').chain('0'..='9').chain('A'..='Z').find(within);
    let last = || {
        ranges
            .iter()
            .map(|range| range.end())
            .find(|char| !char.is_control())
    };
    plain.or_else(last)
}

#[cfg(test)]
mod tests;
