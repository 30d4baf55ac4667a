//! Requests of a group's members: consumer instances, and reads that join with one call.

use std::time::Duration;

use pubg1_model::{GroupId, TopicName};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Client, ClientError,
    call::{Answer, Call},
    group_reply::{AssignmentOfMember, ConsumerReply, OffsetsOfMember, PlaceReply, PlacedOffset, Polled},
};

/// A read that joins with one call, and what it brings.
#[derive(Clone, Copy, Debug)]
pub struct OneCall<'a> {
    /// What the last answer gave; none: a new member.
    pub token: Option<&'a str>,
    /// Whether what the token acknowledges is committed, too.
    pub commits: bool,
    /// How long the broker may wait for a record.
    pub wait: Duration,
    /// How much it may answer.
    pub max_bytes: usize,
    /// How long a new member may be silent.
    pub session: Duration,
}

/// Which number a commit names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitKey {
    /// `partitions`: the next offset.
    Next,
    /// `offsets`: the last one that was processed.
    Processed,
}

fn instance_path(group: &GroupId, instance: &str, what: &str) -> String {
    format!("/consumers/{group}/instances/{}{what}", path_segment(instance))
}

/// A text as a part of a path.
pub(super) fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(char::from(byte)),
            other => segment.push_str(&format!("%{other:02X}")),
        }
    }
    segment
}

fn entries(offsets: &[PlacedOffset]) -> Value {
    let entry = |placed: &PlacedOffset| json!({ "topic": placed.topic, "partition": placed.partition, "offset": placed.offset });
    offsets.iter().map(entry).collect()
}

fn polled(answer: &Answer) -> Result<Polled, ClientError> {
    let text = |header: &str| answer.text(header).map(str::to_owned);
    Ok(Polled {
        records: answer.decode()?,
        generation: answer.text("Consumer-Generation").and_then(|number| number.parse().ok()),
        token: text("Consumer-Token"),
        member: text("Consumer-Member"),
    })
}

impl Client {
    /// Creates a consumer instance as the options say.
    ///
    /// # Errors
    /// As [`Client::get`]; 409 when the name is taken.
    pub async fn create_consumer(&self, group: &GroupId, options: &Value) -> Result<ConsumerReply, ClientError> {
        self.post(&format!("/consumers/{group}"), options).await
    }

    /// Ends a consumer instance: it leaves its group.
    ///
    /// # Errors
    /// As [`Client::send`]; 404 when it is not there.
    pub async fn delete_consumer(&self, group: &GroupId, instance: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, instance_path(group, instance, ""))).await.map(drop)
    }

    /// Tells an instance what it reads.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn subscribe(&self, group: &GroupId, instance: &str, topics: &[TopicName]) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, instance_path(group, instance, "/subscription"));
        self.send(&call.json(&json!({ "topics": topics })).again()).await.map(drop)
    }

    /// What an instance is given next; waits for it. After an error it may count as received: seek before the next one.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn poll(
        &self,
        group: &GroupId,
        instance: &str,
        wait: Duration,
        max_bytes: usize,
    ) -> Result<Polled, ClientError> {
        let query = format!("/records?timeout={}&max_bytes={max_bytes}", wait.as_millis());
        let call = Call::new(Method::GET, instance_path(group, instance, &query)).once().waiting(wait);
        polled(&self.send(&call).await?)
    }

    /// Commits everything that an instance was given.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 when it lost what it was given.
    pub async fn commit_positions(&self, group: &GroupId, instance: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, instance_path(group, instance, "/offsets")).again()).await.map(drop)
    }

    /// Commits these next offsets.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 when one of the partitions is another's.
    pub async fn commit_offsets(
        &self,
        group: &GroupId,
        instance: &str,
        key: CommitKey,
        next: &[PlacedOffset],
    ) -> Result<(), ClientError> {
        let body = match key {
            CommitKey::Next => json!({ "partitions": entries(next) }),
            CommitKey::Processed => {
                let processed: Vec<PlacedOffset> = next.iter().map(processed).collect();
                json!({ "offsets": entries(&processed) })
            }
        };
        let call = Call::new(Method::POST, instance_path(group, instance, "/offsets"));
        self.send(&call.json(&body).again()).await.map(drop)
    }

    /// What the group has committed in the partitions that an instance owns.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn committed(&self, group: &GroupId, instance: &str) -> Result<Vec<PlacedOffset>, ClientError> {
        let reply: OffsetsOfMember = self.get(&instance_path(group, instance, "/offsets")).await?;
        Ok(reply.offsets)
    }

    /// Where an instance reads on.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn positions(&self, group: &GroupId, instance: &str) -> Result<Vec<PlacedOffset>, ClientError> {
        let reply: OffsetsOfMember = self.get(&instance_path(group, instance, "/positions")).await?;
        Ok(reply.offsets)
    }

    /// Tells an instance where to read on.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn seek(&self, group: &GroupId, instance: &str, next: &[PlacedOffset]) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, instance_path(group, instance, "/positions"));
        self.send(&call.json(&json!({ "offsets": entries(next) })).again()).await.map(drop)
    }

    /// The partitions that an instance owns.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn assignment(&self, group: &GroupId, instance: &str) -> Result<Vec<PlaceReply>, ClientError> {
        let reply: AssignmentOfMember = self.get(&instance_path(group, instance, "/assignments")).await?;
        Ok(reply.partitions)
    }

    /// Joins a group or goes on in it, and reads, all at once.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn consume(&self, group: &GroupId, topic: &TopicName, read: OneCall<'_>) -> Result<Polled, ClientError> {
        let commit = if read.commits { "auto" } else { "manual" };
        let path = format!(
            "/groups/{group}/topics/{topic}/records?wait={}ms&max_bytes={}&commit={commit}&format=binary&session_timeout_ms={}",
            read.wait.as_millis(),
            read.max_bytes,
            read.session.as_millis()
        );
        let call = Call::new(Method::GET, path).header("Consumer-Token", read.token).waiting(read.wait);
        polled(&self.send(&call).await?)
    }

    /// Commits what a token acknowledges.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 when its member lost that.
    pub async fn commit_token(&self, group: &GroupId, token: &str) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, format!("/groups/{group}/commits")).header("Consumer-Token", Some(token));
        self.send(&call.again()).await.map(drop)
    }

    /// Commits these next offsets for a group without members.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 when it has some.
    pub async fn commit_for_group(&self, group: &GroupId, next: &[PlacedOffset]) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, format!("/groups/{group}/commits"));
        self.send(&call.json(&json!({ "offsets": entries(next) })).again()).await.map(drop)
    }

    /// A one-call member leaves its group.
    ///
    /// # Errors
    /// As [`Client::send`]; 404 when it is not there.
    pub async fn leave_group(&self, group: &GroupId, member: &str) -> Result<(), ClientError> {
        let path = format!("/groups/{group}/members/{}", path_segment(member));
        self.send(&Call::new(Method::DELETE, path)).await.map(drop)
    }
}

fn processed(next: &PlacedOffset) -> PlacedOffset {
    PlacedOffset { offset: next.offset.map(|offset| offset - 1), ..next.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_part_of_a_path() {
        assert_eq!(path_segment("rest-consumer-1.a_B~"), "rest-consumer-1.a_B~");
        assert_eq!(path_segment("a/b c?%"), "a%2Fb%20c%3F%25");
        let group: GroupId = "g".parse().unwrap();
        assert_eq!(instance_path(&group, "i/1", "/records"), "/consumers/g/instances/i%2F1/records");
    }

    #[test]
    fn the_last_processed_offset_is_one_before_the_next() {
        let next = PlacedOffset::next(&"t".parse().unwrap(), pubg1_model::PartitionId(1), 5);
        assert_eq!(entries(&[processed(&next)]), json!([{ "topic": "t", "partition": 1, "offset": 4 }]));
    }
}
