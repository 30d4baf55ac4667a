//! A client's side of a consumer instance.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Reply, V2_JSON};

/// A consumer instance as a client knows it; any broker can be asked about it.
pub(crate) struct Instance {
    pub(crate) path: String,
}

/// Repeats a request while the broker says that it cannot be served yet.
pub(crate) async fn patient(request: impl AsyncFn() -> Reply) -> Reply {
    let began = std::time::Instant::now();
    loop {
        let reply = request().await;
        if reply.status != 503 {
            return reply;
        }
        assert!(reply.header("retry-after").is_some(), "{}", reply.text());
        assert!(began.elapsed().as_secs() < 60, "{}", reply.text());
    }
}

/// Waits until `look` finds something.
pub(crate) async fn soon<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.unwrap()
}

impl Instance {
    /// Creates one in the JSON format with these options besides.
    pub(crate) async fn create(api: &Api, group: &str, options: Value) -> Self {
        let mut body = json!({"format": "json", "auto.offset.reset": "earliest", "auto.commit.enable": "false"});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let reply = patient(async || api.post(&format!("/consumers/{group}"), body.to_string()).await).await.ok();
        Self { path: format!("/consumers/{group}/instances/{}", reply["instance_id"].as_str().unwrap()) }
    }

    /// Creates one and subscribes it to a topic.
    pub(crate) async fn subscribed(api: &Api, group: &str, topic: &str, options: Value) -> Self {
        let instance = Self::create(api, group, options).await;
        instance.post(api, "/subscription", json!({"topics": [topic]})).await.no_content();
        instance
    }

    pub(crate) async fn get(&self, api: &Api, path: &str) -> Reply {
        patient(async || api.get(&format!("{}{path}", self.path)).await).await
    }

    pub(crate) async fn post(&self, api: &Api, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        patient(async || api.post(&format!("{}{path}", self.path), body.clone()).await).await
    }

    pub(crate) async fn delete(&self, api: &Api) -> Reply {
        patient(|| api.delete(&self.path)).await
    }

    /// One poll.
    pub(crate) async fn poll(&self, api: &Api, query: &str) -> Vec<Value> {
        let reply = self.get(api, &format!("/records?{query}")).await;
        let Value::Array(records) = reply.ok() else { panic!("{}", reply.text()) };
        records
    }

    /// Polls until this many records came; their values.
    pub(crate) async fn values(&self, api: &Api, count: usize) -> Vec<Value> {
        let mut values = Vec::new();
        while values.len() < count {
            values.extend(self.poll(api, "timeout=10000").await.iter().map(|record| record["value"].clone()));
        }
        values
    }

    /// Commits what was delivered.
    pub(crate) async fn commit(&self, api: &Api) {
        self.post(api, "/offsets", Value::Null).await.no_content();
    }

    /// The partitions that it has, when there are as many as expected.
    pub(crate) async fn assigned(&self, api: &Api, count: usize) -> Vec<Value> {
        soon(async || {
            let Value::Array(partitions) = self.get(api, "/assignments").await.ok()["partitions"].take() else {
                panic!()
            };
            (partitions.len() == count).then_some(partitions)
        })
        .await
    }

    /// What the group has committed in a partition.
    pub(crate) async fn committed(&self, api: &Api, topic: &str, partition: u32) -> Value {
        let body = json!({"partitions": [{"topic": topic, "partition": partition}]}).to_string();
        let path = format!("{}/offsets", self.path);
        let reply = patient(|| api.send(api.request(Method::GET, &path).body(body.clone()))).await;
        reply.ok()["offsets"][0]["offset"].clone()
    }
}

/// Publishes values to a partition.
pub(crate) async fn publish(api: &Api, topic: &str, partition: u32, values: impl IntoIterator<Item = Value>) {
    let records: Vec<Value> = values.into_iter().map(|value| json!({"value": value})).collect();
    let (path, body) = (format!("/topics/{topic}/partitions/{partition}"), json!({"records": records}).to_string());
    patient(|| api.post_as(&path, V2_JSON, body.clone())).await.ok();
}
