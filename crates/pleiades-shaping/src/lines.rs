//! Pages of plain text: logs, Markdown, source code. Cut at lines, a longer line between words.

use pleiades_core::{text, tokens::Counter};

use super::slices::Unit;
use super::terms::Terms;
use super::{ShapeFault, ShapeRequest, Shaped, ShapedPage, last_line};

/// Lines of other pages that are shown because they share words with the prompt.
const ELSEWHERE: usize = 12;
/// And as much of each of them (characters).
const LINE: usize = 160;

pub(super) fn page(text: &str, budget: usize, request: &ShapeRequest<'_>) -> Result<Shaped, ShapeFault> {
    let text = text::with_controls_shown(text);
    let room = (budget - budget / 50).saturating_sub(last_line::RESERVED);
    let pages = cut(&text, (room - room / 8).max(1));
    let count = pages.len();
    let at = request.page.checked_sub(1).filter(|at| *at < count);
    let at = at.ok_or(ShapeFault::NoSuchPage(count))?;
    let before: usize = pages.iter().take(at).map(|(_, lines)| lines).sum();
    let total = pages.iter().map(|(_, lines)| lines).sum();
    let (mut shown_text, shown) = pages.into_iter().nth(at).unwrap_or_default();
    if at == 0 {
        let rest = text.get(shown_text.len()..).unwrap_or_default();
        let elsewhere = elsewhere(rest, shown, request.prompt, room / 8);
        shown_text.insert_str(0, &elsewhere);
    }
    let next = (at + 1 < count).then_some(at + 2);
    let page = ShapedPage { shown, total, next };
    let line = match next {
        None if count == 1 => String::new(),
        _ => last_line::of((before, page, Unit::Lines), false, request),
    };
    if !line.is_empty() && !shown_text.ends_with('\n') {
        shown_text.push('\n');
    }
    shown_text.push_str(&line);
    Ok(Shaped {
        text: shown_text,
        data: None,
        page: (count > 1).then_some(page),
        cut: 0,
    })
}

/// Pages of at most so many tokens, each with the number of lines that begin on it. One after the other
/// they are the text.
pub(super) fn cut(text: &str, capacity: usize) -> Vec<(String, usize)> {
    let capacity = (capacity.max(1) as u64) * 100;
    let mut pages = Vec::new();
    let (mut page, mut lines, mut used) = (String::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let mut is_begin = true;
        for piece in pieces(line, capacity) {
            let cost = cost(piece);
            if used + cost > capacity && !page.is_empty() {
                pages.push((std::mem::take(&mut page), lines));
                (lines, used) = (0, 0);
            }
            page.push_str(piece);
            lines += usize::from(std::mem::take(&mut is_begin));
            used += cost;
        }
    }
    pages.push((page, lines));
    pages
}

fn cost(text: &str) -> u64 {
    let mut count = Counter::default();
    count.add(text);
    count.hundredths()
}

/// A line in pieces that fit a page, cut behind blanks where it has some.
fn pieces(line: &str, capacity: u64) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut from, mut blank) = (0, 0);
    let mut count = Counter::default();
    let mut marked = 0;
    for (at, character) in line.char_indices() {
        let mut buffer = [0; 4];
        count.add(character.encode_utf8(&mut buffer));
        if count.hundredths() - marked > capacity && at > from {
            let end = if blank > from { blank } else { at };
            pieces.push(line.get(from..end).unwrap_or_default());
            from = end;
            // What stands behind the blank counts for the next piece.
            marked = count.hundredths() - cost(line.get(end..at + character.len_utf8()).unwrap_or_default());
        }
        if character == ' ' {
            blank = at + 1;
        }
    }
    pieces.push(line.get(from..).unwrap_or_default());
    pieces
}

/// Lines of other pages that share words with the prompt, with their numbers.
fn elsewhere(rest: &str, before: usize, prompt: &str, room: usize) -> String {
    let terms = Terms::of(prompt);
    if terms.is_empty() {
        return String::new();
    }
    let lines = rest.lines().enumerate();
    let mut scored: Vec<(usize, usize, &str)> = lines
        .map(|(at, line)| (terms.score(line), at, line))
        .filter(|(score, ..)| *score > 0)
        .collect();
    scored.sort_by_key(|(score, at, _)| (std::cmp::Reverse(*score), *at));
    scored.truncate(ELSEWHERE);
    scored.sort_by_key(|(_, at, _)| *at);
    let mut shown = String::from("Lines of other pages that share words with the prompt:\n");
    let mut has_some = false;
    for (_, at, line) in scored {
        let line = format!("{}: {}\n", before + at + 1, text::clipped(line, LINE));
        if cost(&shown) + cost(&line) < (room as u64) * 100 {
            shown.push_str(&line);
            has_some = true;
        }
    }
    match has_some {
        true => format!("{shown}This page:\n"),
        false => String::new(),
    }
}
