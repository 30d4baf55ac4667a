//! Everything a client can be told went wrong: the one table from cause to HTTP status and code.
//!
//! The body of every error is `{"error_code": n, "message": "…"}`. The first three digits of the
//! code are the HTTP status; the codes follow the REST Proxy v2 dialect where it has one.

mod from_broker;
mod from_groups;
mod from_streams;

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::{Map, Value};

macro_rules! causes {
    ($( $(#[doc = $doc:literal])+ $cause:ident => $status:literal, $code:literal $(, retry $after:literal)?; )+) => {
        /// Why a request, or a record of one, was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $( $(#[doc = $doc])+ $cause, )+
        }

        impl Cause {
            /// Every cause, in the order of the table.
            pub const ALL: &'static [Cause] = &[$( Cause::$cause ),+];

            /// The cause's row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $( Cause::$cause => Row { status: $status, code: $code, retry_after_s: causes!(@retry $($after)?) }, )+
                }
            }

            /// What happened, in a sentence for documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $( Cause::$cause => concat!($($doc),+).trim_ascii_start(), )+
                }
            }
        }
    };
    (@retry) => { None };
    (@retry $after:literal) => { Some($after) };
}

/// What a cause looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The HTTP status.
    pub status: u16,
    /// The `error_code` of the body, and of a record's entry in a produce reply.
    pub code: u32,
    /// The `Retry-After` header, in seconds.
    pub retry_after_s: Option<u32>,
}

causes! {
    /// The body, the query or the path cannot be read.
    Malformed => 400, 400;
    /// A name has characters, or a length, that names do not have.
    InvalidName => 400, 400;
    /// The simple surface names no partition, or none of the topic's.
    InvalidPartition => 400, 400;
    /// A setting of a topic cannot be honoured.
    InvalidTopic => 400, 40002;
    /// The topic is the broker's own.
    InternalTopic => 403, 40301;
    /// Another instance of this producer took over with a newer epoch.
    StaleProducerEpoch => 403, 40302;
    /// There is no such route.
    NoRoute => 404, 404;
    /// There is no such topic.
    NoTopic => 404, 40401;
    /// The topic has no such partition.
    NoPartition => 404, 40402;
    /// There is no such broker.
    NoBroker => 404, 40403;
    /// There is no such consumer instance, or member of the group; it may have expired.
    NoConsumer => 404, 40403;
    /// There is no such consumer group.
    NoGroup => 404, 40405;
    /// There is no such stream.
    NoStream => 404, 40406;
    /// The route exists, the method does not.
    MethodNotAllowed => 405, 405;
    /// Nothing in `Accept` can be served.
    NotAcceptable => 406, 406;
    /// `Accept` names another format than the consumer instance has.
    FormatMismatch => 406, 40601;
    /// The body did not arrive in time.
    BodyTimeout => 408, 408;
    /// The group has a consumer instance of this name.
    ConsumerExists => 409, 40902;
    /// The consumer instance is not in a state in which this can be done: no subscription, two kinds of it, or the partition is not its own.
    IllegalState => 409, 40903;
    /// The topic exists.
    TopicExists => 409, 40904;
    /// Records are missing before these: the sequence is not the expected one.
    SequenceGap => 409, 40905;
    /// Another request changed the same thing at the same time.
    Conflict => 409, 40906;
    /// The cluster is not in a state in which this can be done; the message says what is in the way.
    NotPossible => 409, 40907;
    /// The group went on without this member; nothing was changed. Its next poll joins again.
    MemberExpelled => 409, 40908;
    /// The group has members; nothing was changed.
    GroupNotEmpty => 409, 40909;
    /// It is not known whether the last records arrived: poll again, or name the offsets.
    DeliveryUnknown => 409, 40910;
    /// Nothing was committed, or the position is outside the log, and `auto.offset.reset` is `none`: seek first.
    NoPosition => 409, 40911;
    /// There is a stream of this name.
    StreamExists => 409, 40912;
    /// A stream needs the topic: delete the stream first.
    TopicInUse => 409, 40913;
    /// There are records in a topic that the stream would write to: name another one, or append to it with `append=true`.
    OutputNotEmpty => 409, 40914;
    /// The body or a record is too large.
    TooLarge => 413, 413;
    /// The request target is too long.
    TargetTooLong => 414, 414;
    /// The content type or content coding is not supported.
    UnsupportedMediaType => 415, 415;
    /// The offset lies outside the log.
    OffsetOutOfRange => 416, 41601;
    /// The request can be read but makes no sense.
    Unprocessable => 422, 422;
    /// An option of a consumer instance cannot be honoured.
    InvalidConsumer => 422, 42204;
    /// A stored record cannot be shown in the format asked for.
    Undecodable => 422, 42207;
    /// The raw batches are damaged or break a rule.
    InvalidBatch => 422, 42208;
    /// The declaration of a stream is refused; `path`, or `line` and `column`, say where.
    InvalidStream => 422, 42209;
    /// Too much is in flight; nothing was written.
    Overloaded => 429, 429, retry 1;
    /// The headers are too large.
    HeadersTooLarge => 431, 431;
    /// A defect of the broker.
    Internal => 500, 500;
    /// The log on disk is damaged or cannot be read.
    Storage => 500, 50002;
    /// The broker cannot serve this now.
    Unavailable => 503, 503, retry 1;
    /// The partition's leader did not answer in time, or is being elected; nothing was written.
    NotLeader => 503, 50302, retry 1;
    /// The partition is being recovered, or the broker has just started; nothing was written.
    Recovering => 503, 50303, retry 1;
    /// The broker is going away.
    Draining => 503, 50304, retry 2;
    /// The disk is full; nothing was written.
    DiskFull => 503, 50305, retry 5;
    /// The records may or may not have been written; only an idempotent producer can safely retry.
    OutcomeUnknown => 503, 50306, retry 1;
    /// No broker can lead the partition: too few of its replicas are there; nothing was written.
    NoLeader => 503, 50307, retry 1;
}

/// The answer to a request that failed.
#[derive(Clone, Debug)]
pub struct ApiError {
    cause: Cause,
    message: String,
    /// Further members of the body, such as `expected`.
    details: Option<Box<Map<String, Value>>>,
    /// The `Allow` header of a 405.
    allow: Option<&'static str>,
}

impl ApiError {
    /// An error with a message that says what happened, where, and what to do.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), details: None, allow: None }
    }

    /// A request that cannot be read.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Cause::Malformed, message)
    }

    /// A 405 that names the methods there are.
    pub(crate) fn method_not_allowed(method: &str, allow: &'static str) -> Self {
        let message = format!("{method} is not allowed here; allowed: {allow}");
        Self { allow: Some(allow), ..Self::new(Cause::MethodNotAllowed, message) }
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    /// Why.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The members of the body.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("error_code".to_owned(), self.cause.row().code.into());
        body.insert("message".to_owned(), self.message.clone().into());
        if let Some(details) = &self.details {
            body.extend(details.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        body
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.cause.row().code)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.cause.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut reply = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.cause.row().retry_after_s {
            reply.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(allow) = self.allow {
            reply.insert_header((header::ALLOW, allow));
        }
        reply.json(self.to_json())
    }
}

#[cfg(test)]
mod tests;
