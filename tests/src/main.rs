//! Starts a grid in a box on loopback, runs the main job on it, and says what came of it.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use testbed::grid::{Grid, GridSettings, terminate};
use testbed::job::{Outcome, Progress, Trouble, run};
use testbed::rucio::RucioDatabase;
use testbed::storage::Storage;

/// A grid in a box: 480 real queued Rucio requests, an issuer, an FTS, storage endpoints that check every token. Runs
/// conveyor and token-exchange against them and verifies every byte at the destination.
#[derive(Debug, Parser)]
#[command(name = "testbed", version, about)]
struct Arguments {
    /// Print one JSON object on standard output instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave the grid up afterwards, with every address and the commands to look around; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// Take the issuer down for 10 seconds in the middle.
    #[arg(long)]
    fault: bool,
    /// Kill conveyor (signal 9) in the middle of submission and start it again.
    #[arg(long)]
    kill: bool,
    /// Where the grid's files go; made anew at every start.
    #[arg(long, value_name = "FOLDER", default_value = "target/grid")]
    folder: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Queue the submitted requests of a grid that was left up again, as Rucio's finisher does after a failure.
    Requeue {
        /// Most requests to queue.
        #[arg(long, default_value_t = u32::MAX)]
        most: u32,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match work(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("testbed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn work(arguments: Arguments) -> Result<bool> {
    if let Some(Command::Requeue { most }) = arguments.command {
        let path = arguments.folder.join("rucio.sqlite").canonicalize().context("is the grid up?")?;
        let again = RucioDatabase::open(&path).await?.requeue(most).await?;
        print(&format!("{again} requests queued again\n"));
        return Ok(true);
    }
    say("building the daemons, starting the grid ...");
    let grid = Grid::start(GridSettings { show_build: true, ..GridSettings::new(&arguments.folder) }).await?;
    say(&format!(
        "grid up: issuer {}, FTS {}, {} storages",
        grid.issuer.name(),
        grid.fts.url(),
        grid.storages.len()
    ));
    say(&format!("conveyor        --config {} --run-once", grid.conveyor_config().display()));
    say(&format!("token-exchange  --config {}", grid.exchange_config().display()));

    let mut line = Line::new();
    let trouble = Trouble { fault: arguments.fault, kill: arguments.kill };
    let (outcome, exchange) = run(&grid, trouble, |progress| line.show(progress)).await?;
    line.end();
    match arguments.json {
        true => print(&format!("{}\n", serde_json::to_string(&outcome)?)),
        false => print(&table(&outcome)),
    }
    if arguments.keep {
        print_addresses(&grid).await?;
        tokio::signal::ctrl_c().await?;
        say("ending the grid");
    }
    terminate(exchange).await?;
    grid.stop();
    Ok(outcome.is_whole())
}

/// The line that moves while it runs. On a terminal it is one line; elsewhere a new one every two seconds.
struct Line {
    terminal: bool,
    began: Instant,
    last: Option<Instant>,
}

impl Line {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), began: Instant::now(), last: None }
    }

    fn show(&mut self, progress: &Progress) {
        let pause = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(2) };
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let files: Vec<_> = progress.files.iter().map(|(state, count)| format!("{state} {count}")).collect();
        let line = format!(
            "{:5.1} s  jobs {}  token calls {}  {}",
            self.began.elapsed().as_secs_f64(),
            progress.jobs,
            progress.issuer_token_calls,
            files.join("  ")
        );
        match self.terminal {
            true => {
                let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
                let _ = std::io::stderr().flush();
            }
            false => say(&line),
        }
    }

    fn end(&self) {
        if self.terminal {
            say("");
        }
    }
}

fn table(outcome: &Outcome) -> String {
    let mut rows = vec![
        ("requests", outcome.requests.to_string()),
        ("submitted", format!("{} in {} FTS jobs", outcome.submitted, outcome.fts_jobs)),
        ("files finished", outcome.finished.to_string()),
        ("files failed", outcome.failed.to_string()),
        (
            "verified",
            format!(
                "{} files, {} bytes, adler32 at the destination",
                outcome.files_verified, outcome.bytes_verified
            ),
        ),
        ("not submitted", outcome.left.values().sum::<usize>().to_string()),
    ];
    rows.extend(outcome.left.iter().map(|(reason, count)| ("", format!("{count}  {reason}"))));
    let states: Vec<_> = outcome.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    rows.push(("states in Rucio", states.join("  ")));
    rows.push(("issuer token calls", outcome.issuer_token_calls.to_string()));
    rows.push(("storage refusals", outcome.storage_refusals.to_string()));
    rows.push(("seconds", format!("{:.1}", outcome.seconds)));
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<20}{value}\n")).collect();
    if !outcome.is_whole() {
        text.push_str("NOT WHOLE: see the logs beside the configuration files named above\n");
    }
    text
}

async fn print_addresses(grid: &Grid) -> Result<()> {
    let folder = grid.folder.display();
    let program =
        std::env::current_exe().map_or_else(|_| "testbed".into(), |path| path.display().to_string());
    let ca = grid.pki.ca_file().display();
    let (source, destination) = copy_of(grid).await?;
    let mut text = format!("\nissuer        {}\nFTS           {}\n", grid.issuer.name(), grid.fts.url());
    for (rse, storage) in &grid.storages {
        text.push_str(&format!("{rse:<14}{}\n", storage.url()));
    }
    text.push_str(&format!(
        "Rucio         {rucio}\nFTS database  {fts}\nlogs          {folder}/conveyor.log {folder}/token-exchange.log\n\n\
         look around:\n\
         \x20 curl --cacert {ca} {issuer}.well-known/openid-configuration\n\
         \x20 curl --cacert {ca} {fts_url}/whoami\n\
         \x20 sqlite3 {rucio} 'select state, count(*) from requests group by state'\n\
         \x20 sqlite3 {fts} 'select file_state, count(*) from t_file group by file_state'\n\
         \x20 sqlite3 {fts} 'select token_id, audience, scope, access_token_expiry from t_token'\n\
         queue the requests again and submit them with the token that is kept in sled:\n\
         \x20 {program} --folder {folder} requeue\n\
         \x20 {conveyor} --config {conveyor_config} --run-once\n\
         be a user of the FTS, in another shell, and copy a file:\n\
         \x20 export FTS_URL={fts_url} X509_CERT_DIR={folder} BEARER_TOKEN_FILE={folder}/user-token\n\
         \x20 {wlcg_token} get --issuer {issuer} --client-id rucio-conveyor --client-secret-file {secret} \\\n\
         \x20   --audience {audience} --scope 'fts storage.read:/ storage.modify:/' --ca-file {ca} > $BEARER_TOKEN_FILE\n\
         \x20 {fts_client} whoami\n\
         \x20 {fts_client} submit --blocking {source} {destination}\n\
         Ctrl-C ends the grid.\n",
        rucio = grid.rucio.path().display(),
        fts = grid.fts.database().display(),
        issuer = grid.issuer.name(),
        fts_url = grid.fts.url(),
        conveyor = grid.binaries.conveyor.display(),
        conveyor_config = grid.conveyor_config().display(),
        wlcg_token = grid.binaries.wlcg_token.display(),
        fts_client = grid.binaries.fts_client.display(),
        secret = grid.conveyor_secret().display(),
        audience = grid.fts.server().address().ip(),
    ));
    print(&text);
    Ok(())
}

/// A file that is there, and a place for a copy of it at another storage, as URLs.
async fn copy_of(grid: &Grid) -> Result<(String, String)> {
    let file = grid.rucio.files().await?.into_iter().next().context("a file in Rucio's database")?;
    let davs = |storage: &Storage| storage.url().replacen("https://", "davs://", 1);
    let source = grid.storages.get(&file.rse).context("the file's storage")?;
    let other = grid.sites.iter().map(|(site, _)| site).find(|site| site.rse != file.rse);
    let other = other.context("another storage")?;
    let destination = grid.storages.get(&other.rse).context("the other storage")?;
    let prefix = other.prefix.trim_matches('/');
    Ok((davs(source) + &file.path, format!("{}/{prefix}/by-hand/copy", davs(destination))))
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
