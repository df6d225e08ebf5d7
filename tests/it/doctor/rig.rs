//! A grid in which all is well until something is broken, and what `doctor` says of it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use tempfile::TempDir;
use testbed::grid::{Grid, GridSettings};

/// The grid, and FTS's database.
pub(crate) struct Rig {
    pub(crate) grid: Grid,
    pub(crate) fts: SqlitePool,
    folder: TempDir,
}

/// What was found.
pub(crate) struct Seen {
    pub(crate) code: i32,
    findings: Vec<Value>,
}

impl Rig {
    /// A grid with these settings changed; the RSEs that nobody can use by token are not there.
    pub(crate) async fn with(change: impl FnOnce(&mut GridSettings)) -> Self {
        let folder =
            tempfile::Builder::new().prefix("doctor").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut settings = GridSettings::new(folder.path().join("grid"));
        change(&mut settings);
        let grid = Grid::start(settings).await.unwrap();
        grid.fts.set_scheduler(false);
        let options = SqliteConnectOptions::new()
            .filename(grid.fts.database())
            .busy_timeout(std::time::Duration::from_secs(60));
        let fts = SqlitePool::connect_with(options).await.unwrap();
        let rig = Self { grid, fts, folder };
        rig.rucio("UPDATE rses SET deleted = 1 WHERE rse IN ('ROOT-ONLY', 'NO-FTS')").await;
        rig
    }

    pub(crate) async fn healthy() -> Self {
        Self::with(|_| ()).await
    }

    /// Changes Rucio's database.
    pub(crate) async fn rucio(&self, sql: &str) {
        self.grid.rucio.run(sql).await.unwrap();
    }

    /// A certificate authority of the same name as the grid's, and of another key.
    pub(crate) fn namesake(&self) -> String {
        let folder = self.folder.path().join("strange");
        std::fs::create_dir(&folder).unwrap();
        testbed::pki::Pki::create(&folder).unwrap().ca_file().display().to_string()
    }

    /// Changes a daemon's configuration: every `old` becomes `new`.
    pub(crate) fn configure(&self, file: &str, changes: &[(&str, &str)]) {
        let path = self.grid.folder.join(file);
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (old, new) in changes {
            assert!(text.contains(old), "`{old}` in {text}");
            text = text.replace(old, new);
        }
        std::fs::write(path, text).unwrap();
    }

    /// What `conveyor doctor` says.
    pub(crate) async fn conveyor(&self) -> Seen {
        let before = self.content().await;
        let output = self.grid.conveyor(&["doctor", "--json"]).output().await.unwrap();
        assert_eq!(self.content().await, before, "a database was changed");
        assert!(!self.grid.folder.join("conveyor-tokens").exists(), "a cache was made");
        self.seen(&output)
    }

    /// What `token-exchange doctor` says, with these arguments too.
    pub(crate) async fn exchange(&self, more: &[&str]) -> Seen {
        let before = self.content().await;
        let mut command = self.grid.token_exchange(&["doctor", "--json"]);
        let output = command.args(more).output().await.unwrap();
        assert_eq!(self.content().await, before, "a database was changed");
        assert!(!self.grid.folder.join("exchange-tokens").exists(), "a cache was made");
        self.seen(&output)
    }

    /// The same with a token in a file, as `conveyor` would submit with, but for these claims.
    pub(crate) async fn exchange_of(&self, claims: Value) -> Seen {
        let mut all = serde_json::json!({"aud": "127.0.0.1", "sub": "rucio-conveyor", "client_id": "rucio-conveyor",
            "scope": "fts storage.read:/ storage.modify:/"});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let token = self.grid.issuer.mint(all).unwrap();
        let path = self.folder.path().join("subject");
        std::fs::write(&path, token.expose()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.exchange(&["--subject-token-file", path.to_str().unwrap()]).await
    }

    /// Changes FTS's database.
    pub(crate) async fn fts(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&self.fts).await.unwrap();
    }

    fn seen(&self, output: &Output) -> Seen {
        self.shows_no_secret(output);
        let text = String::from_utf8_lossy(&output.stdout);
        let told: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let code = output.status.code().unwrap();
        assert_eq!(told["exit_code"], code, "{told}");
        Seen { code, findings: told["findings"].as_array().unwrap().clone() }
    }

    /// No token and no secret stands in what was printed.
    pub(crate) fn shows_no_secret(&self, output: &Output) {
        let all = [output.stdout.as_slice(), &output.stderr].concat();
        let all = String::from_utf8_lossy(&all);
        assert!(!all.contains("eyJ"), "a token: {all}");
        for client in ["rucio-conveyor", "fts-exchange", "rucio-submitter"] {
            let path = self.grid.folder.join(format!("{client}.secret"));
            let Ok(secret) = std::fs::read_to_string(path) else { continue };
            assert!(!all.contains(secret.trim()), "the secret of {client}: {all}");
        }
    }

    /// Everything in both databases.
    async fn content(&self) -> (Vec<u8>, Vec<String>) {
        let rucio = std::fs::read(self.grid.folder.join("rucio.sqlite")).unwrap();
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut all = Vec::new();
        for table in sqlx::query_scalar::<_, String>(tables).fetch_all(&self.fts).await.unwrap() {
            let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
                .bind(&table)
                .fetch_all(&self.fts)
                .await
                .unwrap();
            let quoted: Vec<_> = columns.iter().map(|name| format!("quote(\"{name}\")")).collect();
            let sql =
                format!("SELECT '{table}: ' || {} FROM \"{table}\" ORDER BY 1", quoted.join(" || ',' || "));
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.fts).await.unwrap();
            all.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        (rucio, all)
    }
}

impl Seen {
    /// Asserts a line of this level about this party, with all these words in what was found and what to do.
    pub(crate) fn says(&self, level: &str, of: &str, words: &[&str]) -> &Self {
        let fits = |finding: &&Value| {
            let text = format!("{} {}", finding["found"], finding["do"]).replace("\\\"", "\"");
            finding["level"] == level
                && finding["of"].as_str().unwrap().contains(of)
                && words.iter().all(|word| text.contains(word))
        };
        assert!(
            self.findings.iter().any(|finding| fits(&finding)),
            "no {level} {of} {words:?} in\n{}",
            self.all()
        );
        self
    }

    /// Asserts the exit code.
    pub(crate) fn ends(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}", self.all());
        self
    }

    /// Asserts that nothing is red but lines about this party: one fault is one fault.
    pub(crate) fn blames_only(&self, of: &str) -> &Self {
        let mut red = self.findings.iter().filter(|finding| finding["level"] == "red");
        assert!(red.all(|finding| finding["of"].as_str().unwrap().contains(of)), "{}", self.all());
        self
    }

    /// Asserts that all is green.
    pub(crate) fn is_all_green(&self) -> &Self {
        assert!(self.findings.iter().all(|finding| finding["level"] == "green"), "{}", self.all());
        self.ends(0)
    }

    /// The lines of one check.
    pub(crate) fn count(&self, check: &str) -> usize {
        self.findings.iter().filter(|finding| finding["check"] == check).count()
    }

    fn all(&self) -> String {
        self.findings.iter().map(|finding| format!("{finding}\n")).collect()
    }
}
