//! Members of a request's parameters.

use serde::de::DeserializeOwned;

use pleiades_core::error::{Code, Error};
use pleiades_mcp::RawObject;

/// [`Code::InvalidParams`] when it is there and of another type: it is never read as left out.
pub(super) fn optional<T: DeserializeOwned + Default>(params: &RawObject, key: &str) -> Result<T, Error> {
    match params.get(key).filter(|value| value.get() != "null") {
        Some(_) => required(params, key),
        None => Ok(T::default()),
    }
}

pub(super) fn required<T: DeserializeOwned>(params: &RawObject, key: &str) -> Result<T, Error> {
    params.read(key).ok_or_else(|| {
        Error::new(
            Code::InvalidParams,
            format!("`{key}` is missing or of the wrong type"),
        )
    })
}

/// Lists are whole: a cursor can only be one we never gave.
pub(super) fn one_page(params: &RawObject) -> Result<(), Error> {
    match params.get("cursor").filter(|cursor| cursor.get() != "null") {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Code::InvalidParams,
            "unknown `cursor`: the list comes in one page",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use pleiades_mcp::raw::raw;

    fn params(value: &Value) -> RawObject {
        RawObject::open(&raw(value)).unwrap()
    }

    #[test]
    fn what_may_be_left_out_is_never_read_as_left_out_when_it_is_odd() {
        assert!(!optional::<bool>(&params(&json!({})), "on").unwrap());
        assert!(!optional::<bool>(&params(&json!({ "on": null })), "on").unwrap());
        assert!(optional::<bool>(&params(&json!({ "on": true })), "on").unwrap());
        let error = optional::<bool>(&params(&json!({ "on": "yes" })), "on").unwrap_err();
        assert_eq!(error.code, Code::InvalidParams);
    }

    #[test]
    fn what_has_to_be_there_is_named_when_it_is_not() {
        let error = required::<String>(&params(&json!({ "uri": 7 })), "uri").unwrap_err();
        assert_eq!(error.code, Code::InvalidParams);
        assert!(error.message.starts_with("`uri`"));
        assert!(required::<String>(&params(&json!({})), "uri").is_err());
    }

    #[test]
    fn a_cursor_is_one_that_was_never_given() {
        assert!(one_page(&params(&json!({}))).is_ok());
        assert!(one_page(&params(&json!({ "cursor": null }))).is_ok());
        assert!(one_page(&params(&json!({ "cursor": "2" }))).is_err());
    }
}
