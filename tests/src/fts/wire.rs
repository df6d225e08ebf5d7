//! HTTP/1.1 as davix writes it, with the names of headers as they are given: XRootD 5.5.3 compares them letter by letter (observed),
//! and the HTTP library that we use elsewhere writes them small.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use super::failure::Trouble;

/// Longest head of an answer.
const HEAD: usize = 64 * 1024;
/// Most idle connections to one server.
const IDLE: usize = 16;

type Stream = TlsStream<TcpStream>;

/// A client that keeps connections.
#[derive(Clone)]
pub(super) struct Wire {
    connector: TlsConnector,
    idle: Arc<Mutex<HashMap<String, Vec<Stream>>>>,
}

/// What a server answered.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    /// Its last so many bytes.
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// A header, whatever the case of its name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A request, with what it is bounded by.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    pub(super) headers: Vec<(&'static str, String)>,
    /// How long the whole may take.
    pub(super) timeout: Duration,
    /// How much of the end of the body is kept.
    pub(super) limit: usize,
}

/// Where an answer's body ends.
enum Framing {
    Length(u64),
    Chunks,
    Close,
}

impl Wire {
    /// A client that trusts these authorities.
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { connector: TlsConnector::from(Arc::new(config)), idle: Arc::default() }
    }

    /// Sends a request without a body and reads the answer.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Reply, Trouble> {
        let timeout = request.timeout;
        match tokio::time::timeout(timeout, self.tried(&request)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Trouble::Unreachable),
            Err(_) => Err(Trouble::Silent),
        }
    }

    async fn tried(&self, request: &Request<'_>) -> Result<Reply> {
        let host = request.url.host_str().context("a host")?.to_owned();
        let port = request.url.port_or_known_default().context("a port")?;
        let authority = format!("{host}:{port}");
        let head = head(request, &authority);
        // A kept connection may have been closed by the server meanwhile: then nothing of an answer comes, and it is asked anew.
        while let Some(stream) = self.kept(&authority) {
            let mut buffer = BytesMut::new();
            match self.exchange(stream, &head, request, &authority, &mut buffer).await {
                Err(_) if buffer.is_empty() => (),
                answered => return answered,
            }
        }
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        tcp.set_nodelay(true)?;
        let stream = self.connector.connect(ServerName::try_from(host)?, tcp).await?;
        self.exchange(stream, &head, request, &authority, &mut BytesMut::new()).await
    }

    fn kept(&self, authority: &str) -> Option<Stream> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(authority)?.pop()
    }

    async fn exchange(
        &self,
        mut stream: Stream,
        head: &str,
        request: &Request<'_>,
        authority: &str,
        buffer: &mut BytesMut,
    ) -> Result<Reply> {
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        let mut reply = loop {
            anyhow::ensure!(buffer.len() < HEAD && stream.read_buf(buffer).await? > 0, "no answer");
            if let Some((length, reply)) = parse(buffer)? {
                buffer.advance(length);
                // Continue: the answer is still to come.
                if reply.status != 100 {
                    break reply;
                }
            }
        };
        let keep = !reply.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match framing(&reply, request.method) {
            Framing::Length(mut left) => {
                while left > 0 {
                    if buffer.is_empty() {
                        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the body broke off");
                    }
                    let part = buffer.split_to(buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    left -= part.len() as u64;
                    keep_end(&mut reply.body, &part, request.limit);
                }
                if keep && buffer.is_empty() {
                    self.keep(stream, authority);
                }
            }
            // A connection that breaks off ends what there is of it.
            Framing::Chunks => {
                while let Ok(true) = chunk(&mut stream, buffer, &mut reply.body, request.limit).await {}
            }
            Framing::Close => {
                keep_end(&mut reply.body, buffer, request.limit);
                buffer.clear();
                while let Ok(1..) = stream.read_buf(buffer).await {
                    keep_end(&mut reply.body, buffer, request.limit);
                    buffer.clear();
                }
            }
        }
        Ok(reply)
    }

    fn keep(&self, stream: Stream, authority: &str) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = idle.entry(authority.to_owned()).or_default();
        if streams.len() < IDLE {
            streams.push(stream);
        }
    }
}

fn head(request: &Request<'_>, authority: &str) -> String {
    let target = &request.url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut head = format!(
        "{} {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: grid-in-a-box\r\nAccept: */*\r\n",
        request.method
    );
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "Content-Length: 0\r\n\r\n"
}

/// The head of an answer and its length, once it is whole.
fn parse(buffer: &[u8]) -> Result<Option<(usize, Reply)>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(buffer)? else { return Ok(None) };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers =
        response.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
    Ok(Some((length, Reply { status: response.code.context("a status")?, headers, body: Vec::new() })))
}

/// RFC 9112 section 6.3.
fn framing(reply: &Reply, method: &str) -> Framing {
    if method == "HEAD" || matches!(reply.status, 204 | 304) {
        return Framing::Length(0);
    }
    if reply.header("Transfer-Encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
        return Framing::Chunks;
    }
    reply
        .header("Content-Length")
        .and_then(|length| length.parse().ok())
        .map_or(Framing::Close, Framing::Length)
}

/// Reads one chunk; false at the last.
async fn chunk(stream: &mut Stream, buffer: &mut BytesMut, body: &mut Vec<u8>, limit: usize) -> Result<bool> {
    let (start, mut left) = loop {
        match httparse::parse_chunk_size(buffer) {
            Ok(httparse::Status::Complete(found)) => break found,
            Ok(httparse::Status::Partial) => anyhow::ensure!(stream.read_buf(buffer).await? > 0, "broke off"),
            Err(_) => anyhow::bail!("no chunk"),
        }
    };
    buffer.advance(start);
    if left == 0 {
        return Ok(false);
    }
    while left > 0 {
        if buffer.is_empty() {
            anyhow::ensure!(stream.read_buf(buffer).await? > 0, "broke off");
        }
        let part = buffer.split_to(buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        left -= part.len() as u64;
        keep_end(body, &part, limit);
    }
    while buffer.len() < 2 {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "broke off");
    }
    buffer.advance(2);
    Ok(true)
}

fn keep_end(body: &mut Vec<u8>, part: &[u8], limit: usize) {
    body.extend_from_slice(part);
    if body.len() > limit {
        body.drain(..body.len() - limit);
    }
}
