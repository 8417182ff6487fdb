//! Pages of plain text: logs, Markdown, source code. Cut at lines, a longer line between words.

use pleiades_core::tokens;

use super::{ShapeFault, ShapeRequest, Shaped, ShapedPage};

/// Tokens that are left for the last line of a page.
const LAST_LINE: usize = 60;

pub(super) fn page(text: &str, budget: usize, request: &ShapeRequest<'_>) -> Result<Shaped, ShapeFault> {
    let capacity = budget.saturating_sub(LAST_LINE).max(1);
    let mut pages: Vec<(String, usize)> = Vec::new();
    let (mut page, mut lines, mut count) = (String::new(), 0, tokens::Counter::default());
    for line in text.split_inclusive('\n') {
        let mut with = count;
        with.add(line);
        if with.tokens() > capacity && lines > 0 {
            pages.push((std::mem::take(&mut page), lines));
            (lines, with) = (0, tokens::Counter::default());
            with.add(line);
        }
        page.push_str(line);
        lines += 1;
        count = with;
    }
    pages.push((page, lines));
    let total = pages.iter().map(|(_, lines)| lines).sum();
    let count = pages.len();
    let at = request.page.checked_sub(1).filter(|at| *at < count);
    let at = at.ok_or(ShapeFault::NoSuchPage(count))?;
    let (text, shown) = pages.swap_remove(at);
    let next = (at + 1 < count).then_some(at + 2);
    let cut = tokens::estimate(&text);
    Ok(Shaped {
        text,
        data: None,
        page: Some(ShapedPage { shown, total, next }),
        cut,
    })
}
