//! FTS's tables on a MariaDB or MySQL server, an issuer, and workers between them.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlPool};
use testbed::binaries::Binaries;
use testbed::issuer::{Client, GrantType, Issuer};
use testbed::pki::Pki;
use token_core::{ClientSecret, ScopeSet, SystemClock, random_hex};
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::database::{Database, SERVER};
use super::needed;

/// Files of a job.
pub(crate) const FILES: usize = 2;

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) database: Database,
    pub(crate) issuer: Issuer,
    binaries: Binaries,
    _stop: DropGuard,
}

impl Site {
    /// A site at which `jobs` jobs wait that were posted with a bearer only; none without a server.
    pub(crate) async fn start(jobs: usize) -> Option<Self> {
        let server = needed::needed(SERVER, "MariaDB")?;
        let folder =
            tempfile::Builder::new().prefix("mariadb").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let database = Database::mysql(server.to_str().unwrap()).await.unwrap();
        let pki = Pki::create(folder.path()).unwrap();
        let (stop, secret) = (CancellationToken::new(), random_hex());
        let client = Client {
            id: "fts-exchange".into(),
            secret: ClientSecret::new(secret.clone()),
            key: None,
            scopes: ScopeSet::parse("fts storage.read:/ storage.modify:/").unwrap(),
            grants: vec![GrantType::TokenExchange],
            token_life: Duration::from_secs(3600),
        };
        let issuer = Issuer::start(&pki, vec![client], Arc::new(SystemClock), stop.clone()).await.unwrap();
        std::fs::write(folder.path().join("secret"), &secret).unwrap();
        let site = Self {
            folder,
            database,
            issuer,
            binaries: Binaries::find(false).await.unwrap(),
            _stop: stop.drop_guard(),
        };
        site.configure(site.database.url(), "");
        let made = site.worker(&["init-db"]).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        site.insert(
            "t_token_provider",
            json!({"name": "i", "issuer": site.issuer.name(), "client_id": "f", "client_secret": "s"}),
        )
        .await;
        site.submit(jobs).await;
        Some(site)
    }

    /// As FTS writes a job down that was posted with a bearer only.
    async fn submit(&self, jobs: usize) {
        let scope = "fts storage.read:/ storage.modify:/";
        let bearer = self.issuer.mint(json!({"aud": "fts.example", "scope": scope, "sub": "rucio"})).unwrap();
        let id = bearer.fingerprint().to_string();
        let token = json!({
            "token_id": id, "access_token": bearer.expose(), "access_token_expiry": "2037-01-01 00:00:00",
            "issuer": self.issuer.name(), "scope": scope, "audience": "fts.example",
        });
        self.insert("t_token", token).await;
        for job in 0..jobs {
            let name = format!("00000000-0000-0000-0000-{job:012}");
            self.insert("t_job", json!({"job_id": name, "job_state": "SUBMITTED", "job_type": "N"})).await;
            for file in 0..FILES {
                let row = json!({
                    "job_id": name, "file_state": "TOKEN_PREP", "file_state_initial": "SUBMITTED",
                    "source_surl": format!("davs://source.example/data/{job}.{file}"),
                    "dest_surl": format!("davs://destination.example/data/{job}.{file}"),
                    "src_token_id": id, "dst_token_id": id,
                });
                self.insert("t_file", row).await;
            }
        }
    }

    async fn insert(&self, table: &str, row: Value) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let row: Vec<_> =
            row.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), Some(text(value)))).collect();
        self.database.insert(table, &row).await.unwrap();
    }

    /// Writes the worker's configuration, with more lines in `[fts]`.
    pub(crate) fn configure(&self, database: &str, more: &str) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let config = format!(
            "[fts]\ndatabase = \"{database}\"\n{more}\n[[issuer]]\nurl = \"{}\"\nclient_id = \"fts-exchange\"\n\
             client_secret_file = \"{}\"\nca_file = \"{}\"\nretry_total_s = 1\n[endpoints]\narea = \"/data\"\n[worker]\nbatch = 3\n",
            self.issuer.name(),
            path("secret"),
            path("ca.pem"),
        );
        std::fs::write(self.config(), config).unwrap();
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("token-exchange.toml")
    }

    pub(crate) fn worker(&self, arguments: &[&str]) -> Command {
        let program: &Path = &self.binaries.token_exchange;
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// A worker that works until nothing is due.
    pub(crate) fn once(&self) -> Command {
        self.worker(&["--run-once", "--json"])
    }

    /// The server's number for a connection.
    pub(crate) async fn number(connection: &mut MySqlConnection) -> u64 {
        sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(connection).await.unwrap()
    }

    /// The connections of this test itself.
    pub(crate) fn pool(&self) -> &MySqlPool {
        match &self.database {
            Database::Mysql { pool, .. } => pool,
            Database::Sqlite { .. } => panic!("this site is on a server"),
        }
    }

    pub(crate) async fn change(&self, sql: &str) {
        self.database.run(sql, &[]).await.unwrap();
    }

    /// How many rows there are of `what`: a table, and what may follow it.
    pub(crate) async fn count(&self, what: &str) -> i64 {
        let rows = self.database.rows(&["count(*)"], what).await.unwrap();
        rows[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// Waits until there are so many rows of `what`.
    pub(crate) async fn until(&self, what: &str, rows: i64) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.count(what).await < rows {
            assert!(Instant::now() < end, "there never were {rows} of {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Cuts the connections that this server has for workers of this site, in the middle of whatever they do. Connections of this
    /// test that are in use are to be named.
    pub(crate) async fn cut_workers(&self, mut own: Vec<u64>) -> usize {
        let connections = "information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
        let all = self.database.rows(&["id"], connections).await.unwrap();
        let mut held = Vec::new();
        // Those of the pool of this test, which are all taken out for it.
        while let Some(mut connection) = self.pool().try_acquire() {
            own.push(Self::number(&mut connection).await);
            held.push(connection);
        }
        drop(held);
        let ids = all.iter().filter_map(|row| row[0].as_deref()?.parse::<u64>().ok());
        let mut cut = 0;
        for id in ids.filter(|id| !own.contains(id)) {
            // One that has just ended by itself can't be cut any more.
            cut += usize::from(
                sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(self.pool()).await.is_ok(),
            );
        }
        cut
    }

    /// Each file was released once, with a token for its own side and endpoint, that ends in an hour by UTC; no lease is left.
    pub(crate) async fn expect_all_released(&self, jobs: usize) {
        let files = i64::try_from(jobs * FILES).unwrap();
        let released = "t_file f JOIN t_token s ON s.token_id = f.src_token_id JOIN t_token d ON d.token_id = f.dst_token_id \
            WHERE f.file_state = 'SUBMITTED' AND s.audience = 'https://source.example' AND s.scope = 'storage.read:/data' \
            AND d.audience = 'https://destination.example' AND d.scope = 'storage.read:/data storage.modify:/data' \
            AND s.unmanaged = 1 AND d.unmanaged = 1 AND s.refresh_token IS NULL \
            AND abs(timestampdiff(SECOND, UTC_TIMESTAMP(), s.access_token_expiry) - 3600) < 300";
        let states = self.database.rows(&["file_state", "reason"], "t_file").await.unwrap();
        assert_eq!((self.count(released).await, self.count("t_file").await), (files, files), "{states:?}");
        assert_eq!(self.count("token_exchange_lease").await, 0);
    }
}

/// What a worker says it did; empty for nothing.
pub(crate) fn report(output: &Output) -> String {
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("ERROR"), "{log}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let done = ["released", "failed", "cancelled", "lost"].into_iter().filter(|what| report[what] != 0);
    done.map(|what| format!("{} {what}", report[what])).collect::<Vec<_>>().join(", ")
}
