//! The methods of the storage, and the rights they need.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, EXPECT, HeaderName};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use token_core::Operation;

use super::request::RequestPath;
use super::rights::Rights;
use super::tree::Node;
use super::{CopyFault, Storage, copy, reply};
use crate::content::adler32;

/// How much of the body of a refused PUT is taken, so that the client reads the refusal.
const DRAINED: usize = 64 * 1024 * 1024;

/// A request whose token was looked at.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) path: RequestPath,
    /// Below the base path; none when it is outside.
    below: Option<Vec<String>>,
    rights: Result<Rights, String>,
}

/// A request refused for its token: why, in words, and what the client gets to see.
pub(super) struct Refused {
    why: String,
    answer: Response,
}

pub(super) type Outcome = Result<Response, Box<Refused>>;

impl Call {
    /// Whether the token gives one of these rights on the path.
    pub(super) fn needs(
        &self,
        any_of: &[Operation],
        answer: impl FnOnce() -> Response,
    ) -> Result<(), Box<Refused>> {
        self.needs_below(self.below.as_deref(), any_of, answer)
    }

    /// The same for another path, given below the base path.
    fn needs_below(
        &self,
        below: Option<&[String]>,
        any_of: &[Operation],
        answer: impl FnOnce() -> Response,
    ) -> Result<(), Box<Refused>> {
        let why = match (&self.rights, below) {
            (Err(why), _) => why.clone(),
            (Ok(_), None) => "the path is outside the base path".to_owned(),
            (Ok(rights), Some(below)) if rights.allow(any_of, below) => return Ok(()),
            (Ok(_), Some(below)) => {
                let names: Vec<_> = any_of.iter().map(|operation| operation.name()).collect();
                format!("the token has no {} on /{}", names.join(" or "), below.join("/"))
            }
        };
        Err(Box::new(Refused { why, answer: answer() }))
    }
}

/// The path of a URL, as it stands there.
fn url_path(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.find('/').map(|at| &rest[at..])
}

pub(super) fn router(storage: Storage) -> Router {
    Router::new().fallback(serve).with_state(storage)
}

async fn serve(State(storage): State<Storage>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (method, headers) = (parts.method, parts.headers);
    if method == Method::OPTIONS {
        let response =
            reply::with(reply::answer(StatusCode::OK, Body::empty()), HeaderName::from_static("dav"), "1");
        return reply::with(response, ALLOW, "HEAD,GET,PUT,PROPFIND,DELETE,OPTIONS,MKCOL,MOVE,COPY");
    }
    let path = match RequestPath::read(parts.uri.path()) {
        Ok(path) => path,
        Err(shown) => {
            storage.note_refusal(format!("{method} {shown}: the path is relative"));
            return reply::relative(&method, &shown);
        }
    };
    let rights = storage.rights(&headers).await;
    let below = path.elements.strip_prefix(storage.0.base.as_slice()).map(<[String]>::to_vec);
    let call = Call { method, headers, path, below, rights };
    let outcome = match call.method.as_str() {
        "GET" => storage.get(&call).await,
        "HEAD" => storage.head(&call),
        "PUT" => storage.put(&call, body).await,
        "DELETE" => storage.delete(&call),
        "MKCOL" => storage.mkcol(&call),
        "PROPFIND" => storage.propfind(&call),
        "COPY" => copy::copy(&storage, &call),
        "MOVE" => storage.rename(&call),
        // A POST for a macaroon gets this (observed).
        _ => return reply::answer(StatusCode::NOT_IMPLEMENTED, "Request not supported yet."),
    };
    match outcome {
        Ok(response) => {
            storage.note_accepted();
            response
        }
        Err(refused) => {
            storage.note_refusal(format!("{} {}: {}", call.method, call.path.shown, refused.why));
            refused.answer
        }
    }
}

impl Storage {
    fn node(&self, call: &Call) -> Option<Node> {
        self.tree().get(&call.path.elements)
    }

    async fn get(&self, call: &Call) -> Outcome {
        let (method, path) = (&call.method, &call.path.shown);
        call.needs(&[Operation::Read], || reply::denied(method, "open", path))?;
        let content = match self.node(call) {
            Some(Node::File(content)) => content,
            Some(Node::Directory) => {
                return Ok(reply::unable(method, StatusCode::CONFLICT, "open", path, "is a directory"));
            }
            None => return Ok(reply::missing(method, "open", path)),
        };
        let length = content.len().to_string();
        let body = match self.copy_fault() {
            CopyFault::BreakAfter(bytes) if bytes < content.len() => {
                let parts =
                    [Ok(content.slice(..bytes)), Err(std::io::Error::other("the copy fault breaks off"))];
                // The pause lets the part that is to arrive leave before the connection is cut.
                let parts = stream::iter(parts).then(async |part| {
                    if part.is_err() {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                    part
                });
                Body::from_stream(Box::pin(parts))
            }
            CopyFault::Slow(wait) => {
                tokio::time::sleep(wait).await;
                Body::from(content)
            }
            CopyFault::Trickle(time) => trickle(&content, time),
            CopyFault::None | CopyFault::BreakAfter(_) => Body::from(content),
        };
        Ok(reply::with(reply::answer(StatusCode::OK, body), CONTENT_LENGTH, &length))
    }

    fn head(&self, call: &Call) -> Outcome {
        let (method, path) = (&call.method, &call.path.shown);
        call.needs(&[Operation::Read], || reply::denied(method, "open", path))?;
        let (length, digest) = match self.node(call) {
            Some(Node::File(content)) => (content.len(), Some(format!("adler32={}", adler32(&content)))),
            Some(Node::Directory) => (4096, None),
            None => return Ok(reply::missing(method, "open", path)),
        };
        let response =
            reply::with(reply::answer(StatusCode::OK, Body::empty()), CONTENT_LENGTH, &length.to_string());
        let wanted =
            call.headers.get("want-digest").and_then(|wanted| wanted.to_str().ok()).unwrap_or_default();
        Ok(match digest.filter(|_| wanted.to_ascii_lowercase().contains("adler32")) {
            Some(digest) => reply::with(response, HeaderName::from_static("digest"), &digest),
            None => response,
        })
    }

    async fn put(&self, call: &Call, body: Body) -> Outcome {
        if let Some(outcome) = self.put_stopped(call) {
            if !call.headers.contains_key(EXPECT) {
                let _ = to_bytes(body, DRAINED).await;
            }
            return outcome;
        }
        let path = &call.path.elements;
        self.tree().put(path, Bytes::new());
        let (mut content, mut chunks) = (BytesMut::new(), body.into_data_stream());
        while let Some(Ok(chunk)) = chunks.next().await {
            content.extend_from_slice(&chunk);
        }
        // A body that broke off leaves what had come.
        self.tree().fill(path, content.freeze());
        Ok(reply::done(StatusCode::OK))
    }

    /// What a PUT gets that does not begin.
    fn put_stopped(&self, call: &Call) -> Option<Outcome> {
        let (method, path) = (&call.method, &call.path);
        let old = self.node(call);
        let right = if old.is_some() { Operation::Modify } else { Operation::Create };
        if let Err(refused) = call.needs(&[right], || reply::denied(method, "create", &path.shown)) {
            return Some(Err(refused));
        }
        // The server opens with "make path": directories that are missing are made (read in its sources).
        let parent = path.elements.split_last().map_or(&[][..], |(_, parent)| parent);
        let why = if old == Some(Node::Directory) {
            "is a directory"
        } else if self.tree().make_directories(parent) {
            return None;
        } else {
            "not a directory"
        };
        Some(Ok(reply::unable(method, StatusCode::CONFLICT, "create", &path.shown, why)))
    }

    /// The server stats the file before it removes it: 5.5.3 wants read for that.
    fn delete(&self, call: &Call) -> Outcome {
        let (method, path) = (&call.method, &call.path.shown);
        call.needs(&[Operation::Read], || reply::denied(method, "locate", path))?;
        if self.node(call).is_none() {
            return Ok(reply::missing(method, "locate", path));
        }
        call.needs(&[Operation::Modify], || reply::denied(method, "remove", path))?;
        if self.tree().remove(&call.path.elements) {
            Ok(reply::done(StatusCode::OK))
        } else {
            Ok(reply::unable(method, StatusCode::CONFLICT, "remove", path, "directory not empty"))
        }
    }

    /// Makes missing directories above as well (observed).
    fn mkcol(&self, call: &Call) -> Outcome {
        let (method, path) = (&call.method, &call.path.shown);
        call.needs(&[Operation::Create], || reply::denied(method, "mkdir", path))?;
        if self.node(call).is_some() {
            return Ok(reply::unable(method, StatusCode::METHOD_NOT_ALLOWED, "mkdir", path, "file exists"));
        }
        if self.tree().make_directories(&call.path.elements) {
            Ok(reply::done(StatusCode::CREATED))
        } else {
            Ok(reply::unable(method, StatusCode::CONFLICT, "mkdir", path, "not a directory"))
        }
    }

    /// MOVE: modify on the old path, a right to write on the new one. A data server does not look at the host of the
    /// destination. What is in the way of a rename that is allowed was not recorded: RFC 4918 section 9.9.4.
    fn rename(&self, call: &Call) -> Outcome {
        let (method, path) = (&call.method, &call.path);
        call.needs(&[Operation::Modify], || reply::denied(method, "renaming", &path.shown))?;
        let to = call.headers.get("destination").and_then(|to| to.to_str().ok()).and_then(url_path);
        let Some(to) = to.and_then(|to| RequestPath::read(to).ok()) else {
            return Ok(reply::answer(StatusCode::NOT_IMPLEMENTED, "Cannot parse destination url."));
        };
        let below = to.elements.strip_prefix(self.0.base.as_slice()).map(<[String]>::to_vec);
        call.needs_below(below.as_deref(), &[Operation::Create], || {
            reply::denied(method, "renaming to", &to.shown)
        })?;
        let Some(node) = self.node(call) else { return Ok(reply::missing(method, "rename", &path.shown)) };
        let mut tree = self.tree();
        let why = match (node, tree.get(&to.elements), tree.has_parent(&to.elements)) {
            (_, Some(_), _) => "file exists",
            (_, None, false) => "no such file or directory",
            // Directories are moved by nobody here.
            (Node::Directory, ..) => "is a directory",
            (Node::File(content), None, true) => {
                tree.remove(&path.elements);
                tree.put(&to.elements, content);
                return Ok(reply::done(StatusCode::CREATED));
            }
        };
        Ok(reply::unable(method, StatusCode::CONFLICT, "rename", &path.shown, why))
    }

    /// Of the path itself: `Depth: 0` is all that FTS asks for.
    fn propfind(&self, call: &Call) -> Outcome {
        let (method, path) = (&call.method, &call.path.shown);
        call.needs(&[Operation::Read], || reply::denied(method, "locate", path))?;
        if call.headers.get("depth").is_some_and(|depth| depth != "0") {
            return Ok(reply::answer(StatusCode::NOT_IMPLEMENTED, "Only Depth: 0 is supported."));
        }
        Ok(match self.node(call) {
            Some(node) => reply::multistatus(path, &node, self.0.clock.now()),
            None => reply::missing(method, "locate", path),
        })
    }
}

/// In twenty parts, each after a wait.
fn trickle(content: &Bytes, time: std::time::Duration) -> Body {
    const PARTS: u32 = 20;
    let size = content.len().div_ceil(20).max(1);
    let parts: Vec<Bytes> = content.chunks(size).map(Bytes::copy_from_slice).collect();
    let parts = stream::iter(parts).then(move |part| async move {
        tokio::time::sleep(time / PARTS).await;
        Ok::<_, std::convert::Infallible>(part)
    });
    Body::from_stream(Box::pin(parts))
}
