//! PubG1 itself.

pub(crate) mod encode;

use std::{fmt, str::FromStr};

/// The routes by which records are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Record batches as they are stored.
    Batches,
    /// REST v2, values in base64.
    V2,
    /// `POST /publish`: a JSON object, a record a request.
    Simple,
}

impl fmt::Display for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batches => "batches",
            Self::V2 => "v2",
            Self::Simple => "simple",
        })
    }
}

impl FromStr for Surface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batches" => Ok(Self::Batches),
            "v2" => Ok(Self::V2),
            "simple" => Ok(Self::Simple),
            other => Err(format!("{other:?} is no surface; there are batches, v2 and simple")),
        }
    }
}
