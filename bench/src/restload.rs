//! Load by HTTP: some connections that are kept, each asks again as soon as it has its answer.
//!
//! In: a server and what to ask. Out: answers a second and how long they took. An answer that is no 2xx ends the run.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest answer that is read.
const LARGEST: usize = 16 << 20;

/// One request, ready to be sent.
pub(crate) struct Request {
    text: String,
    /// How the answer begins.
    answer: &'static str,
}

impl Request {
    /// `method` of `path` with this token, and a JSON body where it is not empty.
    pub(crate) fn new(method: &str, path: &str, token: &str, body: &str) -> Request {
        let authorization =
            if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench.example\r\nAccept: application/json\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        Request { text, answer: "HTTP/1.1 2" }
    }

    /// The same, of what is not there.
    pub(crate) fn in_vain(self) -> Request {
        Request { answer: "HTTP/1.1 404", ..self }
    }
}

/// What was measured.
pub(crate) struct Answers {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Half of the answers took no longer, in milliseconds.
    pub(crate) median: f64,
    /// And 99 % of them.
    pub(crate) p99: f64,
}

/// Sends requests on so many connections for `warm_up` and then for `measured`. `request` is asked for each; it gets their count.
pub(crate) fn run(
    server: SocketAddr,
    connections: u32,
    warm_up: Duration,
    measured: Duration,
    request: impl Fn(u32) -> Request,
) -> io::Result<Answers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = &request;
    let (begin, end) = (Instant::now() + warm_up, Instant::now() + warm_up + measured);
    let each = async |first: u32| -> io::Result<Vec<Duration>> {
        let mut connection = Connection::open(server).await?;
        let (mut count, mut took) = (first, Vec::new());
        loop {
            let asked = Instant::now();
            if asked >= end {
                return Ok(took);
            }
            connection.ask(&request(count)).await?;
            count = count.wrapping_add(connections);
            if asked >= begin {
                took.push(asked.elapsed());
            }
        }
    };
    let mut took: Vec<Duration> = runtime.block_on(async {
        let mut all = Vec::new();
        for one in join((0..connections).map(each).collect()).await {
            all.extend(one?);
        }
        io::Result::Ok(all)
    })?;
    took.sort_unstable();
    let at = |share: f64| {
        let place = (took.len() as f64 * share) as usize;
        took.get(place.min(took.len().saturating_sub(1))).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    };
    Ok(Answers { rate: took.len() as f64 / measured.as_secs_f64(), median: at(0.5), p99: at(0.99) })
}

/// The body of the answer to one request.
pub(crate) fn once(server: SocketAddr, request: &Request) -> io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = runtime.block_on(async { Connection::open(server).await?.ask(request).await })?;
    String::from_utf8(body).map_err(io::Error::other)
}

/// Waits for futures side by side on this thread.
async fn join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (future, result) in &mut futures {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *result = Some(ready),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, result)| result).collect()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(server: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and reads its answer; the body comes back.
    async fn ask(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.stream.write_all(request.text.as_bytes()).await?;
        self.buffer.clear();
        let mut whole: Option<(usize, usize)> = None;
        loop {
            if let Some((head, length)) = whole
                && self.buffer.len() >= head + length
            {
                return Ok(self.buffer.get(head..head + length).unwrap_or_default().to_vec());
            }
            if self.buffer.len() > LARGEST || self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::other("the server closed the connection or does not stop"));
            }
            if whole.is_none() {
                whole = head_of(&self.buffer, request.answer)?;
            }
        }
    }
}

/// Length of head and body, once the head is there; it must begin like `answer`.
fn head_of(bytes: &[u8], answer: &str) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    if !head.starts_with(answer) {
        return Err(io::Error::other(format!(
            "the server gives another answer: {}",
            String::from_utf8_lossy(bytes)
        )));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((end + 4, length.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(head_of(text, "HTTP/1.1 2").unwrap(), Some((38, 5)));
        assert_eq!(head_of(&text[..30], "HTTP/1.1 2").unwrap(), None);
        assert!(head_of(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 2").is_err());
    }
}
