//! What every test needs: tokens, FTS, its database, the storages, and workers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fts_client::{
    FileEntry, FileFields, FtsClient, FtsSettings, JobId, JobStatus, Lookup, Params, Submission, Submitted,
};
use reqwest::Method;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{MySqlPool, Row as _};
use testbed::binaries::Binaries;
use testbed::content::content;
use testbed::grid::terminate;
use token_core::http::HttpSettings;
use token_core::{
    AccessToken, BearerSource, ClientCredentials, OAuthClient, OAuthSettings, ScopeSet, SystemClock,
    TokenKeeper, TokenRequest, random_hex,
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use super::storage::Storage;

/// How long the jobs of a worker that died are left alone.
const LEASE_S: u64 = 10;

pub(crate) struct Rig {
    pub(crate) environment: Environment,
    pub(crate) fts: FtsClient,
    pub(crate) source: Storage,
    pub(crate) destination: Storage,
    oauth: Arc<OAuthClient>,
    database: MySqlPool,
    program: PathBuf,
    folder: tempfile::TempDir,
    /// What all names begin with, so that runs do not meet.
    run: String,
    made: Mutex<Vec<String>>,
}

/// What FTS's database says of a file.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) source: Token,
    pub(crate) destination: Token,
}

/// And of one of its tokens.
#[derive(Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) audience: String,
    pub(crate) scope: String,
    pub(crate) expiry: String,
    pub(crate) unmanaged: bool,
}

/// A running `token-exchange`.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    /// Asks it to end.
    pub(crate) async fn end(self) -> Result<String> {
        terminate(self.child).await?;
        Ok(std::fs::read_to_string(self.log)?)
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

impl Rig {
    pub(crate) async fn start(environment: Environment) -> Result<Self> {
        let http = HttpSettings {
            ca_file: Some(environment.ca.clone()),
            timeout: Duration::from_secs(60),
            ..HttpSettings::default()
        };
        let settings = OAuthSettings {
            http: http.clone(),
            audience: environment.audience_parameter()?,
            ..OAuthSettings::new(
                environment.issuer.clone(),
                &environment.client_id,
                environment.secret.clone(),
            )
        };
        let oauth = Arc::new(OAuthClient::new(settings, Arc::new(SystemClock), CancellationToken::new())?);
        let request = TokenRequest {
            audience: environment.audience.clone(),
            scope: ScopeSet::parse(&environment.scope)?,
        };
        let keeper = Arc::new(TokenKeeper::new(None, Arc::new(SystemClock)));
        let bearer: Arc<dyn BearerSource> =
            Arc::new(ClientCredentials::new(Arc::clone(&oauth), keeper, request, Duration::from_secs(60)));
        let settings = FtsSettings { http, ..FtsSettings::new(environment.fts_url.clone()) };
        let storage = |url| Storage::new(url, environment.audience_of(url)?, &environment.ca);
        let rig = Self {
            fts: FtsClient::new(&settings, bearer)?,
            source: storage(&environment.source)?,
            destination: storage(&environment.destination)?,
            oauth,
            database: MySqlPoolOptions::new()
                .max_connections(2)
                .connect(&environment.database)
                .await
                .context("FTS_DATABASE")?,
            program: Binaries::find(false).await?.token_exchange,
            folder: tempfile::tempdir()?,
            run: format!("dockerised_fts-{}", &random_hex()[..8]),
            made: Mutex::default(),
            environment,
        };
        rig.configure()?;
        let made = rig.command(&["init-db"]).output().await?;
        ensure!(made.status.success(), "token-exchange init-db: {}", String::from_utf8_lossy(&made.stderr));
        Ok(rig)
    }

    /// A client of this FTS with another token.
    pub(crate) fn fts_with(&self, token: AccessToken) -> Result<FtsClient> {
        let http = HttpSettings { ca_file: Some(self.environment.ca.clone()), ..HttpSettings::default() };
        let settings = FtsSettings { http, ..FtsSettings::new(self.environment.fts_url.clone()) };
        Ok(FtsClient::new(&settings, Arc::new(token))?)
    }

    /// A token of the submitter's.
    pub(crate) async fn token(&self, audience: &str, scope: &str) -> Result<AccessToken> {
        let request = TokenRequest { audience: audience.to_owned(), scope: ScopeSet::parse(scope)? };
        Ok(self.oauth.client_credentials(&request).await?.token)
    }

    /// One that reads and writes in the area of a storage.
    pub(crate) async fn writer(&self, storage: &Storage) -> Result<AccessToken> {
        let area = &self.environment.area;
        self.token(&storage.audience, &format!("storage.read:{area} storage.modify:{area}")).await
    }

    /// A name that nobody has.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.run)
    }

    /// Puts a file at the source; its content.
    pub(crate) async fn put(&self, name: &str, size: usize) -> Result<Vec<u8>> {
        let bytes = content(name, size);
        let token = self.writer(&self.source).await?;
        let (status, _) =
            self.source.call(Method::PUT, &self.source.file(name), &token, bytes.clone()).await?;
        ensure!(matches!(status, 200 | 201 | 204), "PUT of {name} answered {status}");
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        Ok(bytes)
    }

    /// Status and content of a file at the destination.
    pub(crate) async fn arrived(&self, name: &str) -> Result<(u16, Vec<u8>)> {
        let token = self.writer(&self.destination).await?;
        self.destination.call(Method::GET, &self.destination.file(name), &token, Vec::new()).await
    }

    /// A job that copies these, posted with the token for FTS and no other.
    pub(crate) async fn submit(&self, names: &[String]) -> Result<JobId> {
        let files = names
            .iter()
            .map(|name| FileEntry::new(self.source.file(name), self.destination.file(name)))
            .collect();
        self.submit_to(&self.fts, Submission { files, params: Params::default() }).await
    }

    pub(crate) async fn submit_to(&self, fts: &FtsClient, job: Submission) -> Result<JobId> {
        match fts.submit(&job).await? {
            Submitted::Accepted(id) => Ok(id),
            other => bail!("{other:?}"),
        }
    }

    pub(crate) async fn job(&self, id: &JobId) -> Result<JobStatus> {
        match self.fts.job(id, FileFields::Poll).await? {
            Lookup::Known(job) => Ok(*job),
            Lookup::Unknown => bail!("FTS does not know its job {id}"),
        }
    }

    /// Waits until a job has ended.
    pub(crate) async fn ended(&self, id: &JobId) -> Result<JobStatus> {
        let end = Instant::now() + self.environment.wait;
        loop {
            let job = self.job(id).await?;
            if job.job_state.is_terminal() {
                return Ok(job);
            }
            if Instant::now() > end {
                bail!("job {id} has not ended: {} {:?}", job.job_state.as_str(), self.rows(id).await?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the rows of a job are as they should be.
    pub(crate) async fn until(&self, id: &JobId, holds: impl Fn(&[Row]) -> bool) -> Result<Vec<Row>> {
        let end = Instant::now() + self.environment.wait;
        loop {
            let rows = self.rows(id).await?;
            if holds(&rows) {
                return Ok(rows);
            }
            ensure!(Instant::now() < end, "in vain: {rows:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The files of a job in FTS's database, in its order.
    pub(crate) async fn rows(&self, id: &JobId) -> Result<Vec<Row>> {
        let columns = ["t.token_id", "t.audience", "t.scope", "t.access_token_expiry", "t.unmanaged"];
        let side =
            |side: &str| columns.map(|column| format!("CAST({} AS CHAR)", column.replacen('t', side, 1)));
        let selected = [side("s"), side("d")].concat().join(", ");
        let sql = format!(
            "SELECT CAST(f.file_state AS CHAR), CAST(COALESCE(f.reason, '') AS CHAR), {selected} FROM t_file f \
             JOIN t_token s ON s.token_id = f.src_token_id JOIN t_token d ON d.token_id = f.dst_token_id \
             WHERE f.job_id = ? ORDER BY f.file_id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.as_str()).fetch_all(&self.database).await?;
        let text = |row: &sqlx::mysql::MySqlRow, at: usize| -> Result<String> {
            Ok(row.try_get::<Option<String>, _>(at)?.unwrap_or_default())
        };
        let token = |row, at| -> Result<Token> {
            Ok(Token {
                id: text(row, at)?,
                audience: text(row, at + 1)?,
                scope: text(row, at + 2)?,
                expiry: text(row, at + 3)?,
                unmanaged: text(row, at + 4)? == "1",
            })
        };
        let read = |row| -> Result<Row> {
            Ok(Row {
                state: text(row, 0)?,
                reason: text(row, 1)?,
                source: token(row, 2)?,
                destination: token(row, 7)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How many failed attempts of a job's files FTS has noted.
    pub(crate) async fn failed_attempts(&self, id: &JobId) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM t_file_retry_errors e JOIN t_file f ON f.file_id = e.file_id WHERE f.job_id = ?";
        Ok(sqlx::query_scalar(sql).bind(id.as_str()).fetch_one(&self.database).await?)
    }

    /// Starts a worker; a later one finds what an earlier one kept.
    pub(crate) fn worker(&self) -> Result<Worker> {
        let log = self.folder.path().join("token-exchange.log");
        let child = self.command(&[]).stderr(std::fs::File::create(&log)?).spawn()?;
        Ok(Worker { child, log })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.path().join("token-exchange.toml")).args(arguments);
        command.kill_on_drop(true);
        command
    }

    fn configure(&self) -> Result<()> {
        let of = &self.environment;
        let folder = self.folder.path().display();
        let (ca, issuer) = (of.ca.display(), of.issuer.as_str());
        let client = of.exchange.as_ref().map_or_else(String::new, |(id, file)| {
            format!("client_id = \"{id}\"\nclient_secret_file = \"{file}\"\n")
        });
        let endpoints = [&self.source, &self.destination].map(|storage| {
            let url = storage.at("").unwrap_or_default().replacen("davs://", "https://", 1);
            format!("[[endpoint]]\nurl = \"{url}\"\naudience = \"{}\"\n", storage.audience)
        });
        let refresh = of.messaging_directory.as_ref().map_or_else(String::new, |directory| {
            format!("messaging_directory = \"{directory}\"\nmargin_s = {}\n", of.refresh_margin_s)
        });
        let text = format!(
            "[fts]\ndatabase = \"{}\"\ntls = false\n[providers]\nca_file = \"{ca}\"\n\
             [[issuer]]\nurl = \"{issuer}\"\n{client}audience_parameter = \"{}\"\nca_file = \"{ca}\"\n\
             [endpoints]\nbase_path = \"{}\"\narea = \"{}\"\n{}\n[refresh]\n{refresh}[worker]\nlease_s = {LEASE_S}\n\
             [cache]\npath = \"{folder}/tokens\"\nkey_file = \"{folder}/tokens.key\"\n",
            of.database,
            of.audience_parameter,
            of.base_path,
            of.area,
            endpoints.concat(),
        );
        Ok(std::fs::write(self.folder.path().join("token-exchange.toml"), text)?)
    }

    /// Deletes what was put and copied, as far as it can.
    pub(crate) async fn clean_up(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for storage in [&self.source, &self.destination] {
            let Ok(token) = self.writer(storage).await else { continue };
            for name in &made {
                let _ = storage.call(Method::DELETE, &storage.file(name), &token, Vec::new()).await;
            }
        }
    }
}
