//! The database server: the one that `FTS_MYSQL` names, or a MariaDB of our own, stopped at the end.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use token_core::random_hex;

pub(crate) struct Server {
    pub(crate) url: String,
    /// Ours, with its folder.
    own: Option<(Child, tempfile::TempDir)>,
}

impl Server {
    pub(crate) async fn find() -> Result<Self> {
        match std::env::var("FTS_MYSQL") {
            Ok(url) => Ok(Self { url, own: None }),
            Err(_) => Self::start().await,
        }
    }

    async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("mariadb").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (password, user) = (random_hex(), user()?);
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args([format!("--user={user}"), format!("--datadir={}", path("data"))])
            .stdout(Stdio::null())
            .output();
        let made = made.context("mariadb-install-db is not there (Debian: apt-get install mariadb-server-core mariadb-client-core), and FTS_MYSQL is not set")?;
        ensure!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(
            path("init.sql"),
            format!(
                "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys' AND NOT (User = 'root' AND Host = 'localhost');\n\
                 FLUSH PRIVILEGES;\nALTER USER root@localhost IDENTIFIED BY '{password}';\n"
            ),
        )?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(path("log"))?;
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin", "--socket=own.sock"])
            .args([
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=256M",
                "--max-connections=100",
            ])
            .args([format!("--user={user}"), format!("--port={port}"), format!("--datadir={}", path("data"))])
            .args([
                format!("--tmpdir={}", folder.path().display()),
                format!("--init-file={}", path("init.sql")),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting mariadbd")?;
        let mut server =
            Self { url: format!("mysql://root:{password}@127.0.0.1:{port}/"), own: Some((child, folder)) };
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let Some((child, folder)) = &mut server.own else { bail!("it is ours") };
            let log = std::fs::read_to_string(folder.path().join("log"))?;
            if log.contains("ready for connections") {
                return Ok(server);
            }
            ensure!(child.try_wait()?.is_none() && Instant::now() < end, "mariadbd did not start: {log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn user() -> Result<String> {
    let output = Command::new("id").arg("-un").output().context("id")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
