//! A member's place in its group: a consumer instance, or a token that one call after the other shows.

use std::{collections::BTreeMap, time::Duration};

use pubg1_model::{GroupId, PartitionId, TopicName};
use serde_json::json;

use crate::client::{
    Client, ClientError,
    consumers::{CommitKey, OneCall},
    group_reply::{PlacedOffset, Polled},
};

const CONFLICT: u16 = 409;

/// How a member joins and commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// An instance that names offsets.
    Named(CommitKey),
    /// An instance that commits what it was given.
    Positions,
    /// An instance that lets the broker commit.
    Auto,
    /// One call that commits by token.
    Token,
    /// One call that commits what it shows the token of.
    TokenAuto,
}

impl Style {
    const ALL: [Self; 6] = [
        Self::Named(CommitKey::Next),
        Self::Positions,
        Self::Token,
        Self::Named(CommitKey::Processed),
        Self::TokenAuto,
        Self::Auto,
    ];

    /// Members of a group, and the same member in its next life, do it in different ways.
    pub(super) fn of(group: u32, member: u32, life: u32) -> Self {
        let index = group.wrapping_add(member).wrapping_add(life);
        Self::ALL[usize::try_from(index).unwrap_or(0) % Self::ALL.len()]
    }

    const fn is_instance(self) -> bool {
        !matches!(self, Self::Token | Self::TokenAuto)
    }

    /// Whether nothing is committed by a request of its own.
    pub(super) const fn commits_by_itself(self) -> bool {
        matches!(self, Self::Auto | Self::TokenAuto)
    }
}

/// A member in one of its lives.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) style: Style,
    group: GroupId,
    topic: TopicName,
    session: Duration,
    /// Its instance's name.
    name: String,
    token: Option<String>,
    /// The name of a one-call member, once it has joined.
    joined: Option<String>,
}

impl Seat {
    pub(super) fn new(style: Style, group: &GroupId, topic: &TopicName, session: Duration, name: String) -> Self {
        Self { style, group: group.clone(), topic: topic.clone(), session, name, token: None, joined: None }
    }

    pub(super) const fn is_instance(&self) -> bool {
        self.style.is_instance()
    }

    /// Joins; a one-call member does so by its first read.
    pub(super) async fn join(&self, client: &Client) -> Result<(), ClientError> {
        if !self.is_instance() {
            return Ok(());
        }
        let options = json!({
            "name": self.name,
            "format": "binary",
            "auto.offset.reset": "earliest",
            "auto.commit.enable": if self.style == Style::Auto { "true" } else { "false" },
            "auto.commit.interval.ms": "0",
            "session.timeout.ms": self.session.as_millis().to_string(),
        });
        match client.create_consumer(&self.group, &options).await {
            // The answer to an earlier attempt was lost.
            Err(error) if error.status() == Some(CONFLICT) => {}
            created => drop(created?),
        }
        client.subscribe(&self.group, &self.name, std::slice::from_ref(&self.topic)).await
    }

    pub(super) async fn poll(
        &mut self,
        client: &Client,
        wait: Duration,
        max_bytes: usize,
    ) -> Result<Polled, ClientError> {
        if self.is_instance() {
            return client.poll(&self.group, &self.name, wait, max_bytes).await;
        }
        let commits = self.style == Style::TokenAuto;
        let read = OneCall { token: self.token.as_deref(), commits, wait, max_bytes, session: self.session };
        let polled = client.consume(&self.group, &self.topic, read).await?;
        self.token = polled.token.clone().or_else(|| self.token.take());
        self.joined = polled.member.clone().or_else(|| self.joined.take());
        Ok(polled)
    }

    /// Commits; `offsets` is what a request that names offsets names.
    pub(super) async fn commit(&self, client: &Client, offsets: &BTreeMap<u32, u64>) -> Result<(), ClientError> {
        match self.style {
            Style::Named(key) => client.commit_offsets(&self.group, &self.name, key, &self.placed(offsets)).await,
            Style::Positions => client.commit_positions(&self.group, &self.name).await,
            Style::Token => match &self.token {
                Some(token) => client.commit_token(&self.group, token).await,
                None => Ok(()),
            },
            Style::Auto | Style::TokenAuto => Ok(()),
        }
    }

    fn placed(&self, offsets: &BTreeMap<u32, u64>) -> Vec<PlacedOffset> {
        let placed = |(partition, offset)| PlacedOffset::next(&self.topic, PartitionId(partition), offset);
        offsets.iter().map(|(partition, offset)| (*partition, *offset)).map(placed).collect()
    }

    /// What the group has committed in this member's partitions; only instances can ask.
    pub(super) async fn committed(&self, client: &Client) -> Result<Vec<(u32, Option<u64>)>, ClientError> {
        let placed = client.committed(&self.group, &self.name).await?;
        Ok(placed.iter().map(|placed| (placed.partition.0, placed.offset())).collect())
    }

    /// Reads on at these offsets; only instances can.
    pub(super) async fn seek(&self, client: &Client, offsets: &BTreeMap<u32, u64>) -> Result<(), ClientError> {
        client.seek(&self.group, &self.name, &self.placed(offsets)).await
    }

    pub(super) async fn leave(&self, client: &Client) -> Result<(), ClientError> {
        match (&self.joined, self.is_instance()) {
            (_, true) => client.delete_consumer(&self.group, &self.name).await,
            (Some(joined), false) => client.leave_group(&self.group, joined).await,
            (None, false) => Ok(()),
        }
    }
}
