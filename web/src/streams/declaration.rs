//! Reads a declaration: a JSON document, `{"sql": …}`, or SQL.

use actix_web::{http::header, web};
use pubg1_actors::StreamError;
use pubg1_model::{StreamName, streams::document::StreamDocument};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    call::{Call, stream_name},
    dto::streams::SqlText,
    error::{ApiError, Cause},
    json_text,
};

/// Whether a JSON body has SQL in it.
#[derive(Deserialize)]
struct Probe {
    sql: Option<IgnoredAny>,
}

/// The declaration in a body. A `SELECT` without a name is called `asked`, or else `fallback`; what has a name must
/// have the one that was asked for.
pub(super) async fn read(
    call: &mut Call,
    asked: Option<&str>,
    fallback: Option<&str>,
) -> Result<StreamDocument, ApiError> {
    let asked = asked.map(stream_name).transpose()?;
    let default_name = asked.as_ref().map(StreamName::as_str).or(fallback).map(str::to_owned);
    let content_type = call.header(&header::CONTENT_TYPE).map(str::to_owned);
    let body = call.body().await?;
    if content_type.as_deref().is_some_and(is_sql) {
        let text = std::str::from_utf8(&body).map_err(|error| {
            ApiError::malformed(format!("the SQL is not UTF-8 from byte {} on", error.valid_up_to()))
        })?;
        return called(compile(text.to_owned(), default_name).await?, asked);
    }
    if json_text::parse_object::<Probe>(&body)?.sql.is_none() {
        return called(StreamDocument::parse(&body)?, asked);
    }
    let given: SqlText = json_text::parse_object(&body)?;
    let named = given.name.as_deref().map(stream_name).transpose()?;
    let document = compile(given.sql, named.clone().map(String::from).or(default_name)).await?;
    called(called(document, named)?, asked)
}

/// The document, if it is of the stream that was asked for.
fn called(document: StreamDocument, asked: Option<StreamName>) -> Result<StreamDocument, ApiError> {
    match asked.filter(|asked| *asked != document.name) {
        Some(asked) => Err(StreamError::OtherName { asked, declared: document.name }.into()),
        None => Ok(document),
    }
}

/// Whether a media type says that the body is SQL.
fn is_sql(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    ["application/sql", "text/plain"].iter().any(|sql| media_type.eq_ignore_ascii_case(sql))
}

/// Compiles on a thread of its own: a worker does not wait for it.
async fn compile(text: String, name: Option<String>) -> Result<StreamDocument, ApiError> {
    let compile = move || match name {
        Some(name) => pubg1_sql::compile(&text, &name),
        None => pubg1_sql::compile_view(&text),
    };
    let compiled = web::block(compile).await;
    let document = compiled.map_err(|_| ApiError::new(Cause::Unavailable, "the broker is going away"))?;
    Ok(document?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_told_by_its_media_type() {
        for sql in ["application/sql", "Application/SQL; charset=utf-8", "text/plain"] {
            assert!(is_sql(sql), "{sql}");
        }
        for other in ["", "application/json", "application/x-www-form-urlencoded", "sql"] {
            assert!(!is_sql(other), "{other}");
        }
    }

    #[actix_rt::test]
    async fn a_select_needs_a_name() {
        let select = "SELECT COUNT(*) AS n FROM TUMBLE(t, ts, '1h') GROUP BY window_start";
        let error = compile(select.to_owned(), None).await.unwrap_err();
        assert_eq!(error.cause(), Cause::InvalidStream);
        assert_eq!(compile(select.to_owned(), Some("s".to_owned())).await.unwrap().name.as_str(), "s");
        let view = format!("CREATE MATERIALIZED VIEW v AS {select}");
        assert_eq!(compile(view, Some("s".to_owned())).await.unwrap().name.as_str(), "v");
    }
}
