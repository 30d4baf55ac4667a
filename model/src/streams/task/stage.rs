//! The part of the engine that a task runs.

use std::sync::Arc;

use super::{TaskKind, TaskSpec};
use crate::streams::{
    engine::{InputRecord, Open, Output, RestoreError, Stats, TimeAdvance, WindowEngine},
    partition::PartitionWindows,
    plan::PlanError,
    stages::{MergeStage, PartialBatch, PartitionStage},
};

/// The bytes that the pieces of a snapshot have, about.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) enum Stage {
    Whole(Box<WindowEngine>, u32),
    First(Box<PartitionStage>),
    Merge(Box<MergeStage>),
}

impl Stage {
    pub(super) fn new(spec: &TaskSpec) -> Result<Self, PlanError> {
        let plan = Arc::clone(&spec.plan);
        Ok(match spec.kind {
            TaskKind::Whole { partition } => Self::Whole(Box::new(WindowEngine::new(plan, &[partition])?), partition),
            TaskKind::First { partition } => Self::First(Box::new(PartitionStage::new(plan, partition)?)),
            TaskKind::Merge { .. } => {
                let inputs: Vec<u32> = (0..spec.inputs).collect();
                Self::Merge(Box::new(MergeStage::new(plan, &inputs)?))
            }
        })
    }

    pub(super) fn track_changes(&mut self) {
        match self {
            Self::Whole(engine, _) => engine.track_changes(),
            Self::First(stage) => stage.track_changes(),
            Self::Merge(stage) => stage.track_changes(),
        }
    }

    /// The windows of the partition; a second stage has none of its own.
    pub(super) fn windows(&self) -> Option<&PartitionWindows> {
        match self {
            Self::Whole(engine, partition) => engine.windows_of(*partition),
            Self::First(stage) => Some(stage.windows()),
            Self::Merge(_) => None,
        }
    }

    pub(super) fn start_at(&mut self, offset: u64) {
        match self {
            Self::Whole(engine, partition) => engine.start_at(*partition, offset),
            Self::First(stage) => stage.start_at(offset),
            Self::Merge(_) => {}
        }
    }

    /// Takes records of the input. What a first stage hands on is the result.
    pub(super) fn feed(&mut self, records: &[InputRecord<'_>], out: &mut Output) -> Option<PartialBatch> {
        match self {
            Self::Whole(engine, partition) => {
                engine.feed(*partition, records, out);
                None
            }
            Self::First(stage) => Some(stage.feed(records, &mut out.diverted)),
            Self::Merge(_) => None,
        }
    }

    /// Takes a partial result. Only a second stage does.
    pub(super) fn accept(&mut self, partition: u32, batch: &[u8], out: &mut Output) -> Result<(), RestoreError> {
        match self {
            Self::Merge(stage) => stage.accept(partition, batch, out),
            Self::Whole(..) | Self::First(_) => Err(RestoreError("only a second stage takes partial results")),
        }
    }

    pub(super) fn advance(&mut self, before_offset: u64, watermark_ms: i64, out: &mut Output) -> Option<PartialBatch> {
        match self {
            Self::Whole(engine, partition) => {
                engine.advance(TimeAdvance { partition: *partition, before_offset, watermark_ms }, out);
                None
            }
            Self::First(stage) => Some(stage.advance(watermark_ms)),
            Self::Merge(_) => None,
        }
    }

    pub(super) fn finish(&mut self, out: &mut Output) -> Option<PartialBatch> {
        match self {
            Self::Whole(engine, _) => {
                engine.finish(out);
                None
            }
            Self::First(stage) => Some(stage.finish()),
            Self::Merge(_) => None,
        }
    }

    pub(super) fn updates(&mut self, out: &mut Output) -> Option<PartialBatch> {
        match self {
            Self::Whole(engine, _) => {
                engine.emit_updates(out);
                None
            }
            Self::First(stage) => Some(stage.updates()),
            Self::Merge(stage) => {
                stage.emit_updates(out);
                None
            }
        }
    }

    /// What tells a second stage the time, and nothing else.
    pub(super) fn time(&self) -> Option<PartialBatch> {
        match self {
            Self::First(stage) => Some(stage.time()),
            Self::Whole(..) | Self::Merge(_) => None,
        }
    }

    pub(super) fn watermark_ms(&self) -> Option<i64> {
        match self {
            Self::Whole(engine, _) => engine.watermark_ms(),
            Self::First(stage) => stage.watermark_ms(),
            Self::Merge(stage) => stage.watermark_ms(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Whole(engine, _) => engine.stats(),
            Self::First(stage) => stage.stats(),
            Self::Merge(stage) => Stats { late_merges: stage.late_merges(), ..Stats::default() },
        }
    }

    pub(super) fn open(&self) -> Open {
        match self {
            Self::Whole(engine, _) => engine.open(),
            Self::First(stage) => {
                let windows = stage.windows();
                Open { windows: windows.open_count(), groups: windows.group_count(), waiting: 0 }
            }
            Self::Merge(stage) => Open { waiting: stage.open_count(), ..Open::default() },
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Whole(engine, _) => engine.memory_bytes(),
            Self::First(stage) => stage.memory_bytes(),
            Self::Merge(stage) => stage.memory_bytes(),
        }
    }

    pub(super) fn changes(&mut self) -> Vec<u8> {
        match self {
            Self::Whole(engine, _) => engine.changes(),
            Self::First(stage) => stage.changes(),
            Self::Merge(stage) => stage.changes(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Vec<Vec<u8>> {
        match self {
            Self::Whole(engine, _) => engine.snapshot(PIECE_BYTES),
            Self::First(stage) => stage.snapshot(PIECE_BYTES),
            Self::Merge(stage) => stage.snapshot(PIECE_BYTES),
        }
    }

    pub(super) fn apply_changes(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        match self {
            Self::Whole(engine, _) => engine.apply_changes(piece),
            Self::First(stage) => stage.apply_changes(piece),
            Self::Merge(stage) => stage.apply_changes(piece),
        }
    }
}
