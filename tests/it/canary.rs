//! A secret that was given to us is in nothing that we write: both daemons at trace level over the whole main job, and every
//! file they leave.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnectOptions;
use testbed::grid::{Grid, GridSettings};
use testbed::issuer::Fault;
use tokio::process::Command;

/// Secrets, by what they are.
type Secrets = BTreeMap<String, Vec<u8>>;

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_or_left_in_a_file() {
    let folder = tempfile::Builder::new().prefix("canary").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    grid.fts.set_scheduler(false);
    // First as it should go; then with the caches gone, and an issuer that gives what nobody asked for.
    for (format, fault) in [("text", Fault::None), ("json", Fault::WrongAudience)] {
        if fault == Fault::WrongAudience {
            for cache in ["conveyor-tokens", "exchange-tokens"] {
                std::fs::remove_dir_all(grid.folder.join(cache)).unwrap();
            }
            grid.rucio.requeue(100).await.unwrap();
        }
        grid.issuer.set_fault(fault);
        let submit = tracing(grid.conveyor(&["--run-once", "--json"]), "CONVEYOR", format).await;
        let exchange =
            tracing(grid.token_exchange(&["--run-once", "--json"]), "TOKEN_EXCHANGE", format).await;
        let secrets = secrets(&grid).await;
        assert!(secrets.len() >= 4 + 7 * 3, "{:?}", secrets.keys());
        for (what, output) in [("conveyor", &submit), ("token-exchange", &exchange)] {
            absent(&secrets, &output.stdout, &format!("{what}: standard output"));
            absent(&secrets, &output.stderr, &format!("{what}: log"));
        }
        let said = String::from_utf8_lossy(&submit.stderr);
        assert!(said.contains("TRACE") && said.contains("idle connection"), "the libraries below talk too");
        // FTS's database holds tokens in clear, as the real one does; the secret files are where the secrets come from.
        let meant = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("fts.sqlite") || name.ends_with(".secret")
        };
        let files: Vec<PathBuf> = files(&grid.folder).into_iter().filter(|path| !meant(path)).collect();
        assert!(files.iter().any(|path| path.ends_with("exchange-tokens/db")), "the caches are looked at");
        for path in files {
            absent(&secrets, &std::fs::read(&path).unwrap(), &path.display().to_string());
        }
    }
    // The search can find.
    let database = std::fs::read(grid.fts.database()).unwrap();
    assert!(secrets(&grid).await.values().filter(|secret| find(&database, secret)).count() >= 3);
}

/// Runs a daemon that logs all it can.
async fn tracing(mut daemon: Command, prefix: &str, format: &str) -> Output {
    daemon.env(format!("{prefix}__LOG__LEVEL"), "trace").env(format!("{prefix}__LOG__FORMAT"), format);
    daemon.output().await.unwrap()
}

/// Both client secrets, as they are and as HTTP Basic sends them, and every token that FTS holds: whole, and its signature and
/// claims each.
async fn secrets(grid: &Grid) -> Secrets {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut secrets = Secrets::new();
    for client in ["rucio-conveyor", "fts-exchange"] {
        let secret = std::fs::read_to_string(grid.folder.join(format!("{client}.secret"))).unwrap();
        let basic = STANDARD.encode(format!("{client}:{}", secret.trim()));
        secrets.insert(format!("secret of {client}"), secret.trim().into());
        secrets.insert(format!("secret of {client}, Basic"), basic.into());
    }
    let options = SqliteConnectOptions::new().filename(grid.fts.database()).read_only(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let rows = sqlx::query("SELECT token_id, access_token FROM t_token").fetch_all(&pool).await.unwrap();
    for row in rows {
        let (id, token): (String, String) = (row.get(0), row.get(1));
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        secrets.insert(format!("token {id}: claims"), parts[1].into());
        secrets.insert(format!("token {id}: signature"), parts[2].into());
        secrets.insert(format!("token {id}"), token.clone().into());
    }
    secrets
}

fn absent(secrets: &Secrets, text: &[u8], place: &str) {
    for (what, secret) in secrets {
        assert!(!find(text, secret), "the {what} is in: {place}");
    }
}

/// Whether `secret` is in `text`.
fn find(text: &[u8], secret: &[u8]) -> bool {
    text.windows(secret.len()).any(|window| window == secret)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}
