//! Where everything is, and who we are there.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `FTS_URL` | the REST server | `https://fts:8446` |
//! | `FTS_CA` | authorities of every server, a PEM file or a directory | `/etc/grid-security/certificates/5fca1cb1.0` |
//! | `FTS_AUDIENCE` | the audience that FTS takes | `fts` |
//! | `FTS_SCOPE` | what the token for FTS is asked for with | `fts storage.read:/ storage.modify:/` |
//! | `FTS_ISSUER` | the issuer, exactly as in `iss` | `https://indigoiam/` |
//! | `FTS_AUDIENCE_PARAMETER` | `audience`, `resource` or `both` | `audience` |
//! | `FTS_CLIENT_ID` | the submitter's client | that of Rucio's compose |
//! | `FTS_CLIENT_SECRET_FILE` | its secret; or Rucio's idpsecrets.json that has it | `/opt/rucio/etc/idpsecrets.json` |
//! | `EXCHANGE_CLIENT_ID`, `EXCHANGE_CLIENT_SECRET_FILE` | the worker's client | FTS's own, in `t_token_provider` |
//! | `FTS_DATABASE` | FTS's database | `mysql://fts:fts@ftsdb:3306/fts` |
//! | `FTS_MESSAGING_DIRECTORY` | FTS's `MessagingDirectory`, if it is of this host; empty: no refresh is tried | `/var/lib/fts3` |
//! | `FTS_REFRESH_MARGIN_S` | FTS's `TokenRefreshMarginPeriod` | `3600` |
//! | `FTS_LONG_BYTES` | size of the file of the long transfer | `64000000` |
//! | `FTS_SOURCE`, `FTS_DESTINATION` | folders of the two storages, which are there | `davs://xrd4:1097/rucio`, `davs://xrd5:1098/rucio` |
//! | `STORAGE_BASE_PATH`, `STORAGE_AREA` | what they give to the issuer, and the area below that | `/rucio`, `/` |
//! | `STORAGE_AUDIENCE` | the audience they take; `{host}`, `{port}` | `https://{host}:{port}` |
//! | `FTS_WAIT_S` | how long a job may take | `100` |

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use token_core::{AudienceParameter, ClientSecret, Issuer};
use url::Url;

pub(crate) struct Environment {
    pub(crate) fts_url: Url,
    pub(crate) ca: PathBuf,
    pub(crate) audience: String,
    pub(crate) scope: String,
    pub(crate) issuer: Issuer,
    pub(crate) audience_parameter: String,
    pub(crate) client_id: String,
    pub(crate) secret: ClientSecret,
    /// The worker's own client and the file of its secret.
    pub(crate) exchange: Option<(String, String)>,
    pub(crate) database: String,
    pub(crate) messaging_directory: Option<String>,
    pub(crate) refresh_margin_s: u64,
    pub(crate) long_bytes: usize,
    pub(crate) source: Url,
    pub(crate) destination: Url,
    pub(crate) base_path: String,
    pub(crate) area: String,
    storage_audience: String,
    pub(crate) wait: Duration,
}

impl Environment {
    /// Whether there is an FTS to run against.
    pub(crate) fn is_given() -> bool {
        let profiles = std::env::var("DEV_PROFILES").unwrap_or_default();
        let has = |name: &str| profiles.split(',').any(|profile| profile.trim() == name);
        std::env::var_os("FTS_URL").is_some() || (has("iam") && has("storage"))
    }

    pub(crate) fn read() -> Result<Self> {
        let or = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let url = |name: &str, default: &str| -> Result<Url> {
            or(name, default).parse().with_context(|| format!("{name} is no URL"))
        };
        let number = |name: &str, default: &str| -> Result<u64> {
            or(name, default).parse().with_context(|| format!("{name} is no number"))
        };
        let client_id = or("FTS_CLIENT_ID", "85e6f7a5-580b-4a1c-a6d2-39055143063d");
        let secret = or("FTS_CLIENT_SECRET_FILE", "/opt/rucio/etc/idpsecrets.json");
        let exchange = std::env::var("EXCHANGE_CLIENT_ID").ok().map(|id| -> Result<_> {
            let file = std::env::var("EXCHANGE_CLIENT_SECRET_FILE")
                .context("EXCHANGE_CLIENT_SECRET_FILE is not set")?;
            Ok((id, file))
        });
        let messaging_directory = or("FTS_MESSAGING_DIRECTORY", "/var/lib/fts3");
        Ok(Self {
            fts_url: url("FTS_URL", "https://fts:8446")?,
            ca: or("FTS_CA", "/etc/grid-security/certificates/5fca1cb1.0").into(),
            audience: or("FTS_AUDIENCE", "fts"),
            scope: or("FTS_SCOPE", "fts storage.read:/ storage.modify:/"),
            issuer: Issuer::new(or("FTS_ISSUER", "https://indigoiam/")).context("FTS_ISSUER")?,
            audience_parameter: or("FTS_AUDIENCE_PARAMETER", "audience"),
            secret: secret_of(&client_id, Path::new(&secret)).context("FTS_CLIENT_SECRET_FILE")?,
            client_id,
            exchange: exchange.transpose()?,
            database: or("FTS_DATABASE", "mysql://fts:fts@ftsdb:3306/fts"),
            messaging_directory: Some(messaging_directory).filter(|directory| !directory.is_empty()),
            refresh_margin_s: number("FTS_REFRESH_MARGIN_S", "3600")?,
            long_bytes: usize::try_from(number("FTS_LONG_BYTES", "64000000")?)?,
            source: url("FTS_SOURCE", "davs://xrd4:1097/rucio")?,
            destination: url("FTS_DESTINATION", "davs://xrd5:1098/rucio")?,
            base_path: or("STORAGE_BASE_PATH", "/rucio"),
            area: or("STORAGE_AREA", "/"),
            storage_audience: or("STORAGE_AUDIENCE", "https://{host}:{port}"),
            wait: Duration::from_secs(number("FTS_WAIT_S", "100")?),
        })
    }

    /// The audience of a storage.
    pub(crate) fn audience_of(&self, storage: &Url) -> Result<String> {
        let host = storage.host_str().context("a storage's host")?;
        let port = storage.port().unwrap_or(443).to_string();
        Ok(self.storage_audience.replace("{host}", host).replace("{port}", &port))
    }

    pub(crate) fn audience_parameter(&self) -> Result<AudienceParameter> {
        Ok(serde_json::from_value(self.audience_parameter.clone().into())?)
    }
}

/// The secret in a file of its own, or in the entry of Rucio's idpsecrets.json that has this client.
fn secret_of(client: &str, file: &Path) -> Result<ClientSecret> {
    if file.extension().is_none_or(|extension| extension != "json") {
        return Ok(ClientSecret::from_file(file)?);
    }
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut entries = vec![serde_json::from_str::<serde_json::Value>(&text)?];
    while let Some(entry) = entries.pop() {
        if entry["client_id"] == client {
            let secret = entry["client_secret"].as_str().context("client_secret")?;
            ensure!(!secret.is_empty(), "an empty client_secret");
            return Ok(ClientSecret::new(secret));
        }
        match entry {
            serde_json::Value::Array(list) => entries.extend(list),
            serde_json::Value::Object(map) => entries.extend(map.into_iter().map(|(_, value)| value)),
            _ => (),
        }
    }
    anyhow::bail!("{} has no client {client}", file.display())
}
