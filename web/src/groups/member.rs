//! A consumer that is one call: it joins with its first request and shows a token with every further one.

use actix_web::http::header::HeaderName;
use pubg1_actors::{GroupRequestError, NewInstance};
use pubg1_model::{
    GroupId, InstanceName, TopicName,
    consumer_instance::{Confirmation, InstanceDefinition, OffsetReset, PollId, Subscription},
};
use serde::Deserialize;

use super::token::Token;
use crate::{
    call::Call,
    consumers::{Consumer, introduce, poll::detach, receipt::Receipt},
    error::{ApiError, Cause},
};

pub(super) const CONSUMER_TOKEN: HeaderName = HeaderName::from_static("consumer-token");

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whether what a client has received is committed by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CommitMode {
    /// The next request commits what the token says was received.
    #[default]
    Auto,
    /// Only `POST /groups/{group}/commits` does.
    Manual,
}

/// Where a group begins that has committed nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ResetMode {
    /// With the first record.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// How a member joins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) commit: Option<CommitMode>,
    pub(super) reset: ResetMode,
    /// Without a call for this long its partitions go to others.
    pub(super) session_timeout_ms: u64,
}

/// The token that a request shows, as such or as the id of the last event.
pub(super) fn token(call: &Call, group: &GroupId) -> Result<Option<Token>, ApiError> {
    let shown = [LAST_EVENT_ID, CONSUMER_TOKEN].map(|name| {
        let text = call.header(&name);
        text.map(|text| Token::decode(text, group)).transpose()
    });
    let [last_event, token] = shown;
    Ok(last_event?.or(token?))
}

/// A member as one request sees it.
pub(super) struct Member {
    pub(super) consumer: Consumer,
    pub(super) topic: TopicName,
    pub(super) auto_commit: bool,
    /// The last poll that the client has received.
    pub(super) acknowledged: Option<PollId>,
    /// Makes a member that has just joined leave again, unless its client gets to know of it.
    pub(super) joined: Option<Receipt>,
}

impl Member {
    /// Goes on as the member that a token names.
    pub(super) fn resume(call: &Call, token: &Token, topic: TopicName, terms: Terms) -> Result<Self, ApiError> {
        let refuse = |what: &str| {
            let message = format!("the consumer token {what}; begin anew without one");
            Err(ApiError::new(Cause::IllegalState, message))
        };
        if token.topic != topic {
            return refuse(&format!("is of topic {}", token.topic));
        }
        if terms.commit.is_some_and(|mode| (mode == CommitMode::Auto) != token.auto_commit) {
            return refuse("was given under another commit=");
        }
        let (group, name) = (token.group.clone(), token.instance.clone());
        Ok(Self {
            consumer: Consumer { groups: call.state.broker.groups(), group, name },
            topic,
            auto_commit: token.auto_commit,
            acknowledged: Some(token.poll),
            joined: None,
        })
    }

    /// Becomes a new member.
    pub(super) async fn join(call: &Call, group: GroupId, topic: TopicName, terms: Terms) -> Result<Self, ApiError> {
        let auto_commit = terms.commit.unwrap_or_default() == CommitMode::Auto;
        let mut definition = InstanceDefinition {
            auto_offset_reset: match terms.reset {
                ResetMode::Earliest => OffsetReset::Earliest,
                ResetMode::Latest => OffsetReset::Latest,
            },
            auto_commit_interval_ms: auto_commit.then_some(0),
            session_timeout_ms: terms.session_timeout_ms,
            confirmation: Confirmation::Token,
            ..InstanceDefinition::default()
        };
        introduce(call, &mut definition);
        let groups = call.state.broker.groups();
        let name = groups.create_instance(&group, NewInstance { name: None, definition }).await?;
        let consumer = Consumer { groups, group, name };
        // From here on: a request that is given up leaves no member behind.
        let joined = Some(leave_unless_received(&consumer));
        let subscription = Subscription::Topics(vec![topic.clone()]);
        consumer.groups.subscribe(&consumer.group, &consumer.name, subscription).await?;
        Ok(Self { consumer, topic, auto_commit, acknowledged: None, joined })
    }

    /// The token for an answer that the client will have received when it shows it.
    pub(super) fn token(&self, poll: PollId) -> Token {
        Token {
            group: self.consumer.group.clone(),
            instance: self.consumer.name.clone(),
            topic: self.topic.clone(),
            auto_commit: self.auto_commit,
            poll,
            positions: Vec::new(),
        }
    }

    pub(super) const fn name(&self) -> &InstanceName {
        &self.consumer.name
    }
}

fn leave_unless_received(consumer: &Consumer) -> Receipt {
    let Consumer { groups, group, name } = consumer.clone();
    Receipt::new(move |received| {
        if received {
            return;
        }
        detach(move || async move {
            match groups.delete_instance(&group, &name).await {
                Ok(()) | Err(GroupRequestError::UnknownInstance { .. }) => {}
                // Its session ends by itself.
                Err(error) => tracing::debug!(%group, instance = %name, %error, "a member did not leave"),
            }
        });
    })
}
