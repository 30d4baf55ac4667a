//! The engine against a batch computation that shares nothing with it but the definition.

mod examples;
mod master;
mod oracle;
mod tasks;
