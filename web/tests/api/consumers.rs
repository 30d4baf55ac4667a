//! Consumer instances as REST Proxy v2 has them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    consumer_client::{Instance, publish},
    harness::{Api, V2_BINARY, V2_JSON, V2_TEXT, batch},
};

#[actix_rt::test]
async fn an_instance_is_created_subscribed_polled_committed_and_deleted() {
    let api = Api::start().await;
    publish(&api, "pubg1", 0, [json!({"n": 1}), json!(2)]).await;
    let options = json!({"name": "i", "format": "json", "auto.offset.reset": "earliest", "fetch.min.bytes": "-1"});
    let created = api.post("/consumers/g", options.to_string()).await;
    assert_eq!(created.header("content-type"), Some("application/vnd.kafka.v2+json"));
    let base_uri = format!("http://{}/consumers/g/instances/i", api.address);
    assert_eq!(created.ok(), json!({"instance_id": "i", "base_uri": base_uri}));
    api.post("/consumers/g", options.to_string()).await.refused(409, 40902);
    let instance = Instance { path: "/consumers/g/instances/i".to_owned() };
    assert_eq!(instance.get(&api, "/subscription").await.ok(), json!({"topics": []}));
    instance.get(&api, "/records").await.refused(409, 40903);
    instance.post(&api, "/subscription", json!({"topics": ["pubg1"]})).await.no_content();
    assert_eq!(instance.get(&api, "/subscription").await.ok(), json!({"topics": ["pubg1"]}));
    let assigned: Vec<Value> = (0..4).map(|partition| json!({"topic": "pubg1", "partition": partition})).collect();
    assert_eq!(instance.assigned(&api, 4).await, assigned);

    let reply = instance.get(&api, "/records").await;
    assert_eq!(reply.header("content-type"), Some(V2_JSON));
    let records = reply.ok();
    let timestamp = records[0]["timestamp"].clone();
    assert!(timestamp.as_i64().unwrap() > 0);
    assert_eq!(
        records[0],
        json!({"topic": "pubg1", "key": null, "value": {"n": 1}, "partition": 0, "offset": 0, "timestamp": timestamp})
    );
    assert_eq!((records.as_array().unwrap().len(), &records[1]["value"]), (2, &json!(2)));
    assert_eq!(instance.poll(&api, "timeout=1").await, Vec::<Value>::new(), "nothing comes twice");
    let position = &instance.get(&api, "/positions").await.ok()["positions"][0];
    assert_eq!(*position, json!({"topic": "pubg1", "partition": 0, "offset": 2}));
    instance.commit(&api).await;
    let committed = instance.get(&api, "/offsets").await.ok();
    assert_eq!(committed["offsets"][0], json!({"topic": "pubg1", "partition": 0, "offset": 2, "metadata": ""}));
    assert_eq!(committed["offsets"].as_array().unwrap().len(), 4, "those of all its partitions");
    instance.post(&api, "/heartbeat", Value::Null).await.no_content();
    instance.delete(&api).await.no_content();
    for reply in [
        instance.delete(&api).await,
        instance.get(&api, "/records").await,
        instance.get(&api, "/offsets").await,
        instance.post(&api, "/offsets", Value::Null).await,
        instance.post(&api, "/heartbeat", Value::Null).await,
    ] {
        reply.refused(404, 40403);
    }
    api.stop().await;
}

#[actix_rt::test]
async fn the_url_of_an_instance_is_the_one_that_the_client_came_by() {
    let api = Api::start().await;
    let of = async |headers: &[(&str, &str)]| {
        let mut request = api.request(Method::POST, "/consumers/g");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let created = api.send(request).await.ok();
        let (uri, name) = (created["base_uri"].as_str().unwrap(), created["instance_id"].as_str().unwrap());
        uri.strip_suffix(&format!("/consumers/g/instances/{name}")).unwrap().to_owned()
    };
    assert_eq!(of(&[]).await, format!("http://{}", api.address));
    assert_eq!(of(&[("host", "broker.example:80")]).await, "http://broker.example:80");
    let forwarded =
        [("x-forwarded-host", "example.com"), ("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/k/")];
    assert_eq!(of(&forwarded).await, "https://example.com/k");
    assert_eq!(of(&[("forwarded", "proto=https;host=example.com")]).await, "https://example.com");
    api.stop().await;
}

#[actix_rt::test]
async fn an_instance_that_does_not_exist_is_told_before_anything_else() {
    let api = Api::start().await;
    let path = "/consumers/g/instances/none";
    for accept in ["application/vnd.kafka.v2+json", "text/html"] {
        for (method, resource) in [
            (Method::GET, "/records"),
            (Method::GET, "/records?max_records=0"),
            (Method::GET, "/subscription"),
            (Method::POST, "/subscription"),
            (Method::POST, "/assignments"),
            (Method::POST, "/offsets"),
            (Method::POST, "/positions"),
            (Method::POST, "/positions//beginning/"),
            (Method::DELETE, ""),
        ] {
            let request = api.request(method, &format!("{path}{resource}")).header("accept", accept);
            api.send(request.header("content-type", "image/png").body("{]")).await.refused(404, 40403);
        }
    }
    api.get("/consumers/g%01/instances/none/records").await.refused(400, 400);
    api.post("/consumers/g", "{\"name\":\"a\\u0001b\"}").await.refused(400, 400);
    api.post("/consumers/a%2Fb", "").await.refused(400, 400);
    for options in [json!({"format": "avro"}), json!({"auto.offset.reset": "x"}), json!({"fetch.min.bytes": -2})] {
        api.post("/consumers/g", options.to_string()).await.refused(422, 42204);
    }
    api.post("/consumers/g", "[]").await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn a_subscription_and_partitions_by_hand_exclude_each_other() {
    let api = Api::start().await;
    api.create_topic("other", 1).await;
    let place = |partition: u32| json!({"partitions": [{"topic": "pubg1", "partition": partition}]});
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    instance.post(&api, "/assignments", place(0)).await.refused(409, 40903);
    instance.post(&api, "/subscription", json!({"topics": ["a"], "topic_pattern": "a"})).await.refused(409, 40903);
    instance.post(&api, "/subscription", json!({})).await.refused(422, 422);
    instance.post(&api, "/subscription", json!({"topic_pattern": "("})).await.refused(422, 422);
    instance.post(&api, "/subscription", json!({"topic_pattern": "o.*|pubg1"})).await.no_content();
    assert_eq!(instance.get(&api, "/subscription").await.ok(), json!({"topics": ["other", "pubg1"]}));
    instance.assigned(&api, 5).await;
    api.create_topic("one-more", 2).await;
    instance.assigned(&api, 7).await;
    assert_eq!(api.delete(&format!("{}/subscription", instance.path)).await.status, 204);
    assert_eq!(instance.get(&api, "/subscription").await.ok(), json!({"topics": []}));

    instance.post(&api, "/assignments", place(3)).await.no_content();
    instance.post(&api, "/assignments", place(2)).await.no_content();
    assert_eq!(instance.get(&api, "/assignments").await.ok(), place(2), "it replaces what was there");
    instance.post(&api, "/subscription", json!({"topics": ["pubg1"]})).await.refused(409, 40903);
    publish(&api, "pubg1", 2, [json!("by hand")]).await;
    assert_eq!(instance.values(&api, 1).await, [json!("by hand")]);
    let elsewhere = json!({"offsets": [{"topic": "pubg1", "partition": 0, "offset": 0}]});
    instance.post(&api, "/positions", elsewhere).await.refused(409, 40903);
    instance.post(&api, "/assignments", json!({"partitions": []})).await.refused(422, 422);
    instance
        .post(&api, "/assignments", json!({"partitions": [{"topic": "none", "partition": 0}]}))
        .await
        .refused(404, 40401);
    api.stop().await;
}

#[actix_rt::test]
async fn a_commit_means_what_the_name_of_its_list_says() {
    let api = Api::start().await;
    publish(&api, "pubg1", 1, (0..6).map(Value::from)).await;
    let instance = Instance::subscribed(&api, "g", "pubg1", json!({})).await;
    assert_eq!(instance.committed(&api, "pubg1", 1).await, -1);
    instance.post(&api, "/offsets", json!({})).await.no_content();
    assert_eq!(instance.committed(&api, "pubg1", 1).await, -1, "nothing was delivered yet");
    let entry = |offset: u64| json!([{"topic": "pubg1", "partition": 1, "offset": offset, "metadata": "m"}]);
    instance.post(&api, "/offsets", json!({"partitions": entry(3)})).await.no_content();
    assert_eq!(instance.committed(&api, "pubg1", 1).await, 3, "the record is the next");
    instance.post(&api, "/offsets", json!({"offsets": entry(3)})).await.no_content();
    assert_eq!(instance.committed(&api, "pubg1", 1).await, 4, "the record was processed");
    let offset = api.get("/offset?group_id=g&partition=1").await.ok();
    assert_eq!(offset, json!({"offset": 4}), "the simple surface has the same offsets");
    assert_eq!(instance.values(&api, 2).await, [4, 5].map(|n| json!(n)), "the first poll begins there");
    instance.post(&api, "/offsets", json!({})).await.no_content();
    assert_eq!(instance.committed(&api, "pubg1", 1).await, 6);
    let all = api.get("/groups/g/offsets").await.ok();
    let entry_of = |partition: u32, offset: u64| json!({"topic": "pubg1", "partition": partition, "offset": offset, "metadata": ""});
    assert_eq!(all, json!({"offsets": [entry_of(0, 0), entry_of(1, 6), entry_of(2, 0), entry_of(3, 0)]}));
    for (body, status, code) in [
        (json!({"offsets": entry(1), "partitions": entry(1)}), 422, 422),
        (json!({"offsets": [{"topic": "none", "partition": 0, "offset": 1}]}), 404, 40401),
        (json!({"offsets": [{"topic": "pubg1", "partition": 9, "offset": 1}]}), 404, 40402),
        (json!({"offsets": 1}), 422, 422),
    ] {
        instance.post(&api, "/offsets", body).await.refused(status, code);
    }
    assert_eq!(instance.committed(&api, "pubg1", 1).await, 6, "a refused commit changes nothing");
    api.stop().await;
}

#[actix_rt::test]
async fn an_instance_is_sent_to_offsets_times_and_ends() {
    let api = Api::start().await;
    let records: Vec<Value> = (0..5).map(|n| json!({"value": n, "timestamp": 1000 * (n + 1)})).collect();
    api.post_as("/topics/pubg1/partitions/0", V2_JSON, json!({"records": records}).to_string()).await.ok();
    let instance = Instance::create(&api, "g", json!({})).await;
    let place = json!({"partitions": [{"topic": "pubg1", "partition": 0}]});
    instance.post(&api, "/assignments", place.clone()).await.no_content();
    let at = |member: &str, value: Value| json!([{"topic": "pubg1", "partition": 0, member: value}]);
    for (path, body, expected) in [
        ("/positions", json!({"offsets": at("offset", json!(3))}), json!([3, 4])),
        ("/positions", json!({"timestamps": at("timestamp", json!("1970-01-01T00:00:04.5Z"))}), json!([4])),
        ("/positions", json!({"timestamps": at("timestamp", json!(2000))}), json!([1, 2, 3, 4])),
        ("/positions/beginning", place.clone(), json!([0, 1, 2, 3, 4])),
        ("/positions/end", place.clone(), json!([])),
        ("/positions//beginning/", place.clone(), json!([0, 1, 2, 3, 4])),
    ] {
        instance.post(&api, path, body.clone()).await.no_content();
        let values: Value =
            instance.poll(&api, "timeout=0").await.iter().map(|record| record["value"].clone()).collect();
        assert_eq!(values, expected, "{path} {body}");
    }
    instance.post(&api, "/positions", json!({})).await.refused(422, 422);
    api.stop().await;
}

#[actix_rt::test]
async fn an_instance_shows_records_in_its_format_or_says_why_not() {
    let api = Api::start().await;
    api.post("/topics/pubg1/partitions/0/batches", batch(&[b"1", b"\xff", b"3"], None)).await.ok();
    for (format, media_type, shown) in
        [("binary", V2_BINARY, json!("MQ==")), ("json", V2_JSON, json!(1)), ("text", V2_TEXT, json!("1"))]
    {
        let instance = Instance::subscribed(&api, format, "pubg1", json!({"format": format})).await;
        let path = format!("{}/records", instance.path);
        let with = |accept: &str| api.send(api.request(Method::GET, &path).header("accept", accept));
        with(if format == "text" { V2_JSON } else { V2_TEXT }).await.refused(406, 40601);
        with("text/html").await.refused(406, 406);
        let reply = with("application/json").await;
        assert_eq!((reply.header("content-type"), &reply.ok()[0]["value"]), (Some("application/json"), &shown));
        if format == "binary" {
            continue;
        }
        let error = instance.get(&api, "/records?timeout=0").await.refused(422, 42207);
        assert_eq!((&error["topic"], &error["partition"], &error["offset"]), (&json!("pubg1"), &json!(0), &json!(1)));
        let past = json!({"offsets": [{"topic": "pubg1", "partition": 0, "offset": 2}]});
        instance.post(&api, "/positions", past).await.no_content();
        let rest = instance.get(&api, "/records").await;
        assert_eq!((rest.header("content-type"), rest.ok().as_array().unwrap().len()), (Some(media_type), 1));
    }
    api.stop().await;
}
