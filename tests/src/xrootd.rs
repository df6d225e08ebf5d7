//! A real XRootD with SciTokens as a storage endpoint, on loopback.
//!
//! What XRootD 5.5.3 needs to run like this (observed): another user than root; a file of its own that makes it listen on loopback
//! only; and the issuer's keys in the cache of its SciTokens library, which knows no certificate authority but the system's.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::process::{Child, Command};

use crate::pki::Pki;

/// The user that XRootD becomes when root starts it: the one that Debian's package makes.
const USER: &str = "xrootd";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(60);
/// How long the keys in its cache hold, in seconds.
const KEYS_LIFE_S: i64 = 24 * 3600;

/// What there must be to run one.
#[derive(Clone, Debug)]
pub struct XrootdPrograms {
    /// `xrootd`, with the plug-ins for HTTP, third-party copy and SciTokens where it looks for them.
    pub xrootd: PathBuf,
    /// `tests/xrootd/loopback.c`, compiled.
    pub loopback: PathBuf,
    /// How fast it reads at most, for all clients together.
    pub bytes_per_s: Option<u64>,
}

/// An issuer that it trusts.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    /// The exact string of `iss`.
    pub name: String,
    /// Its keys, a JSON Web Key Set.
    pub jwks: serde_json::Value,
}

/// A running XRootD; it ends when this is dropped.
pub struct Xrootd {
    port: u16,
    folder: tempfile::TempDir,
    _process: Child,
}

impl Xrootd {
    /// Starts one that gives what is below `base_path` to `issuer`, in the area `restricted_path` only.
    ///
    /// # Errors
    /// When it does not listen after three tries of at most a minute; with the end of its log.
    pub async fn start(
        programs: &XrootdPrograms,
        pki: &Pki,
        issuer: &TrustedIssuer,
        base_path: &str,
        restricted_path: &str,
    ) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            // Somebody may take the port that was free a moment ago.
            match Self::start_once(programs, pki, issuer, base_path, restricted_path).await {
                Err(_) if tries < 3 => (),
                started => return started,
            }
        }
    }

    async fn start_once(
        programs: &XrootdPrograms,
        pki: &Pki,
        issuer: &TrustedIssuer,
        base_path: &str,
        restricted_path: &str,
    ) -> Result<Self> {
        // Not below the grid's folder, which only its owner may enter.
        let folder = tempfile::Builder::new().prefix("xrootd").tempdir().context("a folder for XRootD")?;
        let at = |name: &str| folder.path().join(name);
        for name in ["data", "run", "cache/scitokens"] {
            std::fs::create_dir_all(at(name))?;
        }
        let (certificate, key) = pki.server_pem();
        std::fs::write(at("cert.pem"), certificate)?;
        std::fs::write(at("key.pem"), key)?;
        std::fs::copy(pki.ca_file(), at("ca.pem"))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::write(at("scitokens.cfg"), scitokens(port, issuer, base_path, restricted_path))?;
        std::fs::write(at("xrootd.cfg"), configuration(folder.path(), port, programs.bytes_per_s))?;
        hold_keys(&at("cache/scitokens/scitokens_cpp.sqllite"), issuer).await?;
        own(folder.path(), 0o755)?;
        std::fs::set_permissions(at("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o400))?;

        let log = std::fs::File::create(at("log"))?;
        let mut command = Command::new(&programs.xrootd);
        if rustix::process::geteuid().is_root() {
            command.args(["-R", USER]);
        }
        let mut process = command
            .args(["-I", "v4", "-n", "grid", "-c"])
            .arg(at("xrootd.cfg"))
            .current_dir(at("run"))
            .env("LD_PRELOAD", &programs.loopback)
            .env("XDG_CACHE_HOME", at("cache"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", programs.xrootd.display()))?;
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.try_wait()?;
            if ended.is_some() || began.elapsed() > START {
                let log = std::fs::read_to_string(at("log")).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(12).collect();
                bail!(
                    "XRootD does not listen ({ended:?}): {}",
                    last.into_iter().rev().collect::<Vec<_>>().join(" | ")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { port, folder, _process: process })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `https://127.0.0.1:PORT`: its audience too.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Puts a file there.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add_file(&self, path: &str, content: &[u8]) -> Result<()> {
        let file = self.local(path)?;
        let parent = file.parent().context("a file has a folder")?;
        std::fs::create_dir_all(parent)?;
        std::fs::write(&file, content)?;
        Ok(())
    }

    /// Makes what was put there its own, so that it can write beside it.
    ///
    /// # Errors
    /// When that is not allowed.
    pub fn own_files(&self) -> Result<()> {
        own(&self.folder.path().join("data"), 0o755)
    }

    /// What is in a file there; none when there is no such file.
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.local(path).ok()?).ok()
    }

    /// What it has written about its work.
    pub fn log(&self) -> String {
        std::fs::read(self.folder.path().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn local(&self, path: &str) -> Result<PathBuf> {
        ensure!(!path.split('/').any(|part| part == ".."), "a path in the storage: {path}");
        Ok(self.folder.path().join("data").join(path.trim_start_matches('/')))
    }
}

fn configuration(folder: &Path, port: u16, bytes_per_s: Option<u64>) -> String {
    let folder = folder.display();
    let throttle = bytes_per_s.map_or_else(String::new, |rate| {
        format!("xrootd.fslib throttle default\nthrottle.throttle data {rate}\n")
    });
    format!(
        "oss.localroot {folder}/data\nall.adminpath {folder}/run\nall.pidpath {folder}/run\nxrd.port {port}\nxrd.network nodnr\n\
         xrd.protocol http:{port} libXrdHttp.so\nxrd.tls {folder}/cert.pem {folder}/key.pem\nxrd.tlsca certfile {folder}/ca.pem\n\
         all.export /\nxrootd.seclib libXrdSec.so\nsec.protocol ztn\nxrootd.chksum max 2 adler32\nofs.authorize 1\n\
         ofs.authlib libXrdAccSciTokens.so config={folder}/scitokens.cfg\nhttp.header2cgi Authorization authz\n\
         http.exthandler xrdtpc libXrdHttpTPC.so\nhttp.desthttps yes\nscitokens.trace all\ntpc.trace all\n{throttle}"
    )
}

fn scitokens(port: u16, issuer: &TrustedIssuer, base_path: &str, restricted_path: &str) -> String {
    format!(
        "[Global]\naudience_json = [\"https://127.0.0.1:{port}\"]\nonmissing = deny\n[Issuer grid]\nissuer = {}\n\
         base_path = {base_path}\nrestricted_path = {restricted_path}\nmap_subject = false\ndefault_user = {USER}\n",
        issuer.name
    )
}

/// Puts the issuer's keys where libscitokens keeps what it has fetched.
async fn hold_keys(cache: &Path, issuer: &TrustedIssuer) -> Result<()> {
    let later = time::OffsetDateTime::now_utc().unix_timestamp() + KEYS_LIFE_S;
    let keys = serde_json::json!({"expires": later, "next_update": later, "jwks": issuer.jwks});
    let mut database = SqliteConnectOptions::new().filename(cache).create_if_missing(true).connect().await?;
    sqlx::raw_sql("CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
        .execute(&mut database)
        .await?;
    sqlx::query("INSERT INTO keycache VALUES (?, ?)")
        .bind(&issuer.name)
        .bind(keys.to_string())
        .execute(&mut database)
        .await?;
    sqlx::Connection::close(database).await?;
    Ok(())
}

/// Gives a folder and what is in it to XRootD's user, when we are root.
fn own(folder: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let done = std::process::Command::new("chown").args(["-R", USER]).arg(folder).output()?;
    ensure!(done.status.success(), "chown: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
