//! What the transport counts: plain numbers that the metrics read.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one transport, shared by its clients and its server. Reading takes no lock.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        /// The values of [`Counters`] at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The values now. They are read one after the other, not at one instant.
            #[must_use]
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Frames received.
    frames_in,
    /// Frames sent.
    frames_out,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Connections ended because of bytes that could not be understood, or a frame that had no place there.
    decode_errors,
    /// Connections opened by clients, handshake included.
    connects,
    /// Those of them that replaced an earlier one.
    reconnects,
    /// Attempts refused by the other machine: no process listens there.
    connects_refused,
    /// Attempts that got no answer in time, or failed otherwise.
    connects_failed,
    /// Handshakes that failed, at either end.
    handshakes_refused,
    /// Connections closed by the server because it has too many.
    connections_rejected,
    /// Connections open now, at either end.
    connections_open,
    /// Connections closed because nothing came from the other end for too long.
    connections_silent,
    /// A broker's connection was accepted while another incarnation of the same broker is connected.
    incarnation_conflicts,
    /// Requests whose deadline passed.
    request_timeouts,
    /// Requests given up by their caller before the deadline.
    requests_cancelled,
    /// Requests not sent because the window was full and the caller would not wait.
    window_full,
    /// Answers that came when nobody waited any more.
    late_answers,
    /// Requests of this end that are not answered yet.
    requests_in_flight,
    /// Requests of other ends that are being handled.
    requests_in_service,
    /// Handlers that panicked.
    handler_panics,
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

pub(crate) fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn less(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}
