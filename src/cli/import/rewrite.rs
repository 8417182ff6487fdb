//! Rewrites texts of a client's configuration: every reference of the client, and every literal secret,
//! becomes a variable `${NAME}` of the gateway's environment.

use std::{collections::BTreeMap, path::Path};

use super::secret::{is_placeholder, is_secret_name, looks_secret};
use super::tree::shown;
use pleiades_descriptor::{Environment, reader::is_variable};

/// A variable that a written descriptor reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    /// What it is for: the input's description, or the field of the file that held its value.
    pub(super) what: String,
    /// Whether the file holds its value, which was not taken over.
    pub(super) is_literal: bool,
    /// Whether it is set where this runs.
    pub(super) is_set: bool,
}

/// Rewrites texts, and remembers the values of variables.
pub(super) struct Rewriter<'a> {
    env: &'a Environment,
    /// What relative paths of the file start from.
    pub(super) base: &'a Path,
    /// Descriptions of inputs by id.
    pub(super) inputs: BTreeMap<String, String>,
    /// Names in use; with the value when that is known.
    taken: BTreeMap<String, Option<String>>,
    /// Variables of the current server.
    pub(super) wanted: Vec<Variable>,
    pub(super) notes: Vec<String>,
    /// Restrictions of the current server that could not be taken over.
    pub(super) lost: Vec<String>,
}

/// The field of a text: names its variable, and its place in messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldContext<'a> {
    pub(super) id: &'a str,
    /// The name that says what the value is, such as that of a variable or a header.
    pub(super) name: &'a str,
    /// The field of the file.
    pub(super) field: &'a str,
}

impl<'a> FieldContext<'a> {
    pub(super) const fn new(id: &'a str, name: &'a str, field: &'a str) -> Self {
        Self { id, name, field }
    }
}

enum TextPart {
    Literal(String),
    Variable(String),
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(env: &'a Environment, base: &'a Path) -> Self {
        Self {
            env,
            base,
            inputs: BTreeMap::new(),
            taken: BTreeMap::new(),
            wanted: Vec::new(),
            notes: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Begins a new server.
    pub(super) fn begin(&mut self) {
        (self.wanted, self.notes, self.lost) = (Vec::new(), Vec::new(), Vec::new());
    }

    /// A text without secrets; fails with the part that only the client can resolve.
    pub(super) fn plain(&mut self, raw: &str, place: FieldContext<'_>) -> Result<String, String> {
        self.guarded(raw, place, |_| false)
    }

    /// A text in which every literal that may be a secret becomes a variable.
    pub(super) fn guarded(
        &mut self,
        raw: &str,
        place: FieldContext<'_>,
        is_secret: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        let mut parts = self.parts(raw, place)?;
        if parts.is_empty() {
            parts.push(TextPart::Literal(String::new()));
        }
        let is_whole = parts.len() == 1;
        let mut text = String::new();
        for part in parts {
            match part {
                TextPart::Variable(_) if text.ends_with('$') => {
                    return Err(format!("`{}` has a `$` before a `${{…}}`", place.field));
                }
                TextPart::Variable(name) => text.push_str(&format!("${{{name}}}")),
                // Beside a reference only what is a secret by itself is one: the name speaks of both.
                TextPart::Literal(literal) if (is_whole && is_secret(&literal)) || looks_secret(&literal) => {
                    let name = self.stand_in(&literal, place);
                    text.push_str(&format!("${{{name}}}"));
                }
                TextPart::Literal(literal) => text.push_str(&literal),
            }
        }
        Ok(text)
    }

    /// The variable that a literal secret becomes.
    pub(super) fn stand_in(&mut self, literal: &str, place: FieldContext<'_>) -> String {
        let own = variable_of(place.name);
        let longer = variable_of(&format!("{}_{}", place.id, place.name));
        let numbered = (2..).map(|number| format!("{longer}_{number}"));
        let mut candidates = [own, longer.clone()].into_iter().chain(numbered);
        let name = candidates
            .find(|name| self.may_stand_for(name, literal))
            .unwrap_or(longer);
        self.taken.insert(name.clone(), Some(literal.to_owned()));
        self.want(&name, place.field.to_owned(), true);
        name
    }

    /// Whether a name is free, or stands for the same value already.
    fn may_stand_for(&self, name: &str, literal: &str) -> bool {
        if name.starts_with("PLEIADES_") {
            return false;
        }
        let is_same = |value: &str| value == literal || is_placeholder(literal);
        match self.taken.get(name) {
            Some(known) => known.as_deref().is_none_or(is_same),
            None => (self.env)(name).is_none_or(|value| is_same(&value)),
        }
    }

    fn want(&mut self, name: &str, what: String, is_literal: bool) {
        self.taken.entry(name.to_owned()).or_insert(None);
        if let Some(known) = self.wanted.iter_mut().find(|known| known.name == name) {
            known.is_literal |= is_literal;
            return;
        }
        self.wanted.push(Variable {
            name: name.to_owned(),
            what,
            is_literal,
            is_set: (self.env)(name).is_some(),
        });
    }

    fn parts(&mut self, raw: &str, place: FieldContext<'_>) -> Result<Vec<TextPart>, String> {
        let (mut parts, mut rest) = (Vec::new(), raw);
        if let Some(name) = raw.strip_prefix('$').filter(|name| is_capital(name)) {
            return Ok(vec![self.variable(name, place)]);
        }
        while let Some((before, inner, after)) = next_reference(rest) {
            let Some(inner) = inner else {
                return Err(format!("`{}` has a `${{` without its `}}`", place.field));
            };
            if !before.is_empty() {
                parts.push(TextPart::Literal(before.to_owned()));
            }
            parts.push(self.reference(inner, place)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TextPart::Literal(rest.to_owned()));
        }
        Ok(joined(parts))
    }

    fn reference(&mut self, inner: &str, place: FieldContext<'_>) -> Result<TextPart, String> {
        if let Some(id) = inner.strip_prefix("input:") {
            return Ok(self.input(id));
        }
        let inner = inner.strip_prefix("env:").unwrap_or(inner);
        // `${{ secrets.NAME }}`
        let inner = ["secrets.", "inputs.", "env."]
            .iter()
            .find_map(|head| inner.strip_prefix('{')?.trim().strip_prefix(head))
            .unwrap_or(inner);
        // A reference within a reference is more than any client promises.
        let is_flat = !inner.contains("${");
        if let Some((name, default)) = inner
            .split_once(":-")
            .filter(|(name, _)| is_flat && is_variable(name))
        {
            return Ok(self.or_default(name, default, place));
        }
        let base = self.base;
        match inner {
            "workspaceFolder" | "workspaceRoot" | "cwd" => Ok(TextPart::Literal(base.display().to_string())),
            "workspaceFolderBasename" => {
                let name = base.file_name().unwrap_or_default();
                Ok(TextPart::Literal(name.to_string_lossy().into_owned()))
            }
            "pathSeparator" | "/" => Ok(TextPart::Literal("/".to_owned())),
            "userHome" => Ok(self.variable("HOME", place)),
            name if name.starts_with("PLEIADES_") => Err(format!(
                "`{}` names `{}`, which is the gateway's own",
                place.field,
                shown(name)
            )),
            name if is_variable(name) => Ok(self.variable(name, place)),
            _ => Err(format!(
                "`{}` holds a `${{…}}` that only its own client can resolve",
                place.field
            )),
        }
    }

    fn variable(&mut self, name: &str, place: FieldContext<'_>) -> TextPart {
        self.want(name, place.field.to_owned(), false);
        TextPart::Variable(name.to_owned())
    }

    fn input(&mut self, id: &str) -> TextPart {
        let name = variable_of(id);
        let what = match self.inputs.get(id) {
            Some(about) if !about.is_empty() => about.clone(),
            Some(_) => format!("input `{}`", shown(id)),
            None => format!("input `{}`, which the file does not describe", shown(id)),
        };
        self.want(&name, what, false);
        TextPart::Variable(name)
    }

    /// We know no defaults: the variable where it is set or may hold a secret, else the default.
    fn or_default(&mut self, name: &str, default: &str, place: FieldContext<'_>) -> TextPart {
        let is_open = !default.is_empty() && !is_secret_name(name) && !looks_secret(default);
        if !is_open || (self.env)(name).is_some() {
            return self.variable(name, place);
        }
        self.notes.push(format!(
            "`{}`: the default of `${{{name}:-…}}` was taken; write `${{{name}}}` to read the variable",
            place.field
        ));
        TextPart::Literal(default.to_owned())
    }
}

/// The first reference of a text in any client's spelling: `${…}`, `${{ … }}`, `{env:…}`, `{file:…}`. What
/// stands before it, in it (`None`: it has no end) and behind it.
fn next_reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let heads = ["${", "{env:", "{file:"];
    let at = heads.iter().filter_map(|head| text.find(head)).min()?;
    let (before, reference) = text.split_at(at);
    let inner = reference
        .strip_prefix("${")
        .or_else(|| reference.strip_prefix('{'))?;
    let end = if inner.starts_with('{') { "}}" } else { "}" };
    match inner.split_once(end) {
        Some((inner, after)) => Some((before, Some(inner), after)),
        None => Some((before, None, "")),
    }
}

/// Whether a text is a name as variables of the environment usually have: some clients read `$NAME` so.
fn is_capital(name: &str) -> bool {
    is_variable(name) && !name.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// Literals side by side are one.
fn joined(parts: Vec<TextPart>) -> Vec<TextPart> {
    let mut out: Vec<TextPart> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (Some(TextPart::Literal(before)), TextPart::Literal(more)) => before.push_str(&more),
            (_, part) => out.push(part),
        }
    }
    out
}

/// A name of the environment made of any text: in capitals, and not one of the gateway's own.
pub(super) fn variable_of(text: &str) -> String {
    let mut name = String::new();
    let mut was_small = false;
    for char in text.chars() {
        if was_small && char.is_ascii_uppercase() {
            name.push('_');
        }
        was_small = char.is_ascii_lowercase();
        match char.to_ascii_uppercase() {
            upper if upper.is_ascii_alphanumeric() => name.push(upper),
            _ if !name.ends_with('_') => name.push('_'),
            _ => {}
        }
    }
    let name = name.trim_matches('_');
    let is_head = name.starts_with(|char: char| char.is_ascii_alphabetic()) && !name.starts_with("PLEIADES_");
    if is_head {
        name.to_owned()
    } else {
        format!("MCP_{name}").trim_end_matches('_').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const AT: FieldContext<'_> = FieldContext {
        id: "git-hub",
        name: "API_KEY",
        field: "env.API_KEY",
    };

    fn environment() -> Environment {
        Arc::new(|name| (name == "SET").then(|| "value".to_owned()))
    }

    #[test]
    fn references_of_every_client_become_ours() {
        let env = environment();
        let mut words = Rewriter::new(&env, Path::new("/work/space"));
        for (raw, ours) in [
            ("${env:NAME}", "${NAME}"),
            ("a${input:git-hub.token}b", "a${GIT_HUB_TOKEN}b"),
            ("${SET:-other}", "${SET}"),
            ("${BASE:-https://x.example}/mcp", "https://x.example/mcp"),
            ("${API_KEY:-sk-123456789}", "${API_KEY}"),
            ("${workspaceFolder}${/}src", "/work/space/src"),
            ("${userHome}/x", "${HOME}/x"),
            ("$HOME {x}", "$HOME {x}"),
            ("$HOME", "${HOME}"),
            ("{env:NAME}/x", "${NAME}/x"),
            ("${{ secrets.NAME }}", "${NAME}"),
        ] {
            assert_eq!(words.plain(raw, AT).as_deref(), Ok(ours), "{raw}");
        }
        for raw in [
            "${command:pick}",
            "${config:x}",
            "${open",
            "${PLEIADES_KEY}",
            "${}",
            "${A:-${B}}",
            "$${NAME}",
            "{file:/run/x}",
            "${file:/run/x}",
        ] {
            assert!(words.plain(raw, AT).is_err(), "{raw}");
        }
    }

    #[test]
    fn a_secret_shares_its_variable_with_itself_alone() {
        let env = environment();
        let mut words = Rewriter::new(&env, Path::new("/"));
        assert_eq!(words.stand_in("one", AT), "API_KEY");
        assert_eq!(words.stand_in("one", AT), "API_KEY");
        assert_eq!(words.stand_in("two", AT), "GIT_HUB_API_KEY");
        assert_eq!(words.stand_in("three", AT), "GIT_HUB_API_KEY_2");
        let set = FieldContext { name: "SET", ..AT };
        assert_eq!(words.stand_in("value", set), "SET");
        assert_eq!(
            words.stand_in("other", FieldContext { name: "SET", ..AT }),
            "GIT_HUB_SET"
        );
        let ours = FieldContext {
            name: "PLEIADES_X",
            ..AT
        };
        assert_eq!(words.stand_in("x", ours), "MCP_PLEIADES_X");
    }

    #[test]
    fn no_literal_secret_is_left_in_a_text() {
        let env = environment();
        let mut words = Rewriter::new(&env, Path::new("/"));
        let text = words.guarded("Bearer ghp_abcdefgh ${X}", AT, |_| true).unwrap();
        assert!(!text.contains("ghp_"), "{text}");
        assert_eq!(words.guarded("", AT, |_| false).as_deref(), Ok(""));
        assert_eq!(words.guarded("", AT, |_| true).as_deref(), Ok("${API_KEY}"));
    }
}
