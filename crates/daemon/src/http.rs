//! The little HTTP server of a daemon: `GET /metrics`, `/livez` and `/readyz`. It listens on loopback unless it is told otherwise,
//! knows no secret, and changes nothing.

mod answer;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::watch::Watch;
use answer::Answer;

/// Most questions at a time; others wait.
const MOST: usize = 32;
/// How long one may take, from the connection to the last byte.
const LONGEST: Duration = Duration::from_secs(20);
/// How often it is tried to listen where somebody else listens.
const AGAIN: Duration = Duration::from_secs(15);

/// The `[http]` section: where metrics and health are told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenSettings {
    /// Whether metrics and health are told at all.
    pub enabled: bool,
    /// Address and port, where not the daemon's own on loopback; port 0 is any that is free, which a line of log names.
    pub listen: Option<SocketAddr>,
    /// Whether there is a page for people, too, at `/`.
    pub status_page: bool,
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self { enabled: true, listen: None, status_page: false }
    }
}

impl ListenSettings {
    /// Answers until `stop` fires, on loopback at `port` when it is not said where. Where somebody else listens, it is tried again and
    /// again: that is no reason not to work.
    pub async fn serve(&self, port: u16, watch: Arc<Watch>, stop: &CancellationToken) {
        if !self.enabled {
            return;
        }
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut said = false;
        let listener = loop {
            match TcpListener::bind(listen).await {
                Ok(listener) => break listener,
                Err(error) if !said => {
                    said = true;
                    warn!(%listen, %error, "metrics and health can't be told there: set `http.listen`; tried again");
                }
                Err(_) => (),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => (),
                () = stop.cancelled() => return,
            }
        };
        let address = listener.local_addr().map_or_else(|_| listen.to_string(), |at| at.to_string());
        let page = self.status_page;
        info!(page, "metrics and health at http://{address}/metrics, /livez and /readyz");
        let room = Arc::new(Semaphore::new(MOST));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match (accepted, Arc::clone(&room).acquire_owned().await) {
                (Ok((stream, _)), Ok(place)) => {
                    let watch = Arc::clone(&watch);
                    tokio::spawn(async move {
                        converse(stream, watch, page).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, for one: they come back.
                (Err(error), _) => {
                    debug!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (_, Err(_)) => return,
            }
        }
    }
}

/// One question and its answer.
async fn converse(stream: TcpStream, watch: Arc<Watch>, page: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let watch = Arc::clone(&watch);
        async move {
            let accept =
                request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let answer = answer::answer(&watch, page, request.method(), request.uri().path(), accept).await;
            Ok::<_, Infallible>(response(answer))
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LONGEST, connection).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => debug!(%error, "a question was not answered"),
        Err(_) => debug!("a question was not answered in time"),
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", answer.content_type),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        // The page has its own style in it and nothing else; nobody puts it into a frame.
        (
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
