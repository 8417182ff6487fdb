//! Whether a tree has the shape that the schema says, every fault of it; what is faulty is marked, so
//! that meaning leaves it alone. Also refuses what is not built yet: the schema's descriptions say so.

mod mapping;
mod scalar;

use serde_json::Value;

use super::{
    reference::join,
    report::{Finding, Report, say},
    suggest::nearest,
    yaml::{Kind, Node, Pos},
};

/// The words by which a description says that something is refused.
const PENDING: &str = "Not built yet";

#[derive(Debug)]
pub(crate) struct ShapeCheck<'a> {
    root: &'a Value,
    report: &'a mut Report,
}

#[derive(Clone, Copy)]
struct FieldPath<'a> {
    path: &'a str,
    /// An ancestor was refused as not built yet.
    pending: bool,
}

impl<'a> ShapeCheck<'a> {
    pub(crate) fn new(root: &'a Value, report: &'a mut Report) -> Self {
        Self { root, report }
    }

    pub(crate) fn run(mut self, node: &mut Node) {
        let root = self.root;
        self.check(
            node,
            root,
            FieldPath {
                path: "",
                pending: false,
            },
        );
    }

    fn check(&mut self, node: &mut Node, schema: &'a Value, place: FieldPath<'_>) {
        // Never quoted: a secret that begins with `!` looks like a tag.
        if node.tag.is_some() {
            let finding = say("tags are not known here")
                .cure("remove the tag; put a text that begins with `!` in quotes");
            return self.refuse(node, place.path, finding);
        }
        let body = self.body(schema);
        if let Some(options) = body.get("oneOf").and_then(Value::as_array) {
            if options.iter().all(|option| option.get("const").is_some()) {
                return self.check_choice(node, options, place);
            }
            if body.get("type").is_none() {
                return self.check_kind(node, options, place);
            }
        }
        if let Some([number, word]) = body.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
            return self.check_number_or_word(node, (number, word), place.path);
        }
        let kind = body.get("type").and_then(Value::as_str);
        match (kind, &mut node.kind) {
            (None, _) | (Some("boolean"), Kind::Bool(_)) => {}
            (Some("object"), Kind::Map(_)) => self.check_mapping(node, body, place),
            (Some("array"), Kind::List(items)) => {
                if let Some(schema) = body.get("items") {
                    for (index, item) in items.iter_mut().enumerate() {
                        let path = join(place.path, &index.to_string());
                        self.check(item, schema, FieldPath { path: &path, ..place });
                    }
                }
                if items.is_empty() && keyword(schema, body, "minItems").is_some() {
                    self.refuse(node, place.path, say("must name at least one").cure("name one"));
                }
            }
            (Some("string"), Kind::Text(_)) => self.check_text(node, schema, body, place.path),
            (Some("integer" | "number"), Kind::Number { .. }) => {
                self.check_number(node, schema, body, place.path)
            }
            (Some(kind), _) => {
                let finding = missing_colon(node, body).unwrap_or_else(|| {
                    let check = keyword(schema, body, "x-check").and_then(Value::as_str);
                    wrong_type(node, kind, check)
                });
                self.refuse(node, place.path, finding);
            }
        }
    }

    /// One of several words.
    fn check_choice(&mut self, node: &mut Node, options: &'a [Value], place: FieldPath<'_>) {
        let words = || {
            options
                .iter()
                .filter_map(|option| option.get("const").and_then(Value::as_str))
        };
        let list = quoted(words());
        let Kind::Text(text) = &node.kind else {
            let finding = match node.kind {
                Kind::Null => nothing(&format!("write one of {list}")),
                _ => say(format!("must be one of {list}, found {}", node.describe()))
                    .cure("write one of them, in quotes if need be"),
            };
            return self.refuse(node, place.path, finding);
        };
        let Some(found) = text.resolved.as_deref() else {
            return node.is_bad = true;
        };
        let Some(option) = options
            .iter()
            .find(|option| option.get("const").is_some_and(|word| word == found))
        else {
            let finding = say(format!("must be one of {list}"));
            let finding = finding.cure(match nearest(found, words()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => "write one of them".to_owned(),
            });
            return self.refuse(node, place.path, finding);
        };
        if is_pending(option) && !place.pending {
            let (at, finding) = (node.at, self.not_built(found));
            self.report.lenient(at, place.path, finding);
        }
    }

    /// A number, or the one word that stands for none.
    fn check_number_or_word(&mut self, node: &mut Node, (number, word): (&'a Value, &'a Value), path: &str) {
        let word = word.get("const").and_then(Value::as_str).unwrap_or_default();
        match &node.kind {
            Kind::Number { .. } => self.check_number(node, number, number, path),
            Kind::Text(text) if text.resolved.as_deref() == Some(word) => {}
            _ => {
                let finding = say(format!(
                    "must be an integer or `{word}`, found {}",
                    node.describe()
                ));
                self.refuse(
                    node,
                    path,
                    finding.cure(format!("write digits only, or `{word}`")),
                );
            }
        }
    }

    fn not_built(&self, word: &str) -> Finding {
        let can_wait = self.root.pointer("/properties/enabled").is_some();
        let cure = if can_wait {
            "remove it, or set `enabled: false` until it is"
        } else {
            "remove it"
        };
        say(format!("`{word}` is not built yet")).cure(cure)
    }

    fn refuse(&mut self, node: &mut Node, path: &str, finding: Finding) {
        self.report.fault(node.at, field(path), finding);
        node.is_bad = true;
    }

    /// What a schema refers to, else itself.
    fn body(&self, schema: &'a Value) -> &'a Value {
        let inner = schema.get("allOf").and_then(|all| all.get(0)).unwrap_or(schema);
        let name = inner
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| name.strip_prefix('#'));
        name.and_then(|pointer| self.root.pointer(pointer))
            .unwrap_or(inner)
    }

    fn is_default(&self, node: &Node, schema: &'a Value) -> bool {
        let body = self.body(schema);
        if let (Kind::Map(entries), Some(properties)) = (&node.kind, body.get("properties")) {
            return body.get("oneOf").is_none()
                && entries.iter().all(|entry| {
                    properties
                        .get(&entry.key)
                        .is_some_and(|schema| self.is_default(&entry.value, schema))
                });
        }
        schema
            .get("default")
            .is_some_and(|default| *default == node.to_json())
    }
}

/// The field of the whole file is `syntax`.
fn field(path: &str) -> &str {
    if path.is_empty() { "syntax" } else { path }
}

/// A keyword of a property, else of what it refers to.
fn keyword<'a>(schema: &'a Value, body: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get(key).or_else(|| body.get(key))
}

/// Words in backticks, with commas between them.
fn quoted<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn is_pending(schema: &Value) -> bool {
    schema
        .get("description")
        .and_then(Value::as_str)
        .is_some_and(|text| text.contains(PENDING))
}

fn nothing(cure: &str) -> Finding {
    say("has no value").cure(cure)
}

/// A key of a mapping and its value with nothing but a space between them: YAML reads one text.
fn missing_colon(node: &Node, body: &Value) -> Option<Finding> {
    let (word, _) = node.text()?.split_once(' ')?;
    body.get("properties")?.get(word)?;
    let cure = format!("`:` is missing after `{word}`: write `{word}: …`");
    Some(say("must be a mapping, found text").cure(cure))
}

fn wrong_type(node: &Node, kind: &str, check: Option<&str>) -> Finding {
    let (wanted, cure) = match (kind, check) {
        (_, Some("duration")) => (
            "a duration",
            "write an integer and `ms`, `s`, `m` or `h`, such as `30s`",
        ),
        (_, Some("size")) => (
            "a size",
            "write an integer and `B`, `KiB`, `MiB` or `GiB`, such as `8MiB`",
        ),
        (_, Some("address")) => (
            "an IP address and a port",
            "write it like `127.0.0.1:8787` or `[::1]:8787`",
        ),
        (_, Some("url")) => ("a URL", "write it like `https://mcp.example.com/mcp`"),
        (_, Some("secret")) => ("text", "write `${NAME}` or `${file:/run/secrets/name}`"),
        ("object", _) => ("a mapping", "write `key: value` pairs, or `{}`"),
        ("array", _) => ("a list", "write `[…]`"),
        ("boolean", _) => ("true or false", "write `true` or `false`, without quotes"),
        ("integer", _) => ("an integer", "write digits, without quotes"),
        ("number", _) => ("a number", "write digits, without quotes"),
        _ => ("text", "put it in quotes"),
    };
    if matches!(node.kind, Kind::Null) {
        return nothing(&format!("write {wanted}, or remove the key"));
    }
    let is_nested = matches!(node.kind, Kind::List(_) | Kind::Map(_));
    let cure = if wanted == "text" && is_nested {
        "write one text"
    } else {
        cure
    };
    say(format!("must be {wanted}, found {}", node.describe())).cure(cure)
}

/// Where something that a mapping lacks is reported.
fn lacking(node: &Node) -> Pos {
    node.first_key()
}
