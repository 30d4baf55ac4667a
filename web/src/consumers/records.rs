//! `GET …/records` of a consumer instance: a poll.

use actix_web::{
    HttpResponse,
    http::{
        Method,
        header::{self, HeaderName, HeaderValue},
    },
};
use pubg1_model::consumer_instance::{InstanceDefinition, RecordFormat};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Consumer,
    poll::{Ask, Polled, poll},
};
use crate::{
    call::Call,
    dto::{ErrorBody, RecordEntry},
    edge::ApiResult,
    error::{ApiError, Cause},
    media_type::{Embedded, JSON, Offer, V2, V2_BINARY, V2_JSON, V2_TEXT, negotiate},
    records::query::{Form, ReadQuery, Representation},
};

/// The generation of the group in which an answer was given; absent where the instance is no member.
const CONSUMER_GENERATION: HeaderName = HeaderName::from_static("consumer-generation");

/// The query of a poll.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PollQuery {
    /// When there is nothing yet, wait this many milliseconds; as the instance was told when absent. At most 60 s.
    timeout: Option<u64>,
    /// Stop when about this much was read, but not before one record. At most 16 MiB.
    max_bytes: Option<usize>,
    /// Stop after this many records.
    #[param(minimum = 1)]
    max_records: Option<usize>,
}

impl From<RecordFormat> for Embedded {
    fn from(format: RecordFormat) -> Self {
        match format {
            RecordFormat::Binary => Self::Binary,
            RecordFormat::Json => Self::Json,
            RecordFormat::Text => Self::Text,
        }
    }
}

/// The form in which an instance gets its records, if `Accept` can live with its format.
fn form(accept: Option<&str>, definition: &InstanceDefinition) -> Result<Form, ApiError> {
    let format = Embedded::from(definition.format);
    let own: &[&str] = match format {
        Embedded::Binary => &[V2, "application/vnd.kafka+json", "application/vnd.kafka.binary+json"],
        Embedded::Json => &[V2, "application/vnd.kafka+json", "application/vnd.kafka.json+json"],
        Embedded::Text => &[V2, "application/vnd.kafka+json"],
    };
    let offers = [
        Offer { media_type: format.media_type(), aliases: own, meaning: () },
        Offer { media_type: JSON, aliases: &[], meaning: () },
    ];
    if let Some(offer) = negotiate(accept, &offers) {
        return Ok(Form { representation: Representation::List, format, media_type: offer.media_type });
    }
    let others = [V2_BINARY, V2_JSON, V2_TEXT].map(|media_type| Offer { media_type, aliases: &[], meaning: () });
    let cause = if negotiate(accept, &others).is_some() { Cause::FormatMismatch } else { Cause::NotAcceptable };
    let message = format!("cannot send records as {:?}; accept {}", accept.unwrap_or(""), format.media_type());
    Err(ApiError::new(cause, message))
}

/// A poll moves a position; a client that does not want the records must not lose them.
pub(crate) fn refuse_head(call: &Call) -> Result<(), ApiError> {
    if call.req.method() == Method::HEAD { Err(ApiError::method_not_allowed("HEAD", "GET")) } else { Ok(()) }
}

/// The reply to a poll.
pub(crate) fn reply(polled: Polled) -> HttpResponse {
    let mut reply = HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, polled.form.media_type))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .body(polled.body);
    if let Some(generation) = polled.generation {
        reply.headers_mut().insert(CONSUMER_GENERATION, HeaderValue::from(generation));
    }
    if let Some(receipt) = polled.receipt {
        receipt.accompany(&mut reply);
    }
    reply
}

/// Reads the next records of a consumer instance. It answers as soon as there are any.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/records", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance"), PollQuery),
    responses(
        (status = 200, description = "The records in the format of the instance, each partition in order; what is not received completely is sent again",
            headers(("Consumer-Generation" = u32, description = "The generation of the group in which the instance was given this; absent where it is no member")),
            content((Vec<RecordEntry> = "application/vnd.kafka.binary.v2+json"),
                (Vec<RecordEntry> = "application/vnd.kafka.json.v2+json"),
                (Vec<RecordEntry> = "application/vnd.kafka.text.v2+json"),
                (Vec<RecordEntry> = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    refuse_head(&call)?;
    let query: PollQuery = consumer.known(call.query()).await?;
    let PollQuery { timeout, max_bytes, max_records } = query;
    let read = ReadQuery { timeout, max_bytes, max_records, ..ReadQuery::default() };
    let max_records = consumer.known(read.max_records(call.limits())).await?;
    let wait = timeout.map(|_| read.wait(call.limits())).transpose()?;
    let form = |definition: &InstanceDefinition| form(call.accept(), definition);
    let ask = Ask { acknowledged: None, wait, max_bytes: read.max_bytes(call.limits()), max_records, form: &form };
    poll(&call, &consumer, &ask).await.map(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_gets_its_own_format_or_none() {
        let of = |format, accept| {
            let definition = InstanceDefinition { format, ..InstanceDefinition::default() };
            form(accept, &definition).map(|form| form.media_type).map_err(|error| error.cause())
        };
        for (accept, expected) in [
            (None, Ok(V2_JSON)),
            (Some("*/*"), Ok(V2_JSON)),
            (Some("application/vnd.kafka.v2+json"), Ok(V2_JSON)),
            (Some("application/vnd.kafka.json.v2+json"), Ok(V2_JSON)),
            (Some("application/json"), Ok(JSON)),
            (Some("application/vnd.kafka.binary.v2+json, application/vnd.kafka.json.v2+json;q=0.1"), Ok(V2_JSON)),
            (Some("application/vnd.kafka.binary.v2+json"), Err(Cause::FormatMismatch)),
            (Some("text/html"), Err(Cause::NotAcceptable)),
        ] {
            assert_eq!(of(RecordFormat::Json, accept), expected, "{accept:?}");
        }
        assert_eq!(of(RecordFormat::Binary, None), Ok(V2_BINARY));
        assert_eq!(of(RecordFormat::Text, Some(V2_JSON)), Err(Cause::FormatMismatch));
    }
}
