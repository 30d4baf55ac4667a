//! What a topic is configured to do with its records.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::record_batch::TimestampType;

/// What happens to records that are no longer wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CleanupPolicy {
    /// Old segments are deleted by age and size.
    #[default]
    Delete,
    /// Only the newest record of each key is kept; a record without a value removes its key.
    Compact,
}

/// The settings of a topic. Every number is checked by [`TopicConfig::validate`] before it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct TopicConfig {
    /// What happens to old records.
    pub cleanup_policy: CleanupPolicy,
    /// Whose clock gives records their time: the producer's (`create_time`), or the broker's when it appends them
    /// (`log_append_time`). A change concerns what is appended after it.
    pub timestamp_type: TimestampType,
    /// How long records are kept at least, in milliseconds; `None`: for ever.
    pub retention_ms: Option<u64>,
    /// How many bytes a partition keeps at least; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// The size at which a segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// The age at which a segment is closed, in milliseconds, measured from its first append.
    pub segment_ms: u64,
    /// The largest record batch that is accepted, in bytes, as it travels (compressed).
    pub max_message_bytes: u64,
    /// How long a tombstone outlives its segment's compaction, in milliseconds.
    pub delete_retention_ms: u64,
    /// One entry of the offset index is written after this many bytes of log.
    pub index_interval_bytes: u64,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy::Delete,
            timestamp_type: TimestampType::CreateTime,
            retention_ms: Some(7 * 24 * 60 * 60 * 1000),
            retention_bytes: None,
            segment_bytes: 256 * 1024 * 1024,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            max_message_bytes: 1024 * 1024,
            delete_retention_ms: 24 * 60 * 60 * 1000,
            index_interval_bytes: 4096,
        }
    }
}

/// A setting that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{setting} = {value}: {reason}")]
pub struct InvalidTopicConfig {
    /// The setting's name, as it is written in requests.
    pub setting: Cow<'static, str>,
    /// What was asked for.
    pub value: u64,
    /// Why it is refused, with the bounds.
    pub reason: Cow<'static, str>,
}

impl TopicConfig {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidTopicConfig> {
        let refuse = |setting: &'static str, value, reason: &'static str| {
            Err(InvalidTopicConfig { setting: Cow::Borrowed(setting), value, reason: Cow::Borrowed(reason) })
        };
        if !(16 * 1024..=i32::MAX as u64).contains(&self.segment_bytes) {
            return refuse("segment_bytes", self.segment_bytes, "must be between 16 KiB and 2 GiB - 1");
        }
        if !(1024..=64 * 1024 * 1024).contains(&self.max_message_bytes) {
            return refuse("max_message_bytes", self.max_message_bytes, "must be between 1 KiB and 64 MiB");
        }
        if self.max_message_bytes > self.segment_bytes {
            return refuse("max_message_bytes", self.max_message_bytes, "must not exceed segment_bytes");
        }
        let signed = [
            ("retention_ms", self.retention_ms),
            ("retention_bytes", self.retention_bytes),
            ("segment_ms", Some(self.segment_ms)),
            ("delete_retention_ms", Some(self.delete_retention_ms)),
        ];
        for (setting, value) in signed {
            if let Some(value) = value.filter(|&value| i64::try_from(value).is_err()) {
                return refuse(setting, value, "must be less than 2^63");
            }
        }
        if self.segment_ms < 1 {
            return refuse("segment_ms", self.segment_ms, "must be at least 1");
        }
        if !(64..=16 * 1024 * 1024).contains(&self.index_interval_bytes) {
            return refuse("index_interval_bytes", self.index_interval_bytes, "must be between 64 B and 16 MiB");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_bound_is_checked() {
        TopicConfig::default().validate().unwrap();
        type Change = fn(&mut TopicConfig);
        let changes: [(&str, Change); 8] = [
            ("segment_bytes", |c| c.segment_bytes = 1),
            ("segment_bytes", |c| c.segment_bytes = 1 << 31),
            ("max_message_bytes", |c| c.max_message_bytes = 1),
            ("segment_ms", |c| c.segment_ms = 0),
            ("segment_ms", |c| c.segment_ms = 1 << 63),
            ("retention_ms", |c| c.retention_ms = Some(1 << 63)),
            ("retention_bytes", |c| c.retention_bytes = Some(1 << 63)),
            ("index_interval_bytes", |c| c.index_interval_bytes = 1),
        ];
        for (setting, change) in changes {
            let mut config = TopicConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().setting, setting);
        }
    }
}
