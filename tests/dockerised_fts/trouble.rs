//! What happens in the middle.

use anyhow::{Result, ensure};
use fts_client::Change;

use super::report::Report;
use super::rig::Rig;

/// FTS's own `fts_token` lets such a file go, and it is copied.
pub(crate) async fn cancelled_while_it_waits(rig: &Rig, report: &mut Report) {
    report.call("a job that was cancelled while it waited is not copied", cancelled(rig).await);
}

async fn cancelled(rig: &Rig) -> Result<()> {
    let (name, later) = (rig.name("cancelled"), rig.name("later"));
    rig.put(&name, 100).await?;
    rig.put(&later, 100).await?;
    let job = rig.submit(std::slice::from_ref(&name)).await?;
    match rig.fts.cancel(&job).await? {
        Change::Done(job) if job.job_state.as_str() == "CANCELED" => (),
        other => anyhow::bail!("{other:?}"),
    }
    let worker = rig.worker()?;
    // By the time that a job behind it has ended, it would have been copied.
    let behind = rig.submit(std::slice::from_ref(&later)).await?;
    let ended = rig.ended(&behind).await?;
    worker.end().await?;
    ensure!(ended.job_state.as_str() == "FINISHED", "{:?}", ended.job_state);
    ensure!(rig.job(&job).await?.job_state.as_str() == "CANCELED", "the job is no longer cancelled");
    let (status, _) = rig.arrived(&name).await?;
    ensure!(status == 404, "it is there: {status}");
    Ok(())
}

/// Killed with signal 9 when some files are on their way and others are not.
pub(crate) async fn killed_in_the_middle(rig: &Rig, report: &mut Report) {
    report.call("a worker that is killed in the middle loses nothing and doubles nothing", killed(rig).await);
}

async fn killed(rig: &Rig) -> Result<()> {
    let mut jobs = Vec::new();
    for job in 0..6 {
        let names: Vec<String> = (0..3).map(|file| rig.name(&format!("killed-{job}-{file}"))).collect();
        for name in &names {
            rig.put(name, 1000).await?;
        }
        jobs.push((names, None));
    }
    let worker = rig.worker()?;
    for (names, job) in jobs.iter_mut().take(3) {
        *job = Some(rig.submit(names).await?);
    }
    if let Some((_, Some(first))) = jobs.first() {
        rig.until(first, |rows| rows.iter().all(|row| row.state != "TOKEN_PREP")).await?;
    }
    worker.kill().await?;
    for (names, job) in jobs.iter_mut().skip(3) {
        *job = Some(rig.submit(names).await?);
    }
    let last = jobs.last().and_then(|(_, job)| job.clone());
    let waiting = rig.rows(&last.unwrap()).await?;
    ensure!(
        waiting.iter().all(|row| row.state == "TOKEN_PREP"),
        "somebody else works on this FTS: {waiting:?}"
    );
    let worker = rig.worker()?;
    for (names, job) in &jobs {
        let job = job.as_ref().unwrap();
        let ended = rig.ended(job).await?;
        ensure!(ended.job_state.as_str() == "FINISHED", "{:?} {:?}", ended.job_state, rig.rows(job).await?);
        ensure!(rig.failed_attempts(job).await? == 0, "a file was tried more than once");
        for name in names {
            let (status, bytes) = rig.arrived(name).await?;
            ensure!(status == 200 && bytes == testbed::content::content(name, 1000), "{name}: {status}");
        }
    }
    worker.end().await.map(drop)
}

/// `fts_url_copy` asks for another token while it works, and gets one.
pub(crate) async fn longer_than_its_tokens(rig: &Rig, report: &mut Report) {
    report.call("a transfer that runs longer than its tokens gets new ones and finishes", long(rig).await);
}

async fn long(rig: &Rig) -> Result<()> {
    let name = rig.name("long");
    rig.put(&name, rig.environment.long_bytes).await?;
    let job = rig.submit(std::slice::from_ref(&name)).await?;
    let worker = rig.worker()?;
    let started = rig.until(&job, |rows| rows.iter().all(|row| row.state == "ACTIVE")).await?.remove(0);
    ensure!(!started.source.unmanaged && !started.destination.unmanaged, "{started:?}");
    let ended = rig.ended(&job).await?;
    let log = worker.end().await?;
    let row = rig.rows(&job).await?.remove(0);
    ensure!(ended.job_state.as_str() == "FINISHED", "{row:?} {log}");
    // The same id, another token: it ends later.
    ensure!(row.destination.id == started.destination.id, "{row:?} {started:?}");
    ensure!(row.destination.expiry > started.destination.expiry, "{row:?} {started:?}");
    ensure!(log.contains("refresh request answered") && !log.contains("refresh request refused"), "{log}");
    Ok(())
}
