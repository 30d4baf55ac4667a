//! The fast path: raw record batches.

use pubg1_model::{Offset, record_batch::BatchIter};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Api, batch};

const BATCHES: &str = "/topics/pubg1/partitions/0/batches";

#[actix_rt::test]
async fn batches_are_stored_and_read_as_they_are() {
    let api = Api::start().await;
    let mut body = batch(&[b"a", b"b"], None);
    body.extend(batch(&[b"c"], None));
    let reply = api.post(BATCHES, body.clone()).await.ok();
    assert_eq!(
        reply,
        json!({"offsets": [
            {"partition": 0, "base_offset": 0, "last_offset": 1, "duplicate": false},
            {"partition": 0, "base_offset": 2, "last_offset": 2, "duplicate": false},
        ], "leader": 0, "leader_epoch": reply["leader_epoch"]})
    );
    let read = api.get(&format!("{BATCHES}?offset=1")).await;
    assert_eq!((read.status, read.header("content-type")), (200, Some("application/octet-stream")));
    for (name, value) in [("next-offset", "3"), ("high-watermark", "3"), ("log-start-offset", "0"), ("leader", "0")] {
        assert_eq!(read.header(name), Some(value), "{name}");
    }
    assert_eq!(read.header("leader-epoch"), Some(reply["leader_epoch"].to_string().as_str()));
    let batches: Vec<_> = BatchIter::new(&read.bytes).map(Result::unwrap).collect();
    assert_eq!(
        batches.iter().map(|b| b.header().first_offset()).collect::<Vec<_>>(),
        [Some(Offset::ZERO), Some(Offset::new(2))]
    );
    // Only base offset and leader epoch differ from what was sent.
    assert_eq!(read.bytes[17..60], body[17..60]);
    let end = api.get(&format!("{BATCHES}?offset=3&wait=1ms")).await;
    assert_eq!((end.status, end.bytes.len(), end.header("next-offset")), (200, 0, Some("3")));
    api.get(&format!("{BATCHES}?offset=4")).await.refused(416, 41601);
    let one = api.get(&format!("{BATCHES}?max_bytes=1")).await;
    assert_eq!(one.header("next-offset"), Some("2"), "at least one batch");
    api.stop().await;
}

#[actix_rt::test]
async fn acknowledgements_are_as_asked_for() {
    let api = Api::start().await;
    for (acks, offsets) in [("all", 1), ("1", 1), ("0", 0)] {
        let reply = api.post(&format!("{BATCHES}?acks={acks}"), batch(&[b"x"], None)).await.ok();
        assert_eq!(reply["offsets"].as_array().unwrap().len(), offsets, "{acks}");
    }
    api.post(&format!("{BATCHES}?acks=2"), batch(&[b"x"], None)).await.refused(400, 400);
    api.stop().await;
}

#[actix_rt::test]
async fn damaged_and_impossible_batches_are_refused_whole() {
    let api = Api::start_with(|_, limits| limits.check_records = true).await;
    let good = batch(&[b"a"], None);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut second_damaged = good.clone();
    second_damaged.extend(&flipped);
    for body in [Vec::new(), b"x".to_vec(), flipped, second_damaged, good[..good.len() - 1].to_vec()] {
        api.post(BATCHES, body).await.refused(422, 42208);
    }
    assert_eq!(api.get("/loglen?partition=0").await.ok()["length"], 0, "nothing was written");
    api.post("/topics/none/partitions/0/batches", good.clone()).await.refused(404, 40401);
    api.post("/topics/pubg1/partitions/4/batches", good.clone()).await.refused(404, 40402);
    api.post(BATCHES, good).await.ok();
    let large = vec![b'x'; 2 << 20];
    api.post(BATCHES, batch(&[&large], None)).await.refused(413, 413);
    api.stop().await;
}

#[actix_rt::test]
async fn raw_batches_are_not_compressed_again() {
    let api = Api::start().await;
    let value = vec![b'x'; 10_000];
    api.post(BATCHES, batch(&[&value], None)).await.ok();
    let request = api.request(Method::GET, BATCHES).header("accept-encoding", "gzip");
    let reply = api.send(request).await;
    assert_eq!((reply.header("content-encoding"), reply.bytes.len() > 10_000), (None, true));
    api.stop().await;
}
