//! An account as a request names it: in its `_meta`, its arguments or its head.

use std::sync::Arc;

use pleiades_core::error::{Code, Error};
use pleiades_credential::user_accounts::is_account_name;

/// The request header that names an account.
pub(crate) const ACCOUNT_HEADER: &str = "pleiades-account";
/// The key of `_meta` that names one, and under which results say which was used.
pub(crate) const ACCOUNT_KEY: &str = "pleiades/accountId";
/// The answer to a name that no account can have.
const IMPOSSIBLE: &str = "an account's name is text of at most 512 bytes without control characters, marks of direction or characters of no width: name one as an answer listed it";

/// An account's name as a caller may give it; an empty one is none.
///
/// # Errors
/// [`Code::InvalidParams`] for what can be nobody's name: as if none were named, another account would
/// be used than the one that was meant.
pub(crate) fn parse_account(text: &str) -> Result<Option<Arc<str>>, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    is_account_name(text)
        .then(|| Some(text.into()))
        .ok_or_else(impossible_account)
}

/// The refusal of a name that no account can have.
pub(super) fn impossible_account() -> Error {
    Error::new(Code::InvalidParams, IMPOSSIBLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_by_its_text_without_the_space_around_it() {
        assert_eq!(
            parse_account(" ann@example.com ").unwrap().as_deref(),
            Some("ann@example.com")
        );
        assert_eq!(parse_account("ännchen").unwrap().as_deref(), Some("ännchen"));
    }

    #[test]
    fn an_empty_name_names_no_account() {
        assert_eq!(parse_account("").unwrap(), None);
        assert_eq!(parse_account(" \t ").unwrap(), None);
    }

    #[test]
    fn what_can_be_nobodys_name_is_refused_instead_of_read_as_none() {
        for name in ["a\nb", "a\u{202e}b", "a\u{200b}b", &"x".repeat(513)] {
            let error = parse_account(name).unwrap_err();
            assert_eq!(error.code, Code::InvalidParams, "{name:?}");
        }
    }
}
