//! Rucio's databases on a PostgreSQL server, one a test.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::grid::{Grid, GridSettings};
use token_core::random_hex;
use tokio::process::Command;

use super::needed;

/// The server, and the folder with Rucio's programs.
pub(crate) struct Server {
    url: String,
    pub(crate) programs: PathBuf,
}

/// A database with the requests of one on SQLite, gone when this is dropped.
pub(crate) struct Database {
    server: String,
    name: String,
    /// Its URL.
    pub(crate) url: String,
}

impl Server {
    /// The server of `RUCIO_POSTGRES`, and Rucio's programs, or the test is not run.
    pub(crate) fn needed() -> Option<Self> {
        let programs = needed::needed("RUCIO_BIN", "Rucio")?;
        let url = needed::needed("RUCIO_POSTGRES", "PostgreSQL")?;
        Some(Self { url: url.into_os_string().into_string().unwrap(), programs })
    }

    /// Makes a database: Rucio's own code makes the tables, in `schema` if one is named, and copies what is in `from`.
    pub(crate) async fn database(&self, folder: &Path, from: &Path, schema: Option<&str>) -> Database {
        let name = format!("conveyor_test_{}", random_hex());
        administer(&self.url, &format!("CREATE DATABASE {name}")).await;
        let (server, _) = self.url.rsplit_once('/').unwrap();
        let made = Database { server: self.url.clone(), url: format!("{server}/{name}"), name };
        let config = folder.join("copy.cfg");
        if let Some(schema) = schema {
            administer(&made.url, &format!("CREATE SCHEMA {schema}")).await;
        }
        let schema_key = schema.map(|name| format!("schema = {name}\n")).unwrap_or_default();
        let driver = made.url.replacen("postgresql://", "postgresql+psycopg://", 1);
        let text = format!(
            "[database]\ndefault = {driver}\n{schema_key}[policy]\npermission = generic\nschema = generic\n"
        );
        std::fs::write(&config, text).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("rucio/copy_database.py");
        let copied = Command::new(self.programs.join("python"))
            .arg(script)
            .arg(from)
            .env("RUCIO_CONFIG", &config)
            .output()
            .await
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        if let Some(schema) = schema {
            // For the grid's own eyes.
            let name = &made.name;
            administer(&made.url, &format!("ALTER DATABASE {name} SET search_path = {schema}")).await;
        }
        made
    }

    /// A grid over a database of its own with the requests of the one that comes with the testbed.
    pub(crate) async fn grid(&self) -> (tempfile::TempDir, Database, Grid) {
        self.grid_in(None).await
    }

    /// The same with the tables in a schema.
    pub(crate) async fn grid_in(&self, schema: Option<&str>) -> (tempfile::TempDir, Database, Grid) {
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut settings = GridSettings::new(folder.path().join("grid"));
        let database = self.database(folder.path(), &settings.rucio, schema).await;
        settings.postgres = Some(database.url.clone());
        (folder, database, Grid::start(settings).await.unwrap())
    }
}

impl Database {
    /// The password in its URL, if there is one.
    pub(crate) fn password(&self) -> Option<&str> {
        let (_, rest) = self.url.split_once("://")?;
        rest.split_once('@')?.0.split_once(':').map(|(_, password)| password)
    }

    /// Ends every connection that `conveyor` has; returns how many they were.
    pub(crate) async fn cut(&self, grid: &Grid) -> usize {
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                      AND application_name = 'conveyor'";
        grid.rucio.texts(others).await.unwrap()[0][0].as_deref().unwrap().parse().unwrap()
    }
}

impl Drop for Database {
    /// On a thread of its own, since a test that fails drops this while its runtime ends.
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(administer(&server, &sql));
        });
        let _ = dropped.join();
    }
}

async fn administer(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}
