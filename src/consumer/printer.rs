//! Prints what a consumer gives, line by line, and says when there is nothing to print.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use pubg1_model::{
    PartitionId,
    record_batch::{BatchError, RecordView},
};
use tokio::sync::mpsc;

use super::{Event, FetchedRun, Span};
use crate::{
    error::CommandError,
    terminal::{Terminal, grouped},
};

/// What is printed is handed on when it has so many bytes, and before every wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// How a record of a partition is written, with the end of its line.
pub type WriteRecord<'a> = dyn Fn(PartitionId, &RecordView<'_>, &mut Vec<u8>) -> Result<(), BatchError> + 'a;

/// Prints to standard output; what it has to say beside goes to standard error.
#[derive(Debug)]
pub struct Printer {
    terminal: Terminal,
    /// What it counts, as it is said.
    unit: &'static str,
    left: u64,
    printed: u64,
    buffer: Vec<u8>,
    open: BTreeSet<PartitionId>,
    waiting: BTreeSet<PartitionId>,
    said_waiting: bool,
    disturbed: bool,
}

impl Printer {
    /// One that prints so many lines at most.
    #[must_use]
    pub fn new(terminal: Terminal, unit: &'static str, limit: Option<u64>) -> Self {
        Self {
            terminal,
            unit,
            left: limit.unwrap_or(u64::MAX),
            printed: 0,
            buffer: Vec::new(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            said_waiting: false,
            disturbed: false,
        }
    }

    /// How many lines it still prints.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Prints the records of these spans until they end, or enough is printed.
    ///
    /// # Errors
    /// Why reading is over, or [`CommandError::Stdout`] when nobody reads.
    pub async fn follow(
        &mut self,
        spans: &[Span],
        mut events: mpsc::Receiver<Event>,
        write: &WriteRecord<'_>,
    ) -> Result<(), CommandError> {
        self.open = spans.iter().map(|span| span.partition).collect();
        while self.left > 0 {
            let event = match events.try_recv() {
                Ok(event) => event,
                Err(_) => {
                    // Nothing more is there at the moment: show what there is before waiting.
                    self.flush()?;
                    match events.recv().await {
                        Some(event) => event,
                        None => return Ok(()),
                    }
                }
            };
            self.take(event, write)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event, write: &WriteRecord<'_>) -> Result<(), CommandError> {
        match event {
            Event::Batches(run) => {
                self.waiting.remove(&run.partition);
                if std::mem::take(&mut self.disturbed) {
                    self.terminal.note("the broker answers again");
                }
                self.print(&run, write)?;
            }
            Event::Ended(partition) => {
                self.open.remove(&partition);
            }
            Event::Waiting(partition) => {
                self.waiting.insert(partition);
                if self.waiting == self.open {
                    self.say_waiting();
                }
            }
            Event::Disturbed(_, reason) => {
                if !std::mem::replace(&mut self.disturbed, true) {
                    self.terminal.note(&format!("{reason}; trying again"));
                }
            }
            Event::Skipped { partition, from, to } => {
                let text = format!("partition {partition}: offsets {from} to {to} were deleted before they were read");
                self.terminal.note(&text);
            }
            Event::Failed(_, error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Says once that there is nothing more at the moment.
    pub fn say_waiting(&mut self) {
        if !std::mem::replace(&mut self.said_waiting, true) {
            let (printed, unit) = (grouped(self.printed), self.unit);
            self.terminal.note(&format!("{printed} {unit}; waiting for more (Ctrl-C ends)"));
        }
    }

    fn print(&mut self, run: &FetchedRun, write: &WriteRecord<'_>) -> Result<(), CommandError> {
        let undecodable = |error: BatchError| {
            CommandError::Failed(format!("partition {}, after offset {}: {error}", run.partition, run.from))
        };
        let mut result = Ok(());
        let decoded = run.each(&mut |record| {
            let written = write(run.partition, record, &mut self.buffer).map_err(undecodable);
            result = written.and_then(|()| self.printed_one());
            self.left > 0 && result.is_ok()
        });
        decoded.map_err(undecodable).and(result)
    }

    /// Prints a line.
    ///
    /// # Errors
    /// [`CommandError::Stdout`] when nobody reads.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), CommandError> {
        write(&mut self.buffer);
        self.printed_one()
    }

    fn printed_one(&mut self) -> Result<(), CommandError> {
        self.left = self.left.saturating_sub(1);
        self.printed += 1;
        if self.buffer.len() > BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands on what is printed.
    ///
    /// # Errors
    /// [`CommandError::Stdout`] when nobody reads.
    pub fn flush(&mut self) -> Result<(), CommandError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(&self.buffer).and_then(|()| out.flush()).map_err(CommandError::Stdout)?;
        self.buffer.clear();
        Ok(())
    }
}
