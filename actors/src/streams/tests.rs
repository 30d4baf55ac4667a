//! Streams through the handle of a broker, with the real log underneath.
