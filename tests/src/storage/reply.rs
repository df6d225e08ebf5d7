//! Answers as XRootD 5.5.3 was recorded to write them.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use time::OffsetDateTime;
use time::macros::format_description;
use token_core::UnixSeconds;

use super::tree::Node;

/// An answer with a body; the connection stays.
pub(super) fn answer(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("XrootD/v5.5.3"));
    headers.insert(CONNECTION, HeaderValue::from_static("Keep-Alive"));
    response
}

pub(super) fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// `Unable to <act> <path>; <why>` and a newline. Where a file was to be opened for reading the connection is closed, and a
/// HEAD has no body and no length but 0.
pub(super) fn unable(method: &Method, status: StatusCode, act: &str, path: &str, why: &str) -> Response {
    let body =
        if *method == Method::HEAD { String::new() } else { format!("Unable to {act} {path}; {why}\n") };
    let length = body.len().to_string();
    let response = with(answer(status, body), CONTENT_LENGTH, &length);
    if matches!(*method, Method::GET | Method::HEAD) { with(response, CONNECTION, "Close") } else { response }
}

pub(super) fn denied(method: &Method, act: &str, path: &str) -> Response {
    unable(method, StatusCode::FORBIDDEN, act, path, "permission denied")
}

pub(super) fn missing(method: &Method, act: &str, path: &str) -> Response {
    unable(method, StatusCode::NOT_FOUND, act, path, "no such file or directory")
}

/// A path with `..`.
pub(super) fn relative(method: &Method, path: &str) -> Response {
    let act = match method.as_str() {
        "GET" | "PUT" | "COPY" => "Opening",
        "MKCOL" => "Creating",
        _ => "Stating",
    };
    let body = format!("{act} relative path &apos;{path}&apos; is disallowed.\n");
    let body = if *method == Method::HEAD { String::new() } else { body };
    with(answer(StatusCode::FORBIDDEN, body), CONNECTION, "Close")
}

/// A refusal by the server that gets a COPY: 401 with the reason phrase "Unknown", and no newline.
pub(super) fn copy_denied(act: &str, path: &str) -> Response {
    let body = format!("Unable to {act} {path}; permission denied");
    let mut response = answer(StatusCode::UNAUTHORIZED, body);
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Unknown"));
    response
}

/// A COPY that could not begin for another reason.
pub(super) fn copy_failed(status: StatusCode, text: String) -> Response {
    answer(status, text)
}

/// The smile of a PUT, a DELETE or an MKCOL that went well.
pub(super) fn done(status: StatusCode) -> Response {
    answer(status, Bytes::from_static(b":-)"))
}

/// A multistatus of one path (RFC 4918 section 13), in the form that XRootD's sources have: a directory, which has the `x`
/// right, is said to be one twice. Nothing here has a time of its own: it was changed just now.
pub(super) fn multistatus(path: &str, node: &Node, now: UnixSeconds) -> Response {
    let escaped = path.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (length, kind) = match node {
        Node::File(content) => {
            (content.len(), "<lp1:iscollection>0</lp1:iscollection>\n<lp1:executable>F</lp1:executable>\n")
        }
        Node::Directory => (
            4096,
            "<lp1:resourcetype><D:collection/></lp1:resourcetype>\n<lp1:iscollection>1</lp1:iscollection>\n\
             <lp1:executable>T</lp1:executable>\n<lp1:iscollection>1</lp1:iscollection>\n",
        ),
    };
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let changed = OffsetDateTime::from_unix_timestamp(now.0).ok().and_then(|at| at.format(format).ok());
    let changed = changed.unwrap_or_default();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <D:multistatus xmlns:D=\"DAV:\" xmlns:ns1=\"http://apache.org/dav/props/\" xmlns:ns0=\"DAV:\">\n\
         <D:response xmlns:lp1=\"DAV:\" xmlns:lp2=\"http://apache.org/dav/props/\" xmlns:lp3=\"LCGDM:\">\n\
         <D:href>{escaped}</D:href>\n<D:propstat>\n<D:prop>\n\
         <lp1:getcontentlength>{length}</lp1:getcontentlength>\n\
         <lp1:getlastmodified>{changed}</lp1:getlastmodified>\n{kind}\
         </D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n</D:response>\n</D:multistatus>\n"
    );
    with(answer(StatusCode::MULTI_STATUS, body), CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
}
