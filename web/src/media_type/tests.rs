//! What is understood and what is served.

use proptest::prelude::*;

use super::*;

#[test]
fn produce_bodies_are_read_leniently() {
    use Embedded::{Binary, Json, Text};
    use ProduceBody::{Envelope, Lines};
    for (content_type, expected) in [
        (None, Envelope(Binary)),
        (Some("application/json"), Envelope(Binary)),
        (Some("Application/JSON; charset=UTF-8"), Envelope(Binary)),
        (Some("application/vnd.kafka.v2+json"), Envelope(Binary)),
        (Some("application/vnd.kafka.binary.v2+json"), Envelope(Binary)),
        (Some("application/vnd.kafka.json.v2+json"), Envelope(Json)),
        (Some("application/vnd.kafka.json.v1+json"), Envelope(Json)),
        (Some("application/vnd.kafka.json+json"), Envelope(Json)),
        (Some("application/vnd.kafka.text.v2+json;charset=\"utf-8\""), Envelope(Text)),
        (Some("application/x-ndjson"), Lines),
    ] {
        assert_eq!(produce_body(content_type).unwrap(), expected, "{content_type:?}");
    }
    for refused in [
        "text/plain",
        "application/vnd.kafka.avro.v2+json",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/vnd.kafka.cbor.v2+json",
    ] {
        assert_eq!(produce_body(Some(refused)).unwrap_err().cause(), Cause::UnsupportedMediaType, "{refused}");
    }
}

#[test]
fn management_replies_are_negotiated() {
    for (accept, expected) in [
        (None, V2),
        (Some(""), V2),
        (Some("*/*"), V2),
        (Some("application/*"), V2),
        (Some("*/json"), JSON),
        (Some("application/json"), JSON),
        (Some("application/vnd.kafka.v2+json, application/vnd.kafka+json, application/json"), V2),
        (Some("application/json;q=0.5, application/vnd.kafka.v2+json;q=0.4"), JSON),
        (Some("text/html,application/xhtml+xml,*/*;q=0.8"), V2),
        (Some("application/vnd.kafka.json.v2+json"), V2_JSON),
    ] {
        assert_eq!(management(accept).unwrap(), expected, "{accept:?}");
    }
    for refused in ["text/html", "application/json;q=0", "application/vnd.kafka.avro.v2+json", "*/*;q=0"] {
        assert_eq!(management(Some(refused)).unwrap_err().cause(), Cause::NotAcceptable, "{refused}");
    }
}

#[test]
fn a_refused_type_stays_refused_under_a_wildcard() {
    assert_eq!(management(Some("application/vnd.kafka.v2+json;q=0, */*")).unwrap(), JSON);
}

#[test]
fn weights_are_thousandths() {
    for (text, expected) in [("1", 1000), ("0.5", 500), ("0.123", 123), ("0", 0), ("1.0", 1000), ("2", 0), ("x", 0)] {
        assert_eq!(quality(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_header_text_panics(text in "\\PC{0,80}") {
        drop(produce_body(Some(&text)));
        drop(management(Some(&text)));
    }
}
