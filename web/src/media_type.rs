//! Media types: which format a body has, and which one a reply shall have.
//!
//! Lenient in what is read, exact in what is written: `application/json`, a missing `Accept`, a
//! `charset` and the versionless and v1 names are understood; replies carry the v2 names.

use actix_web::{HttpRequest, http::header};

use crate::error::{ApiError, Cause};

/// The embedded format of the records of a v2 body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Embedded {
    /// Keys and values are base64 strings.
    Binary,
    /// Keys and values are JSON, stored in compact form.
    Json,
    /// Keys and values are strings, stored as UTF-8.
    Text,
}

/// What the body of `POST /topics/{topic}` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProduceBody {
    /// The v2 envelope.
    Envelope(Embedded),
    /// One JSON object a line.
    Lines,
}

pub(crate) const V2: &str = "application/vnd.kafka.v2+json";
pub(crate) const V2_BINARY: &str = "application/vnd.kafka.binary.v2+json";
pub(crate) const V2_JSON: &str = "application/vnd.kafka.json.v2+json";
pub(crate) const V2_TEXT: &str = "application/vnd.kafka.text.v2+json";
pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const EVENTS: &str = "text/event-stream";
pub(crate) const OCTETS: &str = "application/octet-stream";

impl Embedded {
    /// The media type of records in this format.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Binary => V2_BINARY,
            Self::Json => V2_JSON,
            Self::Text => V2_TEXT,
        }
    }
}

/// Splits `type/subtype; a=b; c=d` into the lower-cased type and an iterator over parameters.
fn split(text: &str) -> (String, impl Iterator<Item = (String, &str)>) {
    let mut parts = text.split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let parameters = parts.filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
    });
    (media_type, parameters)
}

/// The embedded format that `application/vnd.kafka[.FORMAT][.v1|.v2]+json` names; `None` for
/// another type, `Some(Err(format))` for a format that needs a schema registry.
fn vendor_format(media_type: &str) -> Option<Result<Embedded, &str>> {
    let name = media_type.strip_prefix("application/vnd.kafka")?.strip_suffix("+json")?;
    let name = name.strip_suffix(".v2").or_else(|| name.strip_suffix(".v1")).unwrap_or(name);
    match name {
        "" | ".binary" => Some(Ok(Embedded::Binary)),
        ".json" => Some(Ok(Embedded::Json)),
        ".text" => Some(Ok(Embedded::Text)),
        ".avro" | ".jsonschema" | ".protobuf" => Some(Err(&name[1..])),
        _ => None,
    }
}

/// What a produce request with this `Content-Type` holds. Without one, and with plain
/// `application/json`, it is the envelope with base64, as Karapace reads it.
pub(crate) fn produce_body(content_type: Option<&str>) -> Result<ProduceBody, ApiError> {
    let unsupported = |message: String| Err(ApiError::new(Cause::UnsupportedMediaType, message));
    let Some(content_type) = content_type else { return Ok(ProduceBody::Envelope(Embedded::Binary)) };
    let (media_type, parameters) = split(content_type);
    for (name, value) in parameters {
        if name == "charset" && !["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known)) {
            return unsupported(format!("charset {value:?} is not supported; send UTF-8"));
        }
    }
    match media_type.as_str() {
        "" | JSON => return Ok(ProduceBody::Envelope(Embedded::Binary)),
        NDJSON | "application/ndjson" | "application/jsonl" | "application/jsonlines" => return Ok(ProduceBody::Lines),
        _ => {}
    }
    match vendor_format(&media_type) {
        Some(Ok(format)) => Ok(ProduceBody::Envelope(format)),
        Some(Err(format)) => unsupported(format!(
            "{format} needs a schema registry, which this broker has not; use binary, json or text"
        )),
        None => unsupported(format!("cannot read {media_type:?}; send {V2_JSON}, {V2_BINARY}, {V2_TEXT} or {NDJSON}")),
    }
}

/// Whether a request sends NDJSON.
pub(crate) fn is_lines(req: &HttpRequest) -> bool {
    let content_type = req.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| matches!(produce_body(Some(content_type)), Ok(ProduceBody::Lines)))
}

/// A media type that can be served, and the types a client may ask for it by.
pub(crate) struct Offer<T> {
    pub(crate) media_type: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) meaning: T,
}

/// How well a range of `Accept` matches a type: 3 exactly, 2 by type, 1 by the full wildcard.
fn specificity(range: &str, media_type: &str) -> u8 {
    if range == media_type {
        return 3;
    }
    let (wanted, sub) = range.split_once('/').unwrap_or((range, ""));
    let (kind, offered) = media_type.split_once('/').unwrap_or((media_type, ""));
    match (wanted, sub) {
        ("*", "*" | "") => 1,
        ("*", sub) if offered == sub => 2,
        (wanted, "*") if wanted == kind => 2,
        _ => 0,
    }
}

/// Picks the offer that the client likes best: highest `q`, then the most specific range, then
/// the client's order, then ours. `None` when nothing is acceptable.
pub(crate) fn negotiate<'o, T>(accept: Option<&str>, offers: &'o [Offer<T>]) -> Option<&'o Offer<T>> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return offers.first() };
    let mut best: Option<(u16, u8, &Offer<T>)> = None;
    let ranges: Vec<(String, u16)> = accept
        .split(',')
        .map(|range| {
            let (media_type, mut parameters) = split(range);
            let weight = parameters.find(|(name, _)| name == "q").map_or(1000, |(_, value)| quality(value));
            (media_type, weight)
        })
        .collect();
    for (range, _) in &ranges {
        for offer in offers {
            let names = || std::iter::once(&offer.media_type).chain(offer.aliases);
            if names().all(|name| specificity(range, name) == 0) {
                continue;
            }
            // The most specific range that matches the offer decides its weight (RFC 9110, 12.5.1).
            let decisive = |(range, weight): &(String, u16)| {
                names().map(|name| specificity(range, name)).max().map(|specific| (specific, *weight))
            };
            let (specific, weight) = ranges.iter().filter_map(decisive).max().unwrap_or((0, 0));
            if weight > 0 && best.as_ref().is_none_or(|(w, s, _)| (weight, specific) > (*w, *s)) {
                best = Some((weight, specific, offer));
            }
        }
    }
    best.map(|(_, _, offer)| offer)
}

/// A weight in thousandths; what cannot be read counts as 0.
pub(crate) fn quality(text: &str) -> u16 {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(whole @ 0..=1) = whole.parse::<u16>() else { return 0 };
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    (whole * 1000 + format!("{fraction:0<3}").parse::<u16>().unwrap_or(0)).min(1000)
}

/// What management replies of the v2 surface can be served as.
const MANAGEMENT: &[Offer<()>] = &[
    Offer { media_type: V2, aliases: &["application/vnd.kafka+json", "application/vnd.kafka.v1+json"], meaning: () },
    Offer { media_type: JSON, aliases: &[], meaning: () },
    Offer { media_type: V2_JSON, aliases: &["application/vnd.kafka.json+json"], meaning: () },
    Offer { media_type: V2_BINARY, aliases: &["application/vnd.kafka.binary+json"], meaning: () },
    Offer { media_type: V2_TEXT, aliases: &[], meaning: () },
];

/// The media type of a v2 management or produce reply.
pub(crate) fn management(accept: Option<&str>) -> Result<&'static str, ApiError> {
    negotiate(accept, MANAGEMENT).map(|offer| offer.media_type).ok_or_else(|| {
        ApiError::new(
            Cause::NotAcceptable,
            format!("cannot answer as {:?}; accept {V2} or {JSON}", accept.unwrap_or("")),
        )
    })
}

#[cfg(test)]
mod tests;
