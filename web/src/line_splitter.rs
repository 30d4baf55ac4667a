//! Cuts a stream of bytes into lines of bounded length, wherever the chunks begin and end.

use bytes::{Bytes, BytesMut};

/// A line longer than allowed. The stream cannot go on: where the next line begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTooLong;

/// Collects chunks and gives out the lines that are complete.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line break.
    scanned: usize,
    line_bytes_max: usize,
}

impl LineSplitter {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, line_bytes_max }
    }

    /// Adds the next bytes of the stream.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Bytes that wait to be given out.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete line, without its `\n` or `\r\n`; it shares the buffer's memory.
    pub(crate) fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        let Some(at) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n') else {
            self.scanned = self.buffer.len();
            // One byte more, because the line may end in `\r`.
            return if self.scanned > self.line_bytes_max + 1 { Err(LineTooLong) } else { Ok(None) };
        };
        let end = self.scanned + at;
        self.scanned = 0;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(end);
        self.checked(line).map(Some)
    }

    /// What is left at the end of the stream: the last line when it has no line break.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        self.scanned = 0;
        let line = std::mem::take(&mut self.buffer);
        if line.is_empty() { Ok(None) } else { self.checked(line).map(Some) }
    }

    fn checked(&self, mut line: BytesMut) -> Result<Bytes, LineTooLong> {
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.line_bytes_max { Err(LineTooLong) } else { Ok(line.freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(stream: &[u8], step: usize, max: usize) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut splitter = LineSplitter::new(max);
        let mut lines = Vec::new();
        for chunk in stream.chunks(step) {
            splitter.push(chunk);
            while let Some(line) = splitter.next_line()? {
                lines.push(line.to_vec());
            }
        }
        lines.extend(splitter.finish()?.map(|line| line.to_vec()));
        Ok(lines)
    }

    #[test]
    fn a_line_at_the_limit_passes_and_a_longer_one_does_not() {
        for step in [1, 3, 100] {
            assert_eq!(split(b"12345\r\n12345\n12345", step, 5).unwrap().len(), 3);
            assert_eq!(split(b"12345\n123456\n", step, 5), Err(LineTooLong));
            assert_eq!(split(b"12345\n123456", step, 5), Err(LineTooLong));
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_stream_is_cut(
            lines in proptest::collection::vec("[a-z]{0,9}", 0..20), step in 1..40_usize, crlf: bool,
        ) {
            let stream: String = lines.iter().map(|line| format!("{line}{}", if crlf { "\r\n" } else { "\n" })).collect();
            let expected: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            prop_assert_eq!(split(stream.as_bytes(), step, 9).unwrap(), expected);
        }
    }
}
