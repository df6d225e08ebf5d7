//! FTS's tables with many waiting files on MariaDB or MySQL, issuers, and workers between them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, MySqlPool, Row as _};
use testbed::binaries::Binaries;
use testbed::issuer::{Client, GrantType, Issuer, Signs};
use testbed::mint::SigningKey;
use testbed::pki::Pki;
use token_core::{AccessToken, ClientSecret, ScopeSet, SystemClock, random_hex};
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::database::Database;

/// Most workers: each is a client of its own, so that the issuer can tell who asked.
const WORKERS: usize = 3;
/// One more, which has no secret but a key, `keyed.pem`.
pub(crate) const KEYED: &str = "keyed";
pub(crate) const SCOPE: &str = "fts storage.read:/ storage.modify:/";

pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) database: Database,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) bearers: Vec<AccessToken>,
    binaries: Binaries,
    _stop: DropGuard,
}

/// Files that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    /// The first one's number; numbers name jobs and paths.
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) in_a_job: usize,
    pub(crate) endpoints: usize,
    pub(crate) directories: usize,
    /// Whose token they were submitted with.
    pub(crate) issuer: usize,
}

impl Rig {
    /// A rig with so many issuers on the server at this URL.
    pub(crate) async fn start(server: &str, issuers: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("load").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let database = Database::mysql(server).await?;
        let pki = Pki::create(folder.path())?;
        let (stop, secret) = (CancellationToken::new(), random_hex());
        std::fs::write(folder.path().join("secret"), &secret)?;
        let client = |number| -> Result<Client> {
            Ok(Client {
                id: format!("worker-{number}"),
                secret: ClientSecret::new(secret.clone()),
                key: None,
                scopes: ScopeSet::parse(SCOPE)?,
                grants: vec![GrantType::TokenExchange],
                token_life: Duration::from_secs(7200),
            })
        };
        let mut rig = Self {
            folder,
            database,
            issuers: Vec::new(),
            bearers: Vec::new(),
            binaries: Binaries::find(false).await?,
            _stop: stop.clone().drop_guard(),
        };
        for number in 0..issuers {
            let key = SigningKey::es256("keyed")?;
            std::fs::write(rig.folder.path().join("keyed.pem"), key.pem())?;
            let keyed = Client { id: KEYED.into(), key: Some(key.jwk()?), ..client(0)? };
            let clients = (0..WORKERS).map(client).chain([Ok(keyed)]).collect::<Result<_>>()?;
            let issuer = Issuer::start(&pki, clients, Arc::new(SystemClock), stop.clone()).await?;
            issuer.sign_by(Signs::Es256);
            let bearer = issuer.mint(json!({"aud": "fts.example", "scope": SCOPE, "sub": "rucio"}))?;
            rig.run(&format!(
                "INSERT INTO t_token_provider (name, issuer, client_id, client_secret) VALUES ('i{number}', '{}', 'f', 's')",
                issuer.name()
            ))
            .await?;
            rig.run(&format!(
                "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience) \
                 VALUES ('{}', '{}', '2037-01-01 00:00:00', '{}', '{SCOPE}', 'fts.example')",
                bearer.fingerprint(),
                bearer.expose(),
                issuer.name()
            ))
            .await?;
            rig.issuers.push(issuer);
            rig.bearers.push(bearer);
        }
        rig.configure(0, "", "")?;
        let made = rig.worker(0, &["init-db"]).output().await?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(rig)
    }

    /// Writes a worker's configuration, with more lines in each `[[issuer]]` and in `[worker]`.
    pub(crate) fn configure(&self, worker: usize, issuer: &str, lines: &str) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut text =
            format!("[fts]\ndatabase = \"{}\"\n[endpoints]\narea = \"/data\"\n", self.database.url());
        for known in &self.issuers {
            write!(
                text,
                "[[issuer]]\nurl = \"{}\"\nclient_id = \"worker-{worker}\"\nclient_secret_file = \"{}\"\nca_file = \"{}\"\n{issuer}\n",
                known.name(),
                path("secret"),
                path("ca.pem"),
            )?;
        }
        let cache = path(&format!("cache-{worker}"));
        write!(text, "[cache]\npath = \"{cache}\"\nkey_file = \"{cache}.key\"\n[worker]\n{lines}\n")?;
        Ok(std::fs::write(self.config(worker), text)?)
    }

    pub(crate) fn config(&self, worker: usize) -> PathBuf {
        self.folder.path().join(format!("worker-{worker}.toml"))
    }

    pub(crate) fn worker(&self, worker: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binaries.token_exchange);
        command.arg("--config").arg(self.config(worker)).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Works until nothing is due; the report.
    pub(crate) async fn once(&self, granularity: &str) -> Result<Value> {
        let mut worker = self.worker(0, &["--run-once", "--json"]);
        let output = worker.env("TOKEN_EXCHANGE__ENDPOINTS__GRANULARITY", granularity).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("the report")
    }

    pub(crate) fn pool(&self) -> Result<&MySqlPool> {
        match &self.database {
            Database::Mysql { pool, .. } => Ok(pool),
            Database::Sqlite { .. } => anyhow::bail!("this rig is on a server"),
        }
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.pool()?).await.with_context(|| {
            let words: String = sql.chars().take(60).collect();
            words
        })?;
        Ok(())
    }

    /// How many rows there are of `what`: a table, and what may follow it.
    pub(crate) async fn count(&self, what: &str) -> Result<i64> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
        Ok(sqlx::query(sql).fetch_one(self.pool()?).await?.try_get(0)?)
    }

    /// How many statements the server has been sent.
    pub(crate) async fn statements(&self) -> Result<i64> {
        let row = sqlx::query("SHOW GLOBAL STATUS LIKE 'Questions'").fetch_one(self.pool()?).await?;
        let value: String = row.try_get_unchecked(1)?;
        value.parse().context("a number")
    }

    /// As FTS writes jobs down that were posted with a bearer only. In two statements for a thousand files.
    pub(crate) async fn submit(&self, files: Files) -> Result<()> {
        let bearer = self.bearers[files.issuer].fingerprint().to_string();
        let numbers: Vec<usize> = (files.first..files.first + files.count).collect();
        for some in numbers.chunks(1000) {
            let (mut jobs, mut rows) = (Vec::new(), Vec::new());
            for n in some {
                let job = format!("{:08x}-0000-0000-0000-{:012}", files.issuer, n / files.in_a_job);
                if jobs.last() != Some(&job) {
                    jobs.push(job.clone());
                }
                let (from, to) = (n % files.endpoints, (n / files.endpoints + n + 1) % files.endpoints);
                let directory = n / files.endpoints % files.directories;
                rows.push(format!(
                    "('{job}', 'TOKEN_PREP', 'SUBMITTED', 'davs://s{from}.example/data/d{directory}/f{n}', \
                     'davs://s{to}.example/data/d{directory}/f{n}', '{bearer}', '{bearer}')"
                ));
            }
            let jobs: Vec<String> = jobs.iter().map(|job| format!("('{job}', 'SUBMITTED', 'N')")).collect();
            self.run(&format!(
                "INSERT IGNORE INTO t_job (job_id, job_state, job_type) VALUES {}",
                jobs.join(", ")
            ))
            .await?;
            self.run(&format!(
                "INSERT INTO t_file (job_id, file_state, file_state_initial, source_surl, dest_surl, src_token_id, \
                 dst_token_id) VALUES {}",
                rows.join(", ")
            ))
            .await?;
        }
        Ok(())
    }

    /// All is as before the first file.
    pub(crate) async fn clear(&self) -> Result<()> {
        for table in ["t_file", "t_job", "token_exchange_lease", "token_exchange_token"] {
            self.run(&format!("DELETE FROM {table}")).await?;
        }
        self.run("DELETE FROM t_token WHERE unmanaged = 1").await?;
        for worker in 0..WORKERS {
            let cache = self.folder.path().join(format!("cache-{worker}"));
            if cache.exists() {
                std::fs::remove_dir_all(cache)?;
            }
        }
        Ok(())
    }

    /// Files released with a token for each side: for its own endpoint, and with the right that the side needs.
    pub(crate) async fn released(&self) -> Result<i64> {
        self.count(
            "t_file f JOIN t_token s ON s.token_id = f.src_token_id JOIN t_token d ON d.token_id = f.dst_token_id \
             WHERE f.file_state = 'SUBMITTED' AND f.source_surl LIKE concat('davs', substr(s.audience, 6), '/%') \
             AND f.dest_surl LIKE concat('davs', substr(d.audience, 6), '/%') \
             AND s.scope LIKE 'storage.read:/data%' AND d.scope LIKE '%storage.modify:/data%'",
        )
        .await
    }
}
