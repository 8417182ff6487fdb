//! Heads that two readers would read in two ways: both listeners refuse them (RFC 9112 sections 3.2 and
//! 6.3), and close the connection.

use http::{HeaderMap, HeaderName, Uri, header};

use pleiades_core::error::{Code, Error};

/// Headers that say one thing; two of them would be read differently by different readers.
const SINGLE: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("mcp-protocol-version"),
];

/// Whether a head names a `Content-Length`, by its bytes: Pingora drops one that stands beside
/// `Transfer-Encoding`, so only they still tell.
#[must_use]
pub fn has_content_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"\ncontent-length:";
    head.windows(NAME.len())
        .any(|window| window.eq_ignore_ascii_case(NAME))
}

/// Two readings of where a message ends, or of whom it is for, are one too many. `two_lengths`:
/// a `Content-Length` was dropped beside `Transfer-Encoding`.
///
/// # Errors
/// [`Code::BadFraming`]: the connection is to be closed.
pub fn check(two_lengths: bool, uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
    let count = |name| headers.get_all(name).iter().count();
    let lengths = count(header::CONTENT_LENGTH);
    if two_lengths || (lengths > 0 && headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(ambiguous("both `Content-Length` and `Transfer-Encoding`"));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    if lengths > 1 || length.is_some_and(|value| value.as_bytes().contains(&b',')) {
        return Err(ambiguous("more than one `Content-Length`"));
    }
    if count(header::TRANSFER_ENCODING) > 1 {
        return Err(ambiguous("more than one `Transfer-Encoding`"));
    }
    let coding = headers.get(header::TRANSFER_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(ambiguous("a `Transfer-Encoding` other than `chunked`"));
    }
    if SINGLE.iter().any(|name| count(name.clone()) > 1) {
        return Err(ambiguous("two of a header of which there is one"));
    }
    if count(header::HOST) > 1 {
        return Err(ambiguous("more than one `Host`"));
    }
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    match (uri.authority(), named) {
        (None, None) => Err(ambiguous("no `Host`")),
        (Some(authority), Some(host)) if !authority.as_str().eq_ignore_ascii_case(host) => Err(ambiguous(
            "the request target names another authority than `Host`",
        )),
        _ => Ok(()),
    }
}

/// Whether a body is of a media type, without `Content-Encoding`.
#[must_use]
pub fn is_plain(headers: &HeaderMap, media_type: &str) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(media_type))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// A path as it is looked up: a final slash names the same. Two are no slash.
#[must_use]
pub fn without_final_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() && !shorter.ends_with('/') => shorter,
        _ => path,
    }
}

fn ambiguous(what: &'static str) -> Error {
    Error::new(Code::BadFraming, format!("ambiguous request: {what}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn checked(target: &str, headers: &[(&'static str, &str)]) -> Result<(), Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        check(false, &target.parse().unwrap(), &map).map_err(|error| error.code)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8787");

    #[test]
    fn ambiguous_framing_is_refused() {
        let framed = |name, value| checked("/mcp", &[HOST, ("content-length", "5"), (name, value)]);
        assert_eq!(framed("accept", "*/*"), Ok(()));
        assert_eq!(framed("transfer-encoding", "chunked"), Err(Code::BadFraming));
        assert_eq!(framed("content-length", "6"), Err(Code::BadFraming));
        assert_eq!(
            checked("/mcp", &[HOST, ("content-length", "5, 5")]),
            Err(Code::BadFraming)
        );
        assert_eq!(
            checked("/mcp", &[HOST, ("transfer-encoding", "gzip, chunked")]),
            Err(Code::BadFraming)
        );
        let session = ("mcp-session-id", "x");
        assert_eq!(checked("/mcp", &[HOST, session, session]), Err(Code::BadFraming));
        assert_eq!(checked("/mcp", &[HOST, HOST]), Err(Code::BadFraming));
        assert_eq!(checked("/mcp", &[]), Err(Code::BadFraming));
        assert_eq!(checked("http://evil.example/mcp", &[HOST]), Err(Code::BadFraming));
    }

    #[test]
    fn a_length_that_was_dropped_is_found_in_the_bytes_of_the_head() {
        assert!(has_content_length(
            b"POST / HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\n"
        ));
        assert!(!has_content_length(
            b"POST /content-length: HTTP/1.1\r\nx-content-length: 5\r\n\r\n"
        ));
    }

    #[test]
    fn a_body_is_of_its_type_whatever_the_parameters_and_not_encoded() {
        let is_json = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            is_plain(&map, "application/json")
        };
        assert!(is_json(&[("content-type", "Application/JSON ; charset=utf-8")]));
        assert!(!is_json(&[]) && !is_json(&[("content-type", "text/json")]));
        assert!(!is_json(&[
            ("content-type", "application/json"),
            ("content-encoding", "gzip")
        ]));
    }

    #[test]
    fn a_final_slash_is_the_same_path_and_two_are_not() {
        assert_eq!(without_final_slash("/mcp/"), "/mcp");
        assert_eq!(without_final_slash("/mcp"), "/mcp");
        assert_eq!(without_final_slash("/"), "/");
        assert_eq!(without_final_slash("/mcp//"), "/mcp//");
    }
}
