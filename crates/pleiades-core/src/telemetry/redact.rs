//! Removes secrets from the texts of others before they are logged.

use std::borrow::Cow;

/// A text whose URLs have lost what may be secret: credentials, query and fragment.
pub(super) fn without_queries(text: &str) -> Cow<'_, str> {
    if !text.contains(['?', '#', '@']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive([' ', '\n', '\t', '"', '`', '<', '>']) {
        // Brackets and commas may belong to a query, so they go with it.
        let body = piece.trim_end_matches([' ', '\n', '\t', '"', '`', '<', '>']);
        let end = piece.strip_prefix(body).unwrap_or_default();
        let query = if body.contains('/') {
            body.find(['?', '#'])
        } else {
            None
        };
        out.push_str(&without_userinfo(
            query.and_then(|at| body.get(..at)).unwrap_or(body),
        ));
        out.push_str(if query.is_some() { "…" } else { "" });
        out.push_str(end);
    }
    Cow::Owned(out)
}

fn without_userinfo(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Cow::Borrowed(url);
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let Some(at) = authority.rfind('@') else {
        return Cow::Borrowed(url);
    };
    Cow::Owned(format!("{scheme}://…{}", rest.get(at..).unwrap_or_default()))
}
