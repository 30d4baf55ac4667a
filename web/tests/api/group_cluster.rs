//! Any broker serves any consumer, and goes on where another one ended.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    consumer_client::{Instance, patient, publish},
    harness::Api,
};

#[actix_rt::test]
async fn any_broker_serves_any_instance() {
    let three = Api::start_three().await;
    let [a, b, c] = &three;
    publish(a, "pubg1", 0, (0..6).map(Value::from)).await;
    let instance = Instance::create(a, "g", json!({})).await;
    instance.post(b, "/subscription", json!({"topics": ["pubg1"]})).await.no_content();
    for (at, api) in [c, b, a].into_iter().enumerate() {
        let records = instance.poll(api, "max_records=1&timeout=10000").await;
        assert_eq!(records[0]["value"], at, "one after the other, whoever is asked");
    }
    instance.commit(c).await;
    for api in &three {
        assert_eq!(instance.committed(api, "pubg1", 0).await, 3);
        let group = patient(|| api.get("/groups/g")).await.ok();
        assert_eq!((&group["state"], &group["lag"]), (&json!("Stable"), &json!(3)), "{group}");
        assert_eq!(patient(|| api.get("/groups")).await.ok()[0]["group"], "g");
    }
    assert_eq!(instance.values(b, 3).await, [3, 4, 5].map(|n| json!(n)));
    let (records, ()) = tokio::join!(instance.poll(b, "timeout=60000"), publish(c, "pubg1", 0, [json!(6)]));
    assert_eq!(records[0]["value"], 6);
    let mut caller = None;
    for (at, api) in [a, b, c].into_iter().enumerate() {
        let reply = patient(|| {
            let request = api.request(Method::GET, "/groups/h/topics/pubg1/records?format=json&max_records=1&wait=10s");
            api.send(match &caller {
                Some(token) => request.header("consumer-token", token),
                None => request,
            })
        })
        .await;
        assert_eq!(reply.ok()[0]["value"], at);
        caller = reply.header("consumer-token").map(str::to_owned);
    }
    instance.delete(a).await.no_content();
    for api in &three {
        instance.get(api, "/records").await.refused(404, 40403);
    }
    for api in three {
        api.kill().await;
    }
}

#[actix_rt::test]
async fn an_instance_outlives_the_broker_that_its_client_talked_to() {
    let three = Api::start_three().await;
    publish(&three[0], "pubg1", 0, (0..10).map(Value::from)).await;
    // Coordinators are spread: of several groups one is coordinated by the broker that dies.
    let mut instances = Vec::new();
    for group in ["g", "h", "i", "j", "k"] {
        instances.push(Instance::subscribed(&three[0], group, "pubg1", json!({})).await);
    }
    for instance in &instances {
        assert_eq!(instance.poll(&three[0], "max_records=4&timeout=10000").await.len(), 4);
        instance.commit(&three[0]).await;
        assert_eq!(instance.poll(&three[0], "max_records=1&timeout=10000").await[0]["value"], 4);
    }
    let [dead, second, third] = three;
    dead.kill().await;
    for (instance, api) in instances.iter().zip([&second, &third].into_iter().cycle()) {
        let values = tokio::time::timeout(Duration::from_secs(60), instance.values(api, 5)).await.unwrap();
        // What was given and not committed may come again, if its confirmation was lost with the broker.
        let from = values[0].as_u64().unwrap();
        assert!((4..=5).contains(&from), "{values:?}");
        assert_eq!(values, (from..10).map(Value::from).collect::<Vec<_>>()[..values.len()]);
        assert!(instance.committed(api, "pubg1", 0).await.as_i64() >= Some(4));
        instance.commit(api).await;
        assert_eq!(instance.committed(api, "pubg1", 0).await, 10);
    }
    for api in [second, third] {
        api.kill().await;
    }
}
