//! The environment that a grid in a box gives: the testbed's FTS on MariaDB, `oidc-provider` as the issuer, two XRootD servers that check
//! each token. They read slowly, and tokens for storages live less long than the long transfer takes.

use anyhow::{Context as _, Result};
use testbed::grid::{Grid, GridSettings};
use testbed::pki::Pki;
use testbed::rucio::RucioDatabase;
use testbed::xrootd::XrootdPrograms;

#[path = "../it/contract_worker/database.rs"]
#[expect(dead_code, reason = "what other tests do with it")]
mod database;
#[path = "../it/interop/needed.rs"]
mod needed;
#[path = "../it/xrootd/provider.rs"]
mod provider;

use needed::needed;
use provider::Provider;

/// How fast a storage reads, in bytes a second.
const SPEED: u64 = 400_000;
/// Seconds that a token for a storage lives, and that it must live for a step of a transfer.
const LIFE_S: u64 = 10;
const MARGIN_S: u64 = 5;
/// Bytes of the long transfer: 16 s.
const LONG: u64 = 6_400_000;
/// Two storages that give the same area.
const RSES: [&str; 2] = ["DISK-A", "DISK-B"];

pub(crate) struct Box {
    grid: Grid,
    provider: Provider,
    tables: database::Database,
    folder: tempfile::TempDir,
}

impl Box {
    /// None when a part is missing, which has been said.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let (Some(xrootd), Some(loopback)) =
            (needed("XROOTD", "XRootD"), needed("XROOTD_LOOPBACK", "XRootD"))
        else {
            return Ok(None);
        };
        let Some(modules) = needed("OIDC_PROVIDER", "npm's oidc-provider") else { return Ok(None) };
        let Some(mariadb) = needed(database::SERVER, "MariaDB") else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("dockerised").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut settings = GridSettings::new(folder.path().join("grid"));
        let tables = database::Database::mysql(mariadb.to_str().context(database::SERVER)?).await?;
        let pki = Pki::create(folder.path())?;
        let sites = RucioDatabase::open(&settings.rucio).await?.sites().await?;
        let areas: Vec<_> = Grid::areas(&sites).into_iter().collect();
        let provider = Provider::start(&modules, &pki, &areas, folder.path(), Some(LIFE_S)).await;
        settings.fts_mysql = Some(tables.url().to_owned());
        settings.issuer = Some(provider.issuer.clone());
        settings.pki = Some(pki);
        settings.refresh_margin = std::time::Duration::from_secs(MARGIN_S);
        settings.xrootd = Some(XrootdPrograms { xrootd, loopback, bytes_per_s: Some(SPEED) });
        let grid = Grid::start(settings).await?;
        // Rucio's requests are another test's.
        Ok(Some(Self { grid, provider, tables, folder }))
    }

    /// What `environment.rs` lists, as it is here.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |path: &std::path::Path| path.display().to_string();
        let storage = |rse: &str| format!("davs://127.0.0.1:{}/vo/rucio", self.grid.xrootds[rse].port());
        let (issuer, ours) = (&self.provider.issuer, &self.grid);
        vec![
            ("FTS_URL", ours.fts.url()),
            ("FTS_CA", path(ours.pki.ca_file())),
            ("FTS_AUDIENCE", ours.fts.url()),
            ("FTS_SCOPE", issuer.scope.clone()),
            ("FTS_ISSUER", issuer.trusted.name.clone()),
            ("FTS_AUDIENCE_PARAMETER", "resource".into()),
            ("FTS_CLIENT_ID", issuer.conveyor.0.clone()),
            ("FTS_CLIENT_SECRET_FILE", path(&ours.conveyor_secret())),
            ("EXCHANGE_CLIENT_ID", issuer.exchange.0.clone()),
            ("EXCHANGE_CLIENT_SECRET_FILE", path(&ours.folder.join("fts-exchange.secret"))),
            ("FTS_DATABASE", self.tables.url().to_owned()),
            ("FTS_MESSAGING_DIRECTORY", path(ours.messaging_directory())),
            ("FTS_REFRESH_MARGIN_S", MARGIN_S.to_string()),
            ("FTS_LONG_BYTES", LONG.to_string()),
            ("FTS_SOURCE", storage(RSES[0])),
            ("FTS_DESTINATION", storage(RSES[1])),
            ("STORAGE_BASE_PATH", "/vo".into()),
            ("STORAGE_AREA", "/rucio".into()),
            ("TMPDIR", path(self.folder.path())),
        ]
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.grid.stop();
        self.tables.remove().await
    }
}
