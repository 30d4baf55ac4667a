//! What a produce request says besides its records: acknowledgements and the producer's identity.

use actix_web::http::header::{HeaderMap, HeaderName};
use pubg1_actors::Acks;
use pubg1_model::{ProducerId, record_batch::ProducerIdentity};
use serde::Deserialize;

use crate::error::{ApiError, Cause};

pub(crate) const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
pub(crate) const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
pub(crate) const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
pub(crate) const PRODUCER_DUPLICATE: HeaderName = HeaderName::from_static("producer-duplicate");

/// The query of every produce route.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ProduceQuery {
    /// `all` (committed, the default), `1` (appended) or `0` (sent).
    pub(crate) acks: Option<String>,
}

impl ProduceQuery {
    pub(crate) fn acks(&self) -> Result<Acks, ApiError> {
        match self.acks.as_deref() {
            None | Some("all" | "-1") => Ok(Acks::All),
            Some("1") => Ok(Acks::Leader),
            Some("0") => Ok(Acks::None),
            Some(other) => Err(ApiError::malformed(format!("acks={other}: must be all, 1 or 0"))),
        }
    }
}

/// The identity in the headers `Producer-Id`, `Producer-Epoch` and `Producer-Seq`; `None` when
/// there is none of them. One without the others is an error: it would promise what is not kept.
pub(crate) fn producer_identity(headers: &HeaderMap) -> Result<Option<ProducerIdentity>, ApiError> {
    let (id, epoch, sequence) =
        (number(headers, &PRODUCER_ID)?, number(headers, &PRODUCER_EPOCH)?, number(headers, &PRODUCER_SEQ)?);
    match (id, epoch, sequence) {
        (None, None, None) => Ok(None),
        (Some(id), Some(epoch), Some(sequence)) => {
            let epoch = i16::try_from(epoch).map_err(|_| out_of_range(&PRODUCER_EPOCH))?;
            let sequence = i32::try_from(sequence).map_err(|_| out_of_range(&PRODUCER_SEQ))?;
            Ok(Some(ProducerIdentity { id: ProducerId(id), epoch, sequence }))
        }
        _ => Err(ApiError::malformed("Producer-Id, Producer-Epoch and Producer-Seq go together: one is missing")),
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<i64>, ApiError> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|number| *number >= 0);
    match (number, values.next()) {
        (Some(number), None) => Ok(Some(number)),
        _ => Err(out_of_range(name)),
    }
}

fn out_of_range(name: &HeaderName) -> ApiError {
    ApiError::malformed(format!("the header {name} must be one number that is not negative and not too large"))
}

/// With a producer's identity a retry must reach the same partition as the first attempt.
pub(crate) fn needs_one_partition() -> ApiError {
    ApiError::new(
        Cause::Unprocessable,
        "with Producer-Seq all records of a request must go to one partition: name it, or give all records one key",
    )
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(entries: &[(HeaderName, &'static str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_identity_is_complete_or_absent() {
        let all = [(PRODUCER_ID, "7"), (PRODUCER_EPOCH, "0"), (PRODUCER_SEQ, "12")];
        let identity = producer_identity(&headers(&all)).unwrap().unwrap();
        assert_eq!(identity, ProducerIdentity { id: ProducerId(7), epoch: 0, sequence: 12 });
        assert_eq!(producer_identity(&HeaderMap::new()).unwrap(), None);
        for missing in 0..3 {
            let mut some = all.to_vec();
            some.remove(missing);
            assert_eq!(producer_identity(&headers(&some)).unwrap_err().cause(), Cause::Malformed);
        }
        for (name, value) in [(PRODUCER_ID, "-1"), (PRODUCER_EPOCH, "32768"), (PRODUCER_SEQ, "2147483648")] {
            let some: Vec<_> = all.iter().cloned().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect();
            assert!(producer_identity(&headers(&some)).is_err(), "{value}");
        }
    }
}
