//! What a model reads of a result that is large: which fields, rows and pages, and how to get the rest.
//! Pure: no I/O, no clock, no store.

use std::{borrow::Cow, fmt, time::Duration};

use pleiades_core::tokens;
use serde_json::value::RawValue;

mod data;
mod json;
mod last_line;
mod lines;
mod noise;
mod select;
mod slices;
mod table;
mod terms;

/// A provider's result as it came: what is shaped, and what is kept so that pages can be made of it later.
#[derive(Debug, Clone, Copy)]
pub struct ShapeSource<'a> {
    /// Its text blocks in order.
    pub texts: &'a [Cow<'a, str>],
    /// Its `structuredContent`; `None` for `null`.
    pub data: Option<&'a RawValue>,
}

/// What is wanted of a result.
#[derive(Debug, Clone, Copy)]
pub struct ShapeRequest<'a> {
    /// Tokens that text and data may take together; `None` cuts nothing.
    pub budget: Option<usize>,
    /// What the caller is after, in its own words; may be empty. What shares words with it is shown first.
    pub prompt: &'a str,
    /// A JSON pointer (RFC 6901) into the data, `*` for every element.
    pub select: Option<&'a str>,
    /// Which page, from 1.
    pub page: usize,
    /// Whether the data are sent beside the text; else the text has the whole budget.
    pub sends_data: bool,
    /// How the rest can be had; `None`: it cannot.
    pub handle: Option<ShapeHandle<'a>>,
}

/// A handle under which the whole result is kept.
#[derive(Debug, Clone, Copy)]
pub struct ShapeHandle<'a> {
    /// `r_…`
    pub id: &'a str,
    /// How long it is kept from now on.
    pub kept_for: Duration,
    /// The provider that a call has to name, where one tool is for all of them.
    pub provider: Option<&'a str>,
}

/// A result as a model reads it.
#[derive(Debug, Clone)]
pub struct Shaped {
    /// In words; enough on its own.
    pub text: String,
    /// The data, or the slice of them that stands on this page, each value as the provider wrote it.
    pub data: Option<Box<RawValue>>,
    /// Which part it is; `None` when it is the whole, which then needs no handle.
    pub page: Option<ShapedPage>,
    /// Tokens of text and data that were not sent, by estimate.
    pub cut: usize,
}

/// Which part of a result a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapedPage {
    /// Items on this page: elements, members, lines or characters.
    pub shown: usize,
    /// Items of all pages.
    pub total: usize,
    /// The page after it.
    pub next: Option<usize>,
}

/// Why there is nothing to show. As a sentence it says what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShapeFault {
    /// There are only so many pages.
    NoSuchPage(usize),
    /// The pointer hits nothing; the pointer as far as it hits something.
    NothingSelected(String),
    /// The pointer is none.
    BadPointer,
    /// The result is plain text, which no pointer leads into.
    NoData,
}

impl fmt::Display for ShapeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPage(1) => f.write_str("there is only page 1"),
            Self::NoSuchPage(pages) => write!(f, "there are only pages 1 to {pages}"),
            Self::NothingSelected(prefix) if prefix.is_empty() => {
                f.write_str("`select` hits nothing: no such key or index at the top of the result")
            }
            Self::NothingSelected(prefix) => {
                write!(
                    f,
                    "`select` hits nothing: the result has nothing further below `{prefix}` by that name"
                )
            }
            Self::BadPointer => f.write_str(
                "`select` must be a JSON pointer: empty, or parts that begin with `/`, such as \
                 `/items/0/id` or `/items/*/id`",
            ),
            Self::NoData => f.write_str("`select` needs JSON, and this result is plain text: use `page`"),
        }
    }
}

/// What is shown of a result: all of it where it fits the budget, else one page.
///
/// Pages are the same for the same source, budget and `select`, whatever the prompt is: laid over each
/// other their data make up the whole.
///
/// # Errors
/// When page or pointer hit nothing.
pub fn shape(source: ShapeSource<'_>, request: ShapeRequest<'_>) -> Result<Shaped, ShapeFault> {
    let form = ResultForm::of(&source);
    if let Some(pointer) = request.select {
        let value = form.data.as_deref().ok_or(ShapeFault::NoData)?;
        let selected = select::select(value, pointer)?;
        return shape_selected(&selected, &request);
    }
    let given = source.texts.join("\n");
    let text = match (source.data, source.texts) {
        (Some(data), []) => data.get(),
        _ => &given,
    };
    let tokens = tokens::estimate(text) + source.data.map_or(0, |data| tokens::estimate(data.get()));
    let Some(budget) = request.budget.filter(|budget| tokens > *budget) else {
        return whole(text, source.data.map(ToOwned::to_owned), request.page);
    };
    let shaped = match form.data {
        Some(value) => data::page(&value, &form.text, budget, &request)?,
        None => lines::page(&given, budget, &request)?,
    };
    Ok(shaped.of(tokens))
}

/// Whether a result of so many bytes may take more tokens than this: below that nothing is looked at.
#[must_use]
pub const fn may_exceed(bytes: usize, budget: usize) -> bool {
    // No token is shorter than a byte.
    bytes > budget
}

fn shape_selected(selected: &str, request: &ShapeRequest<'_>) -> Result<Shaped, ShapeFault> {
    let tokens = 2 * tokens::estimate(selected);
    let Some(budget) = request.budget.filter(|budget| tokens > *budget) else {
        let data = RawValue::from_string(selected.to_owned()).ok();
        let text = match selected.starts_with('"') {
            true => json::decoded(selected),
            false => Cow::Borrowed(selected),
        };
        return whole(&text, data, request.page);
    };
    Ok(data::page(selected, "", budget, request)?.of(tokens))
}

fn whole(text: &str, data: Option<Box<RawValue>>, page: usize) -> Result<Shaped, ShapeFault> {
    match page {
        1 => Ok(Shaped {
            text: pleiades_core::text::with_controls_shown(text).into_owned(),
            data,
            page: None,
            cut: 0,
        }),
        _ => Err(ShapeFault::NoSuchPage(1)),
    }
}

impl Shaped {
    /// With what it leaves out of a result of so many tokens.
    fn of(self, tokens: usize) -> Self {
        let data = self.data.as_ref().map_or(0, |data| tokens::estimate(data.get()));
        Self {
            cut: tokens.saturating_sub(tokens::estimate(&self.text) + data),
            ..self
        }
    }
}

/// A result by what it holds: data, and text that says something else.
struct ResultForm<'a> {
    data: Option<Cow<'a, str>>,
    text: String,
}

/// Plain text beside data in text blocks up to which it stands at their head (bytes); with more of it all is
/// text.
const HEAD: usize = 2_048;

impl<'a> ResultForm<'a> {
    fn of(source: &ShapeSource<'a>) -> Self {
        let plain = |text| Self { data: None, text };
        if let Some(data) = source.data {
            let data = json::compact(data.get());
            let text = match is_copy(source.texts, &data) {
                true => String::new(),
                false => source.texts.join("\n"),
            };
            return Self {
                data: Some(data),
                text,
            };
        }
        let containers: Vec<Option<&'a str>> =
            source.texts.iter().map(|text| json::container(text)).collect();
        let values: Vec<&'a str> = containers.iter().copied().flatten().collect();
        let others = source
            .texts
            .iter()
            .zip(&containers)
            .filter(|(_, it)| it.is_none());
        let others: Vec<&str> = others.map(|(text, _)| text.as_ref()).collect();
        let data = match values.as_slice() {
            [] => return plain(source.texts.join("\n")),
            [one] => json::compact(one),
            many => {
                let compact: Vec<_> = many.iter().map(|value| json::compact(value)).collect();
                Cow::Owned(format!("[{}]", compact.join(",")))
            }
        };
        match others.join("\n") {
            others if others.len() > HEAD => plain(source.texts.join("\n")),
            others => Self {
                data: Some(data),
                text: others,
            },
        }
    }
}

/// Whether texts say again what the data say: as JSON in one block, or element by element, also where an
/// SDK has put a list into an object of one member.
fn is_copy(texts: &[Cow<'_, str>], data: &str) -> bool {
    let inner = json::children(data)
        .next()
        .filter(|it| it.key.is_some())
        .map(|it| it.value);
    let candidates = [Some(data), inner.filter(|_| json::children(data).count() == 1)];
    candidates.into_iter().flatten().any(|value| match texts {
        [] => true,
        [text] if is_text_of(text, value) => true,
        _ => {
            let mut elements = json::children(value);
            let are_same = texts
                .iter()
                .all(|text| elements.next().is_some_and(|it| is_text_of(text, it.value)));
            value.starts_with('[') && are_same && elements.next().is_none()
        }
    })
}

fn is_text_of(text: &str, value: &str) -> bool {
    match json::container(text) {
        Some(container) => json::is_same(&json::compact(container), value),
        None => json::decoded(value) == text,
    }
}

#[cfg(test)]
mod tests;
