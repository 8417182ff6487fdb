//! A slice of data in words: fields one a line, arrays of objects as a table.

use std::collections::{BTreeMap, HashMap};

use pleiades_core::{text, tokens};

use super::{json, noise, terms::Terms};

/// How long a field may be (characters), the first that fits is taken.
const LENGTHS: [usize; 7] = [usize::MAX, 1_000, 400, 160, 80, 40, 20];
/// A table of more columns, or with fewer than half of its cells filled, is a list of fields.
const COLUMNS: usize = 40;
/// Objects in objects that are fields of their own; what lies deeper is JSON.
const DEPTH: usize = 3;
/// Names that are listed of what was left out.
const NAMED: usize = 12;

/// A value in words.
#[derive(Debug, Default)]
pub(super) struct Words {
    parts: Vec<WordPart>,
    left_out: BTreeMap<String, ()>,
}

/// What fitted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) text: String,
    /// Whether a field is shorter than it is.
    pub(super) is_shortened: bool,
    /// Rows and fields that did not fit at all.
    pub(super) dropped: usize,
}

#[derive(Debug)]
enum WordPart {
    Field(String, Cell),
    Rows(WordTable),
}

#[derive(Debug, Default)]
struct WordTable {
    title: String,
    columns: Vec<String>,
    rows: Vec<WordRow>,
}

#[derive(Debug, Default)]
struct WordRow {
    number: Option<usize>,
    cells: Vec<(usize, Cell)>,
    score: usize,
}

#[derive(Debug, Default)]
struct Cell {
    text: String,
    is_vital: bool,
    is_meant: bool,
}

impl Cell {
    fn of(key: &str, value: &str, is_link: bool, terms: &Terms) -> Self {
        let is_leaf = !value.starts_with(['{', '[']);
        let text = match value.as_bytes().first() {
            Some(b'"') => json::decoded(value).into_owned(),
            Some(b'[') if json::children(value).all(|it| !it.value.starts_with(['{', '['])) => {
                let elements = json::children(value).map(|it| json::decoded(it.value));
                elements.collect::<Vec<_>>().join(", ")
            }
            Some(b'{' | b'[') => clean(value),
            _ => value.to_owned(),
        };
        Self {
            is_vital: is_leaf && (is_link || noise::is_vital(key)),
            is_meant: !terms.is_empty() && (terms.score(&text) > 0 || terms.score(key) > 0),
            text,
        }
    }

    /// As much of it as may be shown.
    fn shown(&self, length: usize, is_shortened: &mut bool) -> String {
        let length = match (self.is_vital, self.is_meant) {
            (true, _) => usize::MAX,
            (false, true) => length.saturating_mul(6),
            (false, false) => length,
        };
        let head = text::head(&self.text, length);
        if head.len() == self.text.len() {
            return self.text.clone();
        }
        *is_shortened = true;
        let rest = self.text.get(head.len()..).unwrap_or_default().chars().count();
        format!("{head}…(+{rest})")
    }
}

/// JSON without what is noise.
fn clean(value: &str) -> String {
    let link = noise::web_link(value);
    let mut parts = Vec::new();
    for child in json::children(value) {
        let key = child.key.map(json::decoded);
        let is_link = link.is_some() && child.key == link;
        if key.is_some_and(|key| noise::is_noise(&key, child.value, is_link)) {
            continue;
        }
        let inner = match child.value.starts_with(['{', '[']) {
            true => clean(child.value),
            false => child.value.to_owned(),
        };
        parts.push(
            child
                .key
                .map_or_else(|| inner.clone(), |key| format!("{key}:{inner}")),
        );
    }
    match value.starts_with('{') {
        true => format!("{{{}}}", parts.join(",")),
        false => format!("[{}]", parts.join(",")),
    }
}

impl Words {
    pub(super) fn of(value: &str, terms: &Terms) -> Self {
        let mut words = Self::default();
        words.take("", value, 0, terms);
        words
    }

    /// Rows of another place, with their numbers, under a title.
    pub(super) fn of_rows(title: &str, rows: &[(usize, &str)], terms: &Terms) -> Self {
        let mut words = Self::default();
        let table = words.table(title, rows.iter().map(|(at, row)| (Some(*at), *row)), terms);
        words.parts.push(WordPart::Rows(table));
        words
    }

    fn take(&mut self, label: &str, value: &str, depth: usize, terms: &Terms) {
        match value.as_bytes().first() {
            Some(b'{') if depth < DEPTH => self.take_object(label, value, depth, terms),
            Some(b'[') if is_of_rows(value) => {
                let rows = json::children(value).map(|it| (None, it.value));
                let table = self.table(label, rows, terms);
                self.parts.push(WordPart::Rows(table));
            }
            _ => {
                let cell = Cell::of(label, value, false, terms);
                self.parts.push(WordPart::Field(label.to_owned(), cell));
            }
        }
    }

    fn take_object(&mut self, label: &str, object: &str, depth: usize, terms: &Terms) {
        let link = noise::web_link(object);
        for child in json::children(object) {
            let key = child.key.map(json::decoded).unwrap_or_default();
            let is_link = link.is_some() && child.key == link;
            let label = joined(label, &key);
            if noise::is_noise(&key, child.value, is_link) {
                self.left_out.insert(key.into_owned(), ());
            } else if child.value.starts_with(['{', '[']) {
                self.take(&label, child.value, depth + 1, terms);
            } else {
                let cell = Cell::of(&key, child.value, is_link, terms);
                self.parts.push(WordPart::Field(label, cell));
            }
        }
    }

    fn table<'a>(
        &mut self,
        title: &str,
        rows: impl Iterator<Item = (Option<usize>, &'a str)>,
        terms: &Terms,
    ) -> WordTable {
        let mut table = WordTable {
            title: title.to_owned(),
            ..WordTable::default()
        };
        let mut columns = HashMap::new();
        for (number, value) in rows {
            let mut row = WordRow {
                number,
                score: terms.score(value),
                ..WordRow::default()
            };
            match value.starts_with('{') {
                true => self.fields(&mut row, &mut columns, ("", value, 0), terms),
                false => row.cells.push((usize::MAX, Cell::of("", value, false, terms))),
            }
            table.rows.push(row);
        }
        let mut named: Vec<(String, usize)> = columns.into_iter().collect();
        named.sort_by_key(|(_, at)| *at);
        table.columns = named.into_iter().map(|(name, _)| name).collect();
        table
    }

    /// The fields of a row, those of objects in it among them.
    fn fields(
        &mut self,
        row: &mut WordRow,
        columns: &mut HashMap<String, usize>,
        (label, object, depth): (&str, &str, usize),
        terms: &Terms,
    ) {
        let link = noise::web_link(object).filter(|_| depth == 0);
        for child in json::children(object) {
            let key = child.key.map(json::decoded).unwrap_or_default();
            let is_link = link.is_some() && child.key == link;
            let label = joined(label, &key);
            if noise::is_noise(&key, child.value, is_link) {
                self.left_out.insert(key.into_owned(), ());
            } else if child.value.starts_with('{') && depth + 1 < DEPTH {
                self.fields(row, columns, (&label, child.value, depth + 1), terms);
            } else {
                let next = columns.len();
                let at = *columns.entry(label).or_insert(next);
                row.cells.push((at, Cell::of(&key, child.value, is_link, terms)));
            }
        }
    }

    /// What was left out, for a sentence; empty when nothing was.
    pub(super) fn left_out(&self) -> String {
        let names: Vec<&str> = self.left_out.keys().map(String::as_str).collect();
        let shown: Vec<String> = names
            .iter()
            .take(NAMED)
            .map(|name| text::one_line(name, 40))
            .collect();
        match names.len().saturating_sub(NAMED) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }

    /// In at most so many tokens: fields as long as they can be, then as many rows as fit, those first
    /// that share words with the prompt.
    pub(super) fn written(&self, room: usize) -> Written {
        let mut written = Written::default();
        for length in LENGTHS {
            written = Written::default();
            let lines = self.lines(length, &mut written.is_shortened);
            written.text = lines
                .into_iter()
                .map(|line| line.text)
                .collect::<Vec<_>>()
                .join("\n");
            if tokens::estimate(&written.text) <= room {
                return written;
            }
        }
        let shortest = LENGTHS.last().copied().unwrap_or_default();
        let lines = self.lines(shortest, &mut written.is_shortened);
        let (text, dropped) = fitting(&lines, room);
        Written {
            text,
            dropped,
            is_shortened: true,
        }
    }

    fn lines(&self, length: usize, is_shortened: &mut bool) -> Vec<WordLine> {
        let mut lines = Vec::new();
        for part in &self.parts {
            match part {
                WordPart::Field(label, cell) => {
                    let shown = escaped(&cell.shown(length, is_shortened), false);
                    let text = if label.is_empty() {
                        shown
                    } else {
                        format!("{label}: {shown}")
                    };
                    let score = usize::from(cell.is_meant) + usize::from(cell.is_vital);
                    lines.push(WordLine {
                        text,
                        score,
                        is_row: true,
                    });
                }
                WordPart::Rows(table) => table.lines(length, is_shortened, &mut lines),
            }
        }
        lines
    }
}

struct WordLine {
    text: String,
    score: usize,
    /// A heading is none.
    is_row: bool,
}

/// The lines that fit, in their order, and how many rows do not.
fn fitting(lines: &[WordLine], room: usize) -> (String, usize) {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let weight = |at: &usize| {
        lines
            .get(*at)
            .map_or(0, |line| if line.is_row { line.score } else { usize::MAX })
    };
    order.sort_by_key(|at| std::cmp::Reverse(weight(at)));
    let mut is_shown = vec![false; lines.len()];
    let mut left = room;
    for at in order {
        let Some((line, shown)) = lines.get(at).zip(is_shown.get_mut(at)) else {
            continue;
        };
        let cost = tokens::estimate(&line.text) + 1;
        if cost <= left {
            left -= cost;
            *shown = true;
        }
    }
    let shown = lines.iter().zip(&is_shown).filter(|(_, shown)| **shown);
    let text: Vec<&str> = shown.map(|(line, _)| line.text.as_str()).collect();
    let rows = lines
        .iter()
        .zip(&is_shown)
        .filter(|(line, shown)| line.is_row && !**shown);
    (text.join("\n"), rows.count())
}

impl WordTable {
    fn lines(&self, length: usize, is_shortened: &mut bool, lines: &mut Vec<WordLine>) {
        let heading = |text: String| WordLine {
            text,
            score: 0,
            is_row: false,
        };
        if !self.title.is_empty() {
            lines.push(heading(format!("{}:", self.title)));
        }
        let cells: usize = self.rows.iter().map(|row| row.cells.len()).sum();
        let is_grid = self.columns.len() <= COLUMNS && cells * 2 >= self.columns.len() * self.rows.len();
        if is_grid && !self.columns.is_empty() {
            let number = self.rows.iter().any(|row| row.number.is_some());
            let head = if number { "# | " } else { "" };
            lines.push(heading(escaped(
                &format!("{head}{}", self.columns.join(" | ")),
                true,
            )));
        }
        for row in &self.rows {
            let mut text = row
                .number
                .map(|number| format!("{number} | "))
                .unwrap_or_default();
            text.push_str(&match is_grid {
                true => self.grid_line(row, length, is_shortened),
                false => self.list_line(row, length, is_shortened),
            });
            lines.push(WordLine {
                text,
                score: row.score,
                is_row: true,
            });
        }
    }

    fn grid_line(&self, row: &WordRow, length: usize, is_shortened: &mut bool) -> String {
        let mut cells = vec![String::new(); self.columns.len()];
        for (at, cell) in &row.cells {
            let shown = escaped(&cell.shown(length, is_shortened), true);
            match cells.get_mut(*at) {
                Some(slot) if slot.is_empty() => *slot = shown,
                Some(slot) => *slot = format!("{slot}, {shown}"),
                None => cells.push(shown),
            }
        }
        // An element that is no object stands alone in its row.
        if row.cells.iter().any(|(at, _)| *at == usize::MAX) {
            cells.retain(|cell| !cell.is_empty());
        }
        cells.join(" | ").trim_end().to_owned()
    }

    fn list_line(&self, row: &WordRow, length: usize, is_shortened: &mut bool) -> String {
        let cells = row.cells.iter().map(|(at, cell)| {
            let shown = escaped(&cell.shown(length, is_shortened), true);
            match self.columns.get(*at) {
                Some(column) => format!("{column}: {shown}"),
                None => shown,
            }
        });
        format!("- {}", cells.collect::<Vec<_>>().join(" | "))
    }
}

fn joined(label: &str, key: &str) -> String {
    match label.is_empty() {
        true => key.to_owned(),
        false => format!("{label}.{key}"),
    }
}

/// Whether an array is shown row by row: it holds objects or arrays.
fn is_of_rows(array: &str) -> bool {
    json::children(array).any(|child| child.value.starts_with(['{', '[']))
}

/// Without what would be seen as another row, and with C0 controls as their escapes.
fn escaped(text: &str, is_row: bool) -> String {
    match is_row {
        true => text::with_controls_shown(&text.replace('\r', "").replace('\n', "\\n")).into_owned(),
        false => text::with_controls_shown(text).into_owned(),
    }
}
