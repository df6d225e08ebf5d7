//! An `[issuer]` section: an issuer, and the client that this daemon is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use token_core::http::HttpSettings;
use token_core::retry::RetryPolicy;
use token_core::{
    Answer, AssertionKey, AudienceParameter, ClientAuthentication, ClientSecret, Clock, Guard, GuardSettings,
    Issuer, OAuthClient, OAuthSettings,
};
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// An issuer, and the client that this daemon is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The issuer's exact name, as in the `iss` of its tokens; a slash at the end counts.
    pub url: String,
    /// Whether `url` may be plain http on a loopback address.
    #[serde(default)]
    pub plain_http_on_loopback: bool,
    /// The client's id there. A daemon may know it from elsewhere.
    #[serde(default)]
    pub client_id: String,
    /// How the client proves to be that client.
    #[serde(default)]
    pub authentication: Authentication,
    /// A file that holds the client's secret and nothing else; for `basic` and `post`.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// The secret itself, where it stands in a file of another kind; never a key of the configuration.
    #[serde(skip)]
    pub client_secret: Option<ClientSecret>,
    /// A PEM file with the client's private key (RSA or P-256); for `private_key_jwt`.
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// The `kid` under which the issuer knows that key, if it wants one.
    #[serde(default)]
    pub key_id: Option<String>,
    /// By which parameter the issuer is asked for an audience.
    #[serde(default)]
    pub audience_parameter: AudienceParameter,
    /// What kind of access token the issuer gives.
    #[serde(default)]
    pub tokens: Answer,
    /// Certificate authorities to trust instead of the system's: a PEM file, or a directory of them.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a connection.
    #[serde(default = "connect_timeout_s")]
    pub connect_timeout_s: u64,
    /// Longest wait for an answer.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// How long one token is tried for before the work waits for its next turn.
    #[serde(default = "retry_total_s")]
    pub retry_total_s: u64,
    /// Most calls at a time.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: usize,
    /// Most calls a second in the long run.
    #[serde(default = "calls_per_s")]
    pub calls_per_s: u32,
    /// Most calls at once after a quiet time.
    #[serde(default = "burst")]
    pub burst: u32,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// The secret by HTTP Basic.
    #[default]
    Basic,
    /// The secret in the form.
    Post,
    /// An assertion signed with a key of its own (RFC 7523).
    PrivateKeyJwt,
}

fn connect_timeout_s() -> u64 {
    5
}

fn timeout_s() -> u64 {
    20
}

fn retry_total_s() -> u64 {
    30
}

fn max_in_flight() -> usize {
    8
}

fn calls_per_s() -> u32 {
    100
}

fn burst() -> u32 {
    200
}

impl IssuerSettings {
    /// The files that hold its client's secrets.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        [&self.client_secret_file, &self.private_key_file].into_iter().filter_map(Option::as_deref)
    }

    /// An issuer with the defaults for all else, and no client.
    pub fn named(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            plain_http_on_loopback: false,
            client_id: String::new(),
            authentication: Authentication::default(),
            client_secret_file: None,
            client_secret: None,
            private_key_file: None,
            key_id: None,
            audience_parameter: AudienceParameter::default(),
            tokens: Answer::default(),
            ca_file: None,
            connect_timeout_s: connect_timeout_s(),
            timeout_s: timeout_s(),
            retry_total_s: retry_total_s(),
            max_in_flight: max_in_flight(),
            calls_per_s: calls_per_s(),
            burst: burst(),
        }
    }

    /// The issuer.
    ///
    /// # Errors
    /// When `url` names none that a secret may be sent to.
    pub fn issuer(&self) -> Result<Issuer, Failure> {
        let issuer = match self.plain_http_on_loopback {
            true => Issuer::on_loopback(self.url.as_str()),
            false => Issuer::new(self.url.as_str()),
        };
        issuer.map_err(|error| Failure::Configuration(format!("`issuer.url`: {error}")))
    }

    /// TLS and time-outs.
    pub fn http(&self) -> HttpSettings {
        HttpSettings {
            ca_file: self.ca_file.clone(),
            connect_timeout: Duration::from_secs(self.connect_timeout_s),
            timeout: Duration::from_secs(self.timeout_s),
        }
    }

    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// When the issuer's name, the secret, the key or the CA file can't be used.
    pub fn client(&self, clock: Arc<dyn Clock>, cancel: CancellationToken) -> Result<OAuthClient, Failure> {
        if self.client_id.is_empty() {
            let url = &self.url;
            return Err(Failure::Configuration(format!(
                "`issuer.client_id` is missing for the issuer {url}"
            )));
        }
        self.client_as(&self.client_id, self.proof()?, self.guard(), clock, cancel)
    }

    /// What the issuer is asked to bear.
    pub fn guard(&self) -> Arc<Guard> {
        Arc::new(Guard::new(GuardSettings {
            max_in_flight: self.max_in_flight,
            calls_per_s: self.calls_per_s,
            burst: self.burst,
            ..GuardSettings::default()
        }))
    }

    /// As [`Self::client`], as a client whose id and secret are known from elsewhere.
    ///
    /// # Errors
    /// When the issuer's name or the CA file can't be used.
    pub fn client_as(
        &self,
        client_id: &str,
        proof: ClientAuthentication,
        guard: Arc<Guard>,
        clock: Arc<dyn Clock>,
        cancel: CancellationToken,
    ) -> Result<OAuthClient, Failure> {
        let settings = OAuthSettings {
            http: self.http(),
            retry: RetryPolicy { total: Duration::from_secs(self.retry_total_s), ..RetryPolicy::default() },
            guard,
            audience: self.audience_parameter,
            answer: self.tokens,
            ..OAuthSettings::new(self.issuer()?, client_id, proof)
        };
        OAuthClient::new(settings, clock, cancel).map_err(Failure::configuration)
    }

    fn proof(&self) -> Result<ClientAuthentication, Failure> {
        let secret = |file: &PathBuf| ClientSecret::from_file(file).map_err(Failure::configuration);
        if let (Some(secret), None, None) =
            (&self.client_secret, &self.client_secret_file, &self.private_key_file)
        {
            match self.authentication {
                Authentication::Basic => return Ok(ClientAuthentication::Basic(secret.clone())),
                Authentication::Post => return Ok(ClientAuthentication::Post(secret.clone())),
                Authentication::PrivateKeyJwt => (),
            }
        }
        match (self.authentication, &self.client_secret_file, &self.private_key_file) {
            (Authentication::Basic, Some(file), None) => Ok(ClientAuthentication::Basic(secret(file)?)),
            (Authentication::Post, Some(file), None) => Ok(ClientAuthentication::Post(secret(file)?)),
            (Authentication::PrivateKeyJwt, None, Some(file)) => {
                let key = AssertionKey::from_file(file, self.key_id.clone()).map_err(|error| {
                    Failure::configuration(format!("`issuer.private_key_file` = {}: {error}", file.display()))
                })?;
                Ok(ClientAuthentication::PrivateKeyJwt(key))
            }
            (Authentication::PrivateKeyJwt, ..) => Err(Failure::configuration(
                "`issuer`: authentication private_key_jwt takes `private_key_file`, and no `client_secret_file`",
            )),
            (_, None, None) => Err(Failure::configuration(
                "`issuer.client_secret_file` is missing (a secret of `--rucio-cfg` counts for its own issuer and client_id only)",
            )),
            _ => Err(Failure::configuration(
                "`issuer`: authentication basic and post take `client_secret_file`, and no `private_key_file`",
            )),
        }
    }
}
