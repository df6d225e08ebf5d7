//! `conveyor trace`: from a request to its FTS job, and back. Nothing is written, and nobody but Rucio's database is asked.

use daemon::Failure;
use daemon::terminal::{self, say};
use serde::Serialize;

use crate::request::RequestId;
use crate::rucio::Rucio;
use crate::rucio::trace::{MOST, Traced};

/// Most earlier tries that are told.
const MOST_TRIES: usize = 50;

/// A request with the tries before it, the last first; or the requests of a job.
#[derive(Clone, Debug, Serialize)]
struct Trace {
    requests: Vec<Traced>,
    previous: Vec<Traced>,
    /// Whether there are, or may be, more than are told.
    cut: bool,
}

/// Traces a request, or a job, on standard output.
///
/// # Errors
/// When there is none of this id, or the database fails.
pub(crate) async fn run(id: &str, json: bool, rucio: &Rucio) -> Result<(), Failure> {
    let id = id.trim();
    if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::Configuration(format!(
            "Rucio's database knows no tokens: `token-exchange trace {id}` names the jobs and requests of this one, and the logs do \
             with `log.level = \"info,work=debug\"`"
        )));
    }
    if let Some(missing) = rucio.history_lacks().await.map_err(Failure::runtime)? {
        return Err(Failure::Configuration(format!(
            "a trace reads Rucio's `requests_history` too, and the database lacks {missing}: a Rucio database of version 41 is expected, \
             and this user must be allowed to read that table"
        )));
    }
    let trace = found(id, rucio).await.map_err(Failure::runtime)?;
    let trace = trace.ok_or_else(|| {
        Failure::Configuration(format!("Rucio's database has no request and no FTS job of the id `{id}`"))
    })?;
    show(&trace, json);
    Ok(())
}

/// A job's id has dashes as a request's may have: what is no job is looked for among requests.
async fn found(id: &str, rucio: &Rucio) -> Result<Option<Trace>, crate::rucio::DatabaseError> {
    let requests = rucio.trace_job(id).await?;
    if !requests.is_empty() {
        let cut = requests.len() >= MOST;
        return Ok(Some(Trace { requests, previous: Vec::new(), cut }));
    }
    let Some(request) = RequestId::parse(id) else { return Ok(None) };
    let Some(request) = rucio.trace_request(&request).await? else { return Ok(None) };
    let (mut previous, mut next) = (Vec::new(), request.previous.clone());
    while previous.len() < MOST_TRIES
        && let Some(id) = next.take()
    {
        if let Some(found) = rucio.trace_request(&id).await? {
            next.clone_from(&found.previous);
            previous.push(found);
        }
    }
    Ok(Some(Trace { requests: vec![request], cut: next.is_some(), previous }))
}

fn show(trace: &Trace, json: bool) {
    if json {
        say(&serde_json::to_string(trace).unwrap_or_default());
        return;
    }
    let requests = trace.requests.iter().flat_map(|traced| lines("request", traced));
    for line in requests.chain(trace.previous.iter().flat_map(|traced| lines("before", traced))) {
        say(&terminal::line(&line));
    }
    if trace.cut {
        say(&format!("{:<12} only so many are told", "..."));
    }
}

fn lines(title: &str, traced: &Traced) -> Vec<String> {
    let Traced { request, state, archived, did, destination, rule, .. } = traced;
    let archived = if *archived { ", in requests_history" } else { "" };
    let destination = destination.as_deref().unwrap_or("an RSE that is gone");
    let mut lines = vec![format!("{title:<12} {request}, state {state}{archived}: {did} to {destination}")];
    let mut more = |what: &str, text: Option<String>| {
        lines.extend(text.map(|text| format!("  {what:<10} {text}")));
    };
    more("rule", rule.clone());
    more(
        "job",
        traced.job.as_ref().map(|job| match &traced.fts {
            Some(fts) => format!("{job} at {fts}"),
            None => job.clone(),
        }),
    );
    more("submitted", traced.submitted_at.clone());
    more("changed", traced.updated_at.clone());
    more("to", traced.url.clone());
    more("error", traced.error.clone());
    lines
}
