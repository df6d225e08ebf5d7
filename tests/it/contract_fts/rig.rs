//! How the recorded server was set up, as far as the recordings do not say it themselves: one set-up for all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use testbed::fts::{DatabaseFault, Fts, FtsConfig, Provider, RestSettings};
use testbed::pki::Pki;
use token_core::{ClientSecret, ManualClock, UnixSeconds};
use tokio_util::sync::CancellationToken;

use super::contract::issuer::RecordedIssuer;
use super::contract::wire::Wire;
use super::recording::Recording;

/// A provider in the REST configuration.
struct RigProvider {
    /// As it names itself in its metadata and tokens.
    name: &'static str,
    kids: &'static [&'static str],
    vo: &'static str,
    /// `OauthScopeFts`.
    scope: Option<&'static str>,
    /// Whether `t_token_provider` has it.
    in_table: bool,
}

const PROVIDERS: [RigProvider; 2] = [
    RigProvider {
        name: "http://127.0.0.1:8180/",
        kids: &["rs256-Us-NhgyF", "es256-g6iJtvkr"],
        vo: "rigvo",
        scope: None,
        in_table: true,
    },
    RigProvider {
        name: "http://127.0.0.1:8181",
        kids: &["rs256-1dcACHHd"],
        vo: "slashvo",
        scope: Some("fts:submit-transfer"),
        in_table: false,
    },
];
/// `AuthorizedAudiences`.
const AUDIENCES: [&str; 3] = ["https://fts.rig.test:8446", "fts", "https://wlcg.cern.ch/jwt/v1/any"];
/// `t_gridmap`.
const GRIDMAP: [(&str, &str); 1] = [("dup-user", "dupvo")];
/// `t_bad_dns`.
const BANNED: [&str; 1] = ["banned-user"];
/// `CheckDuplicates`.
const CHECK_DUPLICATES: &str = "dupvo";

/// What all cases share.
pub(crate) struct Rig {
    pub(crate) pki: Pki,
    folder: tempfile::TempDir,
    issuers: Vec<RecordedIssuer>,
    /// Where each issuer really is, by its name with a slash at the end.
    discovery: BTreeMap<String, String>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The FTS of one case.
pub(crate) struct Server {
    pub(crate) fts: Fts,
    /// Its database, for rows to be put there and read: nothing is checked here.
    pub(crate) pool: SqlitePool,
    pub(crate) wire: Wire,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    /// Starts the issuers.
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (pki, stop) = (Pki::create(folder.path())?, CancellationToken::new());
        let (mut issuers, mut discovery) = (Vec::new(), BTreeMap::new());
        for provider in &PROVIDERS {
            let issuer = RecordedIssuer::new(provider.kids)?;
            let url = issuer.serve(provider.name, &pki, stop.clone()).await?;
            discovery.insert(with_slash(provider.name), format!("{url}/"));
            issuers.push(issuer);
        }
        Ok(Self { pki, folder, issuers, discovery, stop })
    }

    /// The issuer of tokens with this `iss`; of those of nobody, the first.
    pub(crate) fn issuer(&self, name: Option<&str>) -> Result<&RecordedIssuer> {
        let at = PROVIDERS.iter().position(|provider| {
            name.is_some_and(|name| name.trim_end_matches('/') == provider.name.trim_end_matches('/'))
        });
        self.issuers.get(at.unwrap_or(0)).context("an issuer")
    }

    /// Whether a key of this id was another issuer's: its ids are made like those of the known ones.
    pub(crate) fn foreign_key(&self, kid: &str) -> bool {
        let known = PROVIDERS.iter().any(|provider| provider.kids.contains(&kid));
        !known && kid.split_once('-').is_some_and(|(alg, id)| alg.ends_with("256") && id.len() == 8)
    }

    /// An FTS as it was when this was recorded.
    pub(crate) async fn server(&self, recording: &Recording) -> Result<Server> {
        let stop = self.stop.child_token();
        let path = tempfile::Builder::new().suffix(".sqlite").tempfile_in(self.folder.path())?;
        let path = path.into_temp_path().keep()?;
        let providers = PROVIDERS.iter().map(|provider| Provider {
            name: provider.vo.into(),
            issuer: with_slash(provider.name),
            client_id: "fts".into(),
            client_secret: ClientSecret::new("secret"),
            vo: provider.vo.into(),
        });
        let config = FtsConfig {
            audiences: AUDIENCES.map(str::to_owned).to_vec(),
            rest: self.settings(recording),
            // Nothing happens between a call and the look at the tables.
            interval: Duration::from_secs(3600),
            ..FtsConfig::new(&path, providers.collect())
        };
        let clock = Arc::new(ManualClock::new(UnixSeconds(recording.recorded_at)));
        let fts = Fts::start(&self.pki, config, clock, stop.clone()).await?;
        fts.set_scheduler(false);
        let pool = open(&path).await?;
        for provider in PROVIDERS.iter().filter(|provider| !provider.in_table) {
            let remove = sqlx::query("DELETE FROM t_token_provider WHERE issuer = ?");
            remove.bind(with_slash(provider.name)).execute(&pool).await?;
        }
        for (dn, vo) in GRIDMAP {
            let insert = sqlx::query("INSERT INTO t_gridmap (dn, vo) VALUES (?, ?)");
            insert.bind(dn).bind(vo).execute(&pool).await?;
        }
        for dn in BANNED {
            let insert = sqlx::query("INSERT INTO t_bad_dns (dn, status) VALUES (?, 'CANCEL')");
            insert.bind(dn).execute(&pool).await?;
        }
        if recording.setting("schema").is_some_and(|schema| schema.contains("unmodified")) {
            for sql in [
                "ALTER TABLE t_token DROP COLUMN access_token_not_before",
                "ALTER TABLE t_token DROP COLUMN access_token_refresh_after",
            ] {
                sqlx::query(sql).execute(&pool).await?;
            }
        }
        let changed = |name: &str| recording.server_config_changed.contains_key(name);
        fts.set_database_fault(match (changed("database"), changed("pool_timeout")) {
            (true, _) => DatabaseFault::Unreachable,
            (_, true) => DatabaseFault::PoolExhausted,
            _ => DatabaseFault::None,
        });
        let identity = match recording.by_certificate() {
            true => Some(self.identity(recording)?),
            false => None,
        };
        Ok(Server { fts, pool, wire: Wire::new(self.pki.ca_file(), identity)?, stop })
    }

    fn settings(&self, recording: &Recording) -> RestSettings {
        let scopes = PROVIDERS
            .iter()
            .filter_map(|provider| Some((with_slash(provider.name), provider.scope?.to_owned())));
        let mut settings = RestSettings {
            check_duplicates: recording.setting("CheckDuplicates").unwrap_or(CHECK_DUPLICATES).to_owned(),
            uuid5_takes_bytes: recording.server_config_changed.contains_key("uuid5"),
            required_scopes: scopes.collect(),
            discovery: self.discovery.clone(),
            ..RestSettings::default()
        };
        settings.oauth2 = recording.switch("OAuth2").unwrap_or(settings.oauth2);
        settings.offline = recording.switch("ValidateAccessTokenOffline").unwrap_or(settings.offline);
        settings.non_managed_tokens = recording.switch("NonManagedTokens").unwrap_or(false);
        if let Some(vos) = recording.setting("AuthorizedVO") {
            settings.authorized_vos = vos.split(';').map(str::to_owned).collect();
        }
        settings
    }

    fn identity(
        &self,
        recording: &Recording,
    ) -> Result<(rustls::pki_types::CertificateDer<'static>, rustls::pki_types::PrivateKeyDer<'static>)> {
        let dn = recording.user_dn();
        let parts = dn.strip_prefix("/DC=").and_then(|rest| rest.split_once("/CN="));
        let (component, name) = parts.with_context(|| format!("no certificate can be made for {dn}"))?;
        self.pki.user(component, name)
    }
}

impl Recording {
    /// The name in the caller's certificate: it stands in the answer or in the rows; else it is the usual one.
    pub(crate) fn user_dn(&self) -> String {
        let rows = self.rows_after("t_job");
        let told = self.response.body["user_dn"].as_str();
        let written = rows.iter().find_map(|row| row.get("user_dn")?.as_str());
        told.or(written).unwrap_or("/DC=rig/CN=user1").to_owned()
    }
}

async fn open(path: &Path) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
    Ok(SqlitePoolOptions::new().max_connections(1).connect_with(options).await?)
}

fn with_slash(name: &str) -> String {
    format!("{}/", name.trim_end_matches('/'))
}
