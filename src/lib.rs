//! PubG1.
