//! Exchanges a second, all tokens distinct.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::issuer::{Fault, Signs};
use tokio::process::Child;
use tokio::runtime::Handle;

use super::load::{ceiling, rate};
use super::rig::{Files, Rig};
use super::{rig, verdict};

/// In flight, as the budget of the worker says.
const IN_FLIGHT: usize = 100;
/// What `fts_token` 3.14.4 did, by the latency that the issuer added: its pool of five, divided by the latency.
const FTS: [(u64, f64); 4] = [(0, 665.0), (20, 186.0), (50, 88.0), (200, 24.6)];

fn configure(rig: &Rig) -> Result<()> {
    let issuer = format!("max_in_flight = {IN_FLIGHT}\ncalls_per_s = 100000\nburst = 100000\n");
    let worker = format!("in_flight = {}\n", IN_FLIGHT * rig.issuers.len());
    rig.configure(0, &issuer, &worker)
}

/// Each file needs two tokens of its own.
fn distinct(tokens: usize, first: usize, issuer: usize) -> Files {
    let count = tokens / 2;
    Files { first, count, in_a_job: 50, endpoints: 40, directories: usize::MAX, issuer }
}

fn worker(rig: &Rig, arguments: &[&str]) -> Result<Child> {
    let mut command = rig.worker(0, arguments);
    command.env("TOKEN_EXCHANGE__ENDPOINTS__GRANULARITY", "file");
    let log = std::fs::File::create(rig.folder.path().join("worker.log"))?;
    Ok(command.stdout(std::process::Stdio::null()).stderr(log).spawn()?)
}

/// The time between the answers to the first and to so many calls of this issuer, without the start of the worker.
async fn timed(rig: &Rig, issuer: usize, calls: u64) -> Result<f64> {
    let end = Instant::now() + Duration::from_secs(120);
    let total = || rig.issuers[issuer].token_calls().exchange;
    let mut began: Option<(Instant, u64)> = None;
    loop {
        let now = total();
        match began {
            None if now > 0 => began = Some((Instant::now(), now)),
            Some((since, first)) if now >= calls => {
                return Ok(rate(usize::try_from(now - first)?, since.elapsed()));
            }
            _ => (),
        }
        ensure!(Instant::now() < end, "the worker made {now} of {calls} calls");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The rate at which the worker exchanges, by the issuer's latency. What an issuer can do without any is a matter of its own work: one
/// that signs by RS256, as most do and as the one did that `fts_token` was measured with, is what the worker has to keep up with; one
/// that signs by ES256 is faster than any, and there the worker's cores are the bound.
pub(crate) async fn rates(server: &str, issuers: &Handle) -> Result<bool> {
    println!(
        "exchanges a second, all tokens distinct, {IN_FLIGHT} in flight; the issuer on one core, worker and database on the others"
    );
    println!(
        "{:>16} {:>14} {:>12} {:>10} {:>12} {:>12} {:>8}",
        "added latency", "in flight/it", "issuer alone", "worker", "of possible", "fts_token", "times"
    );
    let mut well = rate_at(server, issuers, Signs::Rs256, FTS[0]).await?;
    for at in FTS {
        well &= rate_at(server, issuers, Signs::Es256, at).await?;
    }
    Ok(well)
}

async fn rate_at(server: &str, issuers: &Handle, signs: Signs, (ms, fts): (u64, f64)) -> Result<bool> {
    let rig = rig(server, issuers, 1).await?;
    configure(&rig)?;
    rig.issuers[0].sign_by(signs);
    let latency = Duration::from_millis(ms);
    if ms > 0 {
        rig.issuers[0].set_fault(Fault::Slow(latency));
    }
    let tokens = if ms == 200 { 3000 } else { 6000 };
    let alone = ceiling(&rig, 0, IN_FLIGHT, tokens).await?;
    rig.issuers[0].reset_calls();
    rig.submit(distinct(tokens, 0, 0)).await?;
    let mut child = worker(&rig, &["--run-once"])?;
    let measured = timed(&rig, 0, u64::try_from(tokens)? * 9 / 10).await;
    child.wait().await?;
    let measured = measured?;
    ensure!(rig.released().await? == i64::try_from(tokens / 2)?, "not all files were released");
    let by_budget = if ms == 0 { f64::INFINITY } else { rate(IN_FLIGHT, latency) };
    let possible = by_budget.min(alone);
    let enough = measured >= 0.9 * possible && (ms != 50 || measured >= 20.0 * fts);
    let judged = (ms, signs) != (0, Signs::Es256);
    println!(
        "{:>16} {by_budget:>14.0} {alone:>12.0} {measured:>10.0} {:>10.0} % {fts:>12.1} {:>8.1}  {}",
        format!("{ms} ms, {signs:?}"),
        100.0 * measured / possible,
        measured / fts,
        if judged { verdict(enough) } else { "(bound by the cores of worker and database)" }
    );
    rig.database.remove().await?;
    Ok(enough || !judged)
}

/// One issuer alone, and beside one that takes two seconds for each answer.
pub(crate) async fn beside_a_slow_one(server: &str, issuers: &Handle) -> Result<bool> {
    let mut rates = Vec::new();
    for slow in [false, true] {
        let rig = rig(server, issuers, 2).await?;
        configure(&rig)?;
        rig.issuers[0].set_fault(Fault::Slow(Duration::from_millis(50)));
        rig.issuers[1].set_fault(Fault::Slow(Duration::from_secs(2)));
        if slow {
            // They wait in front of the others.
            rig.submit(distinct(20_000, 0, 1)).await?;
        }
        rig.submit(distinct(6000, 50_000, 0)).await?;
        let mut child = worker(&rig, &[])?;
        let measured = timed(&rig, 0, 5400).await;
        child.kill().await?;
        rates.push(measured?);
        rig.database.remove().await?;
    }
    let well = rates[1] >= 0.9 * rates[0];
    println!(
        "an issuer of 50 ms alone: {:.0}/s; with 20,000 tokens of an issuer of 2 s waiting in front: {:.0}/s  {}",
        rates[0],
        rates[1],
        verdict(well)
    );
    Ok(well)
}
