//! The way of a job from its submission to the bytes at the destination.

use anyhow::{Result, ensure};
use fts_client::{FtsClient, FtsSettings, JobId};
use token_core::http::HttpSettings;

use super::report::Report;
use super::rig::Rig;

const FILES: usize = 4;

/// None when it did not work, and then nothing else can.
pub(crate) async fn from_submission_to_bytes(rig: &Rig, report: &mut Report) -> Option<()> {
    report.call("FTS knows who we are, and nobody without a token", whoami(rig).await)?;
    let names: Vec<String> = (0..FILES).map(|n| rig.name(&format!("first-{n}"))).collect();
    let job = report.call(
        "a job posted with the token for FTS alone waits in TOKEN_PREP, on that token",
        waits(rig, &names).await,
    )?;
    report.call(
        "its files get a token for each endpoint, and no other, and are copied",
        copied(rig, &job, &names).await,
    )
}

async fn whoami(rig: &Rig) -> Result<()> {
    let me = rig.fts.whoami().await?;
    ensure!(me.identity().is_some() && me.method == "oauth2" && me.delegation_id.is_some(), "{me:?}");
    let http = HttpSettings { ca_file: Some(rig.environment.ca.clone()), ..HttpSettings::default() };
    let settings = FtsSettings { http, ..FtsSettings::new(rig.environment.fts_url.clone()) };
    let nobody = FtsClient::without_token(&settings)?;
    match nobody.whoami().await {
        Err(fts_client::FtsError::Anonymous { .. }) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

async fn waits(rig: &Rig, names: &[String]) -> Result<JobId> {
    for name in names {
        rig.put(name, 4000).await?;
    }
    let job = rig.submit(names).await?;
    let rows = rig.rows(&job).await?;
    ensure!(rows.len() == names.len(), "{rows:?}");
    for row in &rows {
        ensure!(row.state == "TOKEN_PREP" && row.source == row.destination, "{row:?}");
        ensure!(row.source.audience == rig.environment.audience, "{row:?}");
    }
    Ok(job)
}

async fn copied(rig: &Rig, job: &JobId, names: &[String]) -> Result<()> {
    let before = rig.rows(job).await?;
    let worker = rig.worker()?;
    let ended = rig.ended(job).await?;
    worker.end().await?;
    ensure!(ended.job_state.as_str() == "FINISHED", "{:?} {:?}", ended.job_state, rig.rows(job).await?);
    // What Rucio's own test of tokens looks at.
    let metadata = ended.details.job_metadata.unwrap_or_default();
    ensure!(metadata["auth_method"] == "oauth2", "job_metadata {metadata}");
    for (row, before) in rig.rows(job).await?.iter().zip(before) {
        let tokens = [(&row.source, &rig.source), (&row.destination, &rig.destination)];
        for (token, storage) in tokens {
            ensure!(token.audience == storage.audience && token.id != before.source.id, "{row:?}");
            ensure!(!token.scope.split(' ').any(|scope| scope == "fts"), "{row:?}");
        }
        ensure!(row.source.scope.split(' ').all(|scope| scope.starts_with("storage.read:")), "{row:?}");
        ensure!(row.destination.scope.contains("storage.modify:"), "{row:?}");
    }
    for name in names {
        let (status, bytes) = rig.arrived(name).await?;
        ensure!(status == 200 && bytes == testbed::content::content(name, 4000), "{name}: {status}");
    }
    Ok(())
}
