//! Limits and deadlines of the transport, for both ends.

use std::time::Duration;

use crate::{backoff::Backoff, handshake::HANDSHAKE_BYTES_MAX};

/// Limits and deadlines. Memory that one connection can hold on the receiving side is about `window_bytes` plus one
/// frame; on the sending side the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// The largest frame this end takes, header included. The peer is told and keeps to it.
    pub frame_bytes_max: u32,
    /// Requests in flight on one connection. The smaller of both ends' values counts.
    pub window_requests: u32,
    /// Bytes of requests in flight on one connection; a larger request goes alone. The smaller value counts.
    pub window_bytes: u32,
    /// How long an attempt to open a connection may take, before its handshake.
    pub connect_timeout: Duration,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// Each end sends something at least this often.
    pub keepalive_interval: Duration,
    /// An end from which nothing came for this long is silent: the connection is closed.
    pub silence_after: Duration,
    /// A peer that takes no byte for this long, while there are some for it, is cut off.
    pub write_stall_after: Duration,
    /// Connections that the server keeps at once; one above is closed at once.
    pub connections_max: u32,
    /// Waits between attempts to connect.
    pub backoff: Backoff,
    /// Which of several connections to one peer a client's is, as the brokers number them. The server is told, and may
    /// serve each at another place: see [`crate::Handler::home`].
    pub lane: u8,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: 16 << 20,
            window_requests: 256,
            window_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_millis(200),
            silence_after: Duration::from_secs(1),
            write_stall_after: Duration::from_secs(10),
            connections_max: 256,
            backoff: Backoff { base: Duration::from_millis(50), max: Duration::from_secs(1) },
            lane: 0,
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A handshake must fit.
    #[error("frame_bytes_max is {0}, it must be at least {HANDSHAKE_BYTES_MAX}")]
    FrameBytesMax(u32),
    /// A limit or a time of zero lets nothing through.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A healthy connection would be taken for a silent one.
    #[error("silence_after ({silence_after:?}) must be at least twice keepalive_interval ({keepalive_interval:?})")]
    Silence {
        /// As configured.
        silence_after: Duration,
        /// As configured.
        keepalive_interval: Duration,
    },
    /// The cap is below the first wait.
    #[error("backoff.max ({max:?}) must not be below backoff.base ({base:?})")]
    Backoff {
        /// As configured.
        base: Duration,
        /// As configured.
        max: Duration,
    },
}

impl TransportConfig {
    /// Whether the values can work together.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.frame_bytes_max < HANDSHAKE_BYTES_MAX {
            return Err(ConfigError::FrameBytesMax(self.frame_bytes_max));
        }
        let zeroes = [
            ("window_requests", self.window_requests == 0),
            ("window_bytes", self.window_bytes == 0),
            ("connections_max", self.connections_max == 0),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("handshake_timeout", self.handshake_timeout.is_zero()),
            ("keepalive_interval", self.keepalive_interval.is_zero()),
            ("write_stall_after", self.write_stall_after.is_zero()),
            ("backoff.base", self.backoff.base.is_zero()),
        ];
        if let Some((name, _)) = zeroes.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(name));
        }
        let Self { silence_after, keepalive_interval, backoff: Backoff { base, max }, .. } = *self;
        if silence_after < keepalive_interval * 2 {
            return Err(ConfigError::Silence { silence_after, keepalive_interval });
        }
        if max < base {
            return Err(ConfigError::Backoff { base, max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let good = TransportConfig::default();
        assert_eq!(good.validate(), Ok(()));
        let small = TransportConfig { frame_bytes_max: 100, ..good.clone() };
        assert_eq!(small.validate(), Err(ConfigError::FrameBytesMax(100)));
        let shut = TransportConfig { window_requests: 0, ..good.clone() };
        assert_eq!(shut.validate(), Err(ConfigError::Zero("window_requests")));
        let hasty = TransportConfig { silence_after: good.keepalive_interval, ..good.clone() };
        assert!(matches!(hasty.validate(), Err(ConfigError::Silence { .. })));
        let base = good.backoff.max * 2;
        let upside_down = TransportConfig { backoff: Backoff { base, ..good.backoff }, ..good };
        assert!(matches!(upside_down.validate(), Err(ConfigError::Backoff { .. })));
    }
}
