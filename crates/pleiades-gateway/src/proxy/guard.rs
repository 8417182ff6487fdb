//! Refuses by the head alone: foreign hosts and origins, sizes, other spellings of paths
//! (ambiguous framing: `access::framing`).

use http::{HeaderMap, Method, Uri, header};

use super::route::is_for_people;
use pleiades_core::error::{Code, Error};
use pleiades_core::text::printable;
use pleiades_credential::access::origins::OriginPolicy;

const MAX_TARGET: usize = 8 * 1024;
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 256;
/// Longest name of a host or origin in the log, in characters.
const SHOWN: usize = 128;
/// A slash, a backslash and a dot, as a second spelling of a path would hide them.
const ENCODED: [&[u8]; 3] = [b"%2f", b"%5c", b"%2e"];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inspected {
    Request {
        /// The caller's origin, one of ours, to be named in the answer.
        origin: Option<String>,
    },
    /// A CORS preflight of an origin of ours.
    Preflight { origin: String },
}

/// Judges a request by its head alone. Errors: [`Code::TargetTooLong`], [`Code::HeadersTooLarge`],
/// [`Code::HostRefused`], [`Code::OriginRefused`], [`Code::BadFraming`] without a host.
pub(super) fn inspect(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    origins: &OriginPolicy,
) -> Result<Inspected, Error> {
    check_sizes(uri, headers)?;
    check_path(uri.path())?;
    check_host(uri, headers, origins)?;
    let origin = if is_own_form(method, uri.path(), headers) {
        None
    } else {
        check_origin(headers, origins)?
    };
    let preflight = *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    Ok(match origin {
        Some(origin) if preflight => Inspected::Preflight { origin },
        origin => Inspected::Request { origin },
    })
}

fn check_sizes(uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
    let target = uri.path_and_query().map_or(0, |it| it.as_str().len());
    if target > MAX_TARGET {
        return Err(Error::new(
            Code::TargetTooLong,
            "the request target is longer than 8 KiB",
        ));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > MAX_HEADER_BYTES || headers.len() > MAX_HEADERS {
        return Err(Error::new(
            Code::HeadersTooLarge,
            "the header block is larger than 64 KiB or 256 fields",
        ));
    }
    Ok(())
}

/// Paths are compared as they are written, so a second spelling of one is refused.
fn check_path(path: &str) -> Result<(), Error> {
    let dotted = path.split('/').any(|segment| matches!(segment, "." | ".."));
    let encoded = path
        .as_bytes()
        .windows(3)
        .any(|window| ENCODED.iter().any(|encoded| window.eq_ignore_ascii_case(encoded)));
    if dotted || encoded || path.contains('\\') || path.contains("//") {
        return Err(Error::new(
            Code::InvalidRequest,
            "the path has dot segments, empty segments or encoded slashes",
        ));
    }
    Ok(())
}

/// The host that a request names: in its header, or as HTTP/2 has it.
pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| uri.authority().map(http::uri::Authority::as_str))
}

fn check_host(uri: &Uri, headers: &HeaderMap, origins: &OriginPolicy) -> Result<(), Error> {
    let Some(host) = host(uri, headers) else {
        return Err(Error::new(Code::BadFraming, "ambiguous request: no `Host`"));
    };
    if origins.host_allowed(host) {
        return Ok(());
    }
    Err(Error::new(
        Code::HostRefused,
        "this `Host` is not served here; the operator adds names with `hosts`",
    )
    .because(format!("`Host: {}`", printable(host, SHOWN))))
}

/// A form of a page with `Referrer-Policy: no-referrer` names no origin (Fetch, "append a request
/// `Origin` header"): the pages of the broker have a cookie that speaks for their forms. A browser
/// that says that the form is another site's is believed.
fn is_own_form(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let value = |name: &str| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none())
    };
    let site = value("sec-fetch-site").and_then(|it| it.to_str().ok());
    *method == Method::POST
        && is_for_people(path)
        && value("origin").is_some_and(|it| it == "null")
        && matches!(site, None | Some("same-origin"))
}

fn check_origin(headers: &HeaderMap, origins: &OriginPolicy) -> Result<Option<String>, Error> {
    let mut given = headers.get_all(header::ORIGIN).iter();
    let Some(first) = given.next() else {
        return Ok(None);
    };
    match first.to_str() {
        Ok(origin) if given.next().is_none() && origins.origin_allowed(origin) => Ok(Some(origin.to_owned())),
        given => Err(Error::new(
            Code::OriginRefused,
            "this `Origin` is not allowed; the operator adds some with `origins`",
        )
        .because(format!(
            "`Origin: {}`",
            printable(given.unwrap_or_default(), SHOWN)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn inspected(target: &str, headers: &[(&'static str, &str)]) -> Result<Inspected, Code> {
        let origins = OriginPolicy::new("127.0.0.1:8787".parse().unwrap(), false, None, &[], &[]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let uri = target.parse().unwrap();
        inspect(&Method::POST, &uri, &map, &origins).map_err(|error| error.code)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8787");

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(
            inspected("/mcp", &[HOST]),
            Ok(Inspected::Request { origin: None })
        );
    }

    #[test]
    fn a_path_has_one_spelling() {
        for target in [
            "/mcp/../tools",
            "/mcp/./a",
            "/mcp%2fa",
            "/mcp/%2E%2e/a",
            "/mcp%5Ca",
            "//mcp",
            "/mcp//",
        ] {
            assert_eq!(inspected(target, &[HOST]), Err(Code::InvalidRequest), "{target}");
        }
    }

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        assert_eq!(
            inspected("/mcp", &[("host", "evil.example")]),
            Err(Code::HostRefused)
        );
        assert_eq!(
            inspected("/mcp", &[HOST, ("origin", "http://evil.example")]),
            Err(Code::OriginRefused)
        );
        let ours = ("origin", "http://127.0.0.1:8787");
        assert_eq!(inspected("/mcp", &[HOST, ours, ours]), Err(Code::OriginRefused));
    }

    #[test]
    fn a_form_without_an_origin_is_let_through_where_a_cookie_speaks_for_it() {
        let null = ("origin", "null");
        assert_eq!(
            inspected("/oauth/connect/x", &[HOST, null]),
            Ok(Inspected::Request { origin: None })
        );
        let from = |site| inspected("/oauth/callback", &[HOST, null, ("sec-fetch-site", site)]);
        assert!(from("same-origin").is_ok());
        assert_eq!(from("cross-site"), Err(Code::OriginRefused));
        assert_eq!(from("same-site"), Err(Code::OriginRefused));
        assert_eq!(inspected("/mcp", &[HOST, null]), Err(Code::OriginRefused));
        let foreign = ("origin", "http://evil.example");
        assert_eq!(
            inspected("/oauth/connect/x", &[HOST, foreign]),
            Err(Code::OriginRefused)
        );
    }

    #[test]
    fn oversized_heads_are_refused() {
        let long = format!("/mcp?{}", "x".repeat(9_000));
        assert_eq!(inspected(&long, &[HOST]), Err(Code::TargetTooLong));
        let big = "x".repeat(70_000);
        assert_eq!(
            inspected("/mcp", &[HOST, ("x-big", &big)]),
            Err(Code::HeadersTooLarge)
        );
    }
}
