//! The records of a changelog.
//!
//! The bytes of a commit are cut in pieces, each the value of a record: a prefix of 19 bytes (version, kind, whether it
//! is the last one, leader epoch, number of the commit, number of the piece; little-endian) and what it holds. A commit
//! counts when all its pieces are there, one after the other; a piece that begins another one ends it unfinished.
//!
//! The bytes themselves are what the task knows beside its windows, the outputs as they are published, and the windows:
//! what has changed, in a snapshot all.

use std::collections::BTreeMap;

use super::{
    Progress, Task, TaskKind, TaskSpec,
    outbox::{OutputBatch, OutputTarget},
};
use crate::{
    LeaderEpoch, Offset, ProducerId,
    record_batch::Batch,
    streams::codec::{Damaged, Reader, put_i64, put_len, put_u64},
};

/// The version of the bytes.
const VERSION: u8 = 1;
/// The bytes of a piece's prefix.
const PREFIX_BYTES: usize = 19;
/// Where the mark of the last piece is.
const LAST_AT: usize = 2;
/// How much a piece holds.
#[cfg(not(test))]
const PIECE_BYTES: usize = 1 << 20;
/// So that commits of tests have several.
#[cfg(test)]
const PIECE_BYTES: usize = 700;

/// Kinds of commits: with what has changed, and with everything.
pub(super) const COMMIT: u8 = 1;
pub(super) const SNAPSHOT: u8 = 2;

/// Which commit a piece is of, and which of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceHead {
    pub(super) kind: u8,
    pub(super) epoch: LeaderEpoch,
    pub(super) number: u64,
    pub(super) index: u32,
    pub(super) is_last: bool,
}

/// Cuts the bytes of a commit.
pub(super) struct Cutter {
    head: PieceHead,
    done: Vec<Vec<u8>>,
    piece: Vec<u8>,
}

impl Cutter {
    pub(super) fn new(kind: u8, epoch: LeaderEpoch, number: u64) -> Self {
        let head = PieceHead { kind, epoch, number, index: 0, is_last: false };
        let mut cutter = Self { head, done: Vec::new(), piece: Vec::new() };
        cutter.begin();
        cutter
    }

    fn begin(&mut self) {
        let PieceHead { kind, epoch, number, index, .. } = self.head;
        self.piece.extend_from_slice(&[VERSION, kind, 0]);
        self.piece.extend_from_slice(&epoch.get().to_le_bytes());
        self.piece.extend_from_slice(&number.to_le_bytes());
        self.piece.extend_from_slice(&index.to_le_bytes());
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        loop {
            let room = (PREFIX_BYTES + PIECE_BYTES).saturating_sub(self.piece.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            self.done.push(std::mem::take(&mut self.piece));
            self.head.index += 1;
            self.begin();
            bytes = later;
        }
    }

    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        let mut length = Vec::with_capacity(10);
        put_len(bytes.len(), &mut length);
        self.put(&length);
        self.put(bytes);
    }

    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        self.piece[LAST_AT] = 1;
        self.done.push(self.piece);
        self.done
    }
}

/// What a record holds.
pub(super) fn read_piece(value: &[u8]) -> Result<(PieceHead, &[u8]), Damaged> {
    let (prefix, bytes) = value.split_first_chunk::<PREFIX_BYTES>().ok_or(Damaged)?;
    let [VERSION, kind @ (COMMIT | SNAPSHOT), last @ (0 | 1), e0, e1, e2, e3, rest @ ..] = *prefix else {
        return Err(Damaged);
    };
    let [n0, n1, n2, n3, n4, n5, n6, n7, i0, i1, i2, i3] = rest;
    let head = PieceHead {
        kind,
        epoch: LeaderEpoch::new(u32::from_le_bytes([e0, e1, e2, e3])),
        number: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
        index: u32::from_le_bytes([i0, i1, i2, i3]),
        is_last: last == 1,
    };
    Ok((head, bytes))
}

/// What a commit holds beside the windows.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) progress: Progress,
    pub(super) sequences: BTreeMap<(OutputTarget, u32), i32>,
    pub(super) published: u64,
    pub(super) outputs: Vec<OutputBatch>,
}

/// Which task it is: a changelog must not be read as that of another one.
const fn identity(spec: &TaskSpec) -> (u8, u32) {
    match spec.kind {
        TaskKind::Whole { partition } => (0, partition),
        TaskKind::First { partition } => (1, partition),
        TaskKind::Merge { shard } => (2, shard),
    }
}

fn put_option(value: Option<i64>, out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    put_i64(value.unwrap_or_default(), out);
}

fn option(reader: &mut Reader<'_>) -> Result<Option<i64>, Damaged> {
    let (is_there, value) = (reader.u8()? != 0, reader.i64()?);
    Ok(is_there.then_some(value))
}

fn offset(reader: &mut Reader<'_>) -> Result<Offset, Damaged> {
    reader.i64().and_then(|wire| Offset::from_wire(wire).ok_or(Damaged))
}

/// Writes everything but the windows.
pub(super) fn write_commit(task: &Task, outputs: &[OutputBatch], cutter: &mut Cutter) {
    let Progress { producer_id, end, position, last_record_ms, skipped, is_finished, told_watermark_ms } =
        &task.progress;
    let mut out = Vec::new();
    let (kind, place) = identity(&task.spec);
    out.push(kind);
    put_u64(u64::from(place), &mut out);
    put_i64(producer_id.map_or(-1, |producer| producer.0), &mut out);
    put_option(end.map(Offset::to_wire), &mut out);
    put_i64(position.to_wire(), &mut out);
    put_option(*last_record_ms, &mut out);
    put_u64(*skipped, &mut out);
    out.push(u8::from(*is_finished));
    put_option(*told_watermark_ms, &mut out);
    put_u64(task.published, &mut out);
    put_len(task.outbox.sequences().len(), &mut out);
    for ((target, partition), sequence) in task.outbox.sequences() {
        out.push(target.number());
        put_u64(u64::from(*partition), &mut out);
        put_i64(i64::from(*sequence), &mut out);
    }
    // What moved the time is in the windows; here it is for whoever asks why.
    put_len(task.advances.len(), &mut out);
    for (before, watermark_ms) in &task.advances {
        put_i64(before.to_wire(), &mut out);
        put_i64(*watermark_ms, &mut out);
    }
    put_len(outputs.len(), &mut out);
    for output in outputs {
        out.push(output.target.number());
        put_u64(u64::from(output.partition), &mut out);
        put_len(output.bytes.len(), &mut out);
        cutter.put(&out);
        cutter.put(&output.bytes);
        out.clear();
    }
    cutter.put(&out);
}

/// Reads everything but the windows; what follows is their bytes.
pub(super) fn read_commit(spec: &TaskSpec, reader: &mut Reader<'_>) -> Result<Body, Damaged> {
    if (reader.u8()?, reader.u32()?) != identity(spec) {
        return Err(Damaged);
    }
    let producer_id = reader.i64()?;
    let end = option(reader)?.map(|end| Offset::from_wire(end).ok_or(Damaged)).transpose()?;
    let progress = Progress {
        producer_id: Some(ProducerId(producer_id)).filter(|producer| producer.0 >= 0),
        end,
        position: offset(reader)?,
        last_record_ms: option(reader)?,
        skipped: reader.u64()?,
        is_finished: reader.u8()? != 0,
        told_watermark_ms: option(reader)?,
    };
    let published = reader.u64()?;
    let mut sequences = BTreeMap::new();
    for _ in 0..reader.len(3)? {
        let place = (OutputTarget::of(reader.u8()?).ok_or(Damaged)?, reader.u32()?);
        let sequence = reader.i64()?;
        sequences.insert(place, i32::try_from(sequence).ok().filter(|sequence| *sequence >= 0).ok_or(Damaged)?);
    }
    for _ in 0..reader.len(2)? {
        offset(reader)?;
        reader.i64()?;
    }
    let mut outputs = Vec::new();
    for _ in 0..reader.len(3)? {
        let (target, partition) = (OutputTarget::of(reader.u8()?).ok_or(Damaged)?, reader.u32()?);
        let bytes = reader.bytes()?;
        let batch = Batch::parse(bytes).map_err(|_| Damaged)?;
        if batch.bytes().len() != bytes.len() {
            return Err(Damaged);
        }
        outputs.push(OutputBatch { target, partition, bytes: bytes.to_vec().into() });
    }
    Ok(Body { progress, sequences, published, outputs })
}
