//! The manual of every field, from the same schemas.

use std::fmt::Write as _;

use serde_json::Value;

/// Says where the page comes from.
const HEAD: &str = "# Configuration\n\n\
    <!-- Generated from the types by `PLEIADES_GOLDEN=rewrite cargo test --locked --test it golden`; do not edit. -->\n\n\
    Every field of a descriptor (one YAML file a provider, in the folder `providers`) and of the settings\n\
    (`pleiades.yaml`). Generated from the schemas in `schemas/`, which are generated from the types; a field that is\n\
    not built yet is refused, never ignored.\n";

pub(super) fn page(schemas: &[(&str, Value)]) -> String {
    let mut page = HEAD.to_owned();
    for (_, schema) in schemas {
        let title = text(schema, "title");
        let description = text(schema, "description");
        // Writing to a `String` cannot fail.
        write!(
            page,
            "\n## {title}\n\n{description}\n\n| field | default | |\n|---|---|---|\n"
        )
        .ok();
        rows(&mut page, schema, schema, "");
    }
    page
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn rows(page: &mut String, root: &Value, schema: &Value, path: &str) {
    let body = body(root, schema);
    if let Some(properties) = body.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            row(
                page,
                root,
                property,
                &format!("{path}{name}"),
                text(property, "description"),
            );
        }
    }
    for option in body.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        for (name, property) in option
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            row(
                page,
                root,
                property,
                &format!("{path}{name}"),
                text(option, "description"),
            );
        }
    }
    if let Some(items) = body.get("items") {
        rows(page, root, items, &format!("{}[].", path.trim_end_matches('.')));
    }
}

fn row(page: &mut String, root: &Value, property: &Value, path: &str, description: &str) {
    let default = match property.get("default") {
        Some(Value::Object(_)) | None => String::new(),
        Some(value) => format!("`{value}`"),
    };
    let words: Vec<String> = body(root, property)
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|option| {
            option
                .get("const")
                .and_then(Value::as_str)
                .map(|word| (word, option))
        })
        .map(|(word, option)| format!("<br>`{word}`: {}", text(option, "description")))
        .collect();
    let description = description.replace('\n', " ").replace('|', "\\|");
    writeln!(page, "| `{path}` | {default} | {description}{} |", words.concat()).ok();
    rows(page, root, property, &format!("{path}."));
}

fn body<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let inner = schema.get("allOf").and_then(|all| all.get(0)).unwrap_or(schema);
    let name = inner
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|name| name.strip_prefix('#'));
    name.and_then(|pointer| root.pointer(pointer)).unwrap_or(inner)
}
