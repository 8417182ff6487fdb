//! `WWW-Authenticate` (RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9728 section 5.1).

/// More parameters than these are nobody's.
const MOST: usize = 64;

/// The schemes of tokens, the usual one first; the last is that of a challenge which names none.
const SCHEMES: [&str; 4] = ["Bearer", "DPoP", "OAuth", ""];

/// What an upstream said when it refused: `WWW-Authenticate` of a 401 or 403 (RFC 9728 section 5.1,
/// RFC 6750 section 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Status of the answer.
    pub status: u16,
    /// `resource_metadata`.
    pub resource_metadata: Option<String>,
    /// `scope`, split.
    pub scopes: Option<Vec<String>>,
    /// `error`.
    pub error: Option<String>,
    /// `error_description`.
    pub description: Option<String>,
}

/// Reads `WWW-Authenticate`: the bearer challenge among all in it, the one that names its resource's
/// metadata first. Several header lines may be joined with commas.
///
/// What cannot be read is left out. The word for what is wrong may stand in another challenge than the
/// metadata.
#[must_use]
pub fn challenge(status: u16, header: Option<&str>) -> Challenge {
    let all = header.map(parse).unwrap_or_default();
    let of = |scheme: &'static str| {
        all.iter()
            .filter(move |it| it.scheme.eq_ignore_ascii_case(scheme))
    };
    let ours = |scheme| {
        of(scheme)
            .find(|it| it.get("resource_metadata").is_some())
            .or_else(|| of(scheme).next())
    };
    let Some(offer) = SCHEMES.into_iter().find_map(ours) else {
        return Challenge {
            status,
            ..Challenge::default()
        };
    };
    let erring = SCHEMES
        .into_iter()
        .flat_map(of)
        .find(|it| it.get("error").is_some());
    let scopes = |it: &SchemeChallenge| it.get("scope").map(split).filter(|all| !all.is_empty());
    Challenge {
        status,
        resource_metadata: offer.get("resource_metadata").map(str::to_owned),
        scopes: erring.and_then(scopes).or_else(|| scopes(offer)),
        error: erring.and_then(|it| it.get("error")).map(str::to_owned),
        description: erring
            .and_then(|it| it.get("error_description"))
            .map(str::to_owned),
    }
}

/// What a refusal of a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// The token: expired, revoked, or none of the provider's.
    Token,
    /// Rights of the token.
    Scope,
    /// Something that no other token would mend, as far as is said.
    Other,
}

impl Challenge {
    /// What is wrong: the word counts (RFC 6750 section 3.1), whatever the status; without one that is
    /// known 401 is about the token.
    #[must_use]
    pub fn cause(&self) -> RefusalCause {
        let error = self
            .error
            .as_deref()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match (&*error.replace('-', "_"), self.status) {
            ("invalid_token" | "expired_token" | "token_expired", _) => RefusalCause::Token,
            ("insufficient_scope", _) => RefusalCause::Scope,
            (_, 401) => RefusalCause::Token,
            _ => RefusalCause::Other,
        }
    }

    /// Whether it is about a credential at all: by the status, or by its word.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let client_error = (400..500).contains(&self.status);
        matches!(self.status, 401 | 403) || (client_error && self.cause() != RefusalCause::Other)
    }
}

/// Scopes as RFC 6749 section 3.3 lists them, each once.
pub fn split(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for scope in text.split_ascii_whitespace() {
        if !all.iter().any(|it| it == scope) {
            all.push(scope.to_owned());
        }
    }
    all
}

#[derive(Debug, Default)]
struct SchemeChallenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl SchemeChallenge {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// A word is a parameter's name when `=` and a value follow it, a scheme otherwise; a token68 after a
/// scheme is passed over.
fn parse(header: &str) -> Vec<SchemeChallenge> {
    let mut all: Vec<SchemeChallenge> = Vec::new();
    let mut rest = header;
    for _ in 0..MOST {
        rest = rest.trim_start_matches(|it: char| it == ',' || it.is_whitespace());
        if rest.is_empty() {
            break;
        }
        let (word, after) = word(rest);
        if word.is_empty() {
            // Nothing that may stand here: on behind the next comma.
            rest = rest.split_once(',').map_or("", |(_, after)| after);
            continue;
        }
        match value(after) {
            Some((value, after)) => {
                if all.is_empty() {
                    all.push(SchemeChallenge::default());
                }
                if let Some(offer) = all.last_mut() {
                    offer.parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            None => {
                all.push(SchemeChallenge {
                    scheme: word.to_owned(),
                    ..SchemeChallenge::default()
                });
                rest = past_token68(after);
            }
        }
    }
    all
}

/// A token of RFC 9110 section 5.6.2 and what follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|it: char| !is_token(it)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn is_token(it: char) -> bool {
    it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(it)
}

/// `= value` with the space that old servers put around it; `None` when none follows.
fn value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start().strip_prefix('=')?.trim_start();
    if let Some(quoted) = text.strip_prefix('"') {
        return Some(unquoted(quoted));
    }
    // Single quotes are characters of a token; some servers take them for quotes.
    if let Some((quoted, after)) = text.strip_prefix('\'').and_then(|rest| rest.split_once('\''))
        && !quoted.contains('"')
    {
        return Some((quoted.to_owned(), after));
    }
    // Unquoted URLs and scopes are not allowed and common.
    let end = text
        .find(|it: char| it == ',' || it.is_whitespace())
        .unwrap_or(text.len());
    let (value, after) = text.split_at_checked(end)?;
    (!value.is_empty() && !value.starts_with('=')).then(|| (value.to_owned(), after))
}

/// The text of a quoted string, and what follows its end; one that never ends takes the rest.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, each)) = characters.next() {
        match each {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(each),
        }
    }
    (value, "")
}

/// What follows a token68, when one stands directly behind a scheme: it ends at a comma, and no
/// value follows its padding.
fn past_token68(text: &str) -> &str {
    let start = text.trim_start_matches(' ');
    let end = start
        .find(|it: char| it == ',' || it.is_whitespace())
        .unwrap_or(start.len());
    let Some((candidate, after)) = start.split_at_checked(end) else {
        return text;
    };
    let bare = candidate.trim_end_matches('=');
    let is_one = !bare.is_empty()
        && bare
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-._~+/".contains(it));
    let ends = after.trim_start().is_empty() || after.trim_start().starts_with(',');
    // `error=` with nothing behind it looks like one as well, and as little is lost.
    if is_one && ends { after } else { text }
}

#[cfg(test)]
mod tests;
