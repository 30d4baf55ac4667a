//! PubG1.
fn main() {}
