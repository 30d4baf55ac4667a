//! `pubg1 stream run`: a query over a file, by the engine that runs in a cluster.

use std::{path::PathBuf, sync::Arc, time::Instant};

use clap::Args;
use indicatif::ProgressBar;
use pubg1_model::streams::{
    document::Start,
    engine::{InputRecord as EngineRecord, Output, WindowEngine},
    plan::{Emit, Plan},
};

use super::{
    QueryArgs,
    input::{InputArgs, Partitions, engine_record},
    outcome,
    rows::{LateWriter, RowWriter},
};
use crate::{
    error::CommandError,
    input::{self, InputRecord},
    terminal::Terminal,
};

/// `pubg1 stream run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What is read.
    #[command(flatten)]
    pub input: InputArgs,
    /// What is computed.
    #[command(flatten)]
    pub query: QueryArgs,
    /// Write the records that are in no window to this file, with the reason
    #[arg(long, value_name = "FILE")]
    pub late: Option<PathBuf>,
}

/// Runs the query until the input ends.
///
/// # Errors
/// The query's, the input's, and [`CommandError::Failed`] when the state exceeds its limit.
pub(super) fn run(terminal: Terminal, args: &RunArgs) -> Result<(), CommandError> {
    let document = args.query.document()?;
    if document.start != Start::Earliest {
        let message = "a file is read from its beginning: leave `start` out";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let plan = Arc::new(document.plan);
    let options = args.input.options(&plan)?;
    let mut run = Run::start(terminal, args, Arc::clone(&plan))?;
    let mut chunks = input::start(args.input.path(), options)?;
    while let Some(chunk) = chunks.blocking_recv() {
        run.take(chunk?)?;
    }
    run.finish(terminal)
}

struct Run {
    plan: Arc<Plan>,
    engine: WindowEngine,
    partitions: Partitions,
    partition_count: u32,
    rows: RowWriter,
    late: LateWriter,
    bar: ProgressBar,
    /// Reused from chunk to chunk.
    out: Output,
    updated: Instant,
}

impl Run {
    fn start(terminal: Terminal, args: &RunArgs, plan: Arc<Plan>) -> Result<Self, CommandError> {
        let partition_count = args.input.partitions;
        let partitions = Partitions::new(partition_count);
        let engine = WindowEngine::new(Arc::clone(&plan), &partitions.numbers());
        let engine = engine.map_err(|error| CommandError::Usage(error.to_string()))?;
        Ok(Self {
            engine,
            partitions,
            partition_count,
            rows: RowWriter::new(terminal, &plan),
            late: LateWriter::create(args.late.as_deref())?,
            bar: terminal.progress(0, "records"),
            plan,
            out: Output::default(),
            updated: Instant::now(),
        })
    }

    fn take(&mut self, chunk: Vec<InputRecord>) -> Result<(), CommandError> {
        self.bar.inc(chunk.len() as u64);
        for record in chunk {
            self.partitions.push(record);
        }
        for (partition, first_offset, records) in self.partitions.drain() {
            let numbered = (first_offset..).zip(&records);
            let fed: Vec<EngineRecord<'_>> =
                numbered.map(|(offset, record)| engine_record(record, offset, &self.plan)).collect();
            self.engine.feed(partition, &fed, &mut self.out);
            for diverted in self.out.diverted.drain(..) {
                let place = diverted.offset.checked_sub(first_offset).and_then(|place| usize::try_from(place).ok());
                if let Some(record) = place.and_then(|place| records.get(place)) {
                    self.late.write(diverted.partition, diverted.offset, diverted.reason, record)?;
                }
            }
        }
        if let Emit::Updates { interval_ms } | Emit::FinalAndUpdates { interval_ms } = self.plan.emit
            && self.updated.elapsed().as_millis() >= u128::from(interval_ms.unsigned_abs())
        {
            self.engine.emit_updates(&mut self.out);
            self.updated = Instant::now();
        }
        if self.engine.is_over_memory() {
            let limit = self.plan.memory_max_bytes >> 20;
            let message = format!("the open windows take more than the query's limit of {limit} MiB of memory");
            return Err(CommandError::Failed(message));
        }
        self.print()
    }

    fn print(&mut self) -> Result<(), CommandError> {
        let rows = std::mem::take(&mut self.out.rows);
        self.rows.write(&rows, &self.plan)
    }

    fn finish(mut self, terminal: Terminal) -> Result<(), CommandError> {
        self.engine.finish(&mut self.out);
        self.bar.finish_and_clear();
        self.print()?;
        let stats = self.engine.stats();
        let count = self.rows.finish(terminal, &self.plan)?;
        self.late.finish()?;
        let text = if terminal.json() {
            outcome::as_json(&stats, count, self.partition_count).to_string()
        } else {
            outcome::as_text(&stats, count)
        };
        terminal.note(&text);
        Ok(())
    }
}
