//! Closes claims: `G` to `S` when FTS has the job, `G` to `A` when it refused it.

use std::collections::HashSet;

use serde_json::json;
use token_core::{UnixSeconds, random_hex};

use super::database::Transaction;
use super::stamp::Stamp;
use super::statement::{Column, Statement};
use super::{DatabaseError, During as _, Rucio};
use crate::choose::Plan;
use crate::job::Job;
use crate::request::RequestId;
use crate::topology::Topology;

const WHAT: &str = "closing claims";
/// `messages.payload` holds this many characters; longer ones go beside it.
const PAYLOAD: usize = 4000;
/// Most rows at a time: six values a row, and SQLite takes 32,766 in a statement.
const ROWS: usize = 4000;

/// How a submission ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// FTS has the job.
    Submitted,
    /// FTS refused it, with these words; they go to `err_msg`.
    Refused(String),
}

impl Outcome {
    fn letter(&self) -> &'static str {
        match self {
            Self::Submitted => "'S'",
            Self::Refused(_) => "'A'",
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Self::Submitted => "transfer-submitted",
            Self::Refused(_) => "transfer-submission_failed",
        }
    }

    fn state(&self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Refused(_) => "SUBMISSION_FAILED",
        }
    }
}

impl Rucio {
    /// Closes the claims of these jobs in one transaction, with one message a request. A request that is no longer claimed
    /// for its job (another process was quicker) is passed over. Returns how many were closed.
    ///
    /// # Errors
    /// When a statement fails; the claims then stay open, to be resolved by their job id.
    pub async fn settle(
        &self,
        done: &[(Job, Outcome)],
        fts: &str,
        topology: &Topology,
        now: UnixSeconds,
    ) -> Result<usize, DatabaseError> {
        if done.is_empty() {
            return Ok(0);
        }
        let now = Stamp::from(now);
        let mut transaction = self.database.begin().await.during(WHAT)?;
        let mut closed = 0;
        let alike = |one: &(Job, Outcome), other: &(Job, Outcome)| one.1 == other.1;
        for done in done.chunk_by(alike) {
            let Some((_, outcome)) = done.first() else { continue };
            let rows: Vec<_> =
                done.iter().flat_map(|(job, _)| job.plans.iter().map(move |plan| (job, plan))).collect();
            for rows in rows.chunks(ROWS) {
                let open = close(&mut transaction, rows, outcome, &now).await?;
                closed += open.len();
                let ours = rows.iter().filter(|(_, plan)| open.contains(&plan.request.id));
                let payloads: Vec<_> =
                    ours.map(|(job, plan)| payload(job, plan, outcome, fts, topology, &now)).collect();
                let services = topology.message_services();
                tell(&mut transaction, &payloads, &services, outcome, &now).await?;
            }
        }
        transaction.commit().await.during(WHAT)?;
        Ok(closed)
    }
}

/// Gives these requests their state, if they are claimed for their job; returns which were.
async fn close(
    transaction: &mut Transaction,
    rows: &[(&Job, &Plan)],
    outcome: &Outcome,
    now: &Stamp,
) -> Result<HashSet<RequestId>, DatabaseError> {
    let mut query = Statement::new("UPDATE requests SET state = ");
    query.push(outcome.letter()).push(", transfertool = 'fts3'");
    if let Outcome::Refused(words) = outcome {
        query.push(", external_id = NULL, err_msg = ").bind(words.as_str());
    }
    query.push(", submitted_at = ").bind(now).push(", updated_at = ").bind(now);
    query.push(", source_rse_id = v.column3 FROM (");
    query.rows([
        Column::ids(rows.iter().map(|(_, plan)| &plan.request.id)),
        Column::texts(rows.iter().map(|(job, _)| job.id.as_str())),
        Column::rses(rows.iter().map(|(_, plan)| plan.sources.first().map(|source| &source.rse))),
    ]);
    query.push(
        ") AS v WHERE requests.id = v.column1 AND requests.state = 'G' AND requests.external_id = v.column2 \
         RETURNING requests.id",
    );
    let rows = transaction.fetch(query).await.during(WHAT)?;
    rows.iter().map(|row| row.id(0).map(RequestId)).collect::<Result<_, _>>().during(WHAT)
}

/// Writes one message for each payload and service.
async fn tell(
    transaction: &mut Transaction,
    payloads: &[String],
    services: &[String],
    outcome: &Outcome,
    now: &Stamp,
) -> Result<(), DatabaseError> {
    if payloads.is_empty() || services.is_empty() {
        return Ok(());
    }
    let each = || payloads.iter().flat_map(|payload| services.iter().map(move |service| (payload, service)));
    let ids = each().map(|_| Some(random_hex())).collect();
    let (payloads, beside) = each()
        .map(|(payload, _)| match payload.chars().count() {
            0..=PAYLOAD => (Some(payload.clone()), None),
            _ => (Some("nolimit".to_owned()), Some(payload.clone())),
        })
        .unzip();
    let mut query = Statement::new(
        "INSERT INTO messages (id, event_type, payload, payload_nolimit, services, created_at, updated_at) ",
    );
    query.rows([
        Column::Ids(ids),
        Column::Each(outcome.event().into()),
        Column::Texts(payloads),
        Column::Texts(beside),
        Column::texts(each().map(|(_, service)| service.as_str())),
        Column::Each(now.into()),
        Column::Each(now.into()),
    ]);
    transaction.execute(query).await.during("writing messages")
}

/// The payload of Rucio's `transfer-submitted`, key by key.
fn payload(job: &Job, plan: &Plan, outcome: &Outcome, fts: &str, topology: &Topology, now: &Stamp) -> String {
    let request = &plan.request;
    let source = plan.sources.first().map(|source| &source.rse);
    let name = |rse: &crate::topology::RseId| topology.rse(rse).map(|rse| rse.name.clone());
    let mut payload = json!({
        "request-id": request.id.0,
        "request-type": "TRANSFER",
        "scope": request.external_scope(),
        "name": request.name,
        "dataset": request.attributes.text("ds_name"),
        "datasetScope": request.attributes.text("ds_scope"),
        "src-rse-id": source.map(|rse| &rse.0),
        "src-rse": source.and_then(name),
        "dst-rse-id": request.destination.0,
        "dst-rse": name(&request.destination),
        "state": outcome.state(),
        "activity": request.activity,
        "file-size": request.bytes,
        "bytes": request.bytes,
        "checksum-md5": request.md5,
        "checksum-adler": request.adler32,
        "external-id": (*outcome == Outcome::Submitted).then(|| job.id.as_str()),
        "external-host": fts,
        "queued_at": now.as_str(),
        "datatype": request.datatype,
    });
    // Only outside the default VO, as Rucio has it.
    if let Some(vo) = request.vo() {
        payload["vo"] = vo.into();
    }
    payload.to_string()
}
