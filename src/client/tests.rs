//! Tests of the choice between brokers, against servers that answer one line.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A broker that answers every request with this status and body; it counts them.
struct Stub {
    url: String,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Stub {
    async fn start(status: u16, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                if stream.read(&mut head).await.unwrap_or(0) > 0 {
                    count.fetch_add(1, Ordering::Relaxed);
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                    // A client that went away is no concern of the stub's.
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            }
        });
        Self { url, asked, serving }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An address that refuses connections.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

const NO_LEADER: &str = r#"{"error_code":50302,"message":"no leader here"}"#;
const UNSURE: &str = r#"{"error_code":50306,"message":"who knows"}"#;

#[tokio::test]
async fn a_client_goes_on_with_a_broker_that_answers_and_stays_with_it() {
    let (refusing, good) = (Stub::start(503, NO_LEADER).await, Stub::start(200, "[]").await);
    let client = Client::new(&format!("{},{}, {}", closed().await, refusing.url, good.url)).unwrap();
    for _ in 0..3 {
        assert_eq!(client.topics(false).await.unwrap(), []);
    }
    assert_eq!((refusing.asked(), good.asked()), (1, 3));
    assert_eq!(client.base(), good.url);
    assert_eq!(client.urls().len(), 3);
}

#[tokio::test]
async fn what_all_of_them_say_is_told_rather_than_that_one_is_gone() {
    let refusing = Stub::start(503, NO_LEADER).await;
    let client = Client::new(&format!("{},{}", refusing.url, closed().await)).unwrap();
    let error = client.topics(false).await.unwrap_err();
    assert!(error.is_retriable());
    assert_eq!(error.status(), Some(503));
    assert_eq!(refusing.asked(), 1);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again_elsewhere() {
    let (unsure, good) = (Stub::start(503, UNSURE).await, Stub::start(200, "{}").await);
    let client = Client::new(&format!("{},{}", unsure.url, good.url)).unwrap();
    let error = client.create_topic(&json!({ "topic_name": "t" })).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { error_code: OUTCOME_UNKNOWN, .. }), "{error}");
    assert_eq!((unsure.asked(), good.asked()), (1, 0));
    // A question may be asked as often as one likes.
    assert!(client.get::<Value>("/cluster").await.is_ok());
    assert_eq!((unsure.asked(), good.asked()), (2, 1));
}

#[tokio::test]
async fn a_refusal_that_all_would_give_is_the_answer() {
    let (first, second) = (Stub::start(404, "gone").await, Stub::start(200, "[]").await);
    let client = Client::new(&format!("{},{}", first.url, second.url)).unwrap();
    let error = client.topics(false).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!(second.asked(), 0);
}

#[tokio::test]
async fn not_being_ready_or_well_is_an_answer() {
    let stub = Stub::start(503, r#"{"status":"unavailable","problems":["nobody leads"]}"#).await;
    let client = Client::new(&stub.url).unwrap();
    let ready = client.ready().await.unwrap();
    assert!(!ready.ready);
    let health = client.health().await.unwrap();
    assert!(!health.is_ok() && health.problems.len() == 1);
    let empty = Stub::start(503, NO_LEADER).await;
    assert_eq!(Client::new(&empty.url).unwrap().health().await.unwrap_err().status(), Some(503));
}

#[test]
fn addresses_are_checked() {
    assert_eq!(Client::new("127.0.0.1:8000/").unwrap().base(), "http://127.0.0.1:8000");
    for wrong in ["", "https://x", "http://a,,http://b", "a b"] {
        assert!(matches!(Client::new(wrong), Err(ClientError::Address { .. })), "{wrong}");
    }
}
