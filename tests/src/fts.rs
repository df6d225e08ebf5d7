//! FTS: its REST server (fts-rest 3.13.4), its scheduler and transfer engine (daemons 3.14.4), over its own database
//! (schema 10.0.1 on SQLite), as they were observed. There is no `fts_token`: who wants files to leave TOKEN_PREP hands
//! tokens over through the database.
//!
//! What is not there: proxies and delegation (an X.509 user's credential is a row of `t_credential`), tape, push and streamed copies, selection strategies that need statistics. Session reuse jobs run
//! like plain ones.

mod answer;
mod attempt;
mod authenticate;
mod bans;
mod caller;
mod change;
mod dav;
mod failure;
mod fault;
mod job_state;
mod jobs;
mod new_file;
mod params;
mod python_json;
pub mod refresh;
mod rest;
mod scheduler;
mod schema;
mod settings;
mod sql;
mod store;
mod submission;
mod surl;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;
mod view;
mod wire;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use token_core::{ClientSecret, Clock};
use tokio_util::sync::CancellationToken;

pub use fault::{DatabaseFault, SubmitFault, Trouble};
pub use settings::RestSettings;

use crate::pki::Pki;
use crate::server::{Server, dated};
use dav::Dav;
use refresh::RefreshSettings;
use schema::Database;
use sql::statement;
use trust::Trust;

/// How one FTS instance is set up.
#[derive(Clone, Debug)]
pub struct FtsConfig {
    /// The SQLite file. What is in it already is kept.
    pub database: PathBuf,
    /// Or the `mysql://` URL of a database on a server, where FTS's tables are.
    pub mysql: Option<String>,
    /// The REST port on loopback; 0 is any free one.
    pub port: u16,
    /// `AuthorizedAudiences`; empty is the instance's own URL.
    pub audiences: Vec<String>,
    /// The token providers, of the REST configuration and of `t_token_provider` alike.
    pub providers: Vec<Provider>,
    /// Everything else in the REST configuration.
    pub rest: RestSettings,
    /// How many transfers run at a time.
    pub parallel: usize,
    /// How often the scheduler looks.
    pub interval: Duration,
    /// How `fts_url_copy` asks for another token; without it nobody is asked.
    pub refresh: Option<RefreshSettings>,
}

impl FtsConfig {
    /// The usual: any free port, own audience, 16 transfers at a time, a round every 200 ms.
    pub fn new(database: impl Into<PathBuf>, providers: Vec<Provider>) -> Self {
        Self {
            database: database.into(),
            mysql: None,
            port: 0,
            audiences: Vec::new(),
            providers,
            rest: RestSettings::default(),
            parallel: 16,
            interval: Duration::from_millis(200),
            refresh: None,
        }
    }
}

/// A token provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// A name for people.
    pub name: String,
    /// The issuer **with a slash at its end**, whatever its tokens say.
    pub issuer: String,
    /// FTS's own client at the issuer.
    pub client_id: String,
    /// That client's secret; stands in clear in `t_token_provider`.
    pub client_secret: ClientSecret,
    /// The VO of its users, if their tokens name the issuer with the slash.
    pub vo: String,
}

#[cfg(test)]
impl Provider {
    fn example() -> Self {
        Self {
            name: "box".into(),
            issuer: "https://127.0.0.1/".into(),
            client_id: "fts".into(),
            client_secret: ClientSecret::new("secret"),
            vo: "vo".into(),
        }
    }
}

/// What is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs.
    pub jobs: u64,
    /// Files by `file_state`.
    pub files: BTreeMap<String, u64>,
}

impl Counts {
    /// How many files are in this state.
    pub fn files_in(&self, state: &str) -> u64 {
        self.files.get(state).copied().unwrap_or(0)
    }
}

/// What the handlers and the scheduler share.
struct Inner {
    config: FtsConfig,
    clock: Arc<dyn Clock>,
    database: Database,
    trust: Trust,
    /// Known once the port is.
    audiences: OnceLock<Vec<String>>,
    fault: Mutex<SubmitFault>,
    database_fault: Mutex<DatabaseFault>,
    submissions: AtomicU64,
    /// Bodies of submissions in the order they came, once they are asked for.
    recorded: Mutex<Option<Vec<serde_json::Value>>>,
    scheduling: AtomicBool,
}

impl Inner {
    fn audiences(&self) -> &[String] {
        self.audiences.get().map(Vec::as_slice).unwrap_or_default()
    }

    fn database_fault(&self) -> DatabaseFault {
        *self.database_fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self) -> SubmitFault {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A running FTS.
#[derive(Clone)]
pub struct Fts {
    inner: Arc<Inner>,
    server: Server,
}

impl Fts {
    /// Opens the database, starts the REST server and the scheduler; both end when `stop` fires. Transfers that an earlier
    /// run left READY or ACTIVE are run again.
    ///
    /// # Errors
    /// When a provider has no slash at its end, the database can't be opened, or the port can't be bound.
    pub async fn start(
        pki: &Pki,
        config: FtsConfig,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<Self> {
        for provider in &config.providers {
            ensure!(
                provider.issuer.ends_with('/'),
                "FTS wants a slash at the end of issuer {}",
                provider.issuer
            );
        }
        let database = Database::open(&config).await?;
        let mut write = database.write().await?;
        statement(
            "UPDATE t_file SET file_state = 'SUBMITTED', start_time = NULL, transfer_host = NULL, pid = NULL \
             WHERE file_state IN ('READY', 'ACTIVE')",
        )
        .execute(&mut write)
        .await?;
        write.commit().await?;

        let trust = Trust::new(pki, &config, Arc::clone(&clock))?;
        trust.fetch().await;
        let inner = Arc::new(Inner {
            clock,
            database,
            trust,
            audiences: OnceLock::new(),
            fault: Mutex::default(),
            database_fault: Mutex::default(),
            submissions: AtomicU64::new(0),
            recorded: Mutex::default(),
            scheduling: AtomicBool::new(true),
            config,
        });
        let router = dated(rest::router(Arc::clone(&inner)), Arc::clone(&inner.clock));
        let server = Server::start(router, pki.server_for_users()?, inner.config.port, stop.clone()).await?;
        let own = || vec![server.url()];
        let configured = &inner.config.audiences;
        inner.audiences.get_or_init(|| if configured.is_empty() { own() } else { configured.clone() });
        tokio::spawn(scheduler::run(Arc::clone(&inner), Dav::new(pki)?, stop));
        Ok(Self { inner, server })
    }

    /// The REST server's URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The REST server, to take it away and bring it back. The scheduler runs on without it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The SQLite file.
    pub fn database(&self) -> &Path {
        self.inner.database.path()
    }

    /// Whether new transfers are started. Running ones go on.
    pub fn set_scheduler(&self, on: bool) {
        self.inner.scheduling.store(on, Ordering::Relaxed);
    }

    /// Sets what happens to the next submissions.
    pub fn set_submit_fault(&self, fault: SubmitFault) {
        *self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Sets what is wrong between the REST server and its database from now on.
    pub fn set_database_fault(&self, fault: DatabaseFault) {
        *self.inner.database_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many submissions arrived, refused ones too.
    pub fn submissions(&self) -> u64 {
        self.inner.submissions.load(Ordering::Relaxed)
    }

    /// Keeps the bodies of submissions from now on.
    pub fn record(&self) {
        self.inner.recorded.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    /// The bodies of the submissions that arrived since [`Self::record`], as they were posted.
    pub fn recorded(&self) -> Vec<serde_json::Value> {
        self.inner.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// Counts jobs, and files by state.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn counts(&self) -> Result<Counts> {
        let reader = &self.inner.database.reader;
        let jobs = statement("SELECT count(*) FROM t_job").fetch_one(reader).await?;
        let files = statement("SELECT file_state, count(*) FROM t_file GROUP BY file_state")
            .fetch_all(reader)
            .await?;
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Counts {
            jobs: whole(jobs.get(0)),
            files: files.iter().map(|row| (row.get(0), whole(row.get(1)))).collect(),
        })
    }
}
