//! `conveyor explain REQUEST`: whether a request would be submitted now, from where and why, with which token and as which job.
//! Nothing is written and nobody is called but Rucio's database.

mod conditions;
mod print;
mod sources;
mod token;

use std::sync::Arc;

use daemon::{Failure, Shutdown};
use fts_client::JobId;
use serde::Serialize;
use serde_json::Value;
use token_core::{Clock, UnixSeconds};

use crate::access;
use crate::choose::{Verdict, choose};
use crate::job::{Job, submission};
use crate::pulse::Pulse;
use crate::request::RequestId;
use crate::rucio::Rucio;
use crate::rucio::look::Sight;
use crate::settings::Settings;
use crate::tokens::Tokens;
use conditions::Condition;
use print::show;
use sources::SourceView;
use token::{StorageTokenView, TokenView};

/// What there is to say about a request.
#[derive(Debug, Serialize)]
struct Explanation {
    request_id: RequestId,
    did: String,
    destination: String,
    vo: String,
    state: String,
    /// Whether the next pass would pick it.
    eligible: bool,
    conditions: Vec<Condition>,
    /// What would become of it if it were picked: `submit`, `N`, `O`, `M`, or `leave`.
    outcome: &'static str,
    /// Why it would not be submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Every replica elsewhere, in the order of preference; those that fell out come last.
    sources: Vec<SourceView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenView>,
    /// The tokens that the job would carry for its storages; the job below is shown without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    storage_tokens: Vec<StorageTokenView>,
    /// The job, were it submitted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Value>,
}

/// Explains the request of this id on standard output.
///
/// # Errors
/// When there is no such request, or the database or configuration can't be used.
pub(crate) async fn run(
    id: &str,
    json: bool,
    settings: &Settings,
    rucio: &Rucio,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let id = RequestId::parse(id).ok_or_else(|| {
        Failure::Configuration("a request's id has 32 hex digits, with or without dashes".into())
    })?;
    let now = clock.now();
    let sight = rucio.look(&id, now).await.map_err(Failure::runtime)?.ok_or_else(|| {
        Failure::Configuration(format!(
            "there is no request {id}; one that has ended is in Rucio's table `requests_history`"
        ))
    })?;
    let explanation = explain(&sight, settings, rucio, clock, shutdown, now).await?;
    show(&explanation, json);
    Ok(())
}

async fn explain(
    sight: &Sight,
    settings: &Settings,
    rucio: &Rucio,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
    now: UnixSeconds,
) -> Result<Explanation, Failure> {
    let (name, vo, ..) = &sight.destination;
    let served = settings.rucio.served(rucio).await?;
    let rucio = rucio.of_vo(vo);
    let topology = rucio.topology(now).await.map_err(Failure::runtime)?;
    let share = settings.share.share(settings.submit.ignore_availability).map_err(Failure::Configuration)?;
    let mut conditions = conditions::all(sight, &served, &share.part(&topology, None));
    if let Some(pulse) = Pulse::of_this_process(&rucio, &settings.share) {
        let living = pulse.others(now).await.map_err(Failure::runtime)?;
        let of = u32::try_from(living.len()).unwrap_or(u32::MAX);
        if of > 1 {
            let by = settings.share.partition_by;
            let whose = rucio.worker_for(&sight.request.id, by, of).await.map_err(Failure::runtime)?;
            conditions.push(conditions::worker(whose, &living));
        }
    }

    let (request, tokens) = (&sight.request, Arc::new(settings.token_rules(vo)));
    let rules = settings.submit.rules(Arc::clone(&tokens));
    let verdict = choose(request, &topology, &rules);
    let sources = sources::all(request, &topology, &rules);
    let mut explanation = Explanation {
        request_id: request.id.clone(),
        did: format!("{}:{}", request.scope, request.name),
        destination: name.clone(),
        vo: vo.clone(),
        state: sight.state.clone(),
        eligible: conditions.iter().all(|condition| condition.holds),
        conditions,
        outcome: "submit",
        reason: None,
        sources,
        fts: None,
        destination_url: None,
        token: None,
        storage_tokens: Vec::new(),
        job: None,
    };
    match verdict {
        Verdict::Submit(plan) => {
            explanation.fts = Some(plan.fts.clone());
            explanation.destination_url = Some(plan.destination_url.clone());
            if served.contains(vo) {
                let accesses = access::of_vos(settings, &served, clock, shutdown)?;
                let access = accesses.iter().find(|access| access.vo == *vo);
                explanation.token = access
                    .and_then(|access| token::of(access, &plan.fts, settings.cache.as_ref(), clock.now()));
            }
            explanation.storage_tokens = token::for_storages(&plan, &topology, &tokens);
            let sid = request.id.0.clone();
            // Its real id follows from the name space that FTS gives us, which is not asked.
            explanation.job = JobId::parse("00000000-0000-0000-0000-000000000000")
                .and_then(|id| {
                    let job = Job { id, sid, plans: vec![*plan] };
                    submission(&job, &topology, &settings.submit.job_rules(), &Tokens::default())
                })
                .and_then(|submission| serde_json::to_value(submission).ok());
        }
        Verdict::End(end, reason) => {
            explanation.outcome = end.letter();
            explanation.reason = Some(reason.to_owned());
        }
        Verdict::Leave(reason) => {
            explanation.outcome = "leave";
            explanation.reason = Some(reason.to_owned());
        }
    }
    Ok(explanation)
}
