//! What a model reads of a result that is large: which fields, rows and pages, and how to get the rest.
//! Pure: no I/O, no clock, no store.

use std::{borrow::Cow, fmt, time::Duration};

use pleiades_core::tokens;
use serde_json::value::RawValue;

mod lines;

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
/// Pages are the same for the same source, budget and `select`, whatever the prompt is: one after the
/// other their data make up the whole.
///
/// # Errors
/// When page or pointer hit nothing.
pub fn shape(source: ShapeSource<'_>, request: ShapeRequest<'_>) -> Result<Shaped, ShapeFault> {
    let text = source.texts.join("\n");
    let tokens = tokens::estimate(&text) + source.data.map_or(0, |data| tokens::estimate(data.get()));
    let Some(budget) = request.budget.filter(|budget| tokens > *budget) else {
        return match request.page {
            1 => Ok(Shaped {
                text,
                data: source.data.map(ToOwned::to_owned),
                page: None,
                cut: 0,
            }),
            _ => Err(ShapeFault::NoSuchPage(1)),
        };
    };
    lines::page(&text, budget, &request)
}

/// Whether a result of so many bytes may take more tokens than this: below that nothing is looked at.
#[must_use]
pub const fn may_exceed(bytes: usize, budget: usize) -> bool {
    // No token is shorter than a byte.
    bytes > budget
}
