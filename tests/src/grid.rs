//! The grid: issuer, storages, FTS and Rucio database, and the daemons' configuration files beside them.

mod settings;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;
use token_core::{ClientSecret, Clock, ScopeSet, SystemClock, random_hex};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::binaries::Binaries;
use crate::content::content;
use crate::fts::refresh::RefreshSettings;
use crate::fts::{Fts, FtsConfig, Provider};
use crate::issuer::{Client, GrantType, Issuer};
use crate::pki::Pki;
use crate::rucio::{RucioDatabase, Site};
use crate::server::ClockOff;
use crate::storage::{Storage, StorageConfig};
use crate::xrootd::{TrustedIssuer, Xrootd};
pub use settings::{GridSettings, OtherIssuer};

/// The VO that the FTS takes us for.
const VO: &str = "testvo";
/// What both clients may ask for at most.
const SCOPES: &str = "fts storage.read:/ storage.modify:/";

/// A running grid.
pub struct Grid {
    /// Where its files are.
    pub folder: PathBuf,
    /// Its certificate authority.
    pub pki: Pki,
    /// Its issuer.
    pub issuer: Issuer,
    /// Its storages, by RSE; none when they are real ones.
    pub storages: BTreeMap<String, Storage>,
    /// Real ones, by RSE.
    pub xrootds: BTreeMap<String, Xrootd>,
    /// What the Rucio database said of each storage before it was moved, and its URL now.
    pub sites: Vec<(Site, String)>,
    /// Its FTS.
    pub fts: Fts,
    /// Its Rucio database.
    pub rucio: RucioDatabase,
    /// The daemons.
    pub binaries: Binaries,
    /// FTS's messaging directory; the path of a socket is short, so it is elsewhere.
    messages: TempDir,
    stop: CancellationToken,
}

impl Grid {
    /// Starts everything but the daemons, fills the storages with the files that Rucio knows there, and writes the daemons'
    /// configuration.
    ///
    /// # Errors
    /// When a part can't be started.
    pub async fn start(settings: GridSettings) -> Result<Self> {
        let binaries = Binaries::find(settings.show_build).await?;
        let folder = settings.folder;
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        // FTS's database holds tokens in clear, as the real one does.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock) as Arc<dyn Clock>);
        let pki = settings.pki.map_or_else(|| Pki::create(&folder), Ok)?;
        let secrets = [random_hex(), random_hex(), random_hex()];
        let mut clients = clients(&secrets, settings.token_life)?;
        if let Some(life) = settings.endpoint_token_life {
            clients
                .iter_mut()
                .filter(|client| client.id == "fts-exchange")
                .for_each(|client| client.token_life = life);
        }
        let off = |seconds: i64| Arc::new(ClockOff(seconds)) as Arc<dyn Clock>;
        let issuer = Issuer::start(&pki, clients, off(settings.clocks_off.0), stop.clone()).await?;

        let rucio = match &settings.postgres {
            Some(url) => RucioDatabase::postgres(url).await?,
            None => RucioDatabase::copy(&settings.rucio, &folder.join("rucio.sqlite")).await?,
        };
        let trusted = match &settings.issuer {
            Some(other) => other.trusted.clone(),
            None => TrustedIssuer { name: issuer.name().to_owned(), jwks: issuer.jwks() },
        };
        let (mut storages, mut xrootds, mut sites) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let known = if settings.storages { rucio.sites().await? } else { Vec::new() };
        for site in known {
            let (base_path, area) = given(&site);
            let url = match &settings.xrootd {
                Some(programs) => {
                    let xrootd = Xrootd::start(programs, &pki, &trusted, base_path, &area).await?;
                    rucio.move_site(&site, xrootd.port()).await?;
                    let url = xrootd.url();
                    xrootds.entry(site.rse.clone()).or_insert(xrootd);
                    url
                }
                None => {
                    let config = StorageConfig {
                        base_path: base_path.into(),
                        restricted_paths: vec![area],
                        own_audience: settings.storage_audience.clone(),
                        ..StorageConfig::new(issuer.name())
                    };
                    let storage = Storage::start(&pki, config, Arc::clone(&clock), stop.clone()).await?;
                    storage.fetch_keys().await?;
                    rucio.move_site(&site, storage.server().address().port()).await?;
                    let url = storage.url();
                    storages.entry(site.rse.clone()).or_insert(storage);
                    url
                }
            };
            sites.push((site, url));
        }
        let files = if settings.storages { rucio.files().await? } else { Vec::new() };
        for file in files {
            let size = usize::try_from(file.bytes).context("a file's size")?;
            if let Some(storage) = storages.get(&file.rse) {
                storage.add_file(&file.path, Bytes::from(content(&file.name, size)));
            }
            if let Some(xrootd) = xrootds.get(&file.rse) {
                xrootd.add_file(&file.path, &content(&file.name, size))?;
            }
        }
        xrootds.values().try_for_each(Xrootd::own_files)?;

        let provider = Provider {
            name: "testbed".into(),
            issuer: settings.fts_knows.unwrap_or_else(|| format!("{}/", trusted.name.trim_end_matches('/'))),
            client_id: "fts-exchange".into(),
            client_secret: ClientSecret::new(secrets[1].clone()),
            vo: VO.into(),
        };
        let messages = tempfile::Builder::new().prefix("fts").tempdir()?;
        let refresh =
            RefreshSettings { margin: settings.refresh_margin, ..RefreshSettings::new(messages.path()) };
        // Rucio asks for tokens whose audience is FTS's bare host name, and so does conveyor by default. None is FTS's own URL.
        let audiences = if settings.issuer.is_some() { Vec::new() } else { vec!["127.0.0.1".into()] };
        let config = FtsConfig {
            audiences,
            mysql: settings.fts_mysql.clone(),
            rest: settings.rest,
            refresh: Some(refresh),
            ..FtsConfig::new(folder.join("fts.sqlite"), vec![provider])
        };
        let fts_pki = match settings.fts_certificate {
            Some((names, ended)) => pki.with_certificate(names, ended)?,
            None => pki.clone(),
        };
        let fts = Fts::start(&fts_pki, config, off(settings.clocks_off.1), stop.clone()).await?;
        rucio.move_fts(&fts.url()).await?;
        if settings.storages {
            rucio.move_others().await?;
        }

        let grid =
            Self { folder, pki, issuer, storages, xrootds, sites, fts, rucio, binaries, messages, stop };
        grid.configure(&secrets, settings.issuer.as_ref(), settings.fts_mysql).await?;
        Ok(grid)
    }

    /// The configuration file of `conveyor`.
    pub fn conveyor_config(&self) -> PathBuf {
        self.folder.join("conveyor.toml")
    }

    /// The configuration file of `token-exchange`.
    pub fn exchange_config(&self) -> PathBuf {
        self.folder.join("token-exchange.toml")
    }

    /// FTS's `MessagingDirectory`.
    pub fn messaging_directory(&self) -> &Path {
        self.messages.path()
    }

    /// The file that holds `conveyor`'s client secret.
    pub fn conveyor_secret(&self) -> PathBuf {
        self.folder.join("rucio-conveyor.secret")
    }

    /// The file that holds the client secret of Rucio's own submitter, client `rucio-submitter`.
    pub fn submitter_secret(&self) -> PathBuf {
        self.folder.join("rucio-submitter.secret")
    }

    async fn configure(
        &self,
        secrets: &[String; 3],
        other: Option<&OtherIssuer>,
        mysql: Option<String>,
    ) -> Result<()> {
        let exchange_secret = self.folder.join("fts-exchange.secret");
        let [conveyor, exchange] = [("rucio-conveyor", &secrets[0]), ("fts-exchange", &secrets[1])]
            .map(|(client, secret)| (client.to_owned(), ClientSecret::new(secret.clone())));
        let (conveyor, exchange) = match other {
            Some(other) => (other.conveyor.clone(), other.exchange.clone()),
            None => (conveyor, exchange),
        };
        write_secret(&self.conveyor_secret(), conveyor.1.expose())?;
        write_secret(&exchange_secret, exchange.1.expose())?;
        write_secret(&self.submitter_secret(), &secrets[2])?;
        let ca = self.pki.ca_file().display().to_string();
        let folder = self.folder.display();
        let (name, scope, more) = match other {
            Some(other) => (other.trusted.name.as_str(), other.scope.as_str(), other.more.as_str()),
            None => (self.issuer.name(), SCOPES, ""),
        };
        let issuer = |client: &str, secret: &Path| {
            format!(
                "url = \"{name}\"\nclient_id = \"{client}\"\nclient_secret_file = \"{}\"\nca_file = \"{ca}\"\n{more}\n",
                secret.display()
            )
        };
        // An issuer that is asked for a resource wants a URI (RFC 8707 section 2).
        let audience = if other.is_some() { "{url}" } else { "{host}" };
        let conveyor = format!(
            "[rucio]\ndatabase = \"{}\"\n\n[issuer]\n{}\n[fts]\nca_file = \"{ca}\"\naudience = \"{audience}\"\n\
             scope = \"{scope}\"\n\n[cache]\npath = \"{folder}/conveyor-tokens\"\nkey_file = \"{folder}/conveyor-tokens.key\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n",
            self.rucio.url(),
            issuer(&conveyor.0, &self.conveyor_secret()),
        );
        std::fs::write(self.conveyor_config(), conveyor)?;
        let mut exchange = format!(
            "[fts]\ndatabase = \"{}\"\n\n[[issuer]]\n{}\n[worker]\ninterval_ms = 200\n\n[cache]\n\
             path = \"{folder}/exchange-tokens\"\nkey_file = \"{folder}/exchange-tokens.key\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n",
            mysql.unwrap_or_else(|| format!("sqlite:///{}", self.fts.database().display())),
            issuer(&exchange.0, &exchange_secret),
        );
        for (site, url) in &self.sites {
            let (base_path, area) = given(site);
            writeln!(
                exchange,
                "\n[[endpoint]] # {}\nurl = \"{url}\"\nbase_path = \"{base_path}\"\narea = \"{area}\"",
                site.rse
            )?;
        }
        std::fs::write(self.exchange_config(), exchange)?;
        let made = self.token_exchange(&["init-db"]).output().await?;
        if !made.status.success() {
            bail!("token-exchange init-db: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(())
    }

    /// A `conveyor` with this grid's configuration.
    pub fn conveyor(&self, arguments: &[&str]) -> Command {
        daemon(&self.binaries.conveyor, &self.conveyor_config(), arguments)
    }

    /// A `token-exchange` with this grid's configuration.
    pub fn token_exchange(&self, arguments: &[&str]) -> Command {
        daemon(&self.binaries.token_exchange, &self.exchange_config(), arguments)
    }

    /// Starts a daemon whose log goes to the end of `log` in the grid's folder; its standard output is piped.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, mut command: Command, log: &str) -> Result<Child> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join(log))?;
        Ok(command.stdout(Stdio::piped()).stderr(file).spawn()?)
    }

    /// The storage that a URL points to as its own URL, and the path there.
    pub fn storage_of<'a>(&self, url: &'a str) -> Option<(&str, &'a str)> {
        let rest = url.strip_prefix("davs://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        let of = |storage: &&str| storage.strip_prefix("https://") == Some(authority);
        Some((self.sites.iter().map(|(_, url)| url.as_str()).find(of)?, path))
    }

    /// The areas of the storages' files, as paths of scopes.
    pub fn areas(sites: &[Site]) -> std::collections::BTreeSet<String> {
        sites.iter().map(|site| given(site).1).collect()
    }

    /// Takes everything down.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a site gives to the issuer, and the area of its files below that.
fn given(site: &Site) -> (&'static str, String) {
    let prefix = format!("/{}", site.prefix.trim_matches('/'));
    match prefix.strip_prefix("/vo") {
        Some("") => ("/vo", "/".into()),
        Some(area) if area.starts_with('/') => ("/vo", area.into()),
        _ => ("/", prefix),
    }
}

/// Asks a daemon to end and waits until it has; after a minute it is killed.
///
/// # Errors
/// When it did not end well.
pub async fn terminate(mut child: Child) -> Result<()> {
    if let Some(pid) = child.id() {
        signal(pid, Signal::TERM)?;
    }
    match tokio::time::timeout(Duration::from_secs(60), child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(_) => bail!("a daemon that was asked to end did not end well"),
        Err(_) => {
            child.kill().await?;
            bail!("a daemon that was asked to end did not end within a minute")
        }
    }
}

/// Sends a signal to a process of ours, by its pid.
///
/// # Errors
/// When there is no such process.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
    Ok(kill_process(pid, signal)?)
}

fn daemon(program: &Path, config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A client each for the daemons, since issuers want a submitter and an exchanger to be two (INDIGO IAM, observed), and one for
/// Rucio's own submitter, which asks for storage tokens with `offline_access` (observed).
fn clients(secrets: &[String; 3], token_life: Duration) -> Result<Vec<Client>> {
    let client = |id: &str, secret: &str, scopes: &str, grant| -> Result<Client> {
        Ok(Client {
            id: id.into(),
            secret: ClientSecret::new(secret),
            key: None,
            scopes: ScopeSet::parse(scopes)?,
            grants: vec![grant],
            token_life,
        })
    };
    Ok(vec![
        client("rucio-conveyor", &secrets[0], SCOPES, GrantType::ClientCredentials)?,
        client("fts-exchange", &secrets[1], SCOPES, GrantType::TokenExchange)?,
        client(
            "rucio-submitter",
            &secrets[2],
            &format!("{SCOPES} offline_access"),
            GrantType::ClientCredentials,
        )?,
    ])
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(writeln!(file, "{secret}")?)
}
