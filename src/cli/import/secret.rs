//! Guesses which values may be secrets. In doubt one is: a variable too many costs a
//! line in a shell, a key in a file costs the key.

use pleiades_core::text::TOKEN_HEADS;

/// Ends of names whose values are no secrets.
const OPEN: [&str; 22] = [
    "URL", "URI", "HOST", "PORT", "REGION", "MODE", "LEVEL", "ENV", "PATH", "DIR", "FILE", "USER",
    "USERNAME", "EMAIL", "NAME", "LANG", "TZ", "MODEL", "TIMEOUT", "FORMAT", "VERSION", "DEBUG",
];

/// Whether a value that came under this name may be a secret.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let says_so = ["secret", "passw", "token"]
        .iter()
        .any(|word| lower.contains(word));
    if is_secret_name(name) || looks_secret(value) || (says_so && !value.contains('/')) {
        return true;
    }
    let last = words(name).pop().unwrap_or_default();
    !OPEN.contains(&&*last) && !is_harmless(value)
}

pub(super) fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    let whole = words.concat();
    let holds = [
        "APIKEY",
        "SECRET",
        "PASSW",
        "CREDENTIAL",
        "ACCESSKEY",
        "PRIVATEKEY",
        "PASSPHRASE",
    ];
    let is_word = |word: &String| {
        let known = [
            "KEY",
            "TOKEN",
            "PASS",
            "PWD",
            "PAT",
            "COOKIE",
            "DSN",
            "JWT",
            "BEARER",
            "AUTHORIZATION",
        ];
        known.contains(&word.as_str())
            || (word.len() > 5 && (word.ends_with("TOKEN") || word.ends_with("KEY")))
    };
    holds.iter().any(|part| whole.contains(part))
        || words.iter().any(is_word)
        || words.last().is_some_and(|last| last == "AUTH" || last == "SIG")
}

/// Words of a name in capitals: at `_`, `-`, `.` and where a capital follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for char in name.chars() {
        let is_break = !char.is_ascii_alphanumeric();
        if (is_break || (was_small && char.is_ascii_uppercase()))
            && words.last().is_some_and(|word| !word.is_empty())
        {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| !is_break) {
            word.push(char.to_ascii_uppercase());
        }
        was_small = char.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a value looks like a secret wherever it stands.
pub(super) fn looks_secret(value: &str) -> bool {
    let begins = |piece: &str| {
        let mut heads = TOKEN_HEADS.iter();
        heads.any(|head| piece.strip_prefix(head).is_some_and(|rest| rest.len() >= 6))
    };
    let has_head = value
        .split(|char: char| !char.is_ascii_alphanumeric() && !matches!(char, '_' | '-' | '.'))
        .any(begins);
    has_head
        || value.contains("-----BEGIN")
        || has_password(value)
        || is_random(value, 20)
        || has_secret_query(value)
}

/// `scheme://user:password@host`.
fn has_password(value: &str) -> bool {
    password(value).is_some()
}

/// What stands before, in and after the password of a URL.
pub(super) fn password(value: &str) -> Option<(&str, &str, &str)> {
    let begin = value.find("://")? + 3;
    let rest = value.get(begin..)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let at = authority.rfind('@')?;
    let colon = authority.get(..at)?.find(':')?;
    let (from, to) = (begin + colon + 1, begin + at);
    let password = value.get(from..to).filter(|password| !password.is_empty())?;
    Some((value.get(..from)?, password, value.get(to..)?))
}

fn has_secret_query(value: &str) -> bool {
    let query = value.contains("://").then(|| value.split_once('?')).flatten();
    query.is_some_and(|(_, query)| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| !value.is_empty() && is_secret_name(name))
    })
}

/// Whether a run of letters and digits in it is long and mixed enough to be drawn at random.
pub(super) fn is_random(value: &str, least: usize) -> bool {
    // The digest of an image names it, and is no secret.
    let value = value.split("sha256:").next().unwrap_or_default();
    value
        .split(|char: char| !char.is_ascii_alphanumeric())
        .any(|run| is_mixed(run) && run.len() >= least)
}

/// Whether a text is a UUID: in a path often the only thing that keeps strangers out.
pub(super) fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn is_mixed(run: &str) -> bool {
    run.bytes().any(|byte| byte.is_ascii_digit()) && run.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether a value cannot well be a secret: a switch, a small number, plain words, a path, a URL.
fn is_harmless(value: &str) -> bool {
    let is_word = |part: &str| {
        part.len() <= 12 && part.bytes().all(|byte| byte.is_ascii_alphabetic())
            || part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_plain = value.len() <= 32 && value.split(['-', '_', '.', ',', '/', ':', '@']).all(is_word);
    is_plain || value.starts_with(['/', '~', '.']) || value.contains("://")
}

pub(super) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    value.is_empty()
        || (value.starts_with('<') && value.ends_with('>'))
        || lower.contains("your")
        || lower.contains("xxx")
        || lower.contains("...")
        || lower.contains("changeme")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_give_secrets_away() {
        for (name, value) in [
            ("GITHUB_PERSONAL_ACCESS_TOKEN", "x"),
            ("apiKey", "1"),
            ("X-Api-Key", "abc"),
            ("TAVILY_APIKEY", "abc"),
            ("githubToken", "abc"),
            ("DB_PASSWORD", "admin"),
            ("SLACK", "xoxb-1234567890"),
            ("DATABASE_URL", "postgres://me:pw@host/db"),
            ("ENDPOINT_URL", "https://x.example/?api_key=abc"),
            ("BRAVE", "hunter2"),
            ("OTHER", "correct horse"),
            ("ENV", "0123456789abcdef0123"),
        ] {
            assert!(is_secret(name, value), "{name}");
        }
    }

    #[test]
    fn switches_paths_and_plain_words_are_no_secrets() {
        for (name, value) in [
            ("DEBUG", "1"),
            ("NODE_ENV", "production"),
            ("LOG_LEVEL", "info"),
            ("AWS_REGION", "eu-west-1"),
            ("ALLOWED", "/home/me/notes"),
            ("API_BASE", "https://api.example.com/v1"),
            ("MAX_TOKENS", "4096"),
            ("JIRA_USERNAME", "me@example.com"),
            ("FEATURES", "a,b,c"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
    }

    #[test]
    fn the_password_of_a_url_is_found() {
        assert_eq!(
            password("pg://me:p@w@host/db"),
            Some(("pg://me:", "p@w", "@host/db"))
        );
        assert_eq!(password("https://host/a:b@c"), None);
        assert_eq!(password("https://me@host/"), None);
    }
}
