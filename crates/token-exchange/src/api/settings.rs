//! `[api]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// `[api]`: tokens over HTTP, for transfer agents that are not FTS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    /// Address and port; without it, nobody is answered.
    pub listen: Option<SocketAddr>,
    /// The names of this service: a caller's token must have one of them among its audiences.
    pub audience: Vec<String>,
    /// The service's certificate and those above it, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub key_file: Option<PathBuf>,
    /// Whether `listen` may be plain http on a loopback address, for a proxy on this host that does TLS.
    pub plain_http_on_loopback: bool,
    /// Most questions answered at a time; who comes when there are as many is asked to come again.
    pub max_in_flight: usize,
    /// How long the body of a question may take, and how long its answer.
    pub timeout_s: u64,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: None,
            audience: Vec::new(),
            certificate_file: None,
            key_file: None,
            plain_http_on_loopback: false,
            max_in_flight: 64,
            timeout_s: 30,
        }
    }
}

impl ApiSettings {
    /// See `timeout_s`.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.max(1))
    }
}
