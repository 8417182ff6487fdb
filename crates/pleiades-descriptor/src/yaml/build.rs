//! Events of the parser into a tree, within budgets.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::{Entry, Kind, MAX_ALIASED, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Pos, Syntax, scalar};

/// Parses one document; `None` when there is none.
pub fn parse(bytes: &[u8]) -> Result<Option<Node>, Syntax> {
    let text = decode(bytes)?;
    let limits = options! { block_nesting_limit: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, limits) {
        let (event, span) = next.map_err(|error| explain(&error, text))?;
        builder.take(event, span)?;
    }
    Ok(builder.root)
}

/// UTF-8 within the size limit, without its byte order mark.
fn decode(bytes: &[u8]) -> Result<&str, Syntax> {
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", bytes.len());
        return Err(syntax(Pos::START, message, "shorten it"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let sound = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let at = end_of(&String::from_utf8_lossy(sound));
        syntax(at, "not UTF-8", "save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let odd = text
        .char_indices()
        .find(|(_, character)| is_unprintable(*character));
    if let Some((offset, character)) = odd {
        let at = end_of(text.get(..offset).unwrap_or_default());
        let message = format!(
            "the control character U+{:04X} is not allowed in YAML",
            u32::from(character)
        );
        let cure = "remove it, or write its escape in double quotes";
        return Err(syntax(at, message, cure));
    }
    Ok(text)
}

fn is_unprintable(character: char) -> bool {
    (character.is_control() && !matches!(character, '\t' | '\n' | '\r' | '\u{85}'))
        || matches!(character, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Lines as YAML breaks them: at LF, CR LF and CR alone.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let all = rest?;
        let (line, after) = match all.split_once(['\n', '\r']) {
            // The CR of a CR LF was the break; its LF is none of its own.
            Some((line, after)) if all.get(line.len()..).is_some_and(|it| it.starts_with("\r\n")) => {
                (line, after.strip_prefix('\n'))
            }
            Some((line, after)) => (line, Some(after)),
            None => (all, None),
        };
        rest = after;
        Some(line)
    })
}

fn end_of(text: &str) -> Pos {
    let (at, last) = lines(text).enumerate().last().unwrap_or_default();
    Pos {
        line: at + 1,
        column: last.chars().count() + 1,
    }
}

fn place(mark: Marker) -> Pos {
    Pos {
        line: mark.line().max(1),
        column: mark.col() + 1,
    }
}

/// The parser's word for it, but that tabs are named when they are the cause.
fn explain(error: &ScanError, text: &str) -> Syntax {
    let at = place(*error.marker());
    let tab = lines(text)
        .enumerate()
        .take(at.line + 1)
        .find_map(|(index, line)| {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            let column = line.get(..indent)?.find('\t')?;
            (index + 2 > at.line && !line.trim().is_empty()).then_some(Pos {
                line: index + 1,
                column: column + 1,
            })
        });
    if let Some(at) = tab {
        return syntax(at, "a tab cannot indent YAML", "indent with spaces");
    }
    let info = error.info();
    let message = if info.is_empty() {
        "not YAML"
    } else {
        &lower(&info)
    };
    syntax(at, message, cure(message, at, text))
}

fn syntax(at: Pos, message: impl Into<String>, cure: &'static str) -> Syntax {
    let (message, cure) = (message.into(), Some(cure));
    Syntax { at, message, cure }
}

/// The usual cure of a parser error.
fn cure(message: &str, at: Pos, text: &str) -> &'static str {
    let line = lines(text).nth(at.line.saturating_sub(1));
    let before: String = line.unwrap_or_default().chars().take(at.column).collect();
    let says = |word: &str| message.contains(word);
    if says("flow") && before.contains("${") {
        "put `${…}` in quotes: between brackets a brace ends a text"
    } else if says("unclosed") {
        "close it, or put a text that begins so in quotes"
    } else if says("mapping values") {
        "indent with equal spaces, and put a text with `: ` in it in quotes"
    } else if says("anchor") {
        "put a text that begins with `*` in quotes"
    } else if says("unexpected character") {
        "put a text that begins so in quotes"
    } else if says("escape") {
        "use single quotes, or write `\\\\` for a backslash"
    } else if says("recursion") {
        "nest less"
    } else {
        "look at indentation, brackets and quotes here and just before"
    }
}

fn lower(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default().trim_end_matches('.');
    let mut characters = first.chars();
    characters
        .next()
        .map(|head| head.to_lowercase().chain(characters).collect())
        .unwrap_or_default()
}

enum OpenNode {
    List {
        anchor: usize,
        node: Node,
    },
    Map {
        anchor: usize,
        node: Node,
        key: Option<Node>,
    },
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    open: Vec<OpenNode>,
    /// Closed nodes by anchor, with how many nodes and how deep they are.
    anchors: HashMap<usize, (Node, usize, usize)>,
    aliased: usize,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Syntax> {
        let at = place(span.start);
        match event {
            Event::DocumentStart(_, version) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document begins here; one file holds one";
                    return Err(syntax(at, message, "move it to a file of its own"));
                }
                if version.is_some_and(|version| (version.major, version.minor) != (1, 2)) {
                    let message = "only YAML 1.2 is read";
                    return Err(syntax(at, message, "remove the `%YAML` line"));
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                let mut node = leaf(at, &value, style, tag.as_deref());
                node.is_absent = span.is_empty();
                self.close(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                let node = tagged(Node::new(at, Kind::List(Vec::new())), tag.as_deref());
                self.open.push(OpenNode::List { anchor, node });
            }
            Event::MappingStart(_, anchor, tag) => {
                let node = tagged(Node::new(at, Kind::Map(Vec::new())), tag.as_deref());
                self.open.push(OpenNode::Map {
                    anchor,
                    node,
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(OpenNode::List { anchor, node } | OpenNode::Map { anchor, node, .. }) => {
                    self.close(node, anchor)?
                }
                None => {}
            },
            Event::Alias(anchor) => self.alias(at, anchor)?,
            _ => {}
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Syntax> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} values");
            return Err(syntax(node.at, message, "shorten it"));
        }
        if anchor != 0 {
            let (nodes, depth) = measure(&node);
            self.anchors.insert(anchor, (node.clone(), nodes, depth));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(OpenNode::List { node: list, .. }) => {
                if let Kind::List(items) = &mut list.kind {
                    items.push(node);
                }
            }
            Some(OpenNode::Map { node: map, key, .. }) => match key.take() {
                None => *key = Some(node),
                Some(key) => {
                    if let Kind::Map(entries) = &mut map.kind {
                        entries.push(entry(key, node));
                    }
                }
            },
        }
        Ok(())
    }

    fn alias(&mut self, at: Pos, anchor: usize) -> Result<(), Syntax> {
        let refuse = |message: &str| Err(syntax(at, message, "write the value out"));
        let Some((node, nodes, depth)) = self.anchors.get(&anchor) else {
            return refuse("an alias cannot stand inside of what it names");
        };
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            return refuse("aliases make the file too large");
        }
        if self.open.len() + depth > MAX_DEPTH {
            return refuse("aliases make the file too deep");
        }
        let mut node = node.clone();
        move_to(&mut node, at);
        self.close(node, 0)
    }
}

fn leaf(at: Pos, value: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    let is_plain = style == ScalarStyle::Plain && !is_text;
    let kind = if is_plain {
        scalar::plain(value)
    } else {
        scalar::text(value)
    };
    tagged(Node::new(at, kind), tag)
}

fn tagged(mut node: Node, tag: Option<&Tag>) -> Node {
    node.tag = tag.filter(|tag| !tag.is_yaml_core_schema()).map(Tag::original);
    node
}

fn entry(key: Node, mut value: Node) -> Entry {
    if value.is_absent {
        value.at = key.at;
    }
    let odd = (!matches!(key.kind, Kind::Text(_))).then(|| key.describe());
    let text = match key.kind {
        Kind::Text(text) => text.raw,
        Kind::Bool(value) => value.to_string(),
        Kind::Number {
            integer: Some(value), ..
        } => value.to_string(),
        Kind::Number { float, .. } => float.to_string(),
        Kind::Null => "null".to_owned(),
        Kind::List(_) | Kind::Map(_) => "?".to_owned(),
    };
    Entry {
        at: key.at,
        key: text,
        odd,
        value,
    }
}

/// How many nodes, and how deep.
fn measure(node: &Node) -> (usize, usize) {
    let children: &mut dyn Iterator<Item = &Node> = match &node.kind {
        Kind::List(items) => &mut items.iter(),
        Kind::Map(entries) => &mut entries.iter().map(|entry| &entry.value),
        _ => &mut std::iter::empty(),
    };
    let (nodes, depth) = children
        .map(measure)
        .fold((0, 0), |(n, d), (nodes, depth)| (n + nodes, d.max(depth)));
    (nodes + 1, depth + 1)
}

/// Faults in what an alias stands for are reported at the alias.
fn move_to(node: &mut Node, at: Pos) {
    node.at = at;
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| move_to(item, at)),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.at = at;
            move_to(&mut entry.value, at);
        }),
        _ => {}
    }
}
