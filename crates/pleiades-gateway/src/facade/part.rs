//! The part of a provider's result that an answer holds, and the way to the rest.

use serde_json::{Map, Value, json};

use super::answer::{AnswerPage, AnswerStatus, MetaAnswer};
use super::blocks::{self, SortedBlocks};
use pleiades_mcp::{RawObject, raw};
use pleiades_shaping::{ShapeFault, ShapeHandle, ShapeRequest, ShapeSource, shape};

/// What is wanted of a result.
#[derive(Debug, Clone, Default)]
pub(crate) struct WantedPart {
    /// A JSON pointer into it, `*` for every element.
    pub(crate) select: Option<Box<str>>,
    /// Which page, from 1; 0 is the first too.
    pub(crate) page: usize,
    /// Without a cut.
    pub(crate) full: bool,
    /// What the caller is after, in its own words; may be empty.
    pub(crate) prompt: Box<str>,
}

impl WantedPart {
    /// The call that reads the next page of it.
    fn next_call(&self, handle: &ShapeHandle<'_>, page: usize) -> Value {
        let mut options = Map::new();
        options.insert("result".to_owned(), handle.id.into());
        if let Some(select) = &self.select {
            options.insert("select".to_owned(), (&**select).into());
        }
        options.insert("page".to_owned(), page.into());
        match handle.provider {
            Some(provider) => json!({ "provider": provider, "options": options }),
            None => json!({ "options": options }),
        }
    }
}

/// An answer with a part of a result, and the tokens that it leaves out. `head` has all that is not of the
/// result.
///
/// # Errors
/// When pointer or page hit nothing.
pub(crate) fn part(
    head: MetaAnswer,
    result: &RawObject,
    wanted: &WantedPart,
    request: ShapeRequest<'_>,
) -> Result<(MetaAnswer, usize), ShapeFault> {
    let SortedBlocks { texts, content } = blocks::sorted(result);
    let data = result
        .get("structuredContent")
        .filter(|data| data.get() != "null");
    let source = ShapeSource { texts: &texts, data };
    let shaped = shape(source, request)?;
    let mut answer = head;
    answer.text = shaped.text;
    answer.data = shaped.data;
    // Pictures and the like are no part of a part.
    if request.page == 1 && request.select.is_none() {
        answer.content = content;
    }
    if let Some(page) = shaped.page {
        answer.page = Some(AnswerPage {
            shown: page.shown,
            total: page.total,
            next: page.next,
        });
        if let (Some(handle), Some(next)) = (&request.handle, page.next) {
            answer.result_id = Some(handle.id.to_owned());
            answer.next = Some(raw::raw(&wanted.next_call(handle, next)));
        }
    }
    Ok((answer, shaped.cut))
}

/// A result of the tool view within a budget, and the tokens that it leaves out; `None` where it needs no cut,
/// or tells of a failure.
pub(crate) fn shortened(result: &RawObject, budget: usize) -> Option<(RawObject, usize)> {
    if blocks::is_error(result) {
        return None;
    }
    let SortedBlocks { texts, content } = blocks::sorted(result);
    let data = result
        .get("structuredContent")
        .filter(|data| data.get() != "null");
    let source = ShapeSource { texts: &texts, data };
    let request = ShapeRequest {
        budget: Some(budget),
        prompt: "",
        select: None,
        page: 1,
        sends_data: data.is_some(),
        handle: None,
    };
    let shaped = shape(source, request).ok().filter(|shaped| shaped.cut > 0)?;
    let text = json!({ "type": "text", "text": shaped.text });
    let blocks: Vec<_> = std::iter::once(raw::raw(&text)).chain(content).collect();
    let mut short = result.clone();
    short.put("content", &blocks);
    if let (Some(_), Some(data)) = (data, shaped.data) {
        short.set("structuredContent", data);
    }
    Some((short, shaped.cut))
}

/// The answer for a handle under which this caller finds nothing: the same whether it was never given, has
/// expired, or is of somebody else.
pub(crate) fn unknown_result() -> MetaAnswer {
    let text =
        "Nothing was run: there is no result of this id, or it has expired. Make the call itself again.";
    let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, text);
    answer.cause = Some("no such result".to_owned());
    answer
}

/// The answer to a reading that hits nothing of a result.
pub(crate) fn nothing_read(fault: &ShapeFault) -> MetaAnswer {
    let mut answer = MetaAnswer::new(
        AnswerStatus::InvalidArguments,
        format!("Nothing was run: {fault}."),
    );
    answer.cause = Some("a part that is not there".to_owned());
    answer
}

/// The answer to a call that ran, when what is wanted of its result is not there.
pub(crate) fn nothing_selected(fault: &ShapeFault, tool: &str, handle: Option<(&str, u64)>) -> MetaAnswer {
    let text = match handle {
        Some((id, seconds)) => format!(
            "`{tool}` was run; {fault}. Do not run it again: its whole result is kept for {}. Read it by \
             {{\"options\":{{\"result\":\"{id}\"}}}}.",
            span(seconds)
        ),
        None => format!("`{tool}` was run; {fault}. Its result is too large to be kept."),
    };
    let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, text);
    answer.cause = Some("a part that is not there".to_owned());
    if let Some((id, _)) = handle {
        answer.result_id = Some(id.to_owned());
        answer.next = Some(raw::raw(&json!({ "options": { "result": id } })));
    }
    answer
}

fn span(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (minutes @ 1.., 0) => format!("{minutes} min"),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pleiades_mcp::Revision;

    use super::*;

    const HANDLE: &str = "r_AAAAAAAAAAAAAAAAAAAAAA";

    fn result(json: &Value) -> RawObject {
        RawObject::open(&raw::raw(json)).unwrap()
    }

    fn written(answer: MetaAnswer) -> Value {
        let written = answer.into_result(Revision::V2025_11_25, "t-1");
        serde_json::from_str::<Value>(written.get()).unwrap()["structuredContent"].take()
    }

    fn lines(count: usize) -> RawObject {
        let text: Vec<String> = (0..count).map(|at| format!("line {at}")).collect();
        result(&json!({ "content": [
            { "type": "text", "text": text.join("\n") }, { "type": "image", "data": "x" } ] }))
    }

    fn made(page: usize, provider: Option<&str>) -> Value {
        let wanted = WantedPart::default();
        let handle = ShapeHandle {
            id: HANDLE,
            kept_for: Duration::from_secs(900),
            provider,
        };
        let request = ShapeRequest {
            budget: Some(200),
            prompt: "",
            select: None,
            page,
            sends_data: true,
            handle: Some(handle),
        };
        let head = MetaAnswer::new(AnswerStatus::Ok, "");
        let (answer, _) = part(head, &lines(400), &wanted, request).unwrap();
        assert_eq!(answer.content.len(), usize::from(page == 1), "pictures come once");
        written(answer)
    }

    #[test]
    fn a_part_names_its_page_its_handle_and_the_call_for_the_next() {
        let answer = made(1, None);
        assert_eq!(answer["resultId"], HANDLE);
        assert_eq!(answer["page"]["next"], 2);
        assert_eq!(
            answer["next"],
            json!({ "options": { "result": HANDLE, "page": 2 } })
        );
        let single = made(2, Some("mail"));
        assert_eq!(single["next"]["provider"], "mail");
        assert_eq!(single["next"]["options"]["page"], 3);
    }

    #[test]
    fn a_selected_part_is_read_on_with_its_pointer() {
        let wanted = WantedPart {
            select: Some("/items/*/id".into()),
            ..WantedPart::default()
        };
        let handle = ShapeHandle {
            id: HANDLE,
            kept_for: Duration::from_secs(900),
            provider: None,
        };
        let next = wanted.next_call(&handle, 2);
        assert_eq!(next["options"]["select"], "/items/*/id");
    }

    #[test]
    fn a_call_that_ran_says_so_when_nothing_is_selected_and_one_that_only_reads_that_nothing_was_run() {
        let fault = ShapeFault::NoData;
        let ran = nothing_selected(&fault, "send", Some((HANDLE, 900)));
        assert!(
            ran.text.starts_with("`send` was run; ") && ran.text.contains("kept for 15 min"),
            "{}",
            ran.text
        );
        assert_eq!(ran.status, AnswerStatus::InvalidArguments);
        let large = nothing_selected(&fault, "send", None);
        assert!(large.text.ends_with("too large to be kept."), "{}", large.text);
        assert!(nothing_read(&fault).text.starts_with("Nothing was run: "));
    }
}
