//! A page of a result that is data: the slice as it is written, and the same in words.

use pleiades_core::{text, tokens};
use serde_json::value::RawValue;

use super::slices::{Capacity, Slices};
use super::table::{Words, Written};
use super::terms::Terms;
use super::{ShapeFault, ShapeRequest, Shaped, ShapedPage, json, last_line, lines};

/// Rows of other pages that are shown because they share words with the prompt.
const ELSEWHERE: usize = 8;

/// `beside`: text of the provider that says something else than the data.
pub(super) fn page(
    value: &str,
    beside: &str,
    budget: usize,
    request: &ShapeRequest<'_>,
) -> Result<Shaped, ShapeFault> {
    let beside = Beside::of(beside, budget);
    let slices = Slices::of(value, beside.capacity(budget));
    let count = slices.count().max(beside.pages.len());
    let at = request.page.checked_sub(1).filter(|at| *at < count);
    let at = at.ok_or(ShapeFault::NoSuchPage(count))?;
    let slice = slices.page(at);
    let (before, shown, total) = slices.items(at);
    let next = (at + 1 < count).then_some(at + 2);
    let page = ShapedPage { shown, total, next };

    let mut text = beside.on(at, count);
    let head = tokens::estimate(&text);
    let data = if request.sends_data {
        tokens::estimate(&slice)
    } else {
        0
    };
    let room = (budget - budget / 50).saturating_sub(data + head + last_line::RESERVED);
    let terms = Terms::of(request.prompt);
    let elsewhere = match at {
        0 => rows_elsewhere(value, shown, &terms, room / 4),
        _ => String::new(),
    };
    let words = Words::of(&slice, &terms);
    let left_out = words.left_out();
    let note = match left_out.is_empty() {
        true => String::new(),
        false => format!("Not in this text, but in `data`, pages and `select`: empty fields and {left_out}."),
    };
    let used = tokens::estimate(&elsewhere) + tokens::estimate(&note);
    let written = words.written(room.saturating_sub(used));
    for part in [
        elsewhere,
        written.text.clone(),
        dropped(&written),
        note,
        omitted(&slices),
    ] {
        push(&mut text, &part);
    }
    let is_whole = count == 1 && !written.is_shortened && written.dropped == 0 && slices.omitted == 0;
    let line = last_line::of((before, page, slices.unit()), is_whole, request);
    push(&mut text, &line);
    Ok(Shaped {
        text,
        data: RawValue::from_string(slice).ok(),
        page: (!is_whole).then_some(page),
        cut: 0,
    })
}

fn push(text: &mut String, part: &str) {
    if !part.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(part);
    }
}

fn dropped(written: &Written) -> String {
    match written.dropped {
        0 => String::new(),
        1 => "1 row of this page stands in `data` alone.".to_owned(),
        rows => format!("{rows} rows of this page stand in `data` alone."),
    }
}

fn omitted(slices: &Slices<'_>) -> String {
    match slices.omitted {
        0 => String::new(),
        count => format!("{count} value(s) of the result are too long for any page and cannot be cut."),
    }
}

/// Text of the provider beside its data.
struct Beside {
    pages: Vec<String>,
}

impl Beside {
    fn of(text: &str, budget: usize) -> Self {
        let text = text::with_controls_shown(text);
        let pages = match tokens::estimate(&text) {
            0 => Vec::new(),
            tokens if tokens <= budget / 10 => vec![text.into_owned()],
            _ => lines::cut(&text, budget / 4)
                .into_iter()
                .map(|(page, _)| page)
                .collect(),
        };
        Self { pages }
    }

    fn capacity(&self, budget: usize) -> Capacity {
        let (page, element) = match self.pages.len() {
            0 => (budget * 3 / 5, budget * 3 / 4),
            1 => (budget / 2, budget * 3 / 5),
            _ => (budget * 2 / 5, budget / 2),
        };
        Capacity { page, element }
    }

    fn on(&self, page: usize, count: usize) -> String {
        debug_assert!(page < count);
        self.pages.get(page).cloned().unwrap_or_default()
    }
}

/// Rows that stand on other pages and share words with the prompt, with their indices.
fn rows_elsewhere(value: &str, shown: usize, terms: &Terms, room: usize) -> String {
    if terms.is_empty() {
        return String::new();
    }
    let arrays = json::children(value).filter(|it| it.key.is_some() && it.value.starts_with('['));
    let rows = match value.starts_with('[') {
        true => value,
        false => arrays
            .map(|it| it.value)
            .max_by_key(|it| it.len())
            .unwrap_or_default(),
    };
    let rows = json::children(rows).map(|it| it.value).enumerate();
    let mut scored: Vec<(usize, usize, &str)> = rows
        .skip(shown)
        .map(|(at, row)| (terms.score(row), at, row))
        .filter(|(score, ..)| *score > 0)
        .collect();
    scored.sort_by_key(|(score, at, _)| (std::cmp::Reverse(*score), *at));
    scored.truncate(ELSEWHERE);
    scored.sort_by_key(|(_, at, _)| *at);
    let rows: Vec<(usize, &str)> = scored.into_iter().map(|(_, at, row)| (at, row)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let title = "Of other pages, by their indices, what shares words with the prompt";
    let words = Words::of_rows(title, &rows, terms);
    let text = words.written(room).text;
    format!("{text}\nThis page:")
}
