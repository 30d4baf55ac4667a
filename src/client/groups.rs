//! What is asked and told about consumer groups from outside of them.

use pubg1_model::GroupId;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Client, ClientError,
    call::Call,
    group_reply::{GroupLine, GroupReply, PlaceReply, SeekReply},
};

impl Client {
    /// All groups, and how many parts of the cluster did not answer: their groups are missing.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn groups(&self) -> Result<(Vec<GroupLine>, u32), ClientError> {
        let answer = self.send(&Call::new(Method::GET, "/groups")).await?;
        let missing = answer.text("Coordinators-Missing").and_then(|number| number.parse().ok());
        Ok((answer.decode()?, missing.unwrap_or(0)))
    }

    /// One group.
    ///
    /// # Errors
    /// As [`Client::get`]; 404 when there is none.
    pub async fn group(&self, group: &GroupId) -> Result<GroupReply, ClientError> {
        self.get(&format!("/groups/{group}")).await
    }

    /// Sets what a group without members reads next, or says what would be set.
    ///
    /// # Errors
    /// As [`Client::get`]; 409 while it has members.
    pub async fn seek_group(&self, group: &GroupId, body: &Value) -> Result<SeekReply, ClientError> {
        self.post(&format!("/groups/{group}/seek"), body).await
    }

    /// Deletes a group without members, with everything that it committed.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 while it has members.
    pub async fn delete_group(&self, group: &GroupId) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("/groups/{group}"))).await.map(drop)
    }

    /// Deletes what a group committed in these partitions.
    ///
    /// # Errors
    /// As [`Client::send`]; 409 while its members read them.
    pub async fn delete_group_offsets(&self, group: &GroupId, partitions: &[PlaceReply]) -> Result<(), ClientError> {
        let call = Call::new(Method::DELETE, format!("/groups/{group}/offsets"));
        self.send(&call.json(&json!({ "partitions": partitions }))).await.map(drop)
    }
}
