//! Which cause of the table each error about streams is.

use pubg1_actors::StreamError;
use pubg1_model::streams::document::DocumentError;
use pubg1_sql::SqlError;

use super::{ApiError, Cause};

impl From<DocumentError> for ApiError {
    fn from(error: DocumentError) -> Self {
        Self::new(Cause::InvalidStream, error.to_string()).with("path", error.path)
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let place = Self::new(Cause::InvalidStream, format!("the SQL at {error}"));
        place.with("line", error.line).with("column", error.column)
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        let message = error.to_string();
        let invalid = |path: &str| Self::new(Cause::InvalidStream, message.clone()).with("path", path);
        let cause = match error {
            StreamError::Document(error) => return error.into(),
            StreamError::Unavailable(error) => return error.into(),
            StreamError::Topic { error, .. } => return Self { message, ..Self::from((*error).clone()) },
            StreamError::OtherName { .. } | StreamError::NameTooLong { .. } => return invalid("$.name"),
            StreamError::NoAppendTime(_) => return invalid("$.time.source"),
            StreamError::UnknownStream(_) => Cause::NoStream,
            StreamError::StreamExists(_) => Cause::StreamExists,
            StreamError::OutputNotEmpty(_) => Cause::OutputNotEmpty,
            StreamError::OutputUnavailable { .. } => Cause::NoLeader,
            StreamError::UnknownInput(_) => Cause::NoTopic,
            StreamError::Internal(_) => Cause::InternalTopic,
            StreamError::State(_) | StreamError::Refused(_) => Cause::NotPossible,
            StreamError::NotReady { .. } => Cause::Recovering,
        };
        Self::new(cause, message)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pubg1_actors::{CreateTopicError, MetadataUnavailable};

    use super::*;

    #[test]
    fn errors_of_streams_have_their_causes_and_say_when_to_try_again() {
        let name = || "s".parse().unwrap();
        let topic = || "t".parse().unwrap();
        let no_leader = MetadataUnavailable::Draining;
        for (error, cause) in [
            (StreamError::UnknownStream(name()), Cause::NoStream),
            (StreamError::StreamExists(name()), Cause::StreamExists),
            (StreamError::OutputNotEmpty(topic()), Cause::OutputNotEmpty),
            (StreamError::OutputUnavailable { topic: topic(), retry_after_ms: 1 }, Cause::NoLeader),
            (StreamError::UnknownInput(topic()), Cause::NoTopic),
            (StreamError::Internal(topic()), Cause::InternalTopic),
            (StreamError::NoAppendTime(topic()), Cause::InvalidStream),
            (StreamError::State("it is finished".to_owned()), Cause::NotPossible),
            (StreamError::NotReady { retry_after_ms: 1 }, Cause::Recovering),
            (StreamError::Unavailable(no_leader.clone()), Cause::Draining),
            (
                StreamError::Topic { topic: topic(), error: Arc::new(CreateTopicError::Unavailable(no_leader)) },
                Cause::Draining,
            ),
        ] {
            let (text, waits) = (error.to_string(), error.is_retriable());
            let refusal = ApiError::from(error);
            assert_eq!(refusal.cause(), cause, "{text}");
            assert_eq!(refusal.cause().row().retry_after_s.is_some(), waits, "{text}");
        }
    }

    #[test]
    fn a_refused_declaration_says_where() {
        let error = DocumentError { path: "$.window.size".to_owned(), reason: "is no length".to_owned() };
        let body = ApiError::from(StreamError::Document(error)).to_json();
        assert_eq!((&body["path"], &body["error_code"]), (&"$.window.size".into(), &42209.into()));
        let error = pubg1_sql::compile("SELECT a\nFROM nowhere(b)", "q").unwrap_err();
        let body = ApiError::from(error).to_json();
        assert_eq!((&body["line"], &body["column"]), (&2.into(), &6.into()));
    }
}
