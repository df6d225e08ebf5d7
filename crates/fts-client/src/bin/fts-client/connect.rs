//! Which FTS, and as whom.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use fts_client::{FtsClient, FtsSettings};
use token_core::http::{ClientCertificate, HttpSettings};
use token_core::{AccessToken, BearerFuture, BearerSource, Freshness, Places};
use url::Url;

use super::Failure;

/// Longest token read from standard input, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Which FTS, and as whom.
#[derive(Args)]
#[command(next_help_heading = "FTS and who you are")]
pub(super) struct Connect {
    /// The FTS, as in https://fts.example.org:8446.
    #[arg(short = 's', long, env = "FTS_URL", value_name = "URL", global = true)]
    endpoint: Option<Url>,
    /// Take the token from this file, `-` for standard input. Without it: BEARER_TOKEN, BEARER_TOKEN_FILE,
    /// $XDG_RUNTIME_DIR/bt_u<uid>, /tmp/bt_u<uid>.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Trust only the authorities in this PEM file or directory, instead of the system's.
    #[arg(long, alias = "ca-file", env = "X509_CERT_DIR", value_name = "PATH", global = true)]
    capath: Option<PathBuf>,
    /// Show this certificate (PEM, or a proxy), and send no token unless --token-file is given too.
    #[arg(long, value_name = "FILE", global = true)]
    cert: Option<PathBuf>,
    /// The certificate's key, if it is not in the same file.
    #[arg(long, value_name = "FILE", requires = "cert", global = true)]
    key: Option<PathBuf>,
    /// Longest wait for one answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    call_timeout: u64,
}

impl Connect {
    /// A client, as someone.
    pub(super) fn client(&self) -> Result<FtsClient, Failure> {
        let settings = self.settings()?;
        let client = match (&self.cert, &self.token_file) {
            (Some(_), None) => FtsClient::without_token(&settings),
            _ => FtsClient::new(&settings, Arc::new(Kept::new(self.token()?))),
        };
        client.map_err(Failure::usage)
    }

    /// A client as nobody, for what anybody may ask.
    pub(super) fn anonymous(&self) -> Result<FtsClient, Failure> {
        FtsClient::without_token(&self.settings()?).map_err(Failure::usage)
    }

    fn settings(&self) -> Result<FtsSettings, Failure> {
        let url =
            self.endpoint.clone().ok_or_else(|| Failure::usage("which FTS? Give -s URL or set FTS_URL"))?;
        if url.scheme() != "https" || !url.has_host() {
            return Err(Failure::usage("the FTS must be an https URL: a token is not sent in clear"));
        }
        let http = HttpSettings {
            ca_file: self.capath.clone(),
            timeout: Duration::from_secs(self.call_timeout),
            ..HttpSettings::default()
        };
        let key = self.key.clone();
        let certificate = self.cert.clone().map(|certificate| ClientCertificate { certificate, key });
        Ok(FtsSettings { http, certificate, ..FtsSettings::new(url) })
    }

    fn token(&self) -> Result<Held, Failure> {
        let places = match self.token_file.as_deref() {
            None => Places::from_environment(),
            Some(path) if path.as_os_str() == "-" => {
                let mut text = String::new();
                std::io::stdin().take(LIMIT).read_to_string(&mut text).map_err(Failure::usage)?;
                let token = AccessToken::new(text.trim()).map_err(Failure::usage)?;
                return Ok(Held { token, places: None });
            }
            Some(path) => Places { token: None, file: Some(path.into()), ..Places::from_environment() },
        };
        let token = discover(&places, self.token_file.is_some())?;
        Ok(Held { token, places: Some((places, self.token_file.is_some())) })
    }
}

/// Reads a token file that was named on the command line.
pub(super) fn token_from(path: PathBuf) -> Result<AccessToken, Failure> {
    discover(&Places { token: None, file: Some(path), ..Places::from_environment() }, true)
}

/// `named`: it must be the file that was named, and no other place.
fn discover(places: &Places, named: bool) -> Result<AccessToken, Failure> {
    let found = places.discover().map_err(Failure::usage)?;
    match &places.file {
        Some(file) if named && found.place != file.display().to_string() => {
            Err(Failure::usage(format!("{} is empty", file.display())))
        }
        _ => Ok(found.token),
    }
}

/// A token, and where to look for a newer one.
struct Held {
    token: AccessToken,
    places: Option<(Places, bool)>,
}

/// The token in hand. When FTS does not believe it any more it is looked for again: something may have put a new one there
/// while a job was watched.
struct Kept(Mutex<Held>);

impl Kept {
    fn new(held: Held) -> Self {
        Self(Mutex::new(held))
    }
}

impl BearerSource for Kept {
    fn bearer(&self, freshness: Freshness) -> BearerFuture<'_> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if freshness == Freshness::Fresh
            && let Some((places, named)) = &held.places
            && let Ok(token) = discover(places, *named)
        {
            held.token = token;
        }
        let token = held.token.clone();
        Box::pin(async move { Ok(token) })
    }
}
