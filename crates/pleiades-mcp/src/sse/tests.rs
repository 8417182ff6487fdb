use super::*;

fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
    let mut parser = Parser::new(1024);
    let mut out = Vec::new();
    for chunk in chunks {
        parser.push(chunk).expect("within bounds");
        while let Some(frame) = parser.next() {
            out.push(frame);
        }
    }
    out
}

fn data(text: &str) -> Frame {
    Frame {
        data: text.into(),
        ..Frame::default()
    }
}

#[test]
fn every_line_ending_ends_a_line() {
    for text in [
        "data: a\ndata: b\n\n",
        "data: a\r\ndata: b\r\n\r\n",
        "data: a\rdata: b\r\r",
        "data: a\r\ndata: b\n\r\n",
    ] {
        assert_eq!(frames(&[text.as_bytes()]), [data("a\nb")], "{text:?}");
    }
}

#[test]
fn the_cut_between_chunks_does_not_matter() {
    let text = b"\xef\xbb\xbf: hello\r\nevent: message\r\nid: 7\r\nretry: 1500\r\ndata: {\"a\":\r\ndata:1}\r\n\r\ndata: z\n\n";
    let whole = frames(&[text]);
    assert_eq!(whole.len(), 2);
    assert_eq!(
        whole[0],
        Frame {
            event: Some("message".into()),
            data: "{\"a\":\n1}".into(),
            id: Some("7".into()),
            retry: Some(Duration::from_millis(1500)),
        }
    );
    for at in 0..text.len() {
        assert_eq!(frames(&[&text[..at], &text[at..]]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(frames(&bytes), whole);
}

#[test]
fn only_one_space_after_the_colon_is_dropped() {
    assert_eq!(frames(&[b"data:  a \n\n"]), [data(" a ")]);
    assert_eq!(frames(&[b"data\n\n"]), [data("")]);
}

#[test]
fn comments_unknown_fields_and_bad_values_are_ignored() {
    assert_eq!(
        frames(&[b": ping\n\nfoo: bar\nretry: soon\nid: a\0b\n\n:\n\n"]),
        []
    );
    assert_eq!(frames(&[b"event: x\n\ndata: a\n\n"]), [data("a")]);
}

#[test]
fn an_id_or_a_retry_time_alone_is_handed_out() {
    let frame = Frame {
        id: Some("1".into()),
        ..Frame::default()
    };
    assert_eq!(frames(&[b"id: 1\n\n"]), [frame]);
}

#[test]
fn an_unfinished_event_is_not_handed_out() {
    assert_eq!(frames(&[b"data: a\n"]), []);
}

#[test]
fn an_event_over_the_bound_is_refused_whether_in_one_line_or_in_many() {
    let refused = |text: &[u8]| {
        let mut parser = Parser::new(16);
        parser.push(text).map_err(|error| error.code)
    };
    assert_eq!(refused(b"data: 123456789012"), Err(Code::UpstreamProtocol));
    assert_eq!(
        refused(b"data: 1\ndata: 2\ndata: 3\n"),
        Err(Code::UpstreamProtocol)
    );
    assert_eq!(refused(b"data: 1\n\ndata: 2\n\ndata: 3\n\n"), Ok(()));
    assert_eq!(refused(b"data: \xff\n"), Err(Code::UpstreamProtocol));
}

#[test]
fn a_frame_that_is_written_can_be_read() {
    assert_eq!(&frame(b"{\"a\":1}")[..], b"event: message\ndata: {\"a\":1}\n\n");
    let text = b"{\n \"a\": 1\r\n}";
    let read = frames(&[&frame(text)]);
    let value: serde_json::Value = serde_json::from_str(&read[0].data).expect("JSON");
    assert_eq!(value, serde_json::json!({"a": 1}));
    assert_eq!(frames(&[COMMENT]), []);
}
