//! The tests of tasks.
