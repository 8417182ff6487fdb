//! How the meta tool is shown: the same bytes for the same catalogue, so that clients' prompt caches hold,
//! and in the schema features that all makers of models take.

mod groups;
mod names;
mod single;

use serde_json::{Map, Value, json};

pub use single::{SingleProvider, single};

use crate::catalog::{Catalogue, NamesShown, Provider, Tool, tokens_of};
use names::sorted;
use pleiades_mcp::RawObject;

/// Longest description beside `about` and groups (bytes): every turn pays for it.
const MAX_OWN: usize = 500;
/// Longest description in all (bytes): `OpenAI` refuses a longer one, and with it the request.
const MAX_DESCRIPTION: usize = 1_024;
/// Longest `about` (bytes); a longer one of a descriptor is a fault.
const MAX_ABOUT: usize = 300;
/// Longest list of groups (bytes).
const MAX_GROUPS: usize = 700;
/// Longest hint for hosts that look for tools (bytes): the description says all of it again.
const MAX_HINT: usize = 120;
/// Longest title within the description (bytes), which names it twice.
const MAX_TITLE: usize = 60;
/// Longest operation that stands as the example (bytes).
const MAX_EXAMPLE: usize = 48;
/// What a definition may take with all names in it (tokens).
const NAMES_BUDGET: usize = 1_300;
/// The most names in an enum, and the bytes of them all: more than that makers of models refuse, and
/// with it all other tools of the client.
const MAX_NAMES: usize = 1_000;
const MAX_NAMES_BYTES: usize = 32 * 1024;

/// Which operations of a provider a meta tool runs (`facade.split`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OperationSet {
    /// All.
    #[default]
    All,
    /// Those that only read.
    Reads,
    /// The others.
    Writes,
}

impl OperationSet {
    /// Whether an operation is one of these.
    #[must_use]
    pub fn admits(self, provider: &Provider, tool: &Tool) -> bool {
        match self {
            Self::All => true,
            Self::Reads => provider.is_read(tool),
            Self::Writes => !provider.is_read(tool),
        }
    }

    /// What stands behind a meta tool's name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::All | Self::Reads => "",
            Self::Writes => "_write",
        }
    }
}

/// What the meta tool of a provider is called.
#[must_use]
pub fn name_of(id: &str, set: OperationSet) -> String {
    format!("use_{id}{}", set.suffix())
}

/// A tool as it is listed, and about what it costs a model (tokens).
#[derive(Debug)]
pub struct Definition {
    /// An entry of `tools/list`.
    pub tool: RawObject,
    /// An estimate; errs to the side of too many.
    pub tokens: usize,
}

impl Definition {
    fn of(tool: RawObject) -> Self {
        let tokens = tokens_of(&tool);
        Self { tool, tokens }
    }
}

/// The meta tools of a provider: one, or with `is_split` one for reads and one for writes, as far as there
/// are any. Without a catalogue the caller is not connected: no operations are named.
#[must_use]
pub fn tools(provider: &Provider, catalogue: Option<&Catalogue>, is_split: bool) -> Vec<Definition> {
    let Some(catalogue) = catalogue else {
        return vec![unconnected(provider)];
    };
    sets(provider, catalogue, is_split)
        .into_iter()
        .map(|set| connected(provider, catalogue, set))
        .collect()
}

/// Which meta tools there are: a half without operations has none.
fn sets(provider: &Provider, catalogue: &Catalogue, is_split: bool) -> Vec<OperationSet> {
    let has = |set: &OperationSet| catalogue.tools.iter().any(|tool| set.admits(provider, tool));
    match is_split && !catalogue.tools.is_empty() {
        true => [OperationSet::Reads, OperationSet::Writes]
            .into_iter()
            .filter(has)
            .collect(),
        false => vec![OperationSet::All],
    }
}

fn unconnected(provider: &Provider) -> Definition {
    let about = subject(provider);
    let description =
        format!("Work with {about} It has to be connected first: call this tool once and it says how.");
    let description = clip(&description, MAX_OWN + MAX_ABOUT);
    let tool = ToolEntry {
        name: name_of(&provider.id, OperationSet::All),
        title: &provider.title,
        description,
        properties: properties(operation(&[])),
        only_reads: false,
        search: hint(provider),
    };
    Definition::of(tool.entry())
}

fn connected(provider: &Provider, catalogue: &Catalogue, set: OperationSet) -> Definition {
    let operations = Operations::of(provider, catalogue, set);
    let definition = |names: NamesShown| operations.definition(names);
    match provider.facade.names {
        NamesShown::BySize if operations.fit() => {
            let named = definition(NamesShown::Values);
            match named.tokens <= NAMES_BUDGET {
                true => named,
                false => definition(NamesShown::Groups),
            }
        }
        NamesShown::Values if operations.fit() => definition(NamesShown::Values),
        NamesShown::BySize | NamesShown::Values => definition(NamesShown::Groups),
        names => definition(names),
    }
}

/// The operations that one meta tool runs, in the order of their names.
struct Operations<'a> {
    provider: &'a Provider,
    set: OperationSet,
    tools: Vec<&'a Tool>,
    is_split: bool,
}

impl<'a> Operations<'a> {
    fn of(provider: &'a Provider, catalogue: &'a Catalogue, set: OperationSet) -> Self {
        let admitted = |tool: &&'a Tool| set.admits(provider, tool);
        Self {
            provider,
            set,
            tools: sorted(catalogue.tools.iter().map(|tool| &**tool).filter(admitted)),
            is_split: set != OperationSet::All,
        }
    }

    /// Whether all names can stand in an enum. A part of them would make the others impossible to call
    /// for hosts that hold models to the schema.
    fn fit(&self) -> bool {
        self.tools.len() <= MAX_NAMES
            && self.tools.iter().map(|tool| tool.short.len() + 3).sum::<usize>() <= MAX_NAMES_BYTES
    }

    fn definition(&self, names: NamesShown) -> Definition {
        let values: &[&Tool] = match names {
            NamesShown::Values => &self.tools,
            _ => &[],
        };
        let example = match names {
            NamesShown::Off => None,
            _ => self.example(),
        };
        let tool = ToolEntry {
            name: name_of(&self.provider.id, self.set),
            title: &self.title(),
            description: self.describe(example, names == NamesShown::Groups),
            properties: properties(operation(values)),
            only_reads: !self.tools.is_empty() && self.tools.iter().all(|tool| self.provider.is_read(tool)),
            search: hint(self.provider),
        };
        Definition::of(tool.entry())
    }

    fn title(&self) -> String {
        match self.set {
            OperationSet::All | OperationSet::Reads => self.provider.title.clone(),
            OperationSet::Writes => format!("{} (write)", self.provider.title),
        }
    }

    /// A name that stands in the call shapes: one of a read, since it may be tried.
    fn example(&self) -> Option<&str> {
        let short = || self.tools.iter().filter(|tool| tool.short.len() <= MAX_EXAMPLE);
        let read = short().find(|tool| self.provider.is_read(tool));
        read.or_else(|| short().next()).map(|tool| &*tool.short)
    }

    fn describe(&self, example: Option<&str>, is_grouped: bool) -> String {
        let title = clip(&self.provider.title, MAX_TITLE);
        let about = subject(self.provider);
        let id = &self.provider.id;
        let use_for = match (self.set, self.is_split) {
            (OperationSet::Reads, true) => {
                format!(
                    "Reads only; {} changes things.",
                    name_of(id, OperationSet::Writes)
                )
            }
            (OperationSet::Writes, true) => {
                format!("Changes things; {} reads.", name_of(id, OperationSet::Reads))
            }
            _ => format!("Use it for anything on {title}."),
        };
        let (head, shapes) = (format!("Work with {about} {use_for}"), shapes(example));
        let room = MAX_DESCRIPTION.saturating_sub(head.len() + shapes.len());
        let groups = match is_grouped {
            true => groups::line(&self.tools, room.min(MAX_GROUPS)),
            false => String::new(),
        };
        head + &groups + &shapes
    }
}

/// The calls there are, as literal JSON, and what becomes of a wrong one.
fn shapes(example: Option<&str>) -> String {
    let name = example.unwrap_or("…");
    format!(
        "\n1. Known operation: {{\"tool\":\"{name}\",\"arguments\":{{…}}}} runs it.\n\
         2. Unsure: {{\"prompt\":\"goal\"}} lists the best operations with signatures and runs nothing; then call as in 1.\n\
         3. {{\"tool\":\"{name}\"}} alone returns its schema.\n\
         A wrong call runs nothing and says what to change. Long results are shortened and carry a result id."
    )
}

/// The key in `_meta` of the gateway's own tool that connects a provider.
pub const CONNECT_MARK: &str = "pleiades/connect";

/// The tool that an unconnected provider shows where its own tools are shown.
#[must_use]
pub fn connect(name: &str, provider: &Provider) -> RawObject {
    let mut tool = RawObject::new();
    tool.put("name", name);
    tool.put("title", &format!("Connect {}", provider.title));
    let description = format!(
        "{} is not connected. Call this to learn how to connect it.",
        provider.title
    );
    tool.put("description", &clip(&description, MAX_OWN));
    tool.put("inputSchema", &json!({ "type": "object", "properties": {} }));
    tool.put(
        "annotations",
        &json!({ "readOnlyHint": true, "destructiveHint": false, "openWorldHint": false }),
    );
    // Providers' own keys of this prefix are taken out, so it says that this tool is the gateway's.
    tool.put("_meta", &json!({ CONNECT_MARK: true }));
    tool
}

/// A meta tool before it is an entry of a list.
struct ToolEntry<'a> {
    name: String,
    title: &'a str,
    description: String,
    properties: Map<String, Value>,
    only_reads: bool,
    search: String,
}

impl ToolEntry<'_> {
    fn entry(self) -> RawObject {
        let mut tool = RawObject::new();
        tool.put("name", &self.name);
        tool.put("title", self.title);
        tool.put("description", &self.description);
        tool.put(
            "inputSchema",
            &json!({ "type": "object", "properties": self.properties }),
        );
        // The worst that any operation may do; hosts ask for consent by these.
        let annotations = json!({
            "readOnlyHint": self.only_reads, "destructiveHint": !self.only_reads, "openWorldHint": true
        });
        tool.put("annotations", &annotations);
        // A host that defers tools would hide the one tool that finds the others.
        tool.put(
            "_meta",
            &json!({ "anthropic/alwaysLoad": true, "anthropic/searchHint": self.search }),
        );
        tool
    }
}

/// `tool` comes first, because models fill properties in order and a named operation is best.
fn operation(tools: &[&Tool]) -> Map<String, Value> {
    let mut property = json!({
        "type": "string",
        "description": "Exact operation. With arguments it runs at once; alone it returns that operation's schema."
    });
    if let (false, Some(object)) = (tools.is_empty(), property.as_object_mut()) {
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.short).collect();
        object.insert("enum".to_owned(), json!(names));
    }
    Map::from_iter([("tool".to_owned(), property)])
}

/// The properties that follow those which say what is called.
fn properties(mut first: Map<String, Value>) -> Map<String, Value> {
    let rest = json!({
        "arguments": { "type": "object", "additionalProperties": true,
            "description": "The arguments of `tool`, as a JSON object." },
        "prompt": { "type": "string",
            "description": "One goal in plain words with every id, name, date and filter you know. Use when no operation name fits." },
        "accountId": { "type": "string", "description": "Only after an answer listed several accounts." },
        "options": { "type": "object", "additionalProperties": true,
            "description": "Rarely needed: {\"result\":\"r_…\",\"select\":\"/items\",\"page\":2} reads more of an earlier result; \"full\":true; \"dryRun\":true." },
    });
    if let Value::Object(rest) = rest {
        first.extend(rest);
    }
    first
}

/// Title and `about`, as a sentence.
fn subject(provider: &Provider) -> String {
    let title = clip(&provider.title, MAX_TITLE);
    let text = match provider.about.as_deref().map(str::trim) {
        Some(about) if !about.is_empty() => format!("{title}: {}", clip(about, MAX_ABOUT)),
        _ => title,
    };
    match text.ends_with(['.', '!', '?', '…', '。']) {
        true => text,
        false => text + ".",
    }
}

/// The words by which a host that defers tools finds this one.
fn hint(provider: &Provider) -> String {
    match &provider.about {
        Some(about) => clip(&format!("{} {about}", provider.title), MAX_HINT),
        None => clip(&provider.title, MAX_TITLE),
    }
}

/// The first bytes of a text, whole characters only, marked as cut.
fn clip(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
