//! Who asks which issuer for what.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use token_core::http::HttpSettings;
use token_core::retry::RetryPolicy;
use token_core::{
    Answer, AssertionKey, AudienceParameter, ClientAuthentication, ClientSecret, Issuer, OAuthClient,
    OAuthSettings, ScopeSet, SystemClock, TokenRequest,
};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// A client at an issuer, and what it asks for.
#[derive(Args)]
pub(super) struct Client {
    /// The issuer, exactly as in `iss`: a slash at the end counts.
    #[arg(long)]
    issuer: String,
    /// Let the issuer be plain http on a loopback address.
    #[arg(long)]
    plain_http_on_loopback: bool,
    /// The client's id there.
    #[arg(long)]
    client_id: String,
    /// A file that holds the client's secret and nothing else. Without it and --private-key-file, the client is a public one.
    #[arg(long, value_name = "FILE", conflicts_with = "private_key_file")]
    client_secret_file: Option<PathBuf>,
    /// Send the secret in the form instead of by HTTP Basic.
    #[arg(long, requires = "client_secret_file")]
    post: bool,
    /// A PEM file with the client's private key (RSA or P-256), to sign assertions with (RFC 7523).
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<PathBuf>,
    /// The `kid` of that key at the issuer, if it wants one.
    #[arg(long, requires = "private_key_file")]
    key_id: Option<String>,
    /// The resource that shall take the token.
    #[arg(long)]
    audience: String,
    /// By which parameter the issuer is asked for it.
    #[arg(long, value_enum, default_value = "audience")]
    audience_parameter: Parameter,
    /// The scopes, separated by spaces.
    #[arg(long)]
    scope: String,
    /// The issuer's tokens are no WLCG JWTs: believe what it says beside them.
    #[arg(long)]
    opaque: bool,
    /// Certificate authorities to trust instead of the system's: a PEM file, or a directory of them.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Parameter {
    Audience,
    Resource,
    Both,
    None,
}

impl Client {
    /// The client, and what it is to ask for.
    pub(super) fn client(&self) -> Result<(OAuthClient, TokenRequest), Failure> {
        let issuer = match self.plain_http_on_loopback {
            true => Issuer::on_loopback(self.issuer.as_str()),
            false => Issuer::new(self.issuer.as_str()),
        };
        let issuer = issuer.map_err(|error| Failure::usage(format!("--issuer: {error}")))?;
        let authentication = self.authentication()?;
        let scope =
            ScopeSet::parse(&self.scope).map_err(|error| Failure::usage(format!("--scope: {error}")))?;
        let settings = OAuthSettings {
            http: HttpSettings { ca_file: self.ca_file.clone(), ..HttpSettings::default() },
            audience: match self.audience_parameter {
                Parameter::Audience => AudienceParameter::Audience,
                Parameter::Resource => AudienceParameter::Resource,
                Parameter::Both => AudienceParameter::Both,
                Parameter::None => AudienceParameter::None,
            },
            // A person waits.
            retry: RetryPolicy { total: Duration::from_secs(5), ..RetryPolicy::default() },
            answer: if self.opaque { Answer::Opaque } else { Answer::WlcgJwt },
            ..OAuthSettings::new(issuer, self.client_id.clone(), authentication)
        };
        let client = OAuthClient::new(settings, Arc::new(SystemClock), CancellationToken::new())
            .map_err(Failure::usage)?;
        Ok((client, TokenRequest { audience: self.audience.clone(), scope }))
    }

    fn authentication(&self) -> Result<ClientAuthentication, Failure> {
        if let Some(path) = &self.private_key_file {
            let key = AssertionKey::from_file(path, self.key_id.clone()).map_err(Failure::usage)?;
            return Ok(ClientAuthentication::PrivateKeyJwt(key));
        }
        let Some(path) = &self.client_secret_file else { return Ok(ClientAuthentication::Public) };
        let secret = ClientSecret::from_file(path).map_err(Failure::usage)?;
        Ok(if self.post { ClientAuthentication::Post(secret) } else { ClientAuthentication::Basic(secret) })
    }
}
