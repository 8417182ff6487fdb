//! URIs of resources wherever they stand in results, list entries, notifications and requests, and
//! the form that names their provider (reference: `mcp-spec.md` section 5.5).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RawObject, edit, translate::EntryKind};

/// Maps a URI to what it is replaced by; `None` leaves it.
pub type UriMap<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Hosts of MCP Apps take no other scheme for what they show, so these keep it.
const UI: &str = "ui://";
const NAMED: &str = "pleiades://";
const NAMED_UI: &str = "ui://pleiades/";
/// Keys of `_meta` whose value is the URI of what shows a tool; the first is nested as `ui.resourceUri`.
const SHOWN_BY: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// A URI or template that names its provider: `pleiades://{provider}/{uri}`, and
/// `ui://pleiades/{provider}/…` for `ui://…`. It can be read in every union, whoever shares it.
#[must_use]
pub fn namespaced(provider: &str, uri: &str) -> String {
    match uri.strip_prefix(UI) {
        Some(rest) => format!("{NAMED_UI}{provider}/{rest}"),
        None => format!("{NAMED}{provider}/{uri}"),
    }
}

/// Undoes [`namespaced`]: the provider and its own URI. Whether there is such a provider is for the
/// caller to see; without one the URI is an ordinary one.
#[must_use]
pub fn denamespaced(uri: &str) -> Option<(&str, Cow<'_, str>)> {
    if let Some(named) = uri.strip_prefix(NAMED_UI) {
        let (provider, rest) = named.split_once('/')?;
        return Some((provider, Cow::Owned(format!("{UI}{rest}"))));
    }
    let (provider, uri) = uri.strip_prefix(NAMED)?.split_once('/')?;
    Some((provider, Cow::Borrowed(uri)))
}

/// Rewrites the URIs of a result of `method`, or of the parameters of a notification. Whatever holds
/// no URI to change keeps its bytes. Says whether anything changed.
pub fn rewrite(method: &str, of: &mut RawObject, map: UriMap<'_>) -> bool {
    match method {
        "tools/call" | "tasks/result" => {
            // Both, so no short circuit.
            blocks(of, map) | ui_uris(of, map)
        }
        "tasks/get" => edit::member(of, "result", |it| rewrite("tools/call", it, map)),
        "prompts/get" => edit::elements(of, "messages", |it| blocks(it, map)),
        "resources/read" => {
            let wanted = |value: &RawValue| {
                serde_json::from_str::<Located<'_>>(value.get()).map_or(true, |it| map(&it.uri).is_some())
            };
            edit::chosen(of, "contents", wanted, |it| text(it, "uri", map))
        }
        "tools/list" => edit::elements(of, "tools", |it| entry(EntryKind::Tool, it, map)),
        "resources/list" => edit::elements(of, "resources", |it| entry(EntryKind::Resource, it, map)),
        "resources/templates/list" => {
            edit::elements(of, "resourceTemplates", |it| entry(EntryKind::Template, it, map))
        }
        "notifications/resources/updated" => text(of, "uri", map),
        _ => false,
    }
}

/// Rewrites the URIs of one list entry.
pub fn entry(kind: EntryKind, of: &mut RawObject, map: UriMap<'_>) -> bool {
    match kind {
        EntryKind::Tool => ui_uris(of, map),
        EntryKind::Resource => text(of, "uri", map),
        EntryKind::Template => text(of, "uriTemplate", map),
        EntryKind::Prompt => false,
    }
}

/// Rewrites the URIs of a request's parameters, for the way to a provider.
pub fn request(method: &str, params: &mut RawObject, map: UriMap<'_>) -> bool {
    match method {
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => text(params, "uri", map),
        "completion/complete" => edit::member(params, "ref", |it| text(it, "uri", map)),
        "subscriptions/listen" => edit::member(params, "notifications", |it| {
            let Some(uris) = it.read::<Vec<String>>("resourceSubscriptions") else {
                return false;
            };
            let mapped: Vec<Option<String>> = uris.iter().map(|uri| map(uri)).collect();
            let changed = mapped.iter().any(Option::is_some);
            if changed {
                let uris: Vec<String> = uris
                    .into_iter()
                    .zip(mapped)
                    .map(|(old, new)| new.unwrap_or(old))
                    .collect();
                it.put("resourceSubscriptions", &uris);
            }
            changed
        }),
        _ => false,
    }
}

/// Links and embedded resources among content blocks.
fn blocks(of: &mut RawObject, map: UriMap<'_>) -> bool {
    // What cannot be peeked into, such as a key that comes twice, is looked at whole.
    let wanted = |value: &RawValue| {
        serde_json::from_str::<BlockUri<'_>>(value.get())
            .map_or(true, |block| block.uri().is_some_and(|uri| map(uri).is_some()))
    };
    edit::chosen(of, "content", wanted, |block| {
        match block.text("type").as_deref() {
            Some("resource") => edit::member(block, "resource", |it| text(it, "uri", map)),
            Some("resource_link") => text(block, "uri", map),
            _ => false,
        }
    })
}

fn ui_uris(of: &mut RawObject, map: UriMap<'_>) -> bool {
    edit::member(of, "_meta", |meta| {
        let nested = edit::member(meta, "ui", |ui| text(ui, "resourceUri", map));
        SHOWN_BY
            .iter()
            .fold(nested, |changed, key| text(meta, key, map) | changed)
    })
}

/// A member that is a URI.
fn text(of: &mut RawObject, key: &str, map: UriMap<'_>) -> bool {
    let Some(mapped) = of.text(key).and_then(|uri| map(&uri)) else {
        return false;
    };
    of.put(key, &mapped);
    true
}

#[derive(Deserialize)]
struct Located<'a> {
    #[serde(borrow)]
    uri: Cow<'a, str>,
}

#[derive(Deserialize)]
struct BlockUri<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource: Option<Located<'a>>,
}

impl BlockUri<'_> {
    fn uri(&self) -> Option<&str> {
        match &*self.kind {
            "resource_link" => self.uri.as_deref(),
            "resource" => self.resource.as_ref().map(|it| &*it.uri),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(uri: &str) -> Option<String> {
        uri.starts_with("a://").then(|| namespaced("p", uri))
    }

    fn rewritten(method: &str, text: &str) -> String {
        let mut object = serde_json::from_str(text).unwrap();
        let changed = rewrite(method, &mut object, &map);
        let after = object.close().get().to_owned();
        assert_eq!(changed, after.contains("pleiades://"), "{method}");
        after
    }

    #[test]
    fn links_and_embedded_resources_are_rewritten_and_every_other_byte_stays() {
        let result = r#"{"x":1.0,"content":[{"type":"text", "text":"a://1 \u0041"},{"type":"resource_link","uri":"a://1","x":[ 1 ]},{"type":"resource","resource":{"uri":"a://2","blob":"AA=="},"annotations":{ }},{"type":"resource_link","uri":"b://1"},7],"structuredContent":{"uri":"a://1"}}"#;
        let expected = r#"{"x":1.0,"content":[{"type":"text", "text":"a://1 \u0041"},{"type":"resource_link","uri":"pleiades://p/a://1","x":[ 1 ]},{"type":"resource","resource":{"uri":"pleiades://p/a://2","blob":"AA=="},"annotations":{ }},{"type":"resource_link","uri":"b://1"},7],"structuredContent":{"uri":"a://1"}}"#;
        for method in ["tools/call", "tasks/result"] {
            assert_eq!(rewritten(method, result), expected);
        }
        assert_eq!(
            rewritten("tasks/get", &format!(r#"{{"taskId":"t","result":{result}}}"#)),
            format!(r#"{{"taskId":"t","result":{expected}}}"#)
        );
    }

    #[test]
    fn prompts_resources_and_notifications_are_rewritten() {
        let cases = [
            (
                "prompts/get",
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a://1"}}}]}"#,
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"pleiades://p/a://1"}}}]}"#,
            ),
            (
                "resources/read",
                r#"{"contents":[{"uri":"a://1","blob":""},{"uri":"b://1"}]}"#,
                r#"{"contents":[{"uri":"pleiades://p/a://1","blob":""},{"uri":"b://1"}]}"#,
            ),
            (
                "notifications/resources/updated",
                r#"{"uri":"a://1","x":0}"#,
                r#"{"uri":"pleiades://p/a://1","x":0}"#,
            ),
            (
                "resources/list",
                r#"{"resources":[{"uri":"a://1"}]}"#,
                r#"{"resources":[{"uri":"pleiades://p/a://1"}]}"#,
            ),
            (
                "resources/templates/list",
                r#"{"resourceTemplates":[{"uriTemplate":"a://{x}"}]}"#,
                r#"{"resourceTemplates":[{"uriTemplate":"pleiades://p/a://{x}"}]}"#,
            ),
        ];
        for (method, before, after) in cases {
            assert_eq!(rewritten(method, before), after);
        }
    }

    #[test]
    fn what_shows_a_tool_is_rewritten_in_lists_and_results() {
        let meta = r#"{"_meta":{"ui":{"resourceUri":"a://1","csp":{ }},"ui/resourceUri":"a://2","openai/outputTemplate":"a://3","own":1.0}}"#;
        let after = r#"{"_meta":{"ui":{"resourceUri":"pleiades://p/a://1","csp":{ }},"ui/resourceUri":"pleiades://p/a://2","openai/outputTemplate":"pleiades://p/a://3","own":1.0}}"#;
        assert_eq!(rewritten("tools/call", meta), after);
        assert_eq!(
            rewritten("tools/list", &format!(r#"{{"tools":[{meta}]}}"#)),
            format!(r#"{{"tools":[{after}]}}"#)
        );
    }

    #[test]
    fn what_is_of_another_shape_is_left_alone() {
        for text in [
            r#"{"content":"a://1"}"#,
            r#"{"content":[{"type":"resource_link","uri":1},{"type":"resource","resource":"a://1"}],"_meta":[]}"#,
            r#"{"_meta":{"ui":"a://1"}}"#,
            r#"{"content":[{"type":1,"uri":"a://1"},{"uri":"a://1"},{"type":"image","uri":"a://1"}]}"#,
        ] {
            for method in [
                "tools/call",
                "prompts/get",
                "resources/read",
                "completion/complete",
            ] {
                assert_eq!(rewritten(method, text), text);
            }
        }
    }

    #[test]
    fn a_uri_that_stands_there_twice_is_not_missed() {
        let twice = r#"{"content":[{"type":"resource_link","uri":"b://1","uri":"a://1"}]}"#;
        assert!(rewritten("tools/call", twice).contains(r#""uri":"pleiades://p/a://1""#));
    }

    #[test]
    fn requests_are_rewritten_the_other_way() {
        let back = |uri: &str| denamespaced(uri).map(|(_, uri)| uri.into_owned());
        let cases = [
            (
                "resources/read",
                r#"{"uri":"pleiades://p/a://1"}"#,
                r#"{"uri":"a://1"}"#,
            ),
            (
                "resources/subscribe",
                r#"{"uri":"pleiades://p/a://1"}"#,
                r#"{"uri":"a://1"}"#,
            ),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/resource","uri":"pleiades://p/a://{x}"},"argument":{}}"#,
                r#"{"ref":{"type":"ref/resource","uri":"a://{x}"},"argument":{}}"#,
            ),
            (
                "subscriptions/listen",
                r#"{"notifications":{"resourceSubscriptions":["pleiades://p/a://1","b://1"]}}"#,
                r#"{"notifications":{"resourceSubscriptions":["a://1","b://1"]}}"#,
            ),
        ];
        for (method, before, after) in cases {
            let mut params = serde_json::from_str(before).unwrap();
            assert!(request(method, &mut params, &back));
            assert_eq!(params.close().get(), after);
            assert!(!request(method, &mut params, &back));
        }
    }

    #[test]
    fn a_named_uri_gives_back_its_provider_and_itself() {
        for uri in [
            "a://b/c?d#e",
            "urn:x:y",
            "ui://app/page.html",
            "pleiades://q/a://1",
            "ui://pleiades/q/x",
            "",
        ] {
            let named = namespaced("p", uri);
            let (provider, inner) = denamespaced(&named).unwrap();
            assert_eq!((provider, &*inner), ("p", uri));
            assert_eq!(named.starts_with(UI), uri.starts_with(UI));
        }
        for plain in ["a://b", "ui://app/page.html", "pleiades://p", "ui://pleiades/p"] {
            assert!(denamespaced(plain).is_none(), "{plain}");
        }
    }
}
