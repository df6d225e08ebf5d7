//! One request to another party, and what came of it.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::header::DATE;
pub use reqwest::{Client, Method};
use rustls::CertificateError;
use token_core::http::{body, printable};
use token_core::{AccessToken, Clock, UnixSeconds};
use url::Url;

use super::clock::Offset;
use super::finding::Finding;
use super::tls;

/// Longest body that is read, in bytes.
const LIMIT: usize = 256 * 1024;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The other clock by its `Date`.
    pub offset: Option<Offset>,
    /// The body, if it is not too long.
    pub body: Option<Vec<u8>>,
}

/// Why there was none.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// Its certificate is not good.
    Certificate(CertificateError),
    /// TLS could not be agreed upon.
    Tls(String),
    /// No connection.
    Connection(String),
    /// It said nothing in time.
    Silent,
    /// The connection broke off.
    Broken(String),
}

/// Sends one request without a body.
///
/// # Errors
/// When no answer came.
pub async fn look(
    client: &Client,
    method: Method,
    url: &Url,
    bearer: Option<&AccessToken>,
    clock: &dyn Clock,
) -> Result<Answered, Unanswered> {
    let mut request = client.request(method, url.clone());
    if let Some(token) = bearer {
        request = request.bearer_auth(token.expose());
    }
    let before = clock.now();
    #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
    let response = request.send().await.map_err(|error| unanswered(&error))?;
    let asked = UnixSeconds(i64::midpoint(before.0, clock.now().0));
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let theirs = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    let theirs = theirs.map(|since: Duration| UnixSeconds(0).plus(since));
    let status = response.status().as_u16();
    let body = body(response, LIMIT).await.map_err(|error| unanswered(&error))?;
    Ok(Answered { status, offset: theirs.map(|theirs| Offset::of(theirs, asked)), body })
}

fn unanswered(error: &reqwest::Error) -> Unanswered {
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(wrong)) => return Unanswered::Certificate(wrong.clone()),
        Some(other) => return Unanswered::Tls(printable(&other.to_string())),
        None => (),
    }
    let mut deepest: &dyn Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    // The outermost error shows the URL.
    let why = match error.source() {
        None => "no reason is known".to_owned(),
        Some(_) => printable(&deepest.to_string()),
    };
    match () {
        () if error.is_timeout() => Unanswered::Silent,
        () if error.is_connect() => Unanswered::Connection(why),
        () => Unanswered::Broken(why),
    }
}

/// What TLS said, however deep it is: an IO error keeps what it was made of beside its sources.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| rustls_error(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What no answer means. The certificates are looked at when they are the reason.
pub async fn why(
    of: &str,
    url: &Url,
    unanswered: Unanswered,
    authorities: &str,
    now: UnixSeconds,
) -> Finding {
    const CHECK: &str = "connection";
    let place = format!("{}:{}", url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(443));
    match unanswered {
        Unanswered::Certificate(wrong) => {
            let chain = tls::presented(url).await;
            tls::wrong(of, url.host_str().unwrap_or("?"), &wrong, &chain, authorities, now)
        }
        Unanswered::Tls(reason) => Finding::bad(
            of,
            "certificate",
            format!("TLS with {place} can't be agreed upon: {reason}"),
            "see which TLS versions and keys it offers (`openssl s_client -connect HOST:PORT`)",
        ),
        Unanswered::Connection(reason) => Finding::passing(
            of,
            CHECK,
            format!("no connection to {place}: {reason}"),
            "is it up, is the name right, and is the port open from here?",
        ),
        Unanswered::Silent => Finding::passing(
            of,
            CHECK,
            format!("no answer from {place} in time"),
            "is it up, and does a firewall drop what is sent?",
        ),
        Unanswered::Broken(reason) => Finding::passing(
            of,
            CHECK,
            format!("the connection to {place} broke off: {reason}"),
            "see its log, or that of what stands in front of it",
        ),
    }
}
