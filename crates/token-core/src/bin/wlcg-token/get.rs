//! The commands that get a token.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use token_core::http::HttpSettings;
use token_core::{
    ClientSecret, Clock, Found, Grant, Issuer, OAuthClient, OAuthSettings, ScopeSet, SystemClock,
    TokenRequest,
};
use tokio_util::sync::CancellationToken;

use super::{Failure, Which};

/// Who asks whom for what.
#[derive(Args)]
pub(super) struct Get {
    /// The issuer, exactly as in `iss`: a slash at the end counts.
    #[arg(long)]
    issuer: String,
    /// The client's id there.
    #[arg(long)]
    client_id: String,
    /// A file that holds the client's secret and nothing else.
    #[arg(long, value_name = "FILE")]
    client_secret_file: PathBuf,
    /// The resource that shall take the token.
    #[arg(long)]
    audience: String,
    /// The scopes, separated by spaces.
    #[arg(long)]
    scope: String,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Arguments of `exchange`.
#[derive(Args)]
pub(super) struct Exchange {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    get: Get,
}

/// `get`.
pub(super) async fn get(arguments: &Get, as_json: bool) -> Result<String, Failure> {
    let (client, request) = arguments.client()?;
    print(client.client_credentials(&request).await.map_err(Failure::refused)?, as_json)
}

/// `exchange`.
pub(super) async fn exchange(arguments: &Exchange, as_json: bool) -> Result<String, Failure> {
    let Found { token, .. } = arguments.which.token()?;
    let (client, request) = arguments.get.client()?;
    print(client.exchange(&token, &request).await.map_err(Failure::refused)?, as_json)
}

impl Get {
    fn client(&self) -> Result<(OAuthClient, TokenRequest), Failure> {
        let issuer =
            Issuer::new(self.issuer.clone()).map_err(|error| Failure::usage(format!("--issuer: {error}")))?;
        let client_secret = ClientSecret::from_file(&self.client_secret_file).map_err(Failure::usage)?;
        let http = HttpSettings { ca_file: self.ca_file.clone(), ..HttpSettings::default() };
        let settings =
            OAuthSettings { http, ..OAuthSettings::new(issuer, self.client_id.clone(), client_secret) };
        let client = OAuthClient::new(settings, Arc::new(SystemClock), CancellationToken::new())
            .map_err(Failure::usage)?;
        let scope =
            ScopeSet::parse(&self.scope).map_err(|error| Failure::usage(format!("--scope: {error}")))?;
        Ok((client, TokenRequest { audience: self.audience.clone(), scope }))
    }
}

fn print(grant: Grant, as_json: bool) -> Result<String, Failure> {
    Ok(match as_json {
        true => {
            let expires_in = SystemClock.now().until(grant.expires_at).as_secs();
            format!("{}\n", json!({"access_token": grant.token.expose(), "expires_in": expires_in}))
        }
        false => format!("{}\n", grant.token.expose()),
    })
}
