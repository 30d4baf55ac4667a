//! The ids of events: the topic, and the next offset in each of its partitions.

use std::str::FromStr;

use pubg1_model::{Offset, TopicId};
use uuid::Uuid;

use super::Partition;
use crate::error::ApiError;

/// Where a client is that comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The topic: one that was deleted and created again is another one.
    pub(super) topic: TopicId,
    next: Vec<Offset>,
}

impl Position {
    /// Puts the partitions where they were.
    pub(super) fn apply(self, partitions: &mut [Partition]) -> Result<(), ApiError> {
        if self.next.len() != partitions.len() {
            let (known, told) = (partitions.len(), self.next.len());
            return Err(ApiError::malformed(format!(
                "Last-Event-ID names {told} partitions, the stream's output has {known}"
            )));
        }
        for (partition, next) in partitions.iter_mut().zip(self.next) {
            partition.next = next;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = ApiError;
    fn from_str(text: &str) -> Result<Self, ApiError> {
        let refuse = || ApiError::malformed(format!("Last-Event-ID {text:?} is none of a stream's events"));
        let (topic, offsets) = text.trim().split_once(':').ok_or_else(refuse)?;
        let topic = Uuid::try_parse(topic).map_err(|_| refuse())?;
        let offset = |text: &str| text.parse::<i64>().ok().and_then(Offset::from_wire).ok_or_else(refuse);
        let next = offsets.split(',').map(offset).collect::<Result<_, _>>()?;
        Ok(Self { topic: TopicId::from_bytes(topic.into_bytes()), next })
    }
}

/// An id in which one partition moves while the others stand still.
pub(super) struct Around {
    before: String,
    after: String,
}

impl Around {
    pub(super) fn new(topic: TopicId, partitions: &[Partition], moving: usize) -> Self {
        let text = |partition: &Partition| partition.next.to_string();
        let before = partitions.iter().take(moving).map(|partition| text(partition) + ",").collect::<String>();
        let after = partitions.iter().skip(moving + 1).map(|partition| format!(",{}", text(partition))).collect();
        Self { before: format!("{}:{before}", Uuid::from_bytes(*topic.as_bytes()).simple()), after }
    }

    /// Writes the line of an event's id.
    pub(super) fn write(&self, next: Offset, output: &mut Vec<u8>) {
        output.extend_from_slice(format!("id: {}{next}{}\n", self.before, self.after).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let id = "0f".repeat(16) + ":5,0,7";
        let position: Position = id.parse().unwrap();
        assert_eq!(position.next, [5, 0, 7].map(Offset::new));
        assert_eq!(position.topic, TopicId::from_bytes([15; 16]));
        let around = Around { before: "0f".repeat(16) + ":5,", after: ",7".to_owned() };
        let mut line = Vec::new();
        around.write(Offset::new(0), &mut line);
        assert_eq!(line, format!("id: {id}\n").as_bytes());
        for refused in ["", ":", "7", "x:1", &("0f".repeat(16) + ":"), &("0f".repeat(16) + ":1,-1")] {
            assert_eq!(refused.parse::<Position>().unwrap_err().cause(), Cause::Malformed, "{refused}");
        }
    }
}
