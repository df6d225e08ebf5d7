//! What must not be done, and is not.

use anyhow::{Result, bail, ensure};
use fts_client::{FileEntry, FtsError, Params, Submission};
use reqwest::Method;

use super::report::Report;
use super::rig::Rig;

/// Storages that take any token would let every other test pass.
pub(crate) async fn by_storages(rig: &Rig, report: &mut Report) {
    report.call("storages refuse what a token does not say", checked(rig).await);
}

async fn checked(rig: &Rig) -> Result<()> {
    let area = &rig.environment.area;
    for (storage, other) in [(&rig.source, &rig.destination), (&rig.destination, &rig.source)] {
        let read = format!("storage.read:{area}");
        let cases = [
            ("a token for reading", rig.token(&storage.audience, &read).await?),
            ("the other storage's token", rig.writer(other).await?),
            ("the token for FTS", rig.token(&rig.environment.audience, &rig.environment.scope).await?),
        ];
        for (at, (whose, token)) in cases.into_iter().enumerate() {
            let name = storage.file(&rig.name(&format!("refused-{at}")));
            let (status, _) = storage.call(Method::PUT, &name, &token, b"refused".to_vec()).await?;
            ensure!(matches!(status, 401 | 403), "{} took {whose} for writing: {status}", storage.url);
        }
        let (name, right) = (storage.file(&rig.name("right")), rig.writer(storage).await?);
        let (status, _) = storage.call(Method::PUT, &name, &right, b"right".to_vec()).await?;
        ensure!(matches!(status, 200 | 201 | 204), "{} refused the right one: {status}", storage.url);
        let (status, _) = storage.call(Method::DELETE, &name, &right, Vec::new()).await?;
        ensure!(matches!(status, 200 | 204), "{} did not delete: {status}", storage.url);
    }
    Ok(())
}

/// A token that is not for FTS is nobody's.
pub(crate) async fn by_fts(rig: &Rig, report: &mut Report) {
    report.call("a token for a storage is nobody to FTS", stranger(rig).await);
}

async fn stranger(rig: &Rig) -> Result<()> {
    let fts = rig.fts_with(rig.writer(&rig.source).await?)?;
    let job = Submission {
        files: vec![FileEntry::new(rig.source.file("x"), rig.destination.file("x"))],
        params: Params::default(),
    };
    match fts.submit(&job).await {
        Err(FtsError::Anonymous { .. }) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// What the tokens can't do, and what is not there, fails the file with a reason that says so.
pub(crate) async fn of_transfers(rig: &Rig, report: &mut Report) {
    report.call("a right that the submitter did not have is not given", less_than_needed(rig).await);
    report.call("a path outside of what the storage gives is not asked for", outside(rig).await);
    report.call("a file that is not there is said to be the source's fault", missing(rig).await);
}

async fn less_than_needed(rig: &Rig) -> Result<()> {
    let name = rig.name("less");
    rig.put(&name, 100).await?;
    let scope = format!("fts storage.read:{}", rig.environment.area);
    let fts = rig.fts_with(rig.token(&rig.environment.audience, &scope).await?)?;
    let files = vec![FileEntry::new(rig.source.file(&name), rig.destination.file(&name))];
    let reason = failed(rig, &fts, files).await?;
    ensure!(reason.starts_with("[token-exchange] DESTINATION"), "{reason}");
    let (status, _) = rig.arrived(&name).await?;
    ensure!(status == 404, "it is there: {status}");
    Ok(())
}

async fn outside(rig: &Rig) -> Result<()> {
    let name = rig.name("outside");
    rig.put(&name, 100).await?;
    let elsewhere = rig.destination.at(&format!("/elsewhere/{name}"))?;
    let reason = failed(rig, &rig.fts, vec![FileEntry::new(rig.source.file(&name), elsewhere)]).await?;
    ensure!(reason.starts_with("[token-exchange] DESTINATION"), "{reason}");
    Ok(())
}

async fn missing(rig: &Rig) -> Result<()> {
    let name = rig.name("missing");
    let reason =
        failed(rig, &rig.fts, vec![FileEntry::new(rig.source.file(&name), rig.destination.file(&name))])
            .await?;
    ensure!(reason.contains("404") || reason.contains("No such file"), "{reason}");
    ensure!(!reason.contains("[token-exchange]"), "{reason}");
    Ok(())
}

/// Submits files that must fail; the reason of the first.
async fn failed(rig: &Rig, fts: &fts_client::FtsClient, files: Vec<FileEntry>) -> Result<String> {
    let job = rig.submit_to(fts, Submission { files, params: Params::default() }).await?;
    let worker = rig.worker()?;
    let ended = rig.ended(&job).await?;
    worker.end().await?;
    ensure!(ended.job_state.as_str() == "FAILED", "{:?}", ended.job_state);
    Ok(rig.rows(&job).await?.remove(0).reason)
}
