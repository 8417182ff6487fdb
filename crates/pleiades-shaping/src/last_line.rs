//! The last line of a page: how much of the result it is, and the call that shows the rest.

use serde_json::json;

use super::slices::Unit;
use super::{ShapeRequest, ShapedPage};

/// Tokens that are left for it, and for a sentence before it.
pub(super) const RESERVED: usize = 90;

pub(super) fn of(
    (before, page, unit): (usize, ShapedPage, Unit),
    is_whole: bool,
    request: &ShapeRequest<'_>,
) -> String {
    let ShapedPage { shown, total, next } = page;
    let unit = match unit {
        Unit::Items => "items",
        Unit::Characters => "characters",
        Unit::Lines => "lines",
    };
    if is_whole {
        return String::new();
    }
    let shown = match (before, shown) {
        (_, 0) => format!("a part of {total} {unit} shown"),
        (0, shown) => format!("{shown} of {total} {unit} shown"),
        (before, 1) => format!("{} of {total} {unit} shown", ordinal(unit, before + 1)),
        (before, shown) => format!("{unit} {} to {} of {total} shown", before + 1, before + shown),
    };
    let Some(handle) = request.handle else {
        return match next {
            Some(_) => format!("{shown}; the rest is left out: ask for less, or in parts"),
            None => shown,
        };
    };
    let mut options = json!({ "result": handle.id });
    if let Some(members) = options.as_object_mut() {
        if let Some(select) = request.select {
            members.insert("select".to_owned(), select.into());
        }
        if let Some(next) = next {
            members.insert("page".to_owned(), next.into());
        }
    }
    let call = match handle.provider {
        Some(provider) => json!({ "provider": provider, "options": options }),
        None => json!({ "options": options }),
    };
    let kept = kept(handle.kept_for.as_secs());
    match (next, request.select) {
        (Some(_), _) => format!("{shown}; more: {call} ({kept})"),
        (None, None) => format!("{shown}; a value as a whole: add \"select\" to {call} ({kept})"),
        (None, Some(_)) => format!("{shown}; this is the last page ({kept})"),
    }
}

fn ordinal(unit: &str, number: usize) -> String {
    format!("{} {number}", unit.trim_end_matches('s'))
}

fn kept(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("kept for {seconds} s"),
        _ => format!("kept for {} min", seconds / 60),
    }
}
