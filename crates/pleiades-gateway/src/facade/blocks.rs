//! The blocks of a provider's result as they arrive in practice. What is there and is no block of
//! MCP becomes text, so that it is never read as nothing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use pleiades_mcp::{Raw, RawObject, raw};

/// Repairs the outer shape of a result so that strict clients read it: `isError` a
/// boolean, `content` a list. All else stays as it came.
pub fn repair_result(result: &mut RawObject) {
    let is_word = |value: &RawValue| matches!(value.get(), "true" | "false");
    if result.get("isError").is_some_and(|value| !is_word(value)) {
        let failed = is_error(result);
        result.put("isError", &failed);
    }
    let Some(content) = result
        .get("content")
        .filter(|content| !content.get().starts_with('['))
    else {
        return;
    };
    let is_block = content.get().starts_with('{') && serde_json::from_str::<Typed<'_>>(content.get()).is_ok();
    let content = match (is_block, sorted(result).texts.first()) {
        (true, _) => raw::raw(&[content]),
        (false, Some(text)) => raw::raw(&serde_json::json!([{ "type": "text", "text": text }])),
        (false, None) => raw::raw(&serde_json::json!([])),
    };
    result.set("content", content);
}

/// A block with a `type`.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    _kind: Cow<'a, str>,
}

/// Texts, and the blocks that are none.
#[derive(Debug, Default)]
pub(super) struct SortedBlocks<'a> {
    pub(super) texts: Vec<Cow<'a, str>>,
    pub(super) content: Vec<Raw>,
}

/// Whether a result is that of a failed call. An `isError` that is no boolean and no word for one means
/// a failure: nobody writes it beside a success.
pub(super) fn is_error(result: &RawObject) -> bool {
    let Some(value) = result.get("isError") else {
        return false;
    };
    let word = raw::text(value).unwrap_or(Cow::Borrowed(value.get()));
    let word = word.trim().to_ascii_lowercase();
    !matches!(word.as_str(), "false" | "null" | "0" | "no" | "")
}

pub(super) fn sorted(result: &RawObject) -> SortedBlocks<'_> {
    let mut sorted = SortedBlocks::default();
    let Some(content) = result.get("content") else {
        return sorted;
    };
    match serde_json::from_str::<Vec<&RawValue>>(content.get()) {
        Ok(blocks) => blocks.into_iter().for_each(|block| sorted.take(block)),
        // One block without its list, or a text.
        Err(_) => sorted.take(content),
    }
    sorted
}

impl<'a> SortedBlocks<'a> {
    fn take(&mut self, block: &'a RawValue) {
        if block.get() == "null" {
            return;
        }
        if let Some(text) = raw::text(block) {
            self.texts.push(text);
            return;
        }
        match serde_json::from_str::<ContentBlock<'_>>(block.get()) {
            Ok(read) if read.is_text() => self.texts.extend(read.value()),
            Ok(read) if read.is_whole() => self.content.push(block.to_owned()),
            _ => self.texts.push(Cow::Borrowed(block.get())),
        }
    }
}

#[derive(Deserialize)]
struct ContentBlock<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
}

impl<'a> ContentBlock<'a> {
    /// A block of text, also one that does not say so.
    fn is_text(&self) -> bool {
        match &self.kind {
            Some(kind) => kind == "text",
            None => self.text.is_some_and(is_string),
        }
    }

    fn value(&self) -> Option<Cow<'a, str>> {
        let text = self.text.filter(|text| text.get() != "null")?;
        Some(raw::text(text).unwrap_or(Cow::Borrowed(text.get())))
    }

    /// Whether it has what its kind cannot do without; kinds that came later are not known here.
    fn is_whole(&self) -> bool {
        match self.kind.as_deref() {
            Some("image" | "audio") => self.data.is_some_and(is_string),
            Some("resource_link") => self.uri.is_some_and(is_string),
            Some("resource") => self
                .resource
                .is_some_and(|resource| resource.get().starts_with('{')),
            Some(_) => true,
            None => false,
        }
    }
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> RawObject {
        serde_json::from_str(json).expect("an object")
    }

    #[test]
    fn a_failure_is_one_however_it_is_spelled() {
        for (value, failed) in [
            ("true", true),
            ("\"true\"", true),
            ("\"True\"", true),
            ("1", true),
            ("\"failed\"", true),
            ("{}", true),
            ("false", false),
            ("\"false\"", false),
            ("0", false),
            ("null", false),
        ] {
            assert_eq!(
                is_error(&object(&format!(r#"{{"isError":{value}}}"#))),
                failed,
                "{value}"
            );
        }
        assert!(!is_error(&object("{}")));
    }

    #[test]
    fn the_outer_shape_of_a_result_is_repaired_and_nothing_else() {
        for (given, expected) in [
            (
                r#"{"content":"text","isError":"true"}"#,
                r#"{"content":[{"type":"text","text":"text"}],"isError":true}"#,
            ),
            (
                r#"{"content":{"type":"text","text":"a"}}"#,
                r#"{"content":[{"type":"text","text":"a"}]}"#,
            ),
            (
                r#"{"content":{"a":1}}"#,
                r#"{"content":[{"type":"text","text":"{\"a\":1}"}]}"#,
            ),
            (
                r#"{"content":null,"isError":0}"#,
                r#"{"content":[],"isError":false}"#,
            ),
            (
                r#"{"content":[ 5 ],"isError":false,"x":1.0}"#,
                r#"{"content":[ 5 ],"isError":false,"x":1.0}"#,
            ),
            (r#"{"x":1}"#, r#"{"x":1}"#),
        ] {
            let mut result = object(given);
            repair_result(&mut result);
            assert_eq!(result.close().get(), expected);
        }
    }

    #[test]
    fn content_of_any_shape_becomes_text() {
        for (content, texts) in [
            (r#""just text""#, vec!["just text"]),
            (r#"{"type":"text","text":"alone"}"#, vec!["alone"]),
            (
                r#"["a",{"text":"b"},{"type":"text","text":5},7]"#,
                vec!["a", "b", "5", "7"],
            ),
            (
                r#"[{"type":"text","text":{"a":1}},{"type":"text","text":null},null]"#,
                vec![r#"{"a":1}"#],
            ),
            (
                r#"[{"type":"image"},{"type":"resource_link","uri":5}]"#,
                vec![r#"{"type":"image"}"#, r#"{"type":"resource_link","uri":5}"#],
            ),
            (r#"[{"rows":[1]},[1]]"#, vec![r#"{"rows":[1]}"#, "[1]"]),
            (r#"{"rows":1}"#, vec![r#"{"rows":1}"#]),
            ("null", vec![]),
        ] {
            let result = object(&format!(r#"{{"content":{content}}}"#));
            assert_eq!(sorted(&result).texts, texts, "{content}");
            assert!(sorted(&result).content.is_empty());
        }
        let blocks = r#"[{"type":"image","data":"x"},{"type":"hologram"},{"type":"resource","resource":{"uri":"a://b"}}]"#;
        assert_eq!(
            sorted(&object(&format!(r#"{{"content":{blocks}}}"#)))
                .content
                .len(),
            3
        );
    }
}
