//! Names of people's own choosing in paths and queries.

/// A segment of a path or a value of a query, percent-decoded once (RFC 3986 section 2.1).
///
/// Whole UTF-8 without characters that cannot be seen, not empty; `None` for anything else. A plus sign is
/// a plus sign.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            char::from(rest.next()?)
                .to_digit(16)
                .and_then(|it| u8::try_from(it).ok())
        };
        bytes.push(digit()? << 4 | digit()?);
    }
    let name = String::from_utf8(bytes).ok()?;
    (!name.is_empty() && !name.chars().any(pleiades_core::text::is_hidden)).then_some(name)
}

/// The name that ends a path: the rest of it, slashes included, else `account` of the query, for names
/// that no path carries (`..`, or one with a backslash).
#[must_use]
pub fn account_name(path: &str, query: Option<&str>) -> Option<String> {
    if !path.is_empty() {
        return decode(path);
    }
    let mut given = query?.split('&').filter_map(|pair| pair.strip_prefix("account="));
    let one = given.next()?;
    given.next().is_none().then(|| decode(one)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once_and_whole() {
        let name = |text: &str| decode(text);
        assert_eq!(name("me@example.com").as_deref(), Some("me@example.com"));
        assert_eq!(name("a%20b+c").as_deref(), Some("a b+c"));
        assert_eq!(name("%C3%BCmit%F0%9F%99%82").as_deref(), Some("ümit🙂"));
        assert_eq!(name("%2541").as_deref(), Some("%41"));
        for wrong in ["", "%", "%4", "%zz", "%ff", "a%00b", "a%0Ab", "%+1"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_that_no_path_carries_come_in_the_query() {
        assert_eq!(account_name("a%40b", None).as_deref(), Some("a@b"));
        assert_eq!(account_name("team/me", None).as_deref(), Some("team/me"));
        assert_eq!(
            account_name("", Some("account=AD%5Cme")).as_deref(),
            Some("AD\\me")
        );
        assert_eq!(account_name("", Some("x=1&account=..")).as_deref(), Some(".."));
        assert_eq!(account_name("", Some("account=a&account=b")), None);
        assert_eq!(account_name("", None), None);
        assert_eq!(account_name("a", Some("account=b")).as_deref(), Some("a"));
    }
}
