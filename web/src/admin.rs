//! Topics created, changed and deleted; [`partitions`] and [`brokers`] have what belongs to those.

pub(crate) mod brokers;
pub(crate) mod partitions;

use actix_web::{HttpResponse, http::StatusCode};
use pubg1_actors::NewTopic;
use pubg1_model::topic::TopicConfig;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    call::{Call, topic_name},
    dto::{ErrorBody, TopicConfigBody, TopicEntry},
    edge::ApiResult,
    error::{ApiError, Cause},
    media_type::JSON,
    reply,
    state::refuse_internal,
    topics,
};

/// The body of `POST /admin/topics`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTopic {
    /// 1 to 200 letters, digits, `.`, `_` and `-`; not beginning with `__`.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,200}$")]
    topic_name: String,
    #[schema(minimum = 1, maximum = 10000)]
    partitions_count: Option<u32>,
    #[schema(minimum = 1)]
    replication_factor: Option<u32>,
    #[schema(value_type = Option<TopicConfigBody>)]
    configs: Option<Map<String, Value>>,
}

/// Settings as `base` has them, except those that are given.
fn merge(base: &TopicConfig, given: Map<String, Value>) -> Result<TopicConfig, ApiError> {
    let refuse = |error: serde_json::Error| ApiError::new(Cause::InvalidTopic, format!("the settings: {error}"));
    let mut merged = serde_json::to_value(base).map_err(refuse)?;
    if let Value::Object(members) = &mut merged {
        members.extend(given);
    }
    let config: TopicConfig = serde_json::from_value(merged).map_err(refuse)?;
    config.validate().map_err(|error| ApiError::new(Cause::InvalidTopic, error.to_string()))?;
    Ok(config)
}

/// Creates a topic and waits until it can be used.
#[utoipa::path(
    post, path = "/admin/topics", tag = "admin",
    request_body = CreateTopic,
    responses(
        (status = 201, description = "The topic", body = TopicEntry),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn create(mut call: Call) -> ApiResult {
    let body: CreateTopic = call.json().await?;
    let name = topic_name(&body.topic_name)?;
    let defaults = call.state.broker.config().topic_defaults.clone();
    let config = body.configs.map(|given| merge(&defaults, given)).transpose()?;
    let topic =
        NewTopic { name, partitions: body.partitions_count, replication_factor: body.replication_factor, config };
    let image = call.state.broker.create_topic(topic).await?;
    let in_sync = call.state.broker.in_sync(&image).await;
    reply::json_as(StatusCode::CREATED, JSON, &topics::entry(&image, &in_sync))
}

/// Deletes a topic with everything in it.
#[utoipa::path(
    delete, path = "/admin/topics/{topic}", tag = "admin",
    params(("topic" = String, Path, description = "The topic")),
    responses(
        (status = 204, description = "Deleted"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn delete(call: Call) -> ApiResult {
    call.state.broker.delete_topic(&call.topic()?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The body of `PUT /admin/topics/{topic}/configs`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlterTopic {
    #[schema(value_type = TopicConfigBody)]
    configs: Map<String, Value>,
}

/// Changes settings of a topic; those that are not given keep their values.
#[utoipa::path(
    put, path = "/admin/topics/{topic}/configs", tag = "admin",
    params(("topic" = String, Path, description = "The topic")),
    request_body = AlterTopic,
    responses(
        (status = 200, description = "The settings as they are now", body = AlteredTopic),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn alter(mut call: Call) -> ApiResult {
    let name = call.topic()?;
    refuse_internal(&name)?;
    let body: AlterTopic = call.json().await?;
    let configs = merge(&call.state.topic(&name)?.config, body.configs)?;
    call.state.broker.alter_topic(&name, configs.clone()).await?;
    reply::json(&AlteredTopic { configs })
}

/// The settings of a topic.
#[derive(serde::Serialize, ToSchema)]
pub(crate) struct AlteredTopic {
    #[schema(value_type = TopicConfigBody)]
    configs: TopicConfig,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn settings_that_are_not_given_keep_their_values() {
        let base = TopicConfig { retention_ms: None, ..TopicConfig::default() };
        let merged = merge(&base, given(&json!({"segment_bytes": 1_048_576, "cleanup_policy": "compact"}))).unwrap();
        assert_eq!((merged.retention_ms, merged.segment_bytes), (None, 1_048_576));
        for refused in [json!({"segment_bytes": 1}), json!({"retention": 1}), json!({"cleanup_policy": "none"})] {
            assert_eq!(merge(&base, given(&refused)).unwrap_err().cause(), Cause::InvalidTopic, "{refused}");
        }
    }
}
