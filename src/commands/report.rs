//! `pubg1 report`.

pub mod text;
