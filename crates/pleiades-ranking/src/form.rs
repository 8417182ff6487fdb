//! What the form of a written word tells: that it is an id or an address, and of what.

/// Longest word whose form is looked at (bytes).
const MAX_WORD: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordForm {
    Plain,
    /// A name of somebody or something.
    Proper,
    /// An id, an address, a path.
    Value,
}

/// A text in turns outside and inside of quotation marks.
pub(crate) fn pieces(text: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, open, close)) = opening(rest) {
        let inside = rest.get(at + open.len_utf8()..).unwrap_or_default();
        let Some(end) = inside.find(close) else {
            break;
        };
        pieces.push((rest.get(..at).unwrap_or_default(), false));
        pieces.push((inside.get(..end).unwrap_or_default(), true));
        rest = inside.get(end + close.len_utf8()..).unwrap_or_default();
    }
    pieces.push((rest, false));
    pieces
}

/// The first mark of quotation, and the one that closes it.
fn opening(text: &str) -> Option<(usize, char, char)> {
    text.char_indices().find_map(|(at, open)| {
        let close = match open {
            '"' => '"',
            '`' => '`',
            '“' | '„' => '”',
            '«' => '»',
            '「' => '」',
            _ => return None,
        };
        Some((at, open, close))
    })
}

/// What a word is by its form, and what kinds of things it may be the id of. `is_first`: it begins a
/// sentence, where capitals say nothing.
pub(crate) fn of(word: &str, is_first: bool) -> (WordForm, &'static [&'static str]) {
    let bare = word.trim_matches(|it: char| ".,;:?()'[]".contains(it));
    if bare.len() > MAX_WORD {
        return (WordForm::Value, &[]);
    }
    if let Some(kinds) = id(bare).or_else(|| address(bare)) {
        return (WordForm::Value, kinds);
    }
    let begins = bare.chars().next().is_some_and(char::is_uppercase);
    match () {
        () if bare.contains(['/', '\\']) => (WordForm::Value, &[]),
        () if begins && !is_first => (WordForm::Proper, &[]),
        () => (WordForm::Plain, &[]),
    }
}

/// `#77`, `!12`, `ENG-402`, a hash of a commit.
fn id(word: &str) -> Option<&'static [&'static str]> {
    if let Some(number) = word.strip_prefix('#').filter(|rest| !rest.is_empty()) {
        return Some(if is_number(number) {
            &["issue", "pull request"]
        } else {
            &["channel"]
        });
    }
    if word.strip_prefix('!').is_some_and(is_number) {
        return Some(&["merge request"]);
    }
    let is_key = |project: &str| {
        (2..=10).contains(&project.len())
            && project.starts_with(|it: char| it.is_ascii_uppercase())
            && project
                .bytes()
                .all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    };
    if word
        .split_once('-')
        .is_some_and(|(project, number)| is_number(number) && is_key(project))
    {
        return Some(&["issue"]);
    }
    let is_hash = (7..=40).contains(&word.len())
        && word
            .bytes()
            .all(|it| it.is_ascii_digit() || matches!(it, b'a'..=b'f'))
        && word.bytes().any(|it| it.is_ascii_digit())
        && word.bytes().any(|it| it.is_ascii_lowercase());
    is_hash.then_some(&["commit"])
}

/// A URL, an e-mail address, somebody's handle, an expression of JavaScript, the name of a file.
fn address(word: &str) -> Option<&'static [&'static str]> {
    if word.contains("://") {
        return Some(&["url"]);
    }
    if let Some((user, host)) = word.split_once('@') {
        return match user.is_empty() {
            true => (!host.is_empty()).then_some(&["user"]),
            false => host.contains('.').then_some(&["email"]),
        };
    }
    if word.ends_with("()")
        || ["document.", "window.", "console."]
            .iter()
            .any(|it| word.starts_with(it))
    {
        return Some(&["script"]);
    }
    let (name, ending) = word.rsplit_once('.')?;
    let is_ending = (1..=5).contains(&ending.len())
        && ending.starts_with(|it: char| it.is_ascii_lowercase())
        && ending.bytes().all(|it| it.is_ascii_alphanumeric());
    match () {
        () if !is_ending || name.is_empty() || word.len() < 4 => None,
        () if matches!(ending, "com" | "org" | "net" | "io" | "dev") => Some(&["url"]),
        () => Some(&["file"]),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_addresses_name_their_kind() {
        let of = |word: &str| of(word, false).1;
        assert_eq!(of("#77,"), ["issue", "pull request"]);
        assert_eq!(of("(!12)"), ["merge request"]);
        assert_eq!(of("ENG-402"), ["issue"]);
        assert_eq!(of("https://example.com/a"), ["url"]);
        assert_eq!(of("jo@acme.com."), ["email"]);
        assert_eq!(of("@alice"), ["user"]);
        assert_eq!(of("#general"), ["channel"]);
        assert_eq!(of("src/main.rs"), ["file"]);
        assert_eq!(of("9fceb02"), ["commit"]);
        assert_eq!(of("example.com"), ["url"]);
        assert_eq!(of("document.title"), ["script"]);
        for plain in ["issue", "2.3", "e.g.", "deadbeef", "COVID-19-test", "#", "!"] {
            assert!(of(plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn capitals_within_a_sentence_are_names() {
        assert_eq!(of("Julia", false).0, WordForm::Proper);
        assert_eq!(of("Answer", true).0, WordForm::Plain);
        assert_eq!(of("a/b", true).0, WordForm::Value);
    }

    #[test]
    fn quotations_are_told_from_the_rest() {
        let expected = [("say ", false), ("hi there", true), (" to “Bo", false)];
        assert_eq!(pieces("say \"hi there\" to “Bo"), expected);
    }
}
