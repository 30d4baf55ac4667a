//! HTTP/1.1 over one connection, one request at a time, and no more of it than a load needs.
//!
//! A general client would do the same with a pool, a queue and a task between the caller and the
//! socket; what is measured here is the broker.

use std::{fmt::Write, io, str::FromStr};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Headers of an answer at the most.
const HEADERS_MAX: usize = 48;
/// The head of an answer is shorter.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Longer answers are not believed.
const BODY_BYTES_MAX: usize = 256 << 20;
/// Room that the buffer is given before it is read into.
const READ_BYTES: usize = 16 * 1024;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// `GET` or `POST`, and the path with its query.
    pub(super) line: String,
    /// What the body is.
    pub(super) content_type: &'static str,
    /// One more header, `Name: value`.
    pub(super) header: Option<String>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn get(path: &str) -> Self {
        Self { line: format!("GET {path}"), content_type: "", header: None, body: Bytes::new() }
    }

    pub(super) fn post(path: &str, content_type: &'static str, body: Bytes) -> Self {
        Self { line: format!("POST {path}"), content_type, header: None, body }
    }

    pub(super) fn delete(path: &str) -> Self {
        Self { line: format!("DELETE {path}"), content_type: "", header: None, body: Bytes::new() }
    }

    fn write_head(&self, host: &str, head: &mut String) {
        head.clear();
        let length = self.body.len();
        // Text takes whatever is written.
        let _infallible = write!(head, "{} HTTP/1.1\r\nHost: {host}\r\n", self.line);
        if length > 0 {
            let _infallible = write!(head, "Content-Type: {}\r\nContent-Length: {length}\r\n", self.content_type);
        } else if !self.line.starts_with("GET") {
            head.push_str("Content-Length: 0\r\n");
        }
        if let Some(header) = &self.header {
            let _infallible = write!(head, "{header}\r\n");
        }
        head.push_str("\r\n");
    }
}

/// An answer, with the headers that somebody here reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) leader: Option<u32>,
    pub(super) leader_epoch: Option<u32>,
    pub(super) next_offset: Option<u64>,
    pub(super) consumer_token: Option<String>,
    pub(super) consumer_member: Option<String>,
    pub(super) body: Bytes,
}

/// A connection to one broker.
pub(super) struct Connection {
    stream: TcpStream,
    host: String,
    buffer: BytesMut,
    head: String,
    /// Bytes of the request that are on their way.
    written: usize,
    /// Whether the broker will close it.
    closing: bool,
}

impl Connection {
    /// Connects to `host:port`.
    pub(super) async fn open(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            buffer: BytesMut::new(),
            head: String::new(),
            written: 0,
            closing: false,
        })
    }

    /// Whether it may be used for another request.
    pub(super) const fn is_reusable(&self) -> bool {
        !self.closing
    }

    /// Puts as much of the request on its way as the socket takes at once.
    pub(super) fn begin(&mut self, request: &Request) {
        request.write_head(&self.host, &mut self.head);
        let parts = [io::IoSlice::new(self.head.as_bytes()), io::IoSlice::new(&request.body)];
        // What the socket does not take now, or refuses, is for `finish`.
        self.written = self.stream.try_write_vectored(&parts).unwrap_or(0);
    }

    /// Sends the rest of the request that was begun, and reads the answer.
    pub(super) async fn finish(&mut self, request: &Request) -> io::Result<Answer> {
        let head = self.head.as_bytes();
        if self.written < head.len() {
            self.stream.write_all(&head[self.written..]).await?;
            self.written = head.len();
        }
        let rest = self.written - head.len();
        if rest < request.body.len() {
            self.stream.write_all(&request.body[rest..]).await?;
        }
        self.read().await
    }

    /// Sends a request and reads the answer.
    pub(super) async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        self.begin(request);
        self.finish(request).await
    }

    async fn read(&mut self) -> io::Result<Answer> {
        let (mut answer, head_bytes, body_bytes) = loop {
            if let Some(head) = self.parse()? {
                break head;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("the head of the answer does not end"));
            }
            self.fill(READ_BYTES).await?;
        };
        let total = head_bytes + body_bytes;
        while self.buffer.len() < total {
            self.fill(total - self.buffer.len()).await?;
        }
        let mut whole = self.buffer.split_to(total);
        answer.body = whole.split_off(head_bytes).freeze();
        Ok(answer)
    }

    async fn fill(&mut self, bytes: usize) -> io::Result<()> {
        self.buffer.reserve(bytes.max(READ_BYTES));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The head of the answer, its length, and that of the body; `None` while there is not all of it.
    fn parse(&mut self) -> io::Result<Option<(Answer, usize, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.buffer).map_err(|error| malformed(&error.to_string()))?;
        let httparse::Status::Complete(head_bytes) = parsed else { return Ok(None) };
        let mut answer = Answer { status: response.code.unwrap_or(0), ..Answer::default() };
        let mut body_bytes = None;
        for header in response.headers.iter() {
            let value = || str::from_utf8(header.value).ok().map(str::trim);
            match header.name {
                name if name.eq_ignore_ascii_case("content-length") => body_bytes = value().and_then(number),
                name if name.eq_ignore_ascii_case("transfer-encoding") => {
                    return Err(malformed("the answer comes in chunks"));
                }
                name if name.eq_ignore_ascii_case("connection") => {
                    self.closing = value().is_some_and(|value| value.eq_ignore_ascii_case("close"));
                }
                name if name.eq_ignore_ascii_case("leader") => answer.leader = value().and_then(number),
                name if name.eq_ignore_ascii_case("leader-epoch") => answer.leader_epoch = value().and_then(number),
                name if name.eq_ignore_ascii_case("next-offset") => answer.next_offset = value().and_then(number),
                name if name.eq_ignore_ascii_case("consumer-token") => {
                    answer.consumer_token = value().map(str::to_owned);
                }
                name if name.eq_ignore_ascii_case("consumer-member") => {
                    answer.consumer_member = value().map(str::to_owned);
                }
                _ => {}
            }
        }
        let without_body = matches!(answer.status, 204 | 304);
        let body_bytes = body_bytes.or_else(|| without_body.then_some(0));
        let body_bytes = body_bytes.ok_or_else(|| malformed("the answer does not say how long it is"))?;
        if body_bytes > BODY_BYTES_MAX {
            return Err(malformed("the answer is too long"));
        }
        Ok(Some((answer, head_bytes, body_bytes)))
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn malformed(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a connection makes of an answer that comes in pieces of this size.
    async fn answer_to(bytes: &'static [u8], piece: usize) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"body") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            for piece in bytes.chunks(piece) {
                // Who has heard enough hangs up.
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            String::from_utf8(request).unwrap()
        });
        let mut connection = Connection::open(&host).await.unwrap();
        let request = Request::post("/a?b=c", "text/plain", Bytes::from_static(b"body"));
        let answer = connection.ask(&request).await;
        drop(connection);
        let sent = serving.await.unwrap();
        let head = format!(
            "POST /a?b=c HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
        );
        assert_eq!(sent, head);
        answer
    }

    #[tokio::test]
    async fn an_answer_is_read_however_it_is_cut() {
        for piece in [1, 7, 1000] {
            let bytes =
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nLeader: 2\r\nLeader-Epoch: 7\r\nNEXT-OFFSET: 12\r\n\r\nhello";
            let answer = answer_to(bytes, piece).await.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
            assert_eq!((answer.leader, answer.leader_epoch, answer.next_offset), (Some(2), Some(7), Some(12)));
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            b"SSH-2.0-x\r\n\r\n",
            b"",
        ] {
            assert!(answer_to(bytes, 1000).await.is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
