//! What says nothing to a model and is left out of the text of a large result: empty fields, avatars,
//! links that only programs follow, ids of another API. Data, pages and `select` leave out nothing.

use super::json;

/// Names whose values are pictures of people, or ids and links of an API that a model does not call.
const NAMES: [&str; 10] = [
    "node_id",
    "gravatar_id",
    "_links",
    "etag",
    "__typename",
    "self",
    "profile_image_url",
    "icon_url",
    "thumbnail_url",
    "iconurl",
];

/// Whether a member is left out of text. `is_link`: it is the one link of its row that a person follows.
pub(super) fn is_noise(key: &str, value: &str, is_link: bool) -> bool {
    if is_empty(value) {
        return true;
    }
    let name = key.to_ascii_lowercase();
    if name.contains("avatar") || NAMES.contains(&name.as_str()) {
        return true;
    }
    !is_link && is_api_link(value)
}

/// Whether a value is no value: null, or nothing between quotes or brackets.
pub(super) fn is_empty(value: &str) -> bool {
    matches!(value, "null" | "\"\"" | "[]" | "{}")
}

/// An address of the provider's API, or a pattern of one.
fn is_api_link(value: &str) -> bool {
    let Some((host, path)) = address(value) else {
        return false;
    };
    let is_api = |part: &str| part.split(['/', '.', '-']).any(|word| word == "api");
    is_api(host) || path.starts_with("api/") || path.contains("/api/") || path.contains('{')
}

fn address(value: &str) -> Option<(&str, &str)> {
    let rest = value.strip_prefix("\"http")?;
    let rest = rest.strip_prefix("s://").or_else(|| rest.strip_prefix("://"))?;
    let rest = rest.strip_suffix('"')?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// Names of links for people, the best first.
const LINKS: [&str; 12] = [
    "html_url",
    "web_url",
    "permalink",
    "permalink_url",
    "webviewlink",
    "weburl",
    "htmlurl",
    "url",
    "link",
    "href",
    "uri",
    "webpage",
];

/// The key of the one link of an object that a person would follow, as it is written.
pub(super) fn web_link(object: &str) -> Option<&str> {
    let rank = |child: &json::Child<'_>| {
        address(child.value)?;
        let name = child.key?.trim_matches('"').to_ascii_lowercase();
        let named = LINKS.iter().position(|link| *link == name);
        let ends = name.ends_with("url") || name.ends_with("link");
        let rank = named.or_else(|| ends.then_some(LINKS.len()))?;
        let is_api = is_api_link(child.value) || name.contains("avatar");
        Some(rank + if is_api { 100 } else { 0 })
    };
    let ranked = json::children(object).filter_map(|child| Some((rank(&child)?, child.key?)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, key)| key)
}

/// Whether a field is shown in full however long: errors, and what a thing is called by.
pub(super) fn is_vital(key: &str) -> bool {
    let name = key.to_ascii_lowercase();
    let last = name.rsplit(['.', '_', '-']).next().unwrap_or(&name);
    let is_id = matches!(
        last,
        "id" | "iid" | "uuid" | "guid" | "key" | "number" | "sha" | "slug" | "ref"
    ) || key.ends_with("Id")
        || key.ends_with("ID")
        || key.ends_with("Key");
    is_id || name.contains("error") || name.contains("exception") || name.contains("fault")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_avatars_and_links_of_an_api_are_noise_and_nothing_else() {
        for (key, value) in [
            ("body", "null"),
            ("labels", "[]"),
            ("avatar_url", "\"https://x.example/a.png\""),
            ("node_id", "\"MDU6\""),
            ("url", "\"https://api.github.com/repos/a/b/issues/1\""),
            ("labels_url", "\"https://api.github.com/repos/a/b{/name}\""),
            ("href", "\"https://sentry.example/api/0/issues/1/\""),
        ] {
            assert!(is_noise(key, value, false), "{key}");
        }
        for (key, value) in [
            ("count", "0"),
            ("ok", "false"),
            ("url", "\"https://github.com/a/b/issues/1\""),
            ("homepage", "\"https://apiary.example/x\""),
            ("title", "\"null\""),
        ] {
            assert!(!is_noise(key, value, false), "{key}");
        }
    }

    #[test]
    fn one_link_for_people_is_found_and_an_api_link_only_where_there_is_no_other() {
        let row = r#"{"url":"https://api.x.example/1","avatar_url":"https://a.example/i.png","html_url":"https://x.example/1"}"#;
        assert_eq!(web_link(row), Some("\"html_url\""));
        assert_eq!(
            web_link(r#"{"id":1,"url":"https://api.x.example/1"}"#),
            Some("\"url\"")
        );
        assert_eq!(web_link(r#"{"id":1,"url":5}"#), None);
    }

    #[test]
    fn ids_and_errors_are_vital() {
        for key in [
            "id",
            "user.id",
            "issue_id",
            "nodeId",
            "number",
            "sha",
            "errorMessage",
            "last_error",
            "key",
        ] {
            assert!(is_vital(key), "{key}");
        }
        for key in ["body", "title", "idea", "monkey", "description"] {
            assert!(!is_vital(key), "{key}");
        }
    }
}
