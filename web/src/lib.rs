//! PubG1: the client API over HTTP.
#![allow(dead_code)]
mod encoding;
mod error;
mod json_text;
mod limits;
mod line_splitter;
mod media_type;
mod produce;
