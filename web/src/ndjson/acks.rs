//! The lines that come back.

use std::io::Write;

use pubg1_model::{BrokerId, LeaderEpoch, PartitionId};

use crate::error::ApiError;

/// Where and by whom a line was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) partition: PartitionId,
    /// `None` with `acks=0`, and for a duplicate whose offset is no longer known.
    pub(crate) offset: Option<u64>,
    pub(crate) leader: BrokerId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) duplicate: bool,
}

pub(crate) fn written(output: &mut Vec<u8>, ack: &Written) {
    // Writing to a vector cannot fail.
    match ack.offset {
        Some(offset) => write!(output, "{{\"partition\":{},\"offset\":{offset}", ack.partition),
        None => write!(output, "{{\"partition\":{},\"offset\":null", ack.partition),
    }
    .unwrap_or_default();
    write!(output, ",\"leader\":{},\"leader_epoch\":{}", ack.leader, ack.epoch).unwrap_or_default();
    output.extend_from_slice(if ack.duplicate { b",\"duplicate\":true}\n" } else { b"}\n" });
}

pub(crate) fn refused(output: &mut Vec<u8>, error: &ApiError, line: u64) {
    let body = error.clone().with("line", line).to_json();
    output.extend_from_slice(serde_json::Value::Object(body).to_string().as_bytes());
    output.push(b'\n');
}
