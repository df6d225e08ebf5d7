//! Which FTS the calls are made to: one named by the environment, or the grid's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fts_client::FtsSettings;
use serde_json::json;
use testbed::fts::{Fts, FtsConfig, Provider};
use testbed::issuer::Issuer;
use testbed::pki::Pki;
use token_core::http::HttpSettings;
use token_core::{
    AccessToken, BearerSource, ClientCredentials, ClientSecret, Clock, OAuthClient, OAuthSettings, Places,
    ScopeSet, SystemClock, TokenKeeper, TokenRequest,
};
use tokio_util::sync::CancellationToken;

/// Where to run.
pub(crate) struct Target {
    pub(crate) settings: FtsSettings,
    pub(crate) bearer: Arc<dyn BearerSource>,
    pub(crate) bans: bool,
    /// What runs for it.
    _box: Option<(CancellationToken, tempfile::TempDir)>,
}

pub(crate) async fn target() -> Result<Target> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(url) = env("FTS_URL") else { return own().await };
    let ca = env("FTS_CA").map(PathBuf::from);
    let http = |ca: Option<PathBuf>| HttpSettings {
        ca_file: ca,
        timeout: Duration::from_secs(60),
        ..HttpSettings::default()
    };
    let settings =
        FtsSettings { http: http(ca.clone()), ..FtsSettings::new(url.parse().context("FTS_URL")?) };
    let bearer: Arc<dyn BearerSource> = match (env("FTS_TOKEN"), env("FTS_TOKEN_FILE"), env("FTS_ISSUER")) {
        (Some(token), ..) => Arc::new(AccessToken::new(token).context("FTS_TOKEN")?),
        (None, None, Some(issuer)) => {
            let need = |name: &str| env(name).with_context(|| format!("{name} is not set"));
            let secret = ClientSecret::from_file(need("FTS_CLIENT_SECRET_FILE")?.as_ref())?;
            let issuer = token_core::Issuer::new(issuer)?;
            let oauth = OAuthSettings {
                http: http(env("FTS_ISSUER_CA").map(PathBuf::from).or(ca)),
                ..OAuthSettings::new(issuer, need("FTS_CLIENT_ID")?, secret)
            };
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let oauth = OAuthClient::new(oauth, Arc::clone(&clock), CancellationToken::new())?;
            let scope = ScopeSet::parse(&env("FTS_SCOPE").unwrap_or_else(|| "fts".into()))?;
            let request = TokenRequest { audience: need("FTS_AUDIENCE")?, scope };
            let keeper = Arc::new(TokenKeeper::new(None, clock));
            Arc::new(ClientCredentials::new(Arc::new(oauth), keeper, request, Duration::from_secs(60)))
        }
        (None, file, _) => {
            let mut places = Places::from_environment();
            if let Some(file) = file {
                places = Places { token: None, file: Some(file.into()), ..places };
            }
            Arc::new(places.discover()?.token)
        }
    };
    Ok(Target { settings, bearer, bans: env("FTS_BANS").is_some(), _box: None })
}

/// The grid's own FTS and issuer.
async fn own() -> Result<Target> {
    let folder = tempfile::Builder::new().prefix("live_fts").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock) as Arc<dyn Clock>);
    let pki = Pki::create(folder.path())?;
    let issuer = Issuer::start(&pki, Vec::new(), Arc::clone(&clock), stop.clone()).await?;
    let provider = Provider {
        name: "box".into(),
        issuer: issuer.name().to_owned(),
        client_id: "fts".into(),
        client_secret: ClientSecret::new("unused"),
        vo: "testvo".into(),
    };
    let config = FtsConfig::new(folder.path().join("fts.sqlite"), vec![provider]);
    let fts = Fts::start(&pki, config, clock, stop.clone()).await?;
    let claims = json!({"aud": fts.url(), "sub": "live", "scope": "fts storage.read:/ storage.modify:/"});
    let http = HttpSettings { ca_file: Some(pki.ca_file().to_owned()), ..HttpSettings::default() };
    let settings = FtsSettings { http, ..FtsSettings::new(fts.url().parse()?) };
    Ok(Target { settings, bearer: Arc::new(issuer.mint(claims)?), bans: true, _box: Some((stop, folder)) })
}
