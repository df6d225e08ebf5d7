//! The calls that every FTS must answer alike, made by `fts-client` and reported one by one.
//!
//! Without `FTS_URL`, against the FTS of the grid in a box. With it, against that one:
//!
//! - `FTS_CA`: a file or directory of authorities to trust instead of the system's;
//! - the token: `FTS_TOKEN` or `FTS_TOKEN_FILE`, or client credentials: `FTS_ISSUER`, `FTS_CLIENT_ID`, `FTS_CLIENT_SECRET_FILE`, `FTS_AUDIENCE`
//!   and `FTS_SCOPE` (`FTS_ISSUER_CA` if it is not `FTS_CA`); or bearer token discovery;
//! - `FTS_SOURCE`, `FTS_DESTINATION`: two storages, as davs://host:port. By default they are names that never exist (RFC 2606);
//!   all jobs are cancelled;
//! - `FTS_BANS=1`: also bans and unbans a storage that never exists.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "live_fts/report.rs"]
mod report;
#[path = "live_fts/target.rs"]
mod target;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use fts_client::{
    Change, FileEntry, FileFields, FtsClient, FtsError, FtsSettings, Identity, JobId, JobQuery, JobState,
    Lookup, Params, Priority, StorageBan, Submission, Submitted,
};
use serde_json::json;
use token_core::{AccessToken, random_hex};

use report::Report;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    let target = match target::target().await {
        Ok(target) => target,
        Err(error) => {
            println!("live_fts: {error:#}");
            return ExitCode::from(2);
        }
    };
    println!("FTS {}", target.settings.url);
    let mut report = Report::default();
    let client = FtsClient::new(&target.settings, Arc::clone(&target.bearer)).unwrap();
    strangers(&target.settings, &mut report).await;
    if let Some(identity) = report.call("whoami knows us", us(&client).await) {
        one_job(&client, &identity, &mut report).await;
        many(&client, &mut report).await;
        refusals(&client, &mut report).await;
        if target.bans {
            bans(&client, &mut report).await;
        }
    }
    report.end("live_fts")
}

async fn us(client: &FtsClient) -> Result<Identity> {
    client.whoami().await?.identity().context("no VO")
}

/// What somebody gets whom FTS does not know.
async fn strangers(settings: &FtsSettings, report: &mut Report) {
    let nobody = FtsClient::without_token(settings).unwrap();
    let server = nobody.server().await.map_err(anyhow::Error::from);
    report.call(
        "server information",
        server.and_then(|server| must(server.api.major == 3, format!("API {}", server.api))),
    );
    let garbage = FtsClient::new(settings, Arc::new(AccessToken::new("garbage").unwrap())).unwrap();
    report.call("a bad token is nobody to whoami", anonymous(garbage.whoami().await));
    report.call("a bad token submits nothing", anonymous(garbage.submit(&job(&random_hex(), 1)).await));
    report.call("a bad token lists nothing", anonymous(garbage.list(&JobQuery::default()).await));
    report.call("a bad token sees no job", anonymous(garbage.job(&unknown(1)[0], FileFields::None).await));
}

fn must(holds: bool, else_what: impl std::fmt::Display) -> Result<()> {
    ensure!(holds, "{else_what}");
    Ok(())
}

fn anonymous<T>(outcome: Result<T, FtsError>) -> Result<()> {
    match outcome {
        Err(FtsError::Anonymous { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("it was done"),
    }
}

/// The life of a job from its submission to its cancellation.
async fn one_job(client: &FtsClient, identity: &Identity, report: &mut Report) {
    let sid = random_hex();
    let id = identity.job_id(&sid);
    let accepted = match client.submit(&job(&sid, 2)).await {
        Ok(Submitted::Accepted(given)) if given == id => Ok(()),
        other => Err(anyhow::anyhow!("{other:?}, not {id}")),
    };
    if report.call("a job is taken under the id that we foresaw", accepted).is_none() {
        return;
    }
    let again = client.submit(&job(&sid, 2)).await;
    report.call(
        "the same sid is there already",
        match again {
            Ok(Submitted::AlreadyThere) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
    report.call("the job is found, with its metadata", found(client, &id).await);
    let files = client.files(&id).await.map_err(anyhow::Error::from);
    let files = report.call("its files are listed", files).unwrap_or_default();
    let numbers: Vec<_> = files.iter().filter_map(|file| file.file_id).collect();
    report.call("every file has a number", must(numbers.len() == 2, format!("{files:?}")));
    if let Some(file) = numbers.first() {
        let attempts = client.attempts(&id, *file).await.map_err(anyhow::Error::from);
        report.call("a file that was not tried has no attempts", attempts);
    }
    let query = JobQuery { vo: Some(identity.vo.clone()), limit: Some(500), ..JobQuery::default() };
    let listed = client.list(&query).await.map_err(anyhow::Error::from);
    report.call(
        "the job is in the list of its VO",
        listed
            .and_then(|jobs| must(jobs.len() == 500 || jobs.iter().any(|job| job.job_id == id), "not there")),
    );
    let priority = client.set_priority(&id, Priority::new(5).unwrap()).await;
    report.call(
        "its priority is changed",
        match priority {
            Ok(Change::Done(job)) if job.details.priority == Some(5) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
    if let Some(file) = numbers.last() {
        let outcome = client.cancel_files(&id, &[*file]).await.map_err(anyhow::Error::from);
        report.call("one of its files is cancelled", outcome);
    }
    // FTS may have ended the job around a file in TOKEN_PREP.
    let cancelled = client.cancel(&id).await;
    report.call(
        "it is cancelled",
        match cancelled {
            Ok(Change::Done(job) | Change::AtItsEnd(job)) if job.job_state == JobState::Canceled => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
    let ended = [client.cancel(&id).await, client.set_priority(&id, Priority::new(1).unwrap()).await];
    for (what, outcome) in ["cancelling", "a new priority"].into_iter().zip(ended) {
        report.call(
            &format!("{what} changes nothing at its end"),
            match outcome {
                Ok(Change::AtItsEnd(_)) => Ok(()),
                other => Err(anyhow::anyhow!("{other:?}")),
            },
        );
    }
}

async fn found(client: &FtsClient, id: &JobId) -> Result<()> {
    let Lookup::Known(job) = client.job(id, FileFields::Poll).await? else { bail!("unknown") };
    ensure!(job.job_id == *id && !job.job_state.is_terminal(), "{job:?}");
    ensure!(job.files.len() == 2, "{} files", job.files.len());
    let metadata =
        |file: &fts_client::FileStatus| file.file_metadata.clone().map(|metadata| metadata["live"].clone());
    ensure!(job.files.iter().all(|file| metadata(file) == Some(json!(true))), "{:?}", job.files);
    Ok(())
}

/// Many jobs at once, known and unknown ones.
async fn many(client: &FtsClient, report: &mut Report) {
    let mut ids = unknown(250);
    let known = match client.submit(&plain()).await {
        Ok(Submitted::Accepted(id)) => Ok(id),
        other => Err(anyhow::anyhow!("{other:?}")),
    };
    let Some(known) = report.call("a job with an id of FTS's own making", known) else { return };
    ids.insert(100, known.clone());
    report.call("known and unknown jobs in one poll", polled(client, &ids, &known).await);
    let gone = unknown(1);
    report.call(
        "an unknown job is unknown",
        match client.job(&gone[0], FileFields::None).await {
            Ok(Lookup::Unknown) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
    let both = [known, gone[0].clone()];
    let mut cancel = client.cancel_many(&both);
    let outcome = match cancel.next().await {
        Some(Ok(jobs)) => match (&jobs[0].outcome, &jobs[1].outcome) {
            (Ok(Change::Done(_)), Ok(Change::Unknown)) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
        other => Err(anyhow::anyhow!("{other:?}")),
    };
    report.call("known and unknown jobs in one cancel", outcome);
}

async fn polled(client: &FtsClient, ids: &[JobId], known: &JobId) -> Result<()> {
    let mut poll = client.poll(ids, FileFields::Poll);
    let mut seen = 0;
    while let Some(batch) = poll.next().await {
        for job in batch? {
            seen += 1;
            let is_known = matches!(job.outcome?, Lookup::Known(_));
            ensure!(is_known == (job.id == *known), "{} is known: {is_known}", job.id);
        }
    }
    ensure!(seen == ids.len() && poll.requests() == 2, "{seen} jobs in {} requests", poll.requests());
    Ok(())
}

/// Jobs that FTS must refuse, and the field that it does so for.
async fn refusals(client: &FtsClient, report: &mut Report) {
    type Change = fn(&mut Submission);
    let cases: [(&str, &str, Change); 5] = [
        ("a local file", "sources", |job| job.files[0].sources = vec!["file:///etc/passwd".into()]),
        ("two ways to overwrite", "overwrite", |job| {
            (job.params.overwrite, job.params.overwrite_on_retry) = (true, true);
        }),
        ("hops without multihop", "overwrite_hop", |job| job.params.overwrite_hop = true),
        ("a list as metadata", "metadata", |job| job.files[0].metadata = json!([1])),
        ("no file", "files", |job| job.files.clear()),
    ];
    for (name, field, change) in cases {
        let mut job = job(&random_hex(), 1);
        change(&mut job);
        let outcome = match client.submit(&job).await {
            Err(FtsError::Refused { field: Some(named), .. }) if named.contains(field) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        };
        report.call(&format!("{name} is refused, and the field named"), outcome);
        report.call(
            &format!("{name} is told before it is sent"),
            match job.check() {
                Err(_) => Ok(()),
                Ok(()) => Err(anyhow::anyhow!("check has nothing to say")),
            },
        );
    }
    let query = JobQuery { delegation_id: Some("1234".into()), ..JobQuery::default() };
    report.call(
        "another's delegation id is forbidden",
        match client.list(&query).await {
            Err(FtsError::Forbidden { .. }) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
}

async fn bans(client: &FtsClient, report: &mut Report) {
    let storage = format!("davs://{}.invalid", random_hex());
    let banned =
        client.ban_storage(&storage, StorageBan::Cancel, "live_fts").await.map_err(anyhow::Error::from);
    if report.call("a storage is banned", banned).is_none() {
        return;
    }
    let is_listed =
        async || -> Result<bool> { Ok(client.banned_storages().await?.iter().any(|ban| ban.se == storage)) };
    report.call("it is in the list", is_listed().await.and_then(|listed| must(listed, "not there")));
    let mut refused = job(&random_hex(), 1);
    refused.files[0].destinations = vec![format!("{storage}/x")];
    report.call(
        "a job to it is refused for now",
        match client.submit(&refused).await {
            Err(FtsError::Banned { .. }) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
    report.call("the ban is lifted", client.unban_storage(&storage).await.map_err(anyhow::Error::from));
    report.call(
        "it is no longer in the list",
        is_listed().await.and_then(|listed| must(!listed, "still there")),
    );
}

/// A job that does no harm.
fn job(sid: &str, files: usize) -> Submission {
    let end = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (source, destination) =
        (end("FTS_SOURCE", "davs://source.invalid"), end("FTS_DESTINATION", "davs://destination.invalid"));
    let file = |n: usize| FileEntry {
        metadata: json!({"live": true}),
        ..FileEntry::new(format!("{source}/live_fts/{sid}.{n}"), format!("{destination}/live_fts/{sid}.{n}"))
    };
    Submission { files: (0..files).map(file).collect(), params: Params::deterministic(sid) }
}

/// The same with an id of FTS's own making.
fn plain() -> Submission {
    Submission { params: Params::default(), ..job(&random_hex(), 1) }
}

/// Ids of jobs that nobody has.
fn unknown(count: usize) -> Vec<JobId> {
    let prefix = random_hex();
    let id = |n: usize| {
        let (a, b, c) = (&prefix[..8], &prefix[8..12], &prefix[12..16]);
        JobId::parse(&format!("{a}-{b}-4{}-8{}-{n:012}", &c[1..], &c[..3])).unwrap()
    };
    (0..count).map(id).collect()
}
