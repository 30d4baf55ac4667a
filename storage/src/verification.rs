//! Looking for damage in what is not read every day: the checksums of a segment, computed again.
//!
//! Bytes that rot on a disk are found when they are read and only if somebody computes their checksums. A job does so
//! for one segment; whoever runs it decides what damage means.

use std::{fs::File, io::BufReader, path::PathBuf, sync::Arc};

use pubg1_model::{Offset, leader_epochs::LeaderEpochs};

use crate::{
    error::{Damage, DamageReason},
    flush::FlushShared,
    scan::{BUFFER_BYTES, ScanRules, scan},
    segment::Segment,
};

/// A segment whose checksums are to be computed, as far as it is flushed. It blocks on the disk, so it runs on a thread of its own.
#[derive(Debug)]
pub struct VerificationJob {
    pub(crate) shared: Arc<FlushShared>,
    pub(crate) generation: u64,
    /// Readers need not check it any more once it has been read.
    pub(crate) segment: Arc<Segment>,
    pub(crate) path: PathBuf,
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    /// How many bytes of the file are meant; `None` for all.
    pub(crate) bytes: Option<u64>,
    pub(crate) gaps_end: Offset,
    pub(crate) epochs: LeaderEpochs,
}

impl VerificationJob {
    /// The offset after the part that is read.
    #[must_use]
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// Reads the segment. One that was deleted, cut or rewritten meanwhile says nothing.
    ///
    /// # Errors
    /// [`Damage`], the first there is.
    pub fn run(&self) -> Result<(), Damage> {
        let read = || -> std::io::Result<_> {
            let file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            let length = self.bytes.map_or(length, |bytes| bytes.min(length));
            // An epoch that the batch before the segment had may be any older one.
            let rules = ScanRules {
                base: self.base,
                expected: self.base,
                gaps_end: self.gaps_end,
                epoch: -1,
                epochs: Some(&self.epochs),
            };
            scan(&mut BufReader::with_capacity(BUFFER_BYTES, file), length, rules, |_, _| ())
        };
        let scanned = match read() {
            Ok(scanned) => scanned,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "could not be read to look for damage");
                return Ok(());
            }
        };
        let missing = (scanned.next_offset != self.end).then_some(DamageReason::Missing { flushed: self.end });
        let Some(reason) = scanned.stop.or(missing) else {
            // Of an active one only a part was read.
            if self.bytes.is_none() {
                self.segment.set_verified();
            }
            return Ok(());
        };
        if self.generation != self.shared.generation() || !self.path.try_exists().unwrap_or(false) {
            return Ok(());
        }
        Err(Damage { file: self.path.clone(), position: scanned.valid_bytes, offset: scanned.next_offset, reason })
    }
}
