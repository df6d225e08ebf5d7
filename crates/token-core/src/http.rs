//! The one way to make an HTTP client: verified TLS, no redirects, no proxy from the environment, time-outs, bounded
//! bodies, and errors without URLs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, Response, redirect};
use zeroize::Zeroizing;

/// How to reach one party.
///
/// ```
/// use std::time::Duration;
/// use token_core::http::{HttpSettings, SetupError, client};
///
/// let settings = HttpSettings { timeout: Duration::from_secs(60), ..HttpSettings::default() };
/// client(&settings)?;
/// let untrusted = HttpSettings { ca_file: Some("/no/such/ca.pem".into()), ..settings };
/// assert!(matches!(client(&untrusted), Err(SetupError::Unreadable { .. })), "never the system's instead");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// A PEM file of certificate authorities, or a directory of such files as grid sites have it (`*.pem`, `*.crt`, and
    /// hashed names like `5fca1cb1.0`). Only these are trusted then; without it, the system's are.
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

/// An X.509 certificate to show to the other side, as PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate and the chain above it; of a proxy, the one file that holds its key as well.
    pub certificate: PathBuf,
    /// The private key, if it stands in a file of its own.
    pub key: Option<PathBuf>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The CA file or directory can't be read.
    #[error("cannot read the CA file or directory {path}: {source}")]
    Unreadable {
        /// The file or directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The CA file holds no certificate.
    #[error("the CA file {0} holds no PEM certificate")]
    NoCertificate(String),
    /// No file of the CA directory holds a certificate that can be used.
    #[error(
        "the CA directory {0} holds no file *.pem, *.crt or *.<digit> with a certificate that can be used"
    )]
    EmptyDirectory(String),
    /// The client certificate or its key can't be read or used.
    #[error("the client certificate {path} can't be used: {reason}")]
    ClientCertificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls,
}

/// Makes a client. Make one per party and keep it: it holds the connections.
///
/// # Errors
/// When the CA file or directory can't be used.
pub fn client(settings: &HttpSettings) -> Result<Client, SetupError> {
    client_with(settings, None)
}

/// As [`client`], and shows a certificate of its own to a server that asks for one.
///
/// # Errors
/// When the CA file or directory, or the certificate, can't be used.
pub fn client_with(
    settings: &HttpSettings,
    certificate: Option<&ClientCertificate>,
) -> Result<Client, SetupError> {
    let identity = certificate.map(identity).transpose()?;
    let builder = |settings| match &identity {
        Some(identity) => builder(settings).identity(identity.clone()),
        None => builder(settings),
    };
    let Some(path) = &settings.ca_file else { return builder(settings).build().map_err(|_| SetupError::Tls) };
    let trusting = |list: Vec<Certificate>| builder(settings).tls_certs_only(list).build().ok();
    if !path.is_dir() {
        return trusting(file(path)?).ok_or(SetupError::Tls);
    }
    let mut list = directory(path)?;
    if let Some(client) = trusting(list.clone()) {
        return Ok(client);
    }
    // Authorities older than what TLS takes today stand in grid directories too; the others are to work.
    list.retain(|one| trusting(vec![one.clone()]).is_some());
    match list.is_empty() {
        true => Err(SetupError::EmptyDirectory(path.display().to_string())),
        false => trusting(list).ok_or(SetupError::Tls),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes a client")]
fn builder(settings: &HttpSettings) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("token-conveyor/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_secs(60))
        .http1_only()
        // XRootD 5.5.3 (`http.header2cgi Authorization authz`) sees no token in an `authorization` (observed).
        .http1_title_case_headers()
}

fn identity(files: &ClientCertificate) -> Result<Identity, SetupError> {
    let refused = |path: &Path, reason: String| SetupError::ClientCertificate {
        path: path.display().to_string(),
        reason,
    };
    let mut pem = Zeroizing::new(Vec::new());
    for path in [Some(&files.certificate), files.key.as_ref()].into_iter().flatten() {
        let bytes = std::fs::read(path).map_err(|error| refused(path, error.to_string()))?;
        pem.extend_from_slice(&Zeroizing::new(bytes));
        pem.push(b'\n');
    }
    let unusable =
        || refused(&files.certificate, "no PEM certificate with an unencrypted private key".into());
    let identity = Identity::from_pem(&pem).map_err(|_| unusable())?;
    // Whether the key fits the certificate shows only when a client is made.
    match builder(&HttpSettings::default()).identity(identity.clone()).tls_certs_only([]).build() {
        Ok(_) => Ok(identity),
        Err(_) => Err(unusable()),
    }
}

fn file(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let shown = path.display().to_string();
    let pem = std::fs::read(path).map_err(|source| SetupError::Unreadable { path: shown.clone(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(SetupError::NoCertificate(shown)),
    }
}

/// The certificates of all files in it; a file that can't be read or holds none is passed over, since such a directory
/// also has revocation lists, namespaces and half-written files.
fn directory(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let shown = path.display().to_string();
    let entries =
        std::fs::read_dir(path).map_err(|source| SetupError::Unreadable { path: shown.clone(), source })?;
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_certificate(path)) {
        // A hashed name is mostly a link to a file beside it.
        let real = path.canonicalize().is_ok_and(|path| seen.insert(path));
        if real && let Ok(found) = file(&path) {
            list.extend(found);
        }
    }
    if list.is_empty() { Err(SetupError::EmptyDirectory(shown)) } else { Ok(list) }
}

/// By its name: `*.pem`, `*.crt`, or OpenSSL's hash and a number (`*.r0` is a revocation list).
fn is_certificate(path: &Path) -> bool {
    let Some(ending) = path.extension().and_then(|ending| ending.to_str()) else { return false };
    ending == "pem" || ending == "crt" || ending.bytes().all(|b| b.is_ascii_digit())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate in form only; TLS does not take it.
    const HOLLOW: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    /// Self-signed, made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500`.
    const CA: &str = include_str!("../tests/data/ca.pem");

    fn with_ca(path: &Path) -> Result<Client, SetupError> {
        client(&HttpSettings { ca_file: Some(path.to_owned()), ..HttpSettings::default() })
    }

    #[test]
    fn a_directory_of_authorities_is_taken_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let empty = |outcome: Result<Client, SetupError>| matches!(outcome, Err(SetupError::EmptyDirectory(path)) if path == folder.path().display().to_string());
        assert!(empty(with_ca(folder.path())));
        for name in ["5fca1cb1.r0", "x.namespaces", "ca.pem~", "pem"] {
            put(name, CA);
        }
        put("text.pem", "no certificate");
        std::fs::create_dir(folder.path().join("folder.pem")).unwrap();
        std::os::unix::fs::symlink("/no/such/file", folder.path().join("dangling.0")).unwrap();
        assert!(empty(with_ca(folder.path())));
        put("hollow.crt", HOLLOW);
        assert!(empty(with_ca(folder.path())), "nothing to trust is not the same as trusting the system's");
        put("ca.crt", CA);
        std::os::unix::fs::symlink("ca.crt", folder.path().join("5fca1cb1.0")).unwrap();
        assert_eq!(
            directory(folder.path()).unwrap().len(),
            2,
            "the link is the file, and the hollow one counts"
        );
        assert!(with_ca(folder.path()).is_ok());
    }

    #[test]
    fn a_file_is_read_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        assert!(matches!(with_ca(&path), Err(SetupError::Unreadable { .. })));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(with_ca(&path), Err(SetupError::NoCertificate(_))));
        std::fs::write(&path, CA).unwrap();
        assert!(with_ca(&path).is_ok());
    }
}
