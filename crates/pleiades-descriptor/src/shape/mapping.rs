//! Keys: unknown, given twice, missing, one of several kinds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{FieldPath, ShapeCheck, field, is_pending, keyword, lacking, nothing, quoted, wrong_type};
use crate::{
    reference::join,
    report::say,
    suggest::nearest,
    yaml::{Entry, Kind, Node},
};

impl<'a> ShapeCheck<'a> {
    pub(super) fn check_mapping(&mut self, node: &mut Node, body: &'a Value, place: FieldPath<'_>) {
        let properties = body.get("properties").and_then(Value::as_object);
        let free = body
            .get("additionalProperties")
            .filter(|schema| schema.is_object());
        let mut meant = BTreeSet::new();
        self.check_keys(node, place.path);
        let extras = extras(node, &kinds_of(body));
        if let Kind::Map(entries) = &mut node.kind {
            for entry in entries.iter_mut().filter(|entry| entry.odd.is_none()) {
                // What stands beside another kind is refused for that alone.
                let pending = place.pending || extras.contains(&entry.key);
                let place = FieldPath { pending, ..place };
                let known = properties.and_then(|known| known.get(&entry.key));
                match (known, free) {
                    (Some(schema), _) => self.check_entry(entry, schema, place),
                    (None, Some(schema)) if entry.key != "<<" => self.check_entry(entry, schema, place),
                    (None, _) if body.get("additionalProperties") == Some(&Value::Bool(true)) => {}
                    _ => meant.extend(self.unknown(entry, properties, place.path)),
                }
            }
        }
        self.check_required(node, body, &meant, place.path);
        self.check_exactly_one(node, body, &meant, place.path);
    }

    /// Reports an unknown key; answers the key it was probably meant to be.
    fn unknown(
        &mut self,
        entry: &mut Entry,
        known: Option<&'a Map<String, Value>>,
        path: &str,
    ) -> Option<&'a str> {
        let names = || known.into_iter().flat_map(Map::keys).map(String::as_str);
        let near = nearest(&entry.key, names());
        if entry.value.is_absent && near.is_none() && self.takes_secret(known) {
            let finding = say("a key without a value that is not known here")
                .cure("write `key: value`; a secret stands where it is asked for");
            self.report.fault(entry.at, field(path), finding);
            entry.value.is_bad = true;
            return None;
        }
        let finding = say(format!("`{}` is not a known key", entry.key));
        let finding = match near {
            _ if entry.key == "<<" => say("merge keys are not part of YAML 1.2").cure("write the keys out"),
            Some(near) => finding.cure(format!("did you mean `{near}`?")),
            None if names().next().is_none() => finding.cure("nothing can be said here"),
            None => finding.cure(format!("known are {}", quoted(names()))),
        };
        self.report.fault(entry.at, &join(path, &entry.key), finding);
        entry.value.is_bad = true;
        near
    }

    /// Whether one of the known keys asks for a secret, which may stand in a key's place.
    fn takes_secret(&self, known: Option<&'a Map<String, Value>>) -> bool {
        known.into_iter().flat_map(Map::values).any(|schema| {
            let check = keyword(schema, self.body(schema), "x-check");
            check.is_some_and(|check| check == "secret")
        })
    }

    /// Keys that are not text, and keys given twice.
    fn check_keys(&mut self, node: &Node, path: &str) {
        let Kind::Map(entries) = &node.kind else {
            return;
        };
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in entries {
            if let Some(found) = entry.odd {
                let finding = say(format!("keys must be text, found {found}")).cure("put it in quotes");
                self.report.fault(entry.at, &join(path, &entry.key), finding);
                continue;
            }
            if let Some(line) = lines.get(entry.key.as_str()) {
                let finding = say(format!("`{}` is given twice; first in line {line}", entry.key));
                let path = join(path, &entry.key);
                self.report
                    .fault(entry.at, &path, finding.cure("keep one of them"));
                continue;
            }
            lines.insert(&entry.key, entry.at.line);
        }
    }

    fn check_entry(&mut self, entry: &mut Entry, schema: &'a Value, place: FieldPath<'_>) {
        let pending = is_pending(schema) && !place.pending && !self.is_default(&entry.value, schema);
        self.check_value(entry, schema, pending, place);
    }

    fn check_value(&mut self, entry: &mut Entry, schema: &'a Value, pending: bool, place: FieldPath<'_>) {
        let path = join(place.path, &entry.key);
        let inner = FieldPath {
            path: &path,
            pending: pending || place.pending,
        };
        self.check(&mut entry.value, schema, inner);
        if pending && !entry.value.is_bad {
            self.report.lenient(entry.at, &path, self.not_built(&entry.key));
        }
    }

    fn check_required(&mut self, node: &Node, body: &'a Value, meant: &BTreeSet<&str>, path: &str) {
        let required = body.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            // A misspelt key was reported as such.
            if node.entry(name).is_none() && !meant.contains(name) {
                let finding = say(format!("`{name}` is missing")).cure(format!("add `{name}:`"));
                self.report.fault(lacking(node), &join(path, name), finding);
            }
        }
    }

    /// `oneOf` of required keys.
    fn check_exactly_one(&mut self, node: &Node, body: &'a Value, meant: &BTreeSet<&str>, path: &str) {
        let kinds = kinds_of(body);
        if !kinds.is_empty() {
            self.exactly_one(node, &kinds, meant, path);
        }
    }

    fn exactly_one(&mut self, node: &Node, kinds: &[&str], meant: &BTreeSet<&str>, path: &str) {
        let given = given(node, kinds);
        let list = quoted(kinds.iter().copied());
        match given.as_slice() {
            [first, more @ ..] => {
                for entry in more {
                    let finding = say(format!(
                        "`{}` stands beside `{}`; exactly one is allowed",
                        entry.key, first.key
                    ));
                    let path = join(path, &entry.key);
                    self.report
                        .fault(entry.at, &path, finding.cure("keep one of them"));
                }
            }
            [] if kinds.iter().any(|kind| meant.contains(kind)) => {}
            [] => {
                let finding = say(format!("needs exactly one of {list}")).cure("add one of them");
                self.report.fault(lacking(node), field(path), finding);
            }
        }
    }

    /// A mapping with exactly one key, which names its kind.
    pub(super) fn check_kind(&mut self, node: &mut Node, options: &'a [Value], place: FieldPath<'_>) {
        let kinds: Vec<(&'a str, &'a Value, bool)> = options
            .iter()
            .filter_map(|option| {
                let (name, schema) = option.get("properties")?.as_object()?.iter().next()?;
                Some((name.as_str(), schema, is_pending(option)))
            })
            .collect();
        let names: Vec<&str> = kinds.iter().map(|(name, ..)| *name).collect();
        if !matches!(node.kind, Kind::Map(_)) {
            let word = node
                .text()
                .and_then(|text| names.iter().find(|name| **name == text));
            let example = format!("write `{}: {{}}`", names.first().copied().unwrap_or_default());
            let finding = match (word, &node.kind) {
                (Some(word), _) => say("must be a mapping, found text").cure(format!("write `{word}: {{}}`")),
                (None, Kind::Null) => nothing(&example),
                (None, _) => wrong_type(node, "object", None).cure(example),
            };
            return self.refuse(node, place.path, finding);
        }
        self.check_keys(node, place.path);
        let extras = extras(node, &names);
        let mut meant = BTreeSet::new();
        if let Kind::Map(entries) = &mut node.kind {
            for entry in entries.iter_mut().filter(|entry| entry.odd.is_none()) {
                let place = FieldPath {
                    pending: place.pending || extras.contains(&entry.key),
                    ..place
                };
                match kinds.iter().find(|(name, ..)| *name == entry.key) {
                    Some((_, schema, pending)) => self.check_one(entry, schema, *pending, place),
                    None => meant.extend(unknown_kind(self, entry, &names, place.path)),
                }
            }
        }
        self.exactly_one(node, &names, &meant, place.path);
    }

    fn check_one(&mut self, entry: &mut Entry, schema: &'a Value, pending: bool, place: FieldPath<'_>) {
        if matches!(entry.value.kind, Kind::Null)
            && self.body(schema).get("type").is_some_and(|kind| kind == "object")
        {
            let finding = nothing(&format!("write `{}: {{}}`", entry.key));
            let path = join(place.path, &entry.key);
            return self.refuse(&mut entry.value, &path, finding);
        }
        self.check_value(entry, schema, pending && !place.pending, place);
    }
}

/// The keys of which exactly one must be given.
fn kinds_of(body: &Value) -> Vec<&str> {
    let options = body.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    options
        .filter_map(|option| option.pointer("/required/0").and_then(Value::as_str))
        .collect()
}

/// The entries that name a kind, each kind once.
fn given<'n>(node: &'n Node, kinds: &[&str]) -> Vec<&'n Entry> {
    let mut given: Vec<&Entry> = Vec::new();
    for entry in node.entries() {
        let is_new = given.iter().all(|other| other.key != entry.key);
        if is_new && kinds.contains(&entry.key.as_str()) {
            given.push(entry);
        }
    }
    given
}

/// The kinds given beside the first.
fn extras(node: &Node, kinds: &[&str]) -> BTreeSet<String> {
    given(node, kinds)
        .iter()
        .skip(1)
        .map(|entry| entry.key.clone())
        .collect()
}

fn unknown_kind<'n>(
    shape: &mut ShapeCheck<'_>,
    entry: &mut Entry,
    names: &[&'n str],
    path: &str,
) -> Option<&'n str> {
    let near = nearest(&entry.key, names.iter().copied());
    let list = quoted(names.iter().copied());
    let finding = say(format!("`{}` is not a known kind", entry.key));
    let finding = match near {
        Some(near) => finding.cure(format!("did you mean `{near}`?")),
        None => finding.cure(format!("known are {list}")),
    };
    shape.report.fault(entry.at, &join(path, &entry.key), finding);
    entry.value.is_bad = true;
    // Whatever it was, it was meant to be the kind: its absence is not reported too.
    near.or_else(|| names.first().copied())
}
