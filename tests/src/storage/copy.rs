//! Third-party copy (WebDAV COPY with `Source` or `Destination`), as XRootD's http-tpc does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use axum::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use reqwest::{RequestBuilder, Response};
use token_core::{Operation, http};
use tokio::sync::mpsc;
use url::Url;

use super::tree::Node;
use super::webdav::{Call, Outcome};
use super::{Storage, reply};

/// Between two Perf Markers.
const MARKER_EVERY: Duration = Duration::from_secs(5);
/// Without a byte for so long, a copy has failed.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of the other side's words a failure shows, in bytes.
const WORDS: usize = 1024;

/// One copy: the other side, what goes there, and how much has come or gone.
struct Copy {
    remote: Url,
    headers: HeaderMap,
    moved: Arc<AtomicU64>,
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pull,
    Push,
}

/// Answers a COPY. The destination of a pull is checked for its write right only, the source of a push for read.
pub(super) fn copy(storage: &Storage, call: &Call) -> Outcome {
    let (path, text) = (&call.path, |name| call.headers.get(name).and_then(|value| value.to_str().ok()));
    let bad = |words: &str| Ok(reply::copy_failed(StatusCode::BAD_REQUEST, words.to_owned()));
    if text("credential").is_some_and(|credential| credential != "none") {
        return bad("COPY requested an unsupported method for credentials. Only \"none\" is supported");
    }
    let (mode, remote) = match (text("source"), text("destination")) {
        (Some(source), None) => (Mode::Pull, source),
        (None, Some(destination)) => (Mode::Push, destination),
        _ => return bad("COPY needs either a Source or a Destination header"),
    };
    let node = storage.tree().get(&path.elements);
    let failed = |act: &str, why: &str| bad(&format!("Unable to {act} {}; {why}", path.shown));
    let content = match mode {
        Mode::Pull => {
            // With `Overwrite: F` the file is opened as a new one: create is enough, and a file that is there is told.
            let keep = text("overwrite").is_some_and(|value| value.eq_ignore_ascii_case("f"));
            let right = if node.is_some() && !keep { Operation::Modify } else { Operation::Create };
            call.needs(&[right], || reply::copy_denied("create", &path.shown))?;
            match node {
                Some(Node::Directory) => return failed("create", "is a directory"),
                Some(Node::File(_)) if keep => {
                    let words = format!("Unable to create {}; file exists", path.shown);
                    return Ok(reply::copy_failed(StatusCode::PRECONDITION_FAILED, words));
                }
                _ if !storage.tree().has_parent(&path.elements) => {
                    return failed("create", "no such file or directory");
                }
                _ => Bytes::new(),
            }
        }
        Mode::Push => {
            call.needs(&[Operation::Read], || reply::copy_denied("open", &path.shown))?;
            match node {
                Some(Node::File(content)) => content,
                Some(Node::Directory) => return failed("open", "is a directory"),
                None => return failed("open", "no such file or directory"),
            }
        }
    };
    let Some(remote) = remote_url(remote) else { return bad("the other side is no https URL") };
    if mode == Mode::Pull {
        // Opened before the first byte is asked for: whatever goes wrong leaves a file.
        storage.tree().put(&path.elements, Bytes::new());
    }
    let job = Copy { remote, headers: transfer_headers(&call.headers), moved: Arc::default() };
    let body = progress(storage.clone(), path.elements.clone(), job, mode, content);
    Ok(reply::with(reply::answer(StatusCode::CREATED, body), CONTENT_TYPE, "text/plain"))
}

/// Tokens go over TLS only; `davs` is what gfal2 calls it.
fn remote_url(text: &str) -> Option<Url> {
    let text = text.strip_prefix("davs://").map_or_else(|| text.to_owned(), |rest| format!("https://{rest}"));
    Url::parse(&text).ok().filter(|url| url.scheme() == "https" && url.has_host())
}

/// `TransferHeaderX: v` goes on as `X: v`.
fn transfer_headers(headers: &HeaderMap) -> HeaderMap {
    let passed = |(name, value): (&HeaderName, &axum::http::HeaderValue)| {
        let name = name.as_str().strip_prefix("transferheader")?.parse::<HeaderName>().ok()?;
        Some((name, value.clone()))
    };
    headers.iter().filter_map(passed).collect()
}

/// Runs the copy and tells how it goes: a Perf Marker at once and every 5 s, and how it ended as the last line. A client that
/// goes away ends the copy; what is there by then stays.
fn progress(storage: Storage, path: Vec<String>, job: Copy, mode: Mode, content: Bytes) -> Body {
    let (words, heard) = mpsc::channel::<Result<String, std::convert::Infallible>>(4);
    tokio::spawn(async move {
        // Recorded: a pull tells its connection in the first marker, a push does not.
        let connection = (mode == Mode::Pull).then(|| connection(&job.remote));
        let moved = Arc::clone(&job.moved);
        let marker = || marker(storage.0.clock.now().0, moved.load(Ordering::Relaxed), connection.as_deref());
        if words.send(Ok(marker())).await.is_err() {
            return;
        }
        let copying = async {
            match mode {
                Mode::Pull => job.pull(&storage, &path).await,
                Mode::Push => job.push(&storage, content).await,
            }
        };
        let mut copying = std::pin::pin!(copying);
        let mut next = tokio::time::interval_at(tokio::time::Instant::now() + MARKER_EVERY, MARKER_EVERY);
        let outcome = loop {
            tokio::select! {
                outcome = &mut copying => break outcome,
                _ = next.tick() => if words.send(Ok(marker())).await.is_err() { return },
                () = words.closed() => return,
            }
        };
        let last = outcome.map_or_else(|why| format!("failure: {why}"), |()| "success: Created".to_owned());
        let _ = words.send(Ok(last)).await;
    });
    Body::from_stream(stream::unfold(heard, async |mut heard| heard.recv().await.map(|words| (words, heard))))
}

fn connection(remote: &Url) -> String {
    let host = remote.host_str().filter(|host| *host != "localhost").unwrap_or("127.0.0.1");
    format!("tcp:{host}:{}", remote.port_or_known_default().unwrap_or(443))
}

fn marker(now: i64, bytes: u64, connection: Option<&str>) -> String {
    let connection = connection.map(|to| format!("RemoteConnections: {to}\n")).unwrap_or_default();
    format!(
        "Perf Marker\nTimestamp: {now}\nStripe Index: 0\nStripe Bytes Transferred: {bytes}\n\
         Total Stripe Count: 1\n{connection}End\n"
    )
}

impl Copy {
    fn request(&self, storage: &Storage, method: Method) -> RequestBuilder {
        storage.0.peer.request(method, self.remote.clone()).headers(self.headers.clone())
    }

    /// HEAD for the size, whose refusal is not told: the GET after it gets the same, with words.
    async fn pull(&self, storage: &Storage, path: &[String]) -> Result<(), String> {
        let _ = send(self.request(storage, Method::HEAD)).await;
        let mut response = send(self.request(storage, Method::GET)).await?;
        if !response.status().is_success() {
            return Err(remote_failure(response, true).await);
        }
        let mut content = BytesMut::new();
        let outcome = loop {
            match tokio::time::timeout(SILENCE, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    content.extend_from_slice(&chunk);
                    self.moved.store(content.len() as u64, Ordering::Relaxed);
                }
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(_)) => break Err("HTTP library failure: Transferred a partial file".to_owned()),
                Err(_) => break Err(silence()),
            }
        };
        storage.tree().fill(path, content.freeze());
        outcome
    }

    async fn push(&self, storage: &Storage, content: Bytes) -> Result<(), String> {
        let length = content.len() as u64;
        let response = send(self.request(storage, Method::PUT).body(content)).await?;
        if !response.status().is_success() {
            return Err(remote_failure(response, false).await);
        }
        self.moved.store(length, Ordering::Relaxed);
        Ok(())
    }
}

async fn send(request: RequestBuilder) -> Result<Response, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "no redirects, silence bounded, body bounded by the memory of a test"
    )]
    match tokio::time::timeout(SILENCE, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.is_connect() => {
            Err("HTTP library failure: Couldn't connect to server".to_owned())
        }
        Ok(Err(_)) => Err("HTTP library failure: Server returned nothing (no headers, no data)".to_owned()),
        Err(_) => Err(silence()),
    }
}

fn silence() -> String {
    let seconds = SILENCE.as_secs();
    format!(
        "Error when interacting with local filesystem: Transfer failed because no bytes have been received in {seconds} \
         seconds."
    )
}

/// A pull tells the words of the other side, newlines made blanks; a push does not (recorded).
async fn remote_failure(response: Response, with_words: bool) -> String {
    let failure = format!("Remote side failed with status code {}", response.status().as_u16());
    match http::body(response, WORDS).await {
        Ok(Some(words)) if with_words && !words.is_empty() => {
            let words = String::from_utf8_lossy(&words).replace('\n', " ");
            format!("{failure}; error message: \"{words}\"")
        }
        _ => failure,
    }
}
