//! Lines of a pipe, however long the other side makes them.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its end.
    Whole,
    /// A line whose rest was thrown away.
    TooLong,
    /// Nothing more comes.
    End,
}

/// Reads one line of at most `limit` bytes into `buffer`.
pub(crate) async fn next_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Line> {
    buffer.clear();
    let mut too_long = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            let line = if too_long { Line::TooLong } else { Line::Whole };
            return Ok(if buffer.is_empty() { Line::End } else { line });
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let piece = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        let room = limit.saturating_sub(buffer.len());
        too_long |= piece.len() > room;
        buffer.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        let used = end.map_or(available.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &str, limit: usize) -> Vec<(Line, String)> {
        let mut reader = tokio::io::BufReader::with_capacity(4, text.as_bytes());
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        loop {
            match next_line(&mut reader, &mut buffer, limit).await.unwrap() {
                Line::End => return found,
                line => found.push((line, String::from_utf8(buffer.clone()).unwrap())),
            }
        }
    }

    #[tokio::test]
    async fn lines_come_whole_across_buffers_and_without_a_last_newline() {
        let found = lines("first line\n\nlast", 100).await;
        let whole = |text: &str| (Line::Whole, text.to_owned());
        assert_eq!(found, [whole("first line"), whole(""), whole("last")]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_cut_and_the_next_one_is_intact() {
        let found = lines("0123456789\nok\n", 6).await;
        assert_eq!(
            found,
            [
                (Line::TooLong, "012345".to_owned()),
                (Line::Whole, "ok".to_owned())
            ]
        );
    }
}
