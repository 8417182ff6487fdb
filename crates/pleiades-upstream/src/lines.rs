//! Lines of a pipe, however long the other side makes them.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Bytes kept of the end of a line that is too long.
const TAIL: usize = 256;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadLine {
    /// A line, without its end.
    Whole,
    /// A line whose rest was thrown away but for its last bytes.
    TooLong(Vec<u8>),
    End,
}

/// Reads one line of at most `limit` bytes into `buffer`.
pub(crate) async fn next_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> io::Result<ReadLine> {
    buffer.clear();
    let mut tail: Option<Vec<u8>> = None;
    let ended = |tail: Option<Vec<u8>>| tail.map_or(ReadLine::Whole, ReadLine::TooLong);
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(if buffer.is_empty() {
                ReadLine::End
            } else {
                ended(tail)
            });
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let piece = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        let room = limit.saturating_sub(buffer.len());
        if tail.is_some() || piece.len() > room {
            let tail = tail.get_or_insert_default();
            tail.extend_from_slice(piece.get(piece.len().saturating_sub(TAIL)..).unwrap_or_default());
            tail.drain(..tail.len().saturating_sub(TAIL));
        }
        buffer.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        let used = end.map_or(available.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(ended(tail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &str, limit: usize) -> Vec<(ReadLine, String)> {
        let mut reader = tokio::io::BufReader::with_capacity(4, text.as_bytes());
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        loop {
            match next_line(&mut reader, &mut buffer, limit).await.unwrap() {
                ReadLine::End => return found,
                line => found.push((line, String::from_utf8(buffer.clone()).unwrap())),
            }
        }
    }

    #[tokio::test]
    async fn lines_come_whole_across_buffers_and_without_a_last_newline() {
        let found = lines("first line\n\nlast", 100).await;
        let whole = |text: &str| (ReadLine::Whole, text.to_owned());
        assert_eq!(found, [whole("first line"), whole(""), whole("last")]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_cut_and_the_next_one_is_intact() {
        let found = lines("0123456789\nok\n", 6).await;
        assert_eq!(
            found,
            [
                (ReadLine::TooLong(b"456789".to_vec()), "012345".to_owned()),
                (ReadLine::Whole, "ok".to_owned())
            ]
        );
    }
}
