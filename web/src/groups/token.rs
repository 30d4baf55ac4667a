//! The token that a one-call consumer gets with each answer and shows with its next request: who it is, and which
//! answer it received last. Clients need not know what is in it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pubg1_model::{GroupId, InstanceName, Offset, TopicName, TopicPartition, consumer_instance::PollId};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// The first byte of a token; another one is of another version.
const VERSION: u8 = b'1';
/// No token of this broker is longer than this.
const BYTES_MAX: usize = 16 << 10;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The group, so that a token of another group is recognised.
    #[serde(rename = "g")]
    pub(crate) group: GroupId,
    /// The consumer instance.
    #[serde(rename = "i")]
    pub(crate) instance: InstanceName,
    /// The topic that it reads.
    #[serde(rename = "t")]
    pub(crate) topic: TopicName,
    /// What it has received is committed by itself.
    #[serde(rename = "a")]
    pub(crate) auto_commit: bool,
    /// The poll that was answered.
    #[serde(rename = "p")]
    pub(crate) poll: PollId,
    /// Where the event stream was after that, so that one that was cut off goes on there.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) positions: Vec<(TopicPartition, Offset)>,
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        let mut text = String::from(char::from(VERSION));
        // A token holds nothing that JSON cannot express.
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(self).unwrap_or_default(), &mut text);
        text
    }

    /// Reads what [`Self::encode`] wrote for this group.
    pub(crate) fn decode(text: &str, group: &GroupId) -> Result<Self, ApiError> {
        let bad = |why: &str| ApiError::malformed(format!("the consumer token {why}; begin anew without one"));
        let encoded = text.trim().as_bytes();
        let Some((&VERSION, encoded)) = encoded.split_first().filter(|_| encoded.len() <= BYTES_MAX) else {
            return Err(bad("is not one of this broker"));
        };
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| bad("is damaged"))?;
        let token: Self = serde_json::from_slice(&json).map_err(|_| bad("is damaged"))?;
        if token.group == *group {
            return Ok(token);
        }
        Err(bad(&format!("is of group {}", token.group)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pubg1_model::PartitionId;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_only_in_its_group() {
        let group: GroupId = "g".parse().unwrap();
        let place = TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(3) };
        for positions in [vec![], vec![(place, Offset::new(17))]] {
            let token = Token {
                group: group.clone(),
                instance: "i-1".parse().unwrap(),
                topic: "t".parse().unwrap(),
                auto_commit: true,
                poll: PollId(9),
                positions,
            };
            let text = token.encode();
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            assert_eq!(Token::decode(&format!(" {text} "), &group).unwrap(), token);
            assert!(Token::decode(&text, &"other".parse().unwrap()).unwrap_err().message().contains("of group g"));
            assert!(Token::decode(&text[..text.len() - 2], &group).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "1?\\PC{0,60}") {
            let group: GroupId = "g".parse().unwrap();
            drop(Token::decode(&text, &group));
        }
    }
}
