//! Windows for readers, as they are now.

use super::{Task, TaskError, stage::Stage};
use crate::{Offset, streams::engine::Row};

impl Task {
    /// The rows of windows that overlap a span of time: of closed ones that are kept, and of open ones as they are now.
    /// A first stage has none: see [`Task::open_partials`]. A second stage knows of open windows only what was handed
    /// on: see [`Task::read_windows_with`].
    ///
    /// It is the state in memory; [`Task::is_clean`] says whether that is committed.
    #[must_use]
    pub fn read_windows(&mut self, from_ms: i64, to_ms: i64, closed: bool, open: bool) -> Vec<Row> {
        let rows = match &mut self.stage {
            Stage::Whole(engine, _) => return engine.read(from_ms, to_ms, closed, open),
            Stage::First(_) => Vec::new(),
            Stage::Merge(stage) => stage.read(closed, open),
        };
        within(rows, from_ms, to_ms)
    }

    /// What a first stage has open, for a shard of the second. Other tasks have nothing.
    #[must_use]
    pub fn open_partials(&mut self, shard: u32, from_ms: i64, to_ms: i64) -> Vec<u8> {
        match &mut self.stage {
            Stage::First(stage) => stage.open(from_ms, to_ms).encode(shard, self.spec.shards),
            Stage::Whole(..) | Stage::Merge(_) => Vec::new(),
        }
    }

    /// Like [`Task::read_windows`], open windows included; `open` is what the tasks of the first stage gave for this
    /// shard, each with its partition. The task stays as it is.
    ///
    /// # Errors
    /// [`TaskError::Partial`] when a part is damaged, or not of this stream.
    pub fn read_windows_with(
        &mut self,
        from_ms: i64,
        to_ms: i64,
        closed: bool,
        open: &[(u32, Vec<u8>)],
    ) -> Result<Vec<Row>, TaskError> {
        let Stage::Merge(stage) = &self.stage else { return Ok(self.read_windows(from_ms, to_ms, closed, true)) };
        let rows = stage.read_with(closed, open).map_err(|_| TaskError::Partial { offset: Offset::MAX })?;
        Ok(within(rows, from_ms, to_ms))
    }
}

fn within(mut rows: Vec<Row>, from_ms: i64, to_ms: i64) -> Vec<Row> {
    rows.retain(|row| row.window_start_ms <= to_ms && from_ms <= row.window_end_ms);
    rows
}
