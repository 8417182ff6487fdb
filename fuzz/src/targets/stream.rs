//! Event streams: the frames do not depend on how their bytes are cut, and are those of the
//! standard.

use std::time::Duration;

use pleiades_mcp::sse::{self, Frame, Parser};

pub fn holds(data: &[u8]) {
    let mut rest = data;
    let (limit, cut) = (number(&mut rest), number(&mut rest));
    let limit = if limit == 0 { 1 << 20 } else { limit * 8 };
    let whole = parsed(limit, [rest]);
    assert_eq!(whole, parsed(limit, rest.chunks(1)), "byte by byte");
    assert_eq!(
        whole,
        parsed(limit, rest.chunks(cut.max(2))),
        "in pieces of {cut}"
    );
    for frame in &whole.0 {
        assert!(frame.data.len() <= limit, "an event of more than {limit} bytes");
    }
    if let (true, Ok(text)) = (whole.1, std::str::from_utf8(rest)) {
        assert_eq!(whole.0, expected(text), "as the standard reads it");
    }
    written(rest);
}

use super::number;

/// The frames, and whether the stream was read to its end.
fn parsed<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let (mut parser, mut frames, mut sound) = (Parser::new(limit), Vec::new(), true);
    for piece in pieces {
        sound = parser.push(piece).is_ok();
        frames.extend(std::iter::from_fn(|| parser.next()));
        if !sound {
            break;
        }
    }
    (frames, sound)
}

/// The algorithm of the HTML standard over a whole text, with our one exception: a frame without
/// data counts when it carries an id or a retry time.
fn expected(text: &str) -> Vec<Frame> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let Some((complete, _)) = text.rsplit_once('\n') else {
        return Vec::new();
    };
    let (mut frames, mut frame, mut data) = (Vec::new(), Frame::default(), None::<String>);
    for line in complete.split('\n') {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                let mut done = std::mem::take(&mut frame);
                let has_data = data.is_some();
                done.data = data.take().unwrap_or_default();
                if has_data || done.id.is_some() || done.retry.is_some() {
                    frames.push(done);
                }
            }
            "data" => {
                data = Some(match data.take() {
                    Some(before) => format!("{before}\n{value}"),
                    None => value.to_owned(),
                });
            }
            "event" => frame.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => frame.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                frame.retry = value.parse().ok().map(Duration::from_millis).or(frame.retry);
            }
            _ => {}
        }
    }
    frames
}

/// What we write is read back as one event whose lines are those of the data.
fn written(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (frames, sound) = parsed(usize::MAX / 2, [&*sse::frame(data)]);
    assert!(sound && frames.len() == 1, "one event");
    assert_eq!(frames[0].data, text.replace('\r', "\n"));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 10] = [
        b"event: message\ndata: {\"a\":1}\n\n",
        b"id: 1\nretry: 3000\ndata:\n\ndata: x\ndata: y\n\n",
        b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\rdata: c\n\n",
        b": ping\n\nevent: endpoint\ndata: /messages?id=1\n\n",
        b"data\n\ndata:\ndata\n\ndata:  two\n\n",
        b"id: a\0b\nid\nretry: 1x\nretry: 99999999999999999999\n\n",
        b"data: \xff\n\n",
        b"data: not ended",
        b"event: a\nevent: b\n\nid: 7\n\n",
        b"retry:\n\nretry: 0\n\n",
    ];
    let shaped = |(at, stream): (usize, &&[u8])| [&[0, u8::try_from(at).expect("few")], *stream].concat();
    let mut seeds: Vec<Vec<u8>> = streams.iter().enumerate().map(shaped).collect();
    seeds.push([&[2, 5][..], b"data: ", &[b'x'; 40]].concat());
    seeds.push([&[2, 5][..], &b"data: xxxxx\n".repeat(9)].concat());
    seeds
}
