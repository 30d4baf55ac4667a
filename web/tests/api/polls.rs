//! What a poll promises: it is answered early, gives something, loses nothing, and gives nothing to two.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    consumer_client::{Instance, publish, soon},
    harness::Api,
};

#[actix_rt::test]
async fn a_poll_gives_one_record_at_least_and_passes_over_none() {
    let api = Api::start().await;
    api.create_topic("t", 2).await;
    let values: Vec<Value> = (0..6).map(|n| json!(format!("{n}{}", "x".repeat(100)))).collect();
    publish(&api, "t", 0, values[..3].to_vec()).await;
    publish(&api, "t", 1, values[3..].to_vec()).await;
    for (group, query, per_poll) in
        [("a", "max_bytes=1", 1), ("b", "max_bytes=0", 1), ("c", "max_records=2", 2), ("d", "max_bytes=300", 2)]
    {
        let instance = Instance::subscribed(&api, group, "t", json!({})).await;
        let mut seen = Vec::new();
        while seen.len() < 6 {
            let records = instance.poll(&api, &format!("{query}&timeout=10000")).await;
            assert!((1..=per_poll).contains(&records.len()), "{query}: {records:?}");
            seen.extend(records.iter().map(|record| record["value"].clone()));
        }
        for half in [&values[..3], &values[3..]] {
            let in_order: Vec<&Value> = seen.iter().filter(|value| half.contains(value)).collect();
            assert_eq!(in_order, half.iter().collect::<Vec<_>>(), "{query}");
        }
        assert_eq!(instance.poll(&api, "timeout=0").await, Vec::<Value>::new());
    }
    api.stop().await;
}

#[actix_rt::test]
async fn a_poll_that_waits_is_answered_by_the_first_record_and_by_a_rebalance() {
    let api = Api::start().await;
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    let (records, ()) = tokio::join!(instance.poll(&api, "timeout=60000"), publish(&api, "pubg1", 3, [json!("early")]));
    assert_eq!(records[0]["value"], "early");

    // There is one partition for two: one of them has nothing to read until the other one leaves.
    api.create_topic("single", 1).await;
    publish(&api, "single", 0, [json!("later")]).await;
    let one = Instance::subscribed(&api, "h", "single", json!({})).await;
    let two = Instance::subscribed(&api, "h", "single", json!({})).await;
    let one_has_it = !one.get(&api, "/assignments").await.ok()["partitions"].as_array().unwrap().is_empty();
    let (busy, idle) = if one_has_it { (one, two) } else { (two, one) };
    let generation = async |instance: &Instance, query: &str| {
        let reply = instance.get(&api, &format!("/records?{query}")).await;
        reply.ok();
        reply.header("consumer-generation").map(str::to_owned)
    };
    for instance in [&busy, &idle] {
        assert_eq!(generation(instance, "timeout=1").await.as_deref(), Some("2"), "whether there is anything or not");
    }
    let other = Instance::create(&api, "i", json!({})).await;
    other.post(&api, "/assignments", json!({"partitions": [{"topic": "single", "partition": 0}]})).await.no_content();
    assert_eq!(generation(&other, "timeout=10000").await, None, "by hand it is no member");
    let described = &api.get("/openapi.json").await.ok()["paths"];
    for path in ["/consumers/{group}/instances/{instance}/records", "/groups/{group}/topics/{topic}/records"] {
        assert!(described[path]["get"]["responses"]["200"]["headers"]["Consumer-Generation"].is_object(), "{path}");
    }
    let (records, gone) = tokio::join!(idle.poll(&api, "timeout=60000"), busy.delete(&api));
    gone.no_content();
    assert_eq!(records[0]["value"], "later");
    api.stop().await;
}

#[actix_rt::test]
async fn fetch_min_bytes_waits_for_more_until_time_is_up() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, [json!("a")]).await;
    let patient = Instance::subscribed(&api, "g", "pubg1", json!({"fetch.min.bytes": 1000})).await;
    assert_eq!(patient.poll(&api, "timeout=50").await.len(), 1, "what is there is given in the end");
    let large = json!("x".repeat(2000));
    let (records, ()) = tokio::join!(patient.poll(&api, "timeout=60000"), async {
        publish(&api, "pubg1", 0, [json!("b")]).await;
        publish(&api, "pubg1", 1, [large.clone()]).await;
    });
    assert_eq!(records.len(), 2, "{records:?}");
    api.stop().await;
}

/// Sends a poll, and goes away without having read the answer.
async fn give_up(api: &Api, path: &str, read_first: bool) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let address = api.address.clone();
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        if read_first {
            stream.read_exact(&mut [0; 1000]).unwrap();
        }
        stream.shutdown(Shutdown::Both).unwrap();
    };
    actix_web::web::block(exchange).await.unwrap();
}

#[actix_rt::test]
async fn an_answer_that_was_lost_is_given_again() {
    let api = Api::start().await;
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({"consumer.request.timeout.ms": 60000})).await;
    // More than a connection holds that nobody reads from.
    let large = "x".repeat(900_000);
    for n in 0..16 {
        publish(&api, "pubg1", 0, [json!({"n": n, "x": large})]).await;
    }
    give_up(&api, &format!("{}/records?max_bytes=16777216", instance.path), true).await;
    let again = instance.poll(&api, "max_records=2").await;
    assert_eq!((&again[0]["offset"], &again[1]["offset"]), (&json!(0), &json!(1)));
    let rest = instance.poll(&api, "max_bytes=16777216").await;
    assert_eq!(rest[0]["offset"], 2, "what was received does not come again");
    instance.commit(&api).await;
    assert_eq!(instance.committed(&api, "pubg1", 0).await, json!(2 + rest.len()));

    while !instance.poll(&api, "timeout=0&max_bytes=16777216").await.is_empty() {}
    give_up(&api, &format!("{}/records", instance.path), false).await;
    publish(&api, "pubg1", 0, [json!("after")]).await;
    assert_eq!(instance.values(&api, 1).await, [json!("after")], "a poll that was given up has taken nothing");
    let head = api.send(api.request(Method::HEAD, &format!("{}/records", instance.path))).await;
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")), "it would lose the records");
    api.stop().await;
}

#[actix_rt::test]
async fn a_poll_that_was_given_up_while_it_waited_for_another_leaves_nothing_behind() {
    let api = Api::start().await;
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    let path = format!("{}/records?timeout=60000", instance.path);
    let ask = |path: String| {
        let address = api.address.clone();
        let connect = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            stream
        };
        actix_web::web::block(connect)
    };
    let first = ask(path.clone()).await.unwrap();
    let behind = [ask(path.clone()).await.unwrap(), ask(path).await.unwrap()];
    drop(behind);
    drop(first);
    assert_eq!(instance.poll(&api, "timeout=0").await, Vec::<Value>::new());
    publish(&api, "pubg1", 0, [json!("a")]).await;
    assert_eq!(instance.values(&api, 1).await, [json!("a")]);
    api.stop().await;
}

#[actix_rt::test]
async fn a_poll_that_waits_ends_when_the_broker_goes_away() {
    let api = Api::start().await;
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    instance.poll(&api, "timeout=0").await;
    let path = format!("{}/records?timeout=60000", instance.path);
    let (reply, ()) = tokio::join!(api.get(&path), async {
        let metrics = || async { api.get("/metrics").await.text().to_owned() };
        soon(async || metrics().await.contains("pubg1_requests_in_flight{api=\"poll\"} 1").then_some(())).await;
        api.broker.begin_drain();
    });
    reply.refused(503, 50304);
    api.stop().await;
}

#[actix_rt::test]
async fn instances_of_a_group_share_its_partitions() {
    let api = Api::start().await;
    let one = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    let two = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    let mut all = one.assigned(&api, 2).await;
    all.extend(two.assigned(&api, 2).await);
    all.sort_by_key(|place| place["partition"].as_u64());
    let expected: Vec<Value> = (0..4).map(|partition| json!({"topic": "pubg1", "partition": partition})).collect();
    assert_eq!(all, expected);
    for partition in 0..4 {
        publish(&api, "pubg1", partition, [json!(partition)]).await;
    }
    let mut values = one.values(&api, 2).await;
    values.extend(two.values(&api, 2).await);
    values.sort_by_key(Value::as_u64);
    assert_eq!(values, [0, 1, 2, 3].map(|n| json!(n)), "each record went to one of them");
    one.commit(&api).await;
    one.delete(&api).await.no_content();
    two.assigned(&api, 4).await;
    assert_eq!(two.poll(&api, "timeout=0").await, Vec::<Value>::new(), "what was committed does not come again");
    api.stop().await;
}

#[actix_rt::test]
async fn a_member_that_was_silent_for_too_long_commits_nothing_until_it_polls_again() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, [json!("a")]).await;
    let frozen = Instance::subscribed(&api, "g", "pubg1", json!({"session.timeout.ms": 1000})).await;
    assert_eq!(frozen.values(&api, 1).await, [json!("a")]);
    soon(async || (api.get("/groups/g").await.ok()["members"] == json!([])).then_some(())).await;
    frozen.post(&api, "/offsets", Value::Null).await.refused(409, 40908);
    let named = json!({"offsets": [{"topic": "pubg1", "partition": 0, "offset": 0}]});
    frozen.post(&api, "/offsets", named.clone()).await.refused(409, 40908);
    assert_eq!(frozen.committed(&api, "pubg1", 0).await, -1, "nothing was changed");
    assert_eq!(frozen.values(&api, 1).await, [json!("a")], "it joins again, and what was not committed comes again");
    frozen.post(&api, "/offsets", named).await.no_content();
    api.stop().await;
}

#[actix_rt::test]
async fn where_nothing_was_committed_the_reset_decides() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, (0..4).map(Value::from)).await;
    let with = |reset: &str| json!({"auto.offset.reset": reset});
    let latest = Instance::subscribed(&api, "latest", "pubg1", with("latest")).await;
    assert_eq!(latest.poll(&api, "timeout=0").await, Vec::<Value>::new());
    publish(&api, "pubg1", 0, [json!("new")]).await;
    assert_eq!(latest.values(&api, 1).await, [json!("new")], "the end is that of the first poll");

    let none = Instance::subscribed(&api, "none", "pubg1", with("none")).await;
    let error = none.get(&api, "/records?timeout=0").await.refused(409, 40911);
    assert_eq!(error["topic"], "pubg1");

    let earliest = Instance::subscribed(&api, "earliest", "pubg1", with("earliest")).await;
    assert_eq!(earliest.poll(&api, "max_records=1").await[0]["offset"], 0);
    api.delete("/topics/pubg1/partitions/0/records?before=3").await.ok();
    assert_eq!(earliest.poll(&api, "timeout=0").await[0]["offset"], 3, "what was deleted is passed over");
    api.stop().await;
}

#[actix_rt::test]
async fn an_instance_commits_by_itself_what_was_received_when_it_polls_again() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, [json!("a")]).await;
    let options = json!({"auto.commit.enable": true, "auto.commit.interval.ms": 0});
    let instance = Instance::subscribed(&api, "g", "pubg1", options).await;
    instance.values(&api, 1).await;
    assert_eq!(instance.committed(&api, "pubg1", 0).await, -1);
    assert_eq!(instance.poll(&api, "timeout=0").await, Vec::<Value>::new());
    soon(async || (instance.committed(&api, "pubg1", 0).await == 1).then_some(())).await;
    publish(&api, "pubg1", 0, [json!("b")]).await;
    instance.values(&api, 1).await;
    let position = async || instance.get(&api, "/positions").await.ok()["positions"][0]["offset"].clone();
    soon(async || (position().await == 2).then_some(())).await;
    instance.delete(&api).await.no_content();
    let offset = api.get("/offset?group_id=g&partition=0").await.ok();
    assert_eq!(offset, json!({"offset": 2}), "and when it is deleted");
    api.stop().await;
}
