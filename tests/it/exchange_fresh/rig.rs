//! A grid whose endpoint tokens live a short while, and files that wait in its FTS.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool};
use testbed::grid::{Grid, GridSettings};
use token_core::{Clock as _, SystemClock};
use tokio::process::Child;

pub(crate) struct Rig {
    _folder: tempfile::TempDir,
    pub(crate) grid: Grid,
    pub(crate) fts: SqlitePool,
}

impl Rig {
    /// Without transfers, until the scheduler is set to work.
    pub(crate) async fn start(change: impl FnOnce(&mut GridSettings)) -> Self {
        let folder =
            tempfile::Builder::new().prefix("fresh").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut settings = GridSettings::new(folder.path().join("grid"));
        change(&mut settings);
        let grid = Grid::start(settings).await.unwrap();
        grid.fts.set_scheduler(false);
        let options =
            SqliteConnectOptions::new().filename(grid.fts.database()).busy_timeout(Duration::from_secs(60));
        let fts = SqlitePool::connect_with(options).await.unwrap();
        let rig = Self { _folder: folder, grid, fts };
        rig.change_rucio("UPDATE requests SET state = 'W'").await;
        rig
    }

    /// Queues so many more requests of a kind, and submits all that is queued.
    pub(crate) async fn submit(&self, kind: &str, count: usize) {
        let some = format!(
            "SELECT id FROM requests WHERE state = 'W' AND name LIKE '{kind}.%' ORDER BY name LIMIT {count}"
        );
        self.change_rucio(&format!("UPDATE requests SET state = 'Q' WHERE id IN ({some})")).await;
        let done = self.grid.conveyor(&["--run-once"]).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn change_rucio(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql)).execute(self.grid.rucio.pool()).await.unwrap();
    }

    /// Adds lines to a section of the worker's configuration.
    pub(crate) fn configure(&self, section: &str, lines: &str) {
        let before = std::fs::read_to_string(self.grid.exchange_config()).unwrap();
        let after = match before.contains(section) {
            true => before.replacen(section, &format!("{section}\n{lines}"), 1),
            false => format!("{section}\n{lines}\n{before}"),
        };
        assert_ne!(before, after);
        std::fs::write(self.grid.exchange_config(), after).unwrap();
    }

    /// A worker that goes on, with caches of its own.
    pub(crate) fn worker(&self, name: &str) -> Child {
        let mut command = self.grid.token_exchange(&[]);
        let path = self.grid.folder.join(name);
        command.env("TOKEN_EXCHANGE__CACHE__PATH", &path);
        command.env("TOKEN_EXCHANGE__CACHE__KEY_FILE", path.with_extension("key"));
        self.grid.spawn(command, &format!("{name}.log")).unwrap()
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(&self.grid.folder).join(format!("{name}.log"))).unwrap()
    }

    /// Waits until a worker has written this into its log.
    pub(crate) async fn until_said(&self, name: &str, words: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.log(name).contains(words) {
            assert!(Instant::now() < end, "`{words}` was not said: {}", self.log(name));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn change(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql)).execute(&self.fts).await.unwrap();
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {what}");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.fts).await.unwrap()
    }

    /// Waits until there are so many rows of `what`.
    pub(crate) async fn until(&self, what: &str, rows: i64, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let now = self.count(what).await;
            if now == rows {
                return;
            }
            if Instant::now() >= end {
                let states = "SELECT DISTINCT file_state || ' ' || coalesce(reason, '') FROM t_file";
                let states: Vec<String> = sqlx::query_scalar(states).fetch_all(&self.fts).await.unwrap();
                panic!("there are {now} of {what}, not {rows}; files: {states:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Id, token and end (seconds from now) of what was handed over.
    pub(crate) async fn handed_over(&self) -> Vec<(String, String, i64)> {
        let sql = "SELECT token_id, access_token, unixepoch(access_token_expiry) - ? FROM t_token \
                   WHERE token_id IN (SELECT src_token_id FROM t_file UNION SELECT dst_token_id FROM t_file) ORDER BY 1";
        sqlx::query_as(sql).bind(SystemClock.now().0).fetch_all(&self.fts).await.unwrap()
    }
}
