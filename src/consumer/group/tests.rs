//! What a member does after an answer that was lost, against a broker that answers as it is told.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

fn topic() -> TopicName {
    "t".parse().unwrap()
}

fn at(partition: u32, offset: i64) -> PlacedOffset {
    PlacedOffset { topic: topic(), partition: PartitionId(partition), offset: Some(offset) }
}

fn offsets(offsets: &[(u32, u64)]) -> Offsets {
    offsets.iter().map(|(partition, offset)| ((topic(), PartitionId(*partition)), Offset::new(*offset))).collect()
}

#[test]
fn after_a_lost_answer_every_own_partition_has_a_place_to_read_on() {
    let next = offsets(&[(0, 5), (1, 7), (9, 1)]);
    let committed = [at(0, -1), at(1, 8), at(2, 3), at(3, -1)];
    let known = [(0, 5), (1, 8), (2, 3)];
    assert_eq!(read_on(&next, &committed, "latest"), offsets(&known));
    assert_eq!(read_on(&next, &committed, "earliest"), offsets(&[&known[..], &[(3, 0)]].concat()));
}

/// Answers requests in turn; `None` is an answer that is lost.
struct Broker {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Broker {
    async fn start(answers: &'static [Option<(u16, &'static str)>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let asked = request(&mut stream).await;
                noted.lock().unwrap().push(asked);
                if let Some((status, body)) = answer {
                    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}", body.len());
                    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
                }
            }
        });
        Self { url, asked, serving }
    }

    /// What was asked since this was called last: the end of each path, and the body.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let (head, body) = loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                break (head, body);
            }
        }
    };
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    format!("{} {body}", path.rsplit('/').next().unwrap()).trim_end().to_owned()
}

fn reader(urls: &str) -> GroupReader {
    let client = Client::new(urls).unwrap();
    let mut reader = GroupReader::new(client, "g".parse().unwrap(), vec![topic()], "earliest", Duration::from_secs(9));
    reader.instance = Some("i".to_owned());
    reader
}

const COMMITTED: &str =
    r#"{"offsets":[{"topic":"t","partition":0,"offset":-1},{"topic":"t","partition":1,"offset":4}]}"#;
const RECORD: &str = r#"[{"topic":"t","partition":0,"offset":6,"key":null,"value":null}]"#;
const SEEK: &str =
    r#"positions {"offsets":[{"offset":7,"partition":0,"topic":"t"},{"offset":4,"partition":1,"topic":"t"}]}"#;

#[tokio::test]
async fn it_goes_back_before_it_asks_again_until_that_was_answered() {
    let broker = Broker::start(&[
        Some((200, RECORD)),
        None,
        Some((200, COMMITTED)),
        Some((503, "{}")),
        Some((200, COMMITTED)),
        Some((204, "")),
        Some((200, "[]")),
        Some((200, "[]")),
    ])
    .await;
    let mut reader = reader(&broker.url);
    assert_eq!(reader.poll(Duration::ZERO).await.unwrap().unwrap().len(), 1);
    assert_eq!(broker.asked(), ["records"]);
    assert!(reader.poll(Duration::ZERO).await.is_err());
    assert_eq!(broker.asked(), ["records"]);
    assert!(reader.poll(Duration::ZERO).await.is_err());
    assert_eq!(broker.asked(), ["offsets", SEEK]);
    assert_eq!(reader.poll(Duration::ZERO).await.unwrap(), Some(vec![]));
    assert_eq!(broker.asked(), ["offsets", SEEK, "records"]);
    assert_eq!(reader.poll(Duration::ZERO).await.unwrap(), Some(vec![]));
    assert_eq!(broker.asked(), ["records"]);
}

#[tokio::test]
async fn another_broker_is_not_asked_for_records_whose_answer_was_lost() {
    let (broken, good) = (Broker::start(&[None]).await, Broker::start(&[Some((200, RECORD))]).await);
    let mut reader = reader(&format!("{},{}", broken.url, good.url));
    let error = reader.poll(Duration::ZERO).await.unwrap_err();
    assert!(error.is_retriable() && reader.failed, "{error}");
    assert_eq!((broken.asked().len(), good.asked().len()), (1, 0));
}

#[tokio::test]
async fn one_partition_that_was_lost_does_not_keep_it_from_going_back_in_the_others() {
    let broker = Broker::start(&[
        Some((200, COMMITTED)),
        Some((409, "{}")),
        Some((409, "{}")),
        Some((204, "")),
        Some((200, "[]")),
    ])
    .await;
    let mut reader = reader(&broker.url);
    reader.failed = true;
    assert_eq!(reader.poll(Duration::ZERO).await.unwrap(), Some(vec![]));
    let asked = broker.asked();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert_eq!(asked[3], r#"positions {"offsets":[{"offset":4,"partition":1,"topic":"t"}]}"#);
}
