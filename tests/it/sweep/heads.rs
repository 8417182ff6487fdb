//! Heads that break HTTP or its rules, and the statuses that say so.

use super::{PING, SweepWorld};

/// Heads that break HTTP or its rules, and the statuses that say so.
pub(super) fn bad(place: &SweepWorld, path: &str) -> Vec<(&'static str, &'static [u16], Vec<u8>)> {
    const BAD: &[u16] = &[400];
    let (host, length) = (place.host(), PING.len());
    let typed = "Content-Type: application/json\r\n";
    let line = format!("POST {path} HTTP/1.1");
    let sized = format!("{typed}Content-Length: {length}");
    let body = PING.as_bytes();
    let with = |head: &str| place.request(&line, head, body);
    let to = |line: &str| place.request(line, &sized, body);
    let also = |head: &str| place.post(path, &format!("\r\n{head}"), body);
    let hosted = |host: &[u8]| {
        let head = format!("\r\nConnection: close\r\n{sized}\r\n\r\n{PING}");
        [line.as_bytes(), b"\r\nHost: ", host, head.as_bytes()].concat()
    };
    let chunked = |body: &str| {
        let head = format!("{typed}Transfer-Encoding: chunked");
        place.request(&line, &head, body.as_bytes())
    };
    vec![
        ("HTTP/0.9", BAD, format!("GET {path}\r\n\r\n").into_bytes()),
        (
            "HTTP/1.0 without a host",
            BAD,
            format!("POST {path} HTTP/1.0\r\n{sized}\r\n\r\n{PING}").into_bytes(),
        ),
        (
            "HTTP/1.0 in chunks",
            BAD,
            place.request(
                &format!("POST {path} HTTP/1.0"),
                &format!("{typed}Transfer-Encoding: chunked"),
                b"0\r\n\r\n",
            ),
        ),
        (
            "no host",
            BAD,
            format!("{line}\r\n{sized}\r\n\r\n{PING}").into_bytes(),
        ),
        (
            "a version that is none",
            BAD,
            to(&format!("POST {path} HTTP/3.0")),
        ),
        (
            "the preface of HTTP/2",
            BAD,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        ("no HTTP", BAD, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_vec()),
        (
            "no target",
            BAD,
            format!("POST\r\nHost: {host}\r\n\r\n").into_bytes(),
        ),
        (
            "another authority",
            BAD,
            to(&format!("POST http://evil.example{path} HTTP/1.1")),
        ),
        (
            "an authority with a user",
            BAD,
            to(&format!("POST http://a:b@{host}{path} HTTP/1.1")),
        ),
        ("a tunnel", BAD, to("CONNECT evil.example:443 HTTP/1.1")),
        ("a folded header", BAD, with(&format!("X-A: 1\r\n 2\r\n{sized}"))),
        (
            "a folded media type",
            BAD,
            with(&format!(
                "Content-Type: application/json\r\n\t; x=1\r\nContent-Length: {length}"
            )),
        ),
        ("NUL in a value", BAD, also("X-A: a\0b")),
        ("NUL in a name", BAD, also("X\0A: a")),
        ("CR in a value", BAD, also("X-A: a\rX-B: b")),
        (
            "NUL in the target",
            &[400, 404],
            to(&format!("POST {path}\0 HTTP/1.1")),
        ),
        ("encoded NUL", &[404], to(&format!("POST {path}%00 HTTP/1.1"))),
        (
            "encoded slashes",
            BAD,
            to(&format!("POST {path}%2f..%2fx HTTP/1.1")),
        ),
        ("dots", BAD, to(&format!("POST {path}/../x HTTP/1.1"))),
        ("below a view", &[404], to(&format!("POST {path}/x/y HTTP/1.1"))),
        (
            "a long target",
            &[414],
            to(&format!("POST {path}?{} HTTP/1.1", "x".repeat(9_000))),
        ),
        ("no colon", BAD, also("nocolon")),
        ("no name", BAD, also(": x")),
        (
            "space before the colon",
            BAD,
            with(&format!("{typed}Content-Length : {length}")),
        ),
        (
            "the same beside chunks",
            BAD,
            with(&format!(
                "{typed}Content-Length : {length}\r\nTransfer-Encoding: chunked"
            )),
        ),
        (
            "a length and chunks",
            BAD,
            with(&format!("{sized}\r\nTransfer-Encoding: chunked")),
        ),
        (
            "chunks and a length",
            BAD,
            with(&format!(
                "{typed}Transfer-Encoding: chunked\r\nContent-Length:\t {length}"
            )),
        ),
        (
            "a coding alike",
            BAD,
            with(&format!("{typed}Transfer-Encoding: xchunked")),
        ),
        (
            "chunks in chunks",
            BAD,
            with(&format!("{typed}Transfer-Encoding: chunked, chunked")),
        ),
        ("another coding", BAD, also("Transfer-Encoding: identity")),
        (
            "a coding after a control",
            BAD,
            with(&format!("{typed}Transfer-Encoding: \x0bchunked")),
        ),
        ("two lengths", BAD, also(&format!("Content-Length: {length}"))),
        (
            "a list of lengths",
            BAD,
            with(&format!("{typed}Content-Length: {length}, {length}")),
        ),
        (
            "a signed length",
            BAD,
            with(&format!("{typed}Content-Length: +{length}")),
        ),
        (
            "a negative length",
            BAD,
            with(&format!("{typed}Content-Length: -1")),
        ),
        (
            "a hexadecimal length",
            BAD,
            with(&format!("{typed}Content-Length: 0x10")),
        ),
        (
            "a length no number holds",
            BAD,
            with(&format!("{typed}Content-Length: 99999999999999999999999")),
        ),
        (
            "a length of nothing",
            BAD,
            with(&format!("{typed}Content-Length: ")),
        ),
        ("a chunk no number holds", BAD, chunked("FFFFFFFFFFFFFFFFF\r\n{")),
        ("a negative chunk", BAD, chunked("-1\r\n{")),
        (
            "a chunk's name over two lines",
            BAD,
            chunked(&format!("{length:x};a=\"\r\n\"\r\n{PING}\r\n0\r\n\r\n")),
        ),
        (
            "chunks by LF alone",
            BAD,
            chunked(&format!("{length:x}\n{PING}\n0\n\n")),
        ),
        (
            "a body cut short",
            BAD,
            place.request(&line, &format!("{typed}Content-Length: 100"), b"{"),
        ),
        ("chunks cut short", BAD, chunked("5\r\n{")),
        ("two hosts", BAD, also("Host: evil.example")),
        ("a foreign host", &[403], hosted(b"evil.example")),
        ("an empty host", &[400, 403], hosted(b"")),
        ("two words for a host", &[400, 403], hosted(b"a b")),
        ("a host with a path", &[400, 403], hosted(b"127.0.0.1/x")),
        ("a host with a user", &[400, 403], hosted(b"evil@127.0.0.1")),
        ("a host that is no text", BAD, hosted(b"\xff")),
        ("a foreign origin", &[403], also("Origin: http://evil.example")),
        ("the origin null", &[403], also("Origin: null")),
        ("no origin", &[403], also("Origin: ")),
        (
            "an origin at another port",
            &[403],
            also("Origin: http://127.0.0.1:1"),
        ),
        (
            "two origins",
            &[403],
            also(&format!("Origin: http://{host}\r\nOrigin: http://{host}")),
        ),
        (
            "text",
            &[415],
            with(&format!("Content-Type: text/plain\r\nContent-Length: {length}")),
        ),
        (
            "no media type",
            &[415],
            with(&format!("Content-Length: {length}")),
        ),
        (
            "a form",
            &[415],
            with(&format!(
                "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}"
            )),
        ),
        (
            "a list of media types",
            &[415],
            with(&format!(
                "Content-Type: text/plain, application/json\r\nContent-Length: {length}"
            )),
        ),
        ("two media types", BAD, also("Content-Type: application/json")),
        ("a coded body", &[415], also("Content-Encoding: gzip")),
        ("nothing acceptable", &[406], also("Accept: text/html")),
        (
            "a large head",
            &[431],
            also(&format!("X-A: {}", "x".repeat(70_000))),
        ),
        (
            "a head of 2 MiB",
            &[400, 431],
            also(&format!("X-A: {}", "x".repeat(2 << 20))),
        ),
        (
            "257 headers",
            &[400, 431],
            also(
                (0..257)
                    .map(|at| format!("X-{at}: 1\r\n"))
                    .collect::<String>()
                    .trim_end(),
            ),
        ),
        (
            "a lower-case method",
            &[405],
            to(&format!("post {path} HTTP/1.1")),
        ),
        ("an odd method", &[405], to(&format!("BREW {path} HTTP/1.1"))),
        ("TRACE", &[405], to(&format!("TRACE {path} HTTP/1.1"))),
        (
            "a stream of no session",
            &[400, 405],
            place.request(
                &format!("GET {path} HTTP/1.1"),
                "Accept: text/event-stream\r\nLast-Event-ID: ../../x",
                b"",
            ),
        ),
        (
            "the same with a body",
            &[400, 405],
            to(&format!("GET {path} HTTP/1.1")),
        ),
        (
            "an event that is no text",
            BAD,
            place.request(&format!("GET {path} HTTP/1.1"), "Last-Event-ID: \x01\x7f", b""),
        ),
        ("a forged session", &[404], also("Mcp-Session-Id: forged")),
        ("an empty session", &[404], also("Mcp-Session-Id: ")),
        (
            "a session that is no text",
            &[404],
            [
                format!("{line}\r\nHost: {host}\r\nConnection: close\r\nMcp-Session-Id: ").as_bytes(),
                b"\xff\r\n",
                sized.as_bytes(),
                b"\r\n\r\n",
                body,
            ]
            .concat(),
        ),
        (
            "two sessions",
            BAD,
            also("Mcp-Session-Id: a\r\nMcp-Session-Id: b"),
        ),
        (
            "a long session",
            &[404],
            also(&format!("Mcp-Session-Id: {}", "A".repeat(20_000))),
        ),
        (
            "a stream of a forged session",
            &[404],
            place.request(
                &format!("GET {path} HTTP/1.1"),
                "Accept: text/event-stream\r\nMcp-Session-Id: forged\r\nLast-Event-ID: 1",
                b"",
            ),
        ),
        (
            "the end of a forged session",
            &[404],
            place.request(&format!("DELETE {path} HTTP/1.1"), "Mcp-Session-Id: forged", b""),
        ),
        (
            "a revision that nobody speaks",
            BAD,
            also("Mcp-Protocol-Version: junk"),
        ),
    ]
}
