//! The lines of a request body, as many as have arrived.

use actix_web::{dev::Payload, http::header::HeaderMap};
use futures_util::{FutureExt, StreamExt};

use crate::{
    body::next_chunk,
    encoding::{Coding, Inflater},
    error::ApiError,
    limits::Limits,
    line_splitter::{Line, LineSplitter},
};

/// A line that is not blank, and its number in the body, from 1.
#[derive(Debug)]
pub(crate) struct NumberedLine {
    pub(crate) number: u64,
    pub(crate) line: Line,
}

/// A request body, cut into lines.
pub(crate) struct Source {
    payload: Payload,
    inflater: Option<Inflater>,
    splitter: LineSplitter,
    limits: Limits,
    line_number: u64,
    ended: bool,
}

impl Source {
    pub(crate) fn new(payload: Payload, headers: &HeaderMap, limits: &Limits) -> Result<Self, ApiError> {
        let inflater = Coding::of_request(headers)?
            .map(|coding| Inflater::new(coding, limits.decompressed_bytes_max))
            .transpose()?;
        let limits = Limits { body_stall_timeout: limits.line_stall_timeout, ..limits.clone() };
        let splitter = LineSplitter::new(limits.line_bytes_max);
        Ok(Self { payload, inflater, splitter, limits, line_number: 0, ended: false })
    }

    /// The number of the line read last.
    pub(crate) const fn line_number(&self) -> u64 {
        self.line_number
    }

    /// The lines that have arrived, but at least one; none at the end of the body.
    pub(crate) async fn next_lines(&mut self) -> Result<Vec<NumberedLine>, ApiError> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        loop {
            while lines.len() < self.limits.group_lines_max && bytes < self.limits.group_bytes_max {
                let Some(line) = self.next_line() else { break };
                if let Line::Whole(line) = &line.line {
                    bytes += line.len();
                }
                lines.push(line);
            }
            let full = lines.len() >= self.limits.group_lines_max || bytes >= self.limits.group_bytes_max;
            if full || self.ended {
                return Ok(lines);
            }
            if lines.is_empty() {
                let chunk = next_chunk(&mut self.payload, &self.limits).await?;
                self.take(chunk.as_deref())?;
                continue;
            }
            match self.payload.next().now_or_never() {
                None => return Ok(lines),
                Some(Some(Ok(chunk))) => self.take(Some(&chunk))?,
                Some(None) => self.take(None)?,
                // The lines are whole and get their answer; the error comes back with the next call.
                Some(Some(Err(_))) => return Ok(lines),
            }
        }
    }

    fn take(&mut self, chunk: Option<&[u8]>) -> Result<(), ApiError> {
        match (&mut self.inflater, chunk) {
            (None, Some(chunk)) => self.splitter.push(chunk),
            (Some(inflater), Some(chunk)) => {
                inflater.push(chunk)?;
                self.splitter.push(&inflater.take());
            }
            (inflater, None) => {
                self.ended = true;
                if let Some(inflater) = inflater {
                    self.splitter.push(&inflater.finish()?);
                }
            }
        }
        Ok(())
    }

    /// The next line that is not blank.
    fn next_line(&mut self) -> Option<NumberedLine> {
        loop {
            let line = match self.splitter.next_line() {
                Some(line) => line,
                None if self.ended => self.splitter.finish()?,
                None => return None,
            };
            self.line_number += 1;
            let blank = matches!(&line, Line::Whole(line) if line.iter().all(u8::is_ascii_whitespace));
            if !blank {
                return Some(NumberedLine { number: self.line_number, line });
            }
        }
    }
}
