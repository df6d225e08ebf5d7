//! Two VOs in one Rucio database that Rucio's own code made, each with an issuer and two storages of its own, at one FTS; and the
//! daemons' configuration beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use testbed::binaries::Binaries;
use testbed::content::content;
use testbed::fts::{Fts, FtsConfig, Provider, RestSettings};
use testbed::issuer::{Client, GrantType, Issuer};
use testbed::pki::Pki;
use testbed::rucio::RucioDatabase;
use testbed::storage::{Storage, StorageConfig};
use token_core::{ClientSecret, Clock, ScopeSet, SystemClock, random_hex};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The VOs.
pub(crate) const VOS: [&str; 2] = ["atl", "cms"];
/// Requests of each.
pub(crate) const FILES: usize = 12;
/// What conveyor's clients may ask for.
const SCOPES: &str = "fts storage.read:/ storage.modify:/ offline_access";

/// What is running.
pub(crate) struct Rig {
    pub(crate) folder: PathBuf,
    pub(crate) pki: Pki,
    pub(crate) issuers: BTreeMap<&'static str, Issuer>,
    /// By VO and RSE.
    pub(crate) storages: BTreeMap<(&'static str, &'static str), Storage>,
    pub(crate) fts: Fts,
    pub(crate) rucio: RucioDatabase,
    binaries: Binaries,
    programs: PathBuf,
    stop: CancellationToken,
    _temporary: tempfile::TempDir,
}

/// How it is set up.
pub(crate) struct Wanted<'a> {
    /// The folder with Rucio's programs.
    pub(crate) programs: &'a Path,
    /// The REST server of FTS.
    pub(crate) rest: RestSettings,
    /// A Rucio database on PostgreSQL that is there and empty, instead of SQLite.
    pub(crate) postgres: Option<String>,
}

impl Rig {
    pub(crate) async fn start(wanted: Wanted<'_>) -> Self {
        let temporary =
            tempfile::Builder::new().prefix("vos").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock) as Arc<dyn Clock>);
        let pki = Pki::create(&folder).unwrap();
        let (mut issuers, mut storages, mut providers) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for vo in VOS {
            let client = |name: &str, grant| {
                let secret = random_hex();
                write_secret(&folder.join(format!("{name}-{vo}.secret")), &secret);
                let (id, scopes) = (format!("{name}-{vo}"), ScopeSet::parse(SCOPES).unwrap());
                let (secret, token_life) = (ClientSecret::new(secret), Duration::from_secs(3600));
                Client { id, secret, key: None, scopes, grants: vec![grant], token_life }
            };
            let exchange = client("exchange", GrantType::TokenExchange);
            providers.push((vo, exchange.secret.clone()));
            let clients = vec![client("conveyor", GrantType::ClientCredentials), exchange];
            let issuer = Issuer::start(&pki, clients, Arc::clone(&clock), stop.clone()).await.unwrap();
            for (rse, audiences) in [("DISK-A", vec!["127.0.0.1".to_owned()]), ("DISK-B", Vec::new())] {
                let config = StorageConfig {
                    restricted_paths: vec!["/rucio".into()],
                    extra_audiences: audiences,
                    ..StorageConfig::new(issuer.name())
                };
                let storage = Storage::start(&pki, config, Arc::clone(&clock), stop.clone()).await.unwrap();
                storage.fetch_keys().await.unwrap();
                storages.insert((vo, rse), storage);
            }
            issuers.insert(vo, issuer);
        }
        let provider = |(vo, client_secret): (&str, ClientSecret)| Provider {
            name: vo.to_owned(),
            issuer: issuers[vo].name().to_owned(),
            client_id: format!("exchange-{vo}"),
            client_secret,
            vo: vo.to_owned(),
        };
        let config = FtsConfig {
            audiences: vec!["127.0.0.1".into()],
            rest: wanted.rest,
            ..FtsConfig::new(folder.join("fts.sqlite"), providers.into_iter().map(provider).collect())
        };
        let fts = Fts::start(&pki, config, clock, stop.clone()).await.unwrap();
        fts.record();
        let rucio = database(&folder, wanted.programs, wanted.postgres, &fts, &storages).await;
        let binaries = Binaries::find(false).await.unwrap();
        let programs = wanted.programs.to_owned();
        let rig = Self {
            folder,
            pki,
            issuers,
            storages,
            fts,
            rucio,
            binaries,
            programs,
            stop,
            _temporary: temporary,
        };
        rig.fill().await;
        rig.configure("");
        rig
    }

    /// Puts the files where Rucio knows them.
    async fn fill(&self) {
        let rows = "SELECT s.vo, rep.name, rep.bytes FROM replicas rep JOIN rses s ON s.id = rep.rse_id AND rep.state = 'A'";
        for row in self.rucio.texts(rows).await.unwrap() {
            let [vo, name, bytes] = <[_; 3]>::try_from(row).unwrap().map(Option::unwrap);
            let path = testbed::rucio::lfn2pfn("data", &name);
            let body = content(&name, bytes.parse().unwrap());
            let ((_, _), storage) =
                self.storages.iter().find(|((of, rse), _)| **of == vo && *rse == "DISK-A").unwrap();
            storage.add_file(&format!("/vo/rucio/{path}"), Bytes::from(body));
        }
    }

    /// Writes both configuration files; `more` stands at the end of `conveyor`'s.
    pub(crate) fn configure(&self, more: &str) {
        let (ca, folder) = (self.pki.ca_file().display(), self.folder.display());
        let issuer = |vo: &str, client: &str| {
            format!(
                "url = \"{}\"\nclient_id = \"{client}-{vo}\"\nclient_secret_file = \"{folder}/{client}-{vo}.secret\"\n\
                 ca_file = \"{ca}\"\nretry_total_s = 2\n",
                self.issuers[vo].name()
            )
        };
        let cache =
            |name: &str| format!("[cache]\npath = \"{folder}/{name}\"\nkey_file = \"{folder}/{name}.key\"\n");
        let mut conveyor = format!(
            "[rucio]\ndatabase = \"{}\"\nvos = [\"*\"]\n[fts]\nca_file = \"{ca}\"\n[submit]\nfiles_per_job = 5\nsleep_s = 1\n{}",
            self.rucio.url(),
            cache("conveyor-tokens")
        );
        let mut exchange = format!(
            "[fts]\ndatabase = \"sqlite:///{folder}/fts.sqlite\"\n[worker]\ninterval_ms = 200\n{}",
            cache("exchange-tokens")
        );
        for vo in VOS {
            write!(conveyor, "[[vo]]\nname = \"{vo}\"\n[vo.issuer]\n{}", issuer(vo, "conveyor")).unwrap();
            write!(exchange, "[[issuer]]\n{}", issuer(vo, "exchange")).unwrap();
        }
        for storage in self.storages.values() {
            let url = storage.url();
            write!(exchange, "[[endpoint]]\nurl = \"{url}\"\nbase_path = \"/vo\"\narea = \"/rucio\"\n")
                .unwrap();
        }
        std::fs::write(self.folder.join("conveyor.toml"), conveyor + more).unwrap();
        std::fs::write(self.folder.join("token-exchange.toml"), exchange).unwrap();
    }

    pub(crate) fn conveyor(&self, arguments: &[&str]) -> Command {
        self.daemon(&self.binaries.conveyor, "conveyor.toml", arguments)
    }

    pub(crate) fn token_exchange(&self, arguments: &[&str]) -> Command {
        self.daemon(&self.binaries.token_exchange, "token-exchange.toml", arguments)
    }

    fn daemon(&self, program: &Path, config: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.folder.join(config)).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// One pass of `conveyor`, and its report.
    pub(crate) async fn once(&self) -> (Output, Value) {
        let output = self.conveyor(&["--run-once", "--json"]).output().await.unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output, report)
    }

    /// Passes of `token-exchange`, while FTS transfers, until that many files are finished.
    pub(crate) async fn transfer(&self, files: u64) {
        if !self.folder.join("made").exists() {
            let made = self.token_exchange(&["init-db"]).output().await.unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            std::fs::write(self.folder.join("made"), "").unwrap();
        }
        let end = Instant::now() + Duration::from_secs(180);
        loop {
            let output = self.token_exchange(&["--run-once"]).output().await.unwrap();
            let counts = self.fts.counts().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(counts.files_in("FAILED"), 0, "{said}");
            if counts.files_in("FINISHED") == files {
                return;
            }
            assert!(Instant::now() < end, "not within a minute: {counts:?} {said}");
        }
    }

    /// Rucio's configuration for several VOs.
    pub(crate) fn rucio_cfg(&self) -> PathBuf {
        self.folder.join("rucio.cfg")
    }

    /// Tells Rucio its one issuer.
    pub(crate) fn name_an_issuer(&self, vo: &str) {
        let secret = std::fs::read_to_string(self.folder.join(format!("conveyor-{vo}.secret"))).unwrap();
        let client = json!({"box": {"client_id": format!("conveyor-{vo}"), "client_secret": secret.trim(),
            "issuer": self.issuers[vo].name(), "redirect_uris": []}});
        let secrets = self.folder.join("idpsecrets.json.secret");
        std::fs::write(&secrets, client.to_string()).unwrap();
        let text = std::fs::read_to_string(self.rucio_cfg()).unwrap();
        let text = text.split("[oidc]").next().unwrap();
        let oidc = format!("[oidc]\nidpsecrets = {}\nadmin_issuer = box\n", secrets.display());
        std::fs::write(self.rucio_cfg(), text.to_owned() + &oidc).unwrap();
    }

    /// Takes a VO's own settings out of `conveyor`'s configuration.
    pub(crate) fn drop_vo_settings(&self, vo: &str) {
        let file = self.folder.join("conveyor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once(&format!("[[vo]]\nname = \"{vo}\"\n")).unwrap();
        let after = rest.split_once("[[vo]]").map_or("", |(_, after)| after);
        std::fs::write(file, format!("{before}[[vo]]{after}")).unwrap();
    }

    /// Runs one of Rucio's programs to its end.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).env("REQUESTS_CA_BUNDLE", self.pki.ca_file());
        run(command.env("RUCIO_CONFIG", self.rucio_cfg())).await
    }

    /// The rows of a statement, a line each.
    pub(crate) async fn lines(&self, statement: &str) -> Vec<String> {
        let line = |row: Vec<Option<String>>| {
            row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")
        };
        self.rucio.texts(statement).await.unwrap().into_iter().map(line).collect()
    }

    /// The same in FTS's database.
    pub(crate) async fn fts_rows<T>(&self, statement: &'static str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        let options = SqliteConnectOptions::new().filename(self.fts.database()).read_only(true);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query_as(statement).fetch_all(&pool).await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The database, made by Rucio's own code.
async fn database(
    folder: &Path,
    programs: &Path,
    postgres: Option<String>,
    fts: &Fts,
    storages: &BTreeMap<(&'static str, &'static str), Storage>,
) -> RucioDatabase {
    let file = folder.join("rucio.sqlite");
    let url = match &postgres {
        Some(url) => url.replacen("postgresql://", "postgresql+psycopg://", 1),
        None => format!("sqlite:///{}", file.display()),
    };
    let config = format!(
        "[common]\nloglevel = INFO\nmulti_vo = True\n[database]\ndefault = {url}\n[conveyor]\ntransfertool = fts3\n\
         poller_oidc_support = true\n[policy]\npermission = generic\nschema = generic\n[cache]\nenabled = false\n"
    );
    std::fs::write(folder.join("rucio.cfg"), config).unwrap();
    let mut vos = json!({});
    for ((vo, rse), storage) in storages {
        vos[*vo][*rse] = json!({"port": storage.server().address().port()});
    }
    let topology = folder.join("topology.json");
    std::fs::write(&topology, json!({"fts": fts.url(), "files": FILES, "vos": vos}).to_string()).unwrap();
    let mut command = Command::new(programs.join("python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("rucio/make_vos.py")).arg(topology);
    run(command.env("RUCIO_CONFIG", folder.join("rucio.cfg"))).await;
    match postgres {
        Some(url) => RucioDatabase::postgres(&url).await.unwrap(),
        None => RucioDatabase::open(&file).await.unwrap(),
    }
}

async fn run(command: &mut Command) -> String {
    let done = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    said
}

fn write_secret(path: &Path, secret: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    writeln!(file, "{secret}").unwrap();
}
