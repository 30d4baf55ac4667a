//! One test a row: what each cause looks like to a client.

use actix_web::body::MessageBody;

use super::*;

/// The whole table once more, written by hand: a changed row must be changed here, too, knowingly.
const TABLE: &[(Cause, u16, u32, Option<u32>)] = &[
    (Cause::Malformed, 400, 400, None),
    (Cause::InvalidName, 400, 400, None),
    (Cause::InvalidPartition, 400, 400, None),
    (Cause::InvalidTopic, 400, 40002, None),
    (Cause::InternalTopic, 403, 40301, None),
    (Cause::StaleProducerEpoch, 403, 40302, None),
    (Cause::NoRoute, 404, 404, None),
    (Cause::NoTopic, 404, 40401, None),
    (Cause::NoPartition, 404, 40402, None),
    (Cause::NoBroker, 404, 40403, None),
    (Cause::NoConsumer, 404, 40403, None),
    (Cause::NoGroup, 404, 40405, None),
    (Cause::NoStream, 404, 40406, None),
    (Cause::MethodNotAllowed, 405, 405, None),
    (Cause::NotAcceptable, 406, 406, None),
    (Cause::FormatMismatch, 406, 40601, None),
    (Cause::BodyTimeout, 408, 408, None),
    (Cause::ConsumerExists, 409, 40902, None),
    (Cause::IllegalState, 409, 40903, None),
    (Cause::TopicExists, 409, 40904, None),
    (Cause::SequenceGap, 409, 40905, None),
    (Cause::Conflict, 409, 40906, None),
    (Cause::NotPossible, 409, 40907, None),
    (Cause::MemberExpelled, 409, 40908, None),
    (Cause::GroupNotEmpty, 409, 40909, None),
    (Cause::DeliveryUnknown, 409, 40910, None),
    (Cause::NoPosition, 409, 40911, None),
    (Cause::StreamExists, 409, 40912, None),
    (Cause::TopicInUse, 409, 40913, None),
    (Cause::OutputNotEmpty, 409, 40914, None),
    (Cause::TooLarge, 413, 413, None),
    (Cause::TargetTooLong, 414, 414, None),
    (Cause::UnsupportedMediaType, 415, 415, None),
    (Cause::OffsetOutOfRange, 416, 41601, None),
    (Cause::Unprocessable, 422, 422, None),
    (Cause::InvalidConsumer, 422, 42204, None),
    (Cause::Undecodable, 422, 42207, None),
    (Cause::InvalidBatch, 422, 42208, None),
    (Cause::InvalidStream, 422, 42209, None),
    (Cause::Overloaded, 429, 429, Some(1)),
    (Cause::HeadersTooLarge, 431, 431, None),
    (Cause::Internal, 500, 500, None),
    (Cause::Storage, 500, 50002, None),
    (Cause::Unavailable, 503, 503, Some(1)),
    (Cause::NotLeader, 503, 50302, Some(1)),
    (Cause::Recovering, 503, 50303, Some(1)),
    (Cause::Draining, 503, 50304, Some(2)),
    (Cause::DiskFull, 503, 50305, Some(5)),
    (Cause::OutcomeUnknown, 503, 50306, Some(1)),
    (Cause::NoLeader, 503, 50307, Some(1)),
];

#[test]
fn every_row_answers_with_its_status_code_and_retry_time() {
    assert_eq!(TABLE.iter().map(|row| row.0).collect::<Vec<_>>(), Cause::ALL, "the table has every cause");
    for (cause, status, code, retry_after_s) in TABLE.iter().copied() {
        let reply = ApiError::new(cause, "why").with("expected", 7).error_response();
        assert_eq!(reply.status().as_u16(), status, "{cause:?}");
        let header = |name| reply.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(header(header::RETRY_AFTER), retry_after_s.map(|s| s.to_string()), "{cause:?}");
        assert_eq!(header(header::CONTENT_TYPE).unwrap(), "application/json", "{cause:?}");
        let body = reply.into_body().try_into_bytes().unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, serde_json::json!({"error_code": code, "message": "why", "expected": 7}), "{cause:?}");
    }
}

#[test]
fn codes_begin_with_their_status_and_waiting_is_named_for_429_and_503() {
    for cause in Cause::ALL {
        let row = cause.row();
        assert!(row.code.to_string().starts_with(&row.status.to_string()), "{cause:?}");
        assert_eq!(row.retry_after_s.is_some(), matches!(row.status, 429 | 503), "{cause:?}");
    }
}

#[test]
fn a_405_says_what_is_allowed() {
    let reply = ApiError::method_not_allowed("PATCH", "GET, POST").error_response();
    assert_eq!(reply.headers().get(header::ALLOW).unwrap(), "GET, POST");
}
