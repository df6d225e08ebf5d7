//! The commands that get a token.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use token_core::{Clock, Found, Grant, Places, RefreshToken, RefreshTokenFile, SystemClock};

use super::client::Client;
use super::{Failure, Which};

/// Arguments of `get`.
#[derive(Args)]
pub(super) struct Get {
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    way: Way,
}

/// Arguments of `exchange`.
#[derive(Args)]
pub(super) struct Exchange {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    way: Way,
}

/// Arguments of `refresh`.
#[derive(Args)]
pub(super) struct Refresh {
    /// The file that holds the refresh token and nothing else, of mode 0600. If the issuer rotates it, the new one is put there.
    #[arg(long, value_name = "FILE")]
    refresh_token_file: PathBuf,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    way: Way,
}

/// Where the token goes.
#[derive(Args)]
pub(super) struct Way {
    /// Put the token where tools find it (WLCG Bearer Token Discovery: bt_u<euid>) instead of printing it.
    #[arg(long)]
    store: bool,
}

/// `get`.
pub(super) async fn get(arguments: &Get, as_json: bool) -> Result<String, Failure> {
    let (client, request) = arguments.client.client()?;
    let grant = client.client_credentials(&request).await.map_err(Failure::refused)?;
    deliver(&grant, arguments.way.store, as_json)
}

/// `exchange`.
pub(super) async fn exchange(arguments: &Exchange, as_json: bool) -> Result<String, Failure> {
    let Found { token, .. } = arguments.which.token()?;
    let (client, request) = arguments.client.client()?;
    let grant = client.exchange(&token, &request).await.map_err(Failure::refused)?;
    deliver(&grant, arguments.way.store, as_json)
}

/// `refresh`.
pub(super) async fn refresh(arguments: &Refresh, as_json: bool) -> Result<String, Failure> {
    let path = &arguments.refresh_token_file;
    let (client, request) = arguments.client.client()?;
    let token = RefreshToken::from_file(path).map_err(Failure::usage)?;
    let file = RefreshTokenFile::ready(path).map_err(Failure::usage)?;
    let answer = client.refresh(&token, &request).await.map_err(Failure::refused)?;
    if let Some(rotated) = &answer.refresh {
        file.keep(rotated).map_err(|error| {
            Failure::refused(format!("the new refresh token is lost, and the old one may be ended: {error}"))
        })?;
    }
    deliver(&answer.grant.map_err(Failure::refused)?, arguments.way.store, as_json)
}

/// Prints the token, or puts it where tools find it and says where that is.
pub(super) fn deliver(grant: &Grant, store: bool, as_json: bool) -> Result<String, Failure> {
    let expires_in = SystemClock.now().until(grant.expires_at).as_secs();
    if store {
        let place = Places::from_environment().store(&grant.token).map_err(Failure::usage)?;
        let (place, fingerprint) = (place.display().to_string(), grant.token.fingerprint());
        return Ok(match as_json {
            true => {
                let fingerprint = fingerprint.as_str();
                format!("{}\n", json!({"place": place, "fingerprint": fingerprint, "expires_in": expires_in}))
            }
            false => format!("{place}\nfingerprint {fingerprint}, ends in {expires_in} s\n"),
        });
    }
    Ok(match as_json {
        true => format!("{}\n", json!({"access_token": grant.token.expose(), "expires_in": expires_in})),
        false => format!("{}\n", grant.token.expose()),
    })
}
