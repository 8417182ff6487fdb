//! A server at a URL: its transport, its headers, its key.

use super::address::{address, scheme};
use super::pairs;
use super::rewrite::{FieldContext, Rewriter};
use super::secret::{is_secret, is_secret_name, password};
use super::transport::{Key, ServerTransport};
use super::tree::{DocumentNode, shown};
use pleiades_descriptor::reader::{forbidden_outward, is_secret_header};

pub(super) fn read(
    id: &str,
    node: &DocumentNode,
    (key, raw): (&str, &str),
    kind: Option<&str>,
    words: &mut Rewriter<'_>,
) -> Result<(ServerTransport, Option<Key>), String> {
    if password(raw).is_some() {
        return Err(format!(
            "`{key}` holds credentials: take them out, and give them as a header"
        ));
    }
    let is_sse = match kind {
        Some("sse") => true,
        Some("http" | "streamable-http" | "streamable_http" | "streamablehttp" | "remote") => false,
        None => {
            let path = raw.split(['?', '#']).next().unwrap_or_default();
            path.trim_end_matches('/').ends_with("/sse")
        }
        Some(other) => return Err(format!("its type `{}` is not spoken here", shown(other))),
    };
    let url = address(raw, FieldContext::new(id, "URL", key), words)?;
    let (headers, key) = headers(id, node, words)?;
    Ok((ServerTransport::Url { url, is_sse, headers }, key))
}

type Headers = Vec<(String, String)>;

/// `Authorization`, else the first header that is a secret, becomes the key; the others stay.
fn headers(
    id: &str,
    node: &DocumentNode,
    words: &mut Rewriter<'_>,
) -> Result<(Headers, Option<Key>), String> {
    let pairs = all_headers(node, words);
    let is_key = |name: &str| name.eq_ignore_ascii_case("authorization");
    let carrier = pairs.iter().position(|(name, _)| is_key(name)).or_else(|| {
        pairs
            .iter()
            .position(|(name, _)| is_secret_header(name) || is_secret_name(name))
    });
    let (mut headers, mut key) = (Vec::new(), None);
    for (index, (name, value)) in pairs.iter().enumerate() {
        let field = format!("headers.{}", shown(name));
        let lower = name.to_ascii_lowercase();
        if forbidden_outward(name).is_some() || lower == "accept" || lower == "content-type" {
            words
                .notes
                .push(format!("`{field}` was left out: the gateway makes it itself"));
            continue;
        }
        let Some(value) = value else {
            words.lost.push(format!("`{field}` is no text"));
            continue;
        };
        if carrier == Some(index) {
            key = Some(key_of(id, name, &field, value, words)?);
            continue;
        }
        let place = FieldContext::new(id, name, &field);
        let is_own = |value: &str| is_secret_header(name) || is_secret(name, value);
        headers.push((name.clone(), words.guarded(value, place, is_own)?));
    }
    Ok((headers, key))
}

/// Headers as clients spell them; Codex names variables instead of values.
fn all_headers(node: &DocumentNode, words: &mut Rewriter<'_>) -> Vec<pairs::Pair> {
    let options = node
        .get("requestOptions")
        .and_then(|options| options.get("headers"));
    let given = [
        ("headers", node.get("headers")),
        ("http_headers", node.get("http_headers")),
        ("requestOptions.headers", options),
    ];
    let mut all = Vec::new();
    for (key, given) in given {
        match given.map(|given| pairs::read(given, ':')) {
            None => {}
            Some(Some(pairs)) => all.extend(pairs),
            Some(None) => words
                .lost
                .push(format!("`{key}` has a form that is not known here")),
        }
    }
    let variable = |name: &str| format!("${{{name}}}");
    let named = node.get("env_http_headers").map(DocumentNode::members);
    for member in named.unwrap_or_default() {
        let value = member.value.scalar().map(|name| variable(&name));
        all.push((member.key.clone(), value));
    }
    if let Some(name) = node.get("bearer_token_env_var").and_then(DocumentNode::scalar) {
        let value = format!("Bearer {}", variable(&name));
        all.push(("Authorization".to_owned(), Some(value)));
    }
    all
}

fn key_of(id: &str, header: &str, field: &str, value: &str, words: &mut Rewriter<'_>) -> Result<Key, String> {
    let is_authorization = header.eq_ignore_ascii_case("authorization");
    let bare = header.strip_prefix("x-").or_else(|| header.strip_prefix("X-"));
    let name = bare.unwrap_or(header);
    let scheme = is_authorization.then(|| scheme(value));
    let (prefix, rest) = scheme.unwrap_or(("", value));
    let own = format!("{id}_{}", if is_authorization { "TOKEN" } else { name });
    let value = words.guarded(rest.trim(), FieldContext::new(id, &own, field), |_| true)?;
    Ok(Key {
        header: header.to_owned(),
        prefix: prefix.to_owned(),
        value,
    })
}
