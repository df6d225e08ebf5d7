//! The one way to make an HTTP client: verified TLS, no redirects, no proxy from the environment, time-outs, bounded
//! bodies, and errors without URLs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, Response, redirect};

/// How to reach one party.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// A PEM file of certificate authorities. Only these are trusted then; without it, the system's are.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer.
    pub timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { ca_file: None, connect_timeout: Duration::from_secs(5), timeout: Duration::from_secs(20) }
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The CA file can't be read.
    #[error("cannot read the CA file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The CA file holds no certificate.
    #[error("the CA file {0} holds no PEM certificate")]
    NoCertificate(String),
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls,
}

/// Makes a client. Make one per party and keep it: it holds the connections.
///
/// # Errors
/// When the CA file can't be used.
#[expect(clippy::disallowed_methods, reason = "the one place that makes a client")]
pub fn client(settings: &HttpSettings) -> Result<Client, SetupError> {
    let mut builder = Client::builder()
        .user_agent(concat!("token-conveyor/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_secs(60))
        .http1_only();
    if let Some(path) = &settings.ca_file {
        builder = builder.tls_certs_only(certificates(path)?);
    }
    builder.build().map_err(|_| SetupError::Tls)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let shown = path.display().to_string();
    let pem = std::fs::read(path).map_err(|source| SetupError::Unreadable { path: shown.clone(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(SetupError::NoCertificate(shown)),
    }
}

/// What happened to a call, in words without a URL.
pub fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection: is it up, and is its certificate signed by the configured CA?"
    } else {
        "the connection broke off"
    }
}

/// Reads a body of at most `limit` bytes; `None` when it is longer.
///
/// # Errors
/// When the connection breaks off.
pub async fn body(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); its date form is not read.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Text of the other side, made safe to print: one line of printable ASCII, cut, and with every word that is long
/// enough to be a secret taken out.
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 300;
    let words = text.split_whitespace().map(|word| if word.len() > 80 { "[long word]" } else { word });
    let line: String =
        words.collect::<Vec<_>>().join(" ").chars().filter(|c| (' '..='~').contains(c)).collect();
    line.chars().take(LONGEST).collect()
}
