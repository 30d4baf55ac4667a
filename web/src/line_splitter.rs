//! Cuts a stream of bytes into lines of bounded length, wherever the chunks begin and end.

use bytes::{Buf, Bytes, BytesMut};

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The line without its `\n` or `\r\n`.
    Whole(Bytes),
    /// A line longer than allowed. Its bytes are dropped as they come.
    TooLong,
}

/// Collects chunks and gives out the lines that are complete.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line break.
    scanned: usize,
    line_bytes_max: usize,
    /// The line that was too long has not ended yet.
    dropping: bool,
}

impl LineSplitter {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, line_bytes_max, dropping: false }
    }

    /// Adds the next bytes of the stream.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete line; it shares the buffer's memory. A line is given out as too long as
    /// soon as that is known.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        loop {
            let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
            let Some(at) = found else {
                self.scanned = self.buffer.len();
                if self.dropping {
                    self.buffer.clear();
                    self.scanned = 0;
                } else if self.scanned > self.line_bytes_max + 1 {
                    // One byte more than the limit could still be a `\r`.
                    self.dropping = true;
                    return Some(Line::TooLong);
                }
                return None;
            };
            let end = std::mem::take(&mut self.scanned) + at;
            if std::mem::take(&mut self.dropping) {
                self.buffer.advance(end + 1);
                continue;
            }
            let mut line = self.buffer.split_to(end + 1);
            line.truncate(end);
            return Some(self.checked(line));
        }
    }

    /// What is left at the end of the stream: the last line when it has no line break.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        self.scanned = 0;
        let line = std::mem::take(&mut self.buffer);
        if line.is_empty() || std::mem::take(&mut self.dropping) { None } else { Some(self.checked(line)) }
    }

    fn checked(&self, mut line: BytesMut) -> Line {
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.line_bytes_max { Line::TooLong } else { Line::Whole(line.freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(stream: &[u8], step: usize, max: usize) -> Vec<Line> {
        let mut splitter = LineSplitter::new(max);
        let mut lines = Vec::new();
        for chunk in stream.chunks(step) {
            splitter.push(chunk);
            while let Some(line) = splitter.next_line() {
                lines.push(line);
            }
            assert!(splitter.buffer.len() <= max + step + 1, "what is buffered is bounded");
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn a_line_at_the_limit_passes_and_a_longer_one_is_dropped_alone() {
        let whole = |text: &'static str| Line::Whole(Bytes::from_static(text.as_bytes()));
        for step in [1, 3, 100] {
            let lines = split(b"12345\r\n123456\nabc\n123456789012345\n12345", step, 5);
            assert_eq!(lines, [whole("12345"), Line::TooLong, whole("abc"), Line::TooLong, whole("12345")], "{step}");
            assert_eq!(split(b"12345\n123456789", step, 5), [whole("12345"), Line::TooLong], "{step}");
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_stream_is_cut(
            lines in proptest::collection::vec("[a-z]{0,14}", 0..20), step in 1..40_usize, crlf: bool,
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let stream: String = lines.iter().map(|line| format!("{line}{end}")).collect();
            let expected: Vec<Line> = lines
                .iter()
                .map(|line| if line.len() > 9 { Line::TooLong } else { Line::Whole(line.clone().into()) })
                .collect();
            prop_assert_eq!(split(stream.as_bytes(), step, 9), expected);
        }
    }
}
