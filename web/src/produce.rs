//! Producing.
pub(crate) mod batching;
pub(crate) mod envelope;
