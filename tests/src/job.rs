//! The main job: real queued Rucio requests, submitted by `conveyor`, their tokens exchanged by `token-exchange`, transferred
//! by FTS, and every byte looked at where it arrived.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;

use crate::content::adler32;
use crate::fts::SubmitFault;
use crate::grid::{Grid, Signal, signal, terminate};
use crate::issuer::Fault;
use crate::rucio::Wanted;

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(300);
/// In the fault run, the issuer goes away after this many token calls: the submission token and two of six endpoint tokens.
const FAULT_AFTER_CALLS: u64 = 3;
/// And for this long.
const FAULT_LASTS: Duration = Duration::from_secs(10);
/// In the kill run, `conveyor` is killed when FTS has had this many submissions.
const KILL_AFTER_SUBMISSIONS: u64 = 30;

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// The issuer is down for ten seconds in the middle.
    pub fault: bool,
    /// `conveyor` is killed in the middle of submission and started again.
    pub kill: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Requests in Rucio's database.
    pub requests: usize,
    /// Requests that Rucio's database shows as submitted.
    pub submitted: usize,
    /// Files that FTS shows as finished.
    pub finished: usize,
    /// Files that FTS shows as failed.
    pub failed: usize,
    /// Files whose bytes were read at the destination and have the checksum of Rucio's catalogue.
    pub files_verified: usize,
    /// Their bytes.
    pub bytes_verified: u64,
    /// Requests not submitted, by reason.
    pub left: BTreeMap<String, usize>,
    /// Requests by state, one letter, in Rucio's database.
    pub states: BTreeMap<String, i64>,
    /// Requests that reached the issuer's token endpoint.
    pub issuer_token_calls: u64,
    /// Jobs in FTS's database.
    pub fts_jobs: u64,
    /// Requests that the storages refused.
    pub storage_refusals: u64,
    /// How long it took, without the set-up.
    pub seconds: f64,
}

impl Outcome {
    /// Whether every request was either transferred, byte for byte, or left with a reason.
    pub fn is_whole(&self) -> bool {
        self.submitted == self.finished
            && self.finished == self.files_verified
            && self.failed == 0
            && self.requests == self.submitted + self.left.values().sum::<usize>()
    }

    /// Counts a file that is where it was to go, if it is the one of Rucio's catalogue.
    fn count(&mut self, request: &Wanted, body: &[u8]) -> Result<()> {
        if adler32(body) == request.adler32 && i64::try_from(body.len())? == request.bytes {
            self.files_verified += 1;
            self.bytes_verified += u64::try_from(body.len())?;
        }
        Ok(())
    }
}

/// What is told while it runs.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Jobs in FTS's database.
    pub jobs: u64,
    /// Files by state in FTS's database.
    pub files: BTreeMap<String, u64>,
    /// Requests that reached the issuer's token endpoint.
    pub issuer_token_calls: u64,
}

/// The part of `conveyor`'s report that we use.
#[derive(Debug, Default, Deserialize)]
struct ConveyorReport {
    left: BTreeMap<String, usize>,
}

/// Runs the main job on a grid that has just been started; `token-exchange` is left running and returned.
///
/// # Errors
/// When a part fails, or the whole takes too long.
pub async fn run(grid: &Grid, trouble: Trouble, mut show: impl FnMut(&Progress)) -> Result<(Outcome, Child)> {
    let began = Instant::now();
    if trouble.fault {
        grid.issuer.plan_fault(FAULT_AFTER_CALLS, Fault::Down, FAULT_LASTS);
    }
    if trouble.kill {
        // So that there is a middle, however fast the machine is.
        grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_millis(500)));
    }
    let mut exchange = grid.spawn(grid.token_exchange(&[]), "token-exchange.log")?;
    let mut conveyor = start_conveyor(grid)?;
    let mut killed = !trouble.kill;
    let mut report = None;
    loop {
        ensure!(
            began.elapsed() < LIMIT,
            "not done after {LIMIT:?}: see the logs in {}",
            grid.folder.display()
        );
        if let Some(status) = exchange.try_wait()? {
            bail!("token-exchange ended ({status}): see {}/token-exchange.log", grid.folder.display());
        }
        if !killed && grid.fts.submissions() >= KILL_AFTER_SUBMISSIONS {
            let pid = conveyor.id().context("conveyor ended before it could be killed")?;
            signal(pid, Signal::KILL)?;
            conveyor.wait().await?;
            grid.fts.set_submit_fault(SubmitFault::None);
            conveyor = start_conveyor(grid)?;
            killed = true;
        }
        if report.is_none()
            && let Some(status) = conveyor.try_wait()?
        {
            ensure!(
                status.success(),
                "conveyor ended ({status}): see {}/conveyor.log",
                grid.folder.display()
            );
            ensure!(killed, "conveyor was done before it could be killed");
            let mut printed = String::new();
            conveyor.stdout.take().context("conveyor's output")?.read_to_string(&mut printed).await?;
            report = Some(serde_json::from_str::<ConveyorReport>(&printed).context("conveyor's report")?);
        }
        let counts = grid.fts.counts().await?;
        let issuer_token_calls = grid.issuer.token_calls().total();
        show(&Progress { jobs: counts.jobs, files: counts.files.clone(), issuer_token_calls });
        let open =
            ["TOKEN_PREP", "SUBMITTED", "READY", "ACTIVE"].iter().any(|state| counts.files_in(state) > 0);
        if let (Some(report), false) = (&report, open) {
            return Ok((outcome(grid, report, began).await?, exchange));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs the main job and ends `token-exchange`.
///
/// # Errors
/// As [`run`], and when `token-exchange` does not end well.
pub async fn run_to_end(grid: &Grid, trouble: Trouble) -> Result<Outcome> {
    let (outcome, exchange) = run(grid, trouble, |_| ()).await?;
    terminate(exchange).await?;
    Ok(outcome)
}

fn start_conveyor(grid: &Grid) -> Result<Child> {
    grid.spawn(grid.conveyor(&["--run-once", "--json"]), "conveyor.log")
}

async fn outcome(grid: &Grid, report: &ConveyorReport, began: Instant) -> Result<Outcome> {
    let counts = grid.fts.counts().await?;
    let wanted = grid.rucio.wanted().await?;
    let mut outcome = Outcome {
        requests: wanted.len(),
        submitted: wanted.iter().filter(|request| request.state == "S").count(),
        finished: usize::try_from(counts.files_in("FINISHED"))?,
        failed: usize::try_from(counts.files_in("FAILED"))?,
        left: grid.rucio.ended().await?,
        states: grid.rucio.states().await?,
        issuer_token_calls: grid.issuer.token_calls().total(),
        fts_jobs: counts.jobs,
        storage_refusals: grid.storages.values().map(|storage| storage.refused()).sum(),
        ..Outcome::default()
    };
    for (reason, count) in &report.left {
        *outcome.left.entry(reason.clone()).or_default() += count;
    }
    verify(grid, &mut outcome).await?;
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Reads every submitted file where it was to go, over HTTPS with a token for it (from the disk of a real XRootD), and compares size and checksum with
/// Rucio's catalogue.
async fn verify(grid: &Grid, outcome: &mut Outcome) -> Result<()> {
    let settings = token_core::http::HttpSettings {
        ca_file: Some(grid.pki.ca_file().to_owned()),
        ..token_core::http::HttpSettings::default()
    };
    let client = token_core::http::client(&settings)?;
    let mut tokens = BTreeMap::new();
    for request in grid.rucio.wanted().await?.into_iter().filter(|request| request.state == "S") {
        let url = request.destination_url.clone().context("a submitted request without a destination URL")?;
        let (storage, path) = grid.storage_of(&url).with_context(|| format!("{url} is not in the grid"))?;
        if let Some(body) =
            grid.xrootds.values().find(|xrootd| xrootd.url() == storage).map(|x| x.read_file(path))
        {
            outcome.count(&request, &body.unwrap_or_default())?;
            continue;
        }
        let audience = storage.to_owned();
        let token = match tokens.entry(audience.clone()) {
            std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let scope = "storage.read:/rucio storage.read:/data";
                new.insert(grid.issuer.mint(json!({"aud": audience, "sub": "verifier", "scope": scope}))?)
            }
        };
        #[expect(clippy::disallowed_methods, reason = "loopback, time-outs set, sizes known")]
        let answer = client.get(format!("{audience}{path}")).bearer_auth(token.expose()).send().await?;
        if !answer.status().is_success() {
            continue;
        }
        let body = answer.bytes().await?;
        outcome.count(&request, &body)?;
    }
    Ok(())
}
