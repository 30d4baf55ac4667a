//! The last clients of a broker that stops: who connects when the server has stopped listening is told so.
//!
//! A connection that waits to be accepted when its port closes is reset, and its client cannot know whether what it
//! sent was done. So the port stays open after the server has stopped, and everybody is answered with 503: the client
//! goes to another broker, and nothing is in doubt.

use std::{io, net, time::Duration};

use actix_rt::net::TcpStream;
use actix_web::{ResponseError, body::MessageBody, http::header::RETRY_AFTER};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};

use crate::error::{ApiError, Cause};

/// How long one client may take, to send what it has and to read the answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most of a request that is read before it is answered.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Answers whoever connects to `listener` with 503 until `ended` resolves, and then those who have connected by then.
/// What `ended` gives is the result.
///
/// # Errors
/// When the listener cannot be used; `ended` was waited for all the same.
pub async fn turn_away<T>(listener: net::TcpListener, ended: impl Future<Output = T>) -> (T, io::Result<()>) {
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return (ended.await, Err(error)),
    };
    let mut answers = JoinSet::new();
    let mut ended = std::pin::pin!(ended);
    let result = loop {
        tokio::select! {
            result = &mut ended => break result,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(answers.spawn_local(answer(stream))),
                // A client that has gone again, or too many open files: others may come.
                Err(_) => tokio::task::yield_now().await,
            },
        }
    };
    for stream in last_clients(listener).into_iter().flatten() {
        answers.spawn_local(answer(stream));
    }
    // Each takes no longer than its patience.
    while answers.join_next().await.is_some() {}
    (result, Ok(()))
}

/// Those who wait to be accepted at this moment; the port is closed right behind the last one. The listener is asked
/// itself: what the runtime knows of it may be older.
fn last_clients(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    let listener = listener.into_std()?;
    let mut clients = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        clients.push(stream);
    }
    drop(listener);
    clients.into_iter().map(|stream| stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream))).collect()
}

/// The whole reply, as it is written.
fn reply() -> Vec<u8> {
    let response = ApiError::new(Cause::Draining, "the broker is shutting down; ask another one").error_response();
    let status = response.status();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or("1").to_owned();
    let body = response.into_body().try_into_bytes().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: {retry_after}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Reads the request, so that nothing unread resets the connection under the answer, and answers.
async fn answer(mut stream: TcpStream) {
    let talk = async {
        let mut request = Vec::new();
        while !is_whole(&request) && request.len() < REQUEST_BYTES_MAX && stream.read_buf(&mut request).await? > 0 {}
        stream.write_all(&reply()).await?;
        stream.shutdown().await?;
        // The client closes when it has read the answer.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that is too slow, or gone, is left alone.
    timeout(PATIENCE, talk).await.map(Result::unwrap_or_default).unwrap_or_default();
}

/// Whether a request has come to its end, as far as its length is told.
fn is_whole(request: &[u8]) -> bool {
    const END: &[u8] = b"\r\n\r\n";
    let Some(head) = request.windows(END.len()).position(|window| window == END) else { return false };
    let lines = request[..head].split(|byte| *byte == b'\n');
    let length = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    request.len() >= head + END.len() + length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_length_says() {
        assert!(!is_whole(b"GET / HTTP/1.1\r\nHost: a\r\n"));
        assert!(is_whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let post = b"POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nabc";
        assert!(is_whole(post) && !is_whole(&post[..post.len() - 1]));
    }

    #[actix_rt::test]
    async fn who_waits_to_be_accepted_is_answered_and_not_reset() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            clients.push(client);
        }
        // It has ended before it began: all of them are answered nevertheless.
        turn_away(listener, async {}).await.1.unwrap();
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"error_code\":50304"), "{answer}");
            assert!(answer.contains("retry-after: 2\r\n"), "{answer}");
        }
        assert!(TcpStream::connect(address).await.is_err());
    }
}
