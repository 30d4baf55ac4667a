//! What a consumer instance reads: topics shared with its group, or partitions of its own.

use actix_web::http::StatusCode;
use pubg1_model::{TopicName, consumer_instance::Subscription};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Consumer, done, places};
use crate::{
    call::{Call, topic_name},
    dto::{
        ErrorBody,
        groups::{Assignment, PartitionList, PartitionName, SubscribedTopics},
    },
    edge::ApiResult,
    error::{ApiError, Cause},
    json_text, reply,
};

/// The body of `POST …/subscription`: one of both.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Subscribe {
    /// The topics to read.
    #[schema(value_type = Option<Vec<String>>)]
    topics: Option<serde_json::Value>,
    /// A regular expression; topics whose whole names match are read, new ones as they come.
    #[schema(value_type = Option<String>)]
    topic_pattern: Option<serde_json::Value>,
}

impl Subscribe {
    fn read(self) -> Result<Subscription, ApiError> {
        let pattern = self.topic_pattern.as_ref().map(|pattern| match pattern.as_str() {
            Some(pattern) => Ok(Subscription::Pattern(pattern.to_owned())),
            None => Err(places::unprocessable("topic_pattern must be text")),
        });
        match (self.topics.as_ref().map(topics).transpose()?, pattern.transpose()?) {
            (Some(topics), None) => Ok(Subscription::Topics(topics)),
            (None, Some(pattern)) => Ok(pattern),
            (None, None) => Err(places::unprocessable("give topics or topic_pattern")),
            (Some(_), Some(_)) => Err(ApiError::new(Cause::IllegalState, "give topics or topic_pattern, not both")),
        }
    }
}

fn topics(list: &serde_json::Value) -> Result<Vec<TopicName>, ApiError> {
    let names = list.as_array().filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| places::unprocessable("topics must be a list of names"))?;
    let name = |name: &serde_json::Value| {
        topic_name(name.as_str().ok_or_else(|| places::unprocessable("the name of a topic must be text"))?)
    };
    names.iter().map(name).collect()
}

/// Subscribes a consumer instance to topics, in place of those that it had before.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/subscription", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    request_body = Subscribe,
    responses(
        (status = 204, description = "Subscribed; the instance has joined its group"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn subscribe(mut call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    let read = call.json::<Subscribe>().await.and_then(Subscribe::read);
    let subscription = consumer.known(read).await?;
    consumer.groups.subscribe(&consumer.group, &consumer.name, subscription).await?;
    Ok(reply)
}

/// Tells which topics a consumer instance reads.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/subscription", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 200, description = "The topics, those that a pattern matches among them", content((SubscribedTopics = "application/vnd.kafka.v2+json"), (SubscribedTopics = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn read(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let media_type = consumer.known(call.management_type()).await?;
    let instance = consumer.groups.instance(&consumer.group, &consumer.name).await?;
    let subscribed = !matches!(instance.subscription, Subscription::Manual(_));
    let topics = instance.topics.into_iter().filter(|_| subscribed).map(String::from).collect();
    reply::json_as(StatusCode::OK, media_type, &SubscribedTopics { topics })
}

/// Ends the subscription of a consumer instance: its partitions go to others at once.
#[utoipa::path(
    delete, path = "/consumers/{group}/instances/{instance}/subscription", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 204, description = "It reads nothing any more"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn unsubscribe(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    consumer.groups.unsubscribe(&consumer.group, &consumer.name).await?;
    Ok(reply)
}

/// Gives partitions to a consumer instance by hand, in place of those that it had before. It is no member of its group
/// then.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/assignments", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    request_body = PartitionList,
    responses(
        (status = 204, description = "Assigned"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn assign(mut call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let reply = consumer.known(done(&call)).await?;
    let read = call.body().await.and_then(|body| places::list(json_text::parse_object(&body)?));
    let partitions = consumer.known(read).await?;
    consumer.known(places::exist(&call.state, &partitions)).await?;
    consumer.groups.assign(&consumer.group, &consumer.name, partitions).await?;
    Ok(reply)
}

/// Tells which partitions a consumer instance has.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/assignments", tag = "consumers",
    params(("group" = String, Path, description = "The consumer group"), ("instance" = String, Path, description = "The instance")),
    responses(
        (status = 200, description = "The partitions, given by hand or by the group", content((Assignment = "application/vnd.kafka.v2+json"), (Assignment = "application/json"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not possible now", body = ErrorBody),
    )
)]
pub(crate) async fn assignments(call: Call) -> ApiResult {
    let consumer = Consumer::of(&call)?;
    let media_type = consumer.known(call.management_type()).await?;
    let instance = consumer.groups.instance(&consumer.group, &consumer.name).await?;
    let partitions = instance.assignment.into_iter().map(PartitionName::from).collect();
    reply::json_as(StatusCode::OK, media_type, &Assignment { partitions })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(body: Value) -> Result<Subscription, ApiError> {
        serde_json::from_value::<Subscribe>(body).unwrap().read()
    }

    #[test]
    fn a_subscription_is_a_list_or_a_pattern() {
        let topics = vec!["a".parse().unwrap(), "b".parse().unwrap()];
        assert_eq!(of(json!({"topics": ["a", "b"]})).unwrap(), Subscription::Topics(topics));
        assert_eq!(of(json!({"topic_pattern": "a.*"})).unwrap(), Subscription::Pattern("a.*".to_owned()));
        for (body, cause) in [
            (json!({"topics": ["a"], "topic_pattern": "a"}), Cause::IllegalState),
            (json!({}), Cause::Unprocessable),
            (json!({"topics": []}), Cause::Unprocessable),
            (json!({"topics": "a"}), Cause::Unprocessable),
            (json!({"topics": [1]}), Cause::Unprocessable),
            (json!({"topics": ["a/b"]}), Cause::InvalidName),
            (json!({"topics": ["a\u{7}"]}), Cause::InvalidName),
            (json!({"topic_pattern": 1}), Cause::Unprocessable),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().cause(), cause, "{body}");
        }
    }
}
