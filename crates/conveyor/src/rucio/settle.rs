//! Closes claims: `G` to `S` when FTS has the job, `G` to `A` when it refused it.

use serde_json::json;
use token_core::{UnixSeconds, random_hex};

use super::stamp::Stamp;
use super::statement::{Statement, Value};
use super::{DatabaseError, During as _, Rucio};
use crate::job::Job;
use crate::topology::Topology;

const WHAT: &str = "closing claims";
/// `messages.payload` holds this many characters; longer ones go beside it.
const PAYLOAD: usize = 4000;

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
        for (job, outcome) in done {
            let mut query = Statement::new("UPDATE requests SET state = ");
            query.push(outcome.letter()).push(", transfertool = 'fts3'");
            if let Outcome::Refused(words) = outcome {
                query.push(", external_id = NULL, err_msg = ").bind(words.as_str());
            }
            query.push(", submitted_at = ").bind(&now).push(", updated_at = ").bind(&now);
            query.push(", source_rse_id = v.column2 FROM (");
            query.rows(job.plans.iter().map(|plan| {
                let main = plan.sources.first().map(|source| &source.rse);
                [Value::from(&plan.request.id), main.into()]
            }));
            query.push(
                ") AS v WHERE requests.id = v.column1 AND requests.state = 'G' AND requests.external_id = ",
            );
            query.bind(job.id.as_str()).push(" RETURNING requests.id");
            let rows = transaction.fetch(query).await.during(WHAT)?;
            let rows = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>().during(WHAT)?;
            if rows.is_empty() {
                continue;
            }
            closed += rows.len();
            let plans = job.plans.iter().filter(|plan| rows.contains(&plan.request.id.0));
            let payloads = plans.map(|plan| payload(job, plan, outcome, fts, topology, &now));
            let mut query = Statement::new(
                "INSERT INTO messages (id, event_type, payload, payload_nolimit, services, created_at, updated_at) ",
            );
            query.rows(payloads.map(|payload| {
                let (payload, beside) = match payload.chars().count() {
                    0..=PAYLOAD => (payload, None),
                    _ => ("nolimit".to_owned(), Some(payload)),
                };
                [
                    Value::Id(Some(random_hex())),
                    outcome.event().into(),
                    Value::Text(Some(payload)),
                    beside.into(),
                    Value::Literal("'activemq'"),
                    (&now).into(),
                    (&now).into(),
                ]
            }));
            transaction.execute(query).await.during("writing messages")?;
        }
        transaction.commit().await.during(WHAT)?;
        Ok(closed)
    }
}

/// The payload of Rucio's `transfer-submitted`, key by key.
fn payload(
    job: &Job,
    plan: &crate::choose::Plan,
    outcome: &Outcome,
    fts: &str,
    topology: &Topology,
    now: &Stamp,
) -> String {
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
