//! Every definition, held against what makers of models and hosts take in the schema of a tool. One tool
//! that breaks a rule has some of them refuse all tools of the client.

use super::*;

/// What one of them takes, as its documentation of function calling has it.
struct Subset {
    of: &'static str,
    /// Longest name of a tool, and the letters beside ASCII letters and digits that it may have.
    name: (usize, &'static str),
    /// Keywords of a schema.
    keywords: &'static [&'static str],
    /// Longest description of a tool, in characters.
    description: usize,
    /// Most values of one enum, and their letters together.
    values: (usize, usize),
    /// Most properties, and how deep objects may stand in one another.
    size: (usize, usize),
}

const SUBSETS: [Subset; 4] = [
    // Function tools without `strict`; the bounds of size are those of structured outputs.
    Subset {
        of: "OpenAI",
        name: (64, "_-"),
        keywords: &[
            "type",
            "properties",
            "description",
            "enum",
            "items",
            "required",
            "additionalProperties",
        ],
        description: 1_024,
        values: (1_000, usize::MAX),
        size: (100, 5),
    },
    // `FunctionDeclaration.parameters`, the subset of OpenAPI 3.0; `additionalProperties` since 2025.
    Subset {
        of: "Gemini",
        name: (64, "_-.:"),
        keywords: &[
            "type",
            "properties",
            "description",
            "enum",
            "items",
            "required",
            "nullable",
            "additionalProperties",
        ],
        description: 2_000,
        values: (usize::MAX, usize::MAX),
        size: (usize::MAX, 32),
    },
    // `input_schema`: JSON Schema, an object outside, without a combination at the top.
    Subset {
        of: "Anthropic",
        name: (64, "_-"),
        keywords: &[
            "type",
            "properties",
            "description",
            "enum",
            "items",
            "required",
            "additionalProperties",
            "default",
        ],
        description: 2_000,
        values: (usize::MAX, usize::MAX),
        size: (usize::MAX, usize::MAX),
    },
    // Copilot in VS Code: each array has `items`, each object `properties` or `additionalProperties`.
    Subset {
        of: "Copilot",
        name: (64, "_-"),
        keywords: &[
            "type",
            "properties",
            "description",
            "enum",
            "items",
            "required",
            "additionalProperties",
        ],
        description: 2_000,
        values: (usize::MAX, usize::MAX),
        size: (usize::MAX, usize::MAX),
    },
];

/// What breaks a rule, with where.
fn faults(subset: &Subset, tool: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("{}: {what}", subset.of));
    let (name, description) = (
        tool["name"].as_str().unwrap(),
        tool["description"].as_str().unwrap(),
    );
    let (longest, marks) = subset.name;
    let legal = |it: char| it.is_ascii_alphanumeric() || marks.contains(it);
    if name.is_empty() || name.len() > longest || !name.chars().all(legal) {
        fault(format!("the name {name}"));
    }
    if description.is_empty() || description.chars().count() > subset.description {
        fault("the description's length".to_owned());
    }
    if tool["inputSchema"]["type"] != "object" || !tool["inputSchema"]["properties"].is_object() {
        fault("the outermost schema is no object".to_owned());
    }
    let mut count = 0;
    node(subset, &tool["inputSchema"], 1, &mut |what, properties| {
        count += properties;
        if let Some(what) = what {
            fault(what);
        }
    });
    if count > subset.size.0 {
        fault(format!("{count} properties"));
    }
    faults
}

fn node(subset: &Subset, schema: &Value, depth: usize, found: &mut dyn FnMut(Option<String>, usize)) {
    let Some(members) = schema.as_object() else {
        return found(Some(format!("{schema} is no schema")), 0);
    };
    let mut fault = |what: String| found(Some(what), 0);
    for keyword in members
        .keys()
        .filter(|it| !subset.keywords.contains(&it.as_str()))
    {
        fault(format!("the keyword {keyword}"));
    }
    match schema["type"].as_str() {
        Some("array") if !schema["items"].is_object() => fault("an array without items".to_owned()),
        Some("object") if schema.get("properties").is_none() && schema["additionalProperties"] != true => {
            fault("an object without members".to_owned());
        }
        Some("string" | "boolean" | "integer" | "number" | "array" | "object") => {}
        _ => fault(format!("the type {}", schema["type"])),
    }
    if depth > subset.size.1 {
        fault("the depth".to_owned());
    }
    if let Some(values) = schema.get("enum") {
        let values: Vec<&str> = values
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let letters: usize = values.iter().map(|it| it.len()).sum();
        let distinct: std::collections::BTreeSet<&&str> = values.iter().collect();
        let legal = values.iter().all(|it| crate::catalog::names::is_legal(it));
        if values.is_empty() || values.len() > subset.values.0 || letters > subset.values.1 {
            fault(format!("{} values", values.len()));
        }
        if schema["type"] != "string" || !legal || distinct.len() != values.len() {
            fault("the values of an enum".to_owned());
        }
    }
    let properties = schema["properties"].as_object();
    found(None, properties.map_or(0, Map::len));
    for property in properties.into_iter().flat_map(Map::values) {
        node(subset, property, depth + 1, found);
    }
    if let Some(items) = schema.get("items") {
        node(subset, items, depth + 1, found);
    }
}

/// Catalogues as providers of any kind might list them.
fn catalogues() -> Vec<Catalogue> {
    let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
    let long = "x".repeat(300);
    let odd = [
        "Create Share",
        "ns:tool",
        "查询天气",
        "a\u{202e}b\n",
        "a\u{200b}b",
        "\"},{\"",
        "\\u0000",
        "🦀",
        &long,
        "{}",
        "$ref",
        "use_weather",
        "tool",
        "../../etc",
        "a.b/c-d_e",
        "null",
    ];
    vec![
        Catalogue::default(),
        weather(true),
        weather(false),
        many(30),
        many(200),
        many(3_000),
        compiled(&odd.map(tool)),
        compiled(&(0..400).map(|n| tool(&format!("{long}{n}"))).collect::<Vec<_>>()),
    ]
}

/// As the lists of a provider are compiled.
fn compiled(tools: &[Value]) -> Catalogue {
    let entries: Vec<Tool> = crate::catalog::names::fit_all(
        &tools
            .iter()
            .map(|tool| crate::catalog::names::FullName::own(tool["name"].as_str().unwrap()))
            .collect::<Vec<_>>(),
    )
    .into_iter()
    .zip(tools)
    .map(|(alias, tool)| {
        Tool::new(
            tool["name"].as_str().unwrap(),
            alias,
            RawObject::open(&pleiades_mcp::raw::raw(tool)).unwrap(),
        )
    })
    .collect();
    Catalogue::of(entries.into_iter().map(std::sync::Arc::new).collect())
}

/// Providers as an operator might describe them, within what a descriptor takes. (Of an id that makes a longer
/// name `check` warns.)
fn providers() -> Vec<Provider> {
    let mut all = Vec::new();
    for id in ["weather".to_owned(), "x".repeat(54), "a-b_c__d".to_owned()] {
        for about in [
            None,
            Some("issues, \"quotes\", {braces} \\ and\nlines".to_owned()),
            Some("ö".repeat(150)),
        ] {
            for title in ["T".to_owned(), "Ä\u{202e}\n\"".repeat(500)] {
                let mut one = provider(&id);
                (one.about, one.title) = (about.clone(), title);
                all.push(one);
            }
        }
    }
    all
}

#[test]
fn every_definition_is_within_what_all_makers_of_models_take() {
    let mut seen = 0;
    let mut hold = |tool: &RawObject| {
        let tool = shown(tool);
        for subset in &SUBSETS {
            let faults = faults(subset, &tool);
            assert!(faults.is_empty(), "{faults:?}: {}", tool["name"]);
        }
        seen += 1;
    };
    for catalogue in catalogues() {
        for mut one in providers() {
            let mut one_of = |lists: Option<&Catalogue>, one: &Provider| {
                let is_split = one.facade.is_split;
                let tools = tools(one, lists, is_split).into_iter();
                tools
                    .chain(single("all", &[of_single(one, lists)]))
                    .for_each(|it| hold(&it.tool));
            };
            for names in [
                NamesShown::BySize,
                NamesShown::Values,
                NamesShown::Groups,
                NamesShown::Off,
            ] {
                one.facade.names = names;
                for is_split in [false, true] {
                    one.facade.is_split = is_split;
                    one_of(None, &one);
                    one_of(Some(&catalogue), &one);
                }
            }
            hold(&connect("weather__connect", &one));
        }
    }
    hold(&single("all", &[])[0].tool);
    assert!(seen > 1_000, "{seen}");
}

#[test]
fn the_rules_find_what_breaks_them() {
    let good = shown(&tool(&provider("weather"), Some(&weather(false))));
    let with = |path: &str, value: Value| {
        let mut tool = good.clone();
        *tool.pointer_mut(path).unwrap() = value;
        tool
    };
    let schema = "/inputSchema/properties/options";
    for (broken, by) in [
        (with("/name", json!("use weather")), 4),
        (with("/name", json!("x".repeat(65))), 4),
        (with("/description", json!("x".repeat(3_000))), 4),
        (with(schema, json!({ "type": "array" })), 4),
        (with(schema, json!({ "type": ["string", "null"] })), 4),
        (with(schema, json!({ "type": "object" })), 4),
        (with(schema, json!({ "$ref": "#/a", "type": "string" })), 4),
        (with(schema, json!({ "type": "string", "format": "date" })), 4),
        (with(schema, json!({ "type": "string", "enum": [] })), 4),
        (with(schema, json!({ "type": "string", "enum": ["a b"] })), 4),
        (with(schema, json!({ "type": "string", "nullable": true })), 3),
    ] {
        let found = SUBSETS
            .iter()
            .filter(|subset| !faults(subset, &broken).is_empty())
            .count();
        assert_eq!(found, by, "{broken}");
    }
}
