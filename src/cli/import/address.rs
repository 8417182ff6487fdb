//! URLs and headers: secret parts become variables.

use super::rewrite::{FieldContext, Rewriter};
use super::secret::{is_random, is_secret_name, is_uuid, looks_secret, password};

/// A name of the server's own.
pub(super) fn own(place: FieldContext<'_>, name: &str) -> String {
    format!("{}_{}", place.id, name.trim_start_matches('-'))
}

/// A URL without password, secret parameters, and parts of its path that only the owner knows.
pub(super) fn address(
    raw: &str,
    place: FieldContext<'_>,
    words: &mut Rewriter<'_>,
) -> Result<String, String> {
    if let Some((before, secret, after)) = password(raw) {
        let name = &own(place, "PASSWORD");
        let secret = words.guarded(secret, FieldContext { name, ..place }, |_| true)?;
        return Ok(format!(
            "{}{secret}{}",
            words.plain(before, place)?,
            address(after, place, words)?
        ));
    }
    let split_off = raw.split_once('?');
    let (path, query) = split_off.map_or((raw, None), |(path, query)| (path, Some(query)));
    let mut parts = Vec::new();
    for (index, part) in split(path).into_iter().enumerate() {
        // Scheme and host are no secret.
        let is_own = |part: &str| index > 2 && (is_random(part, 20) || is_uuid(part));
        let name = &own(place, "URL_PATH");
        parts.push(words.guarded(part, FieldContext { name, ..place }, is_own)?);
    }
    let mut url = parts.join("/");
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        let Some((name, value)) = pair.split_once('=') else {
            url.push_str(&words.guarded(pair, place, looks_secret)?);
            continue;
        };
        let is_own = |value: &str| is_secret_name(name) || looks_secret(value) || is_uuid(value);
        let own = &own(place, name);
        let value = words.guarded(value, FieldContext { name: own, ..place }, is_own)?;
        url.push_str(&format!("{name}={value}"));
    }
    Ok(url)
}

/// Parts between slashes, but for those within a reference.
fn split(path: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, char) in path.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' if depth == 0 => {
                parts.extend(path.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(path.get(begin..));
    parts
}

/// The scheme of a credential with the space behind it, and the credential.
pub(super) fn scheme(value: &str) -> (&str, &str) {
    let end = value.find(' ').map_or(0, |at| at + 1);
    let (scheme, rest) = value.split_at(end);
    let is_scheme = scheme.len() > 1 && scheme.trim_end().bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_scheme && looks_like_scheme(scheme.trim_end()) {
        (scheme, rest)
    } else {
        ("", value)
    }
}

fn looks_like_scheme(word: &str) -> bool {
    let known = [
        "bearer", "basic", "token", "apikey", "key", "digest", "bot", "oauth",
    ];
    known.iter().any(|known| word.eq_ignore_ascii_case(known))
}
