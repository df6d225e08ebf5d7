//! Where requests went, for a person: also those that have ended. Nothing here writes.

use serde::Serialize;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio, schema};
use crate::request::RequestId;

const WHAT: &str = "tracing a request";

/// Most requests of one job that are told.
pub const MOST: usize = 1000;

macro_rules! traced {
    ($table:literal, $condition:literal) => {
        concat!(
            "SELECT r.id, CAST(r.state AS text), r.scope, r.name, rses.rse, r.rule_id, r.external_id, r.external_host, \
             r.dest_url, r.submitted_at, r.created_at, r.updated_at, r.err_msg, r.previous_attempt_id FROM ",
            $table,
            " r LEFT JOIN rses ON rses.id = r.dest_rse_id WHERE ",
            $condition
        )
    };
}

/// Where a request went. Times are in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct Traced {
    /// Its id.
    pub request: RequestId,
    /// Its state, one letter.
    pub state: String,
    /// Whether it stands in `requests_history`: it has ended.
    pub archived: bool,
    /// What is transferred, `scope:name`.
    pub did: String,
    /// The RSE that it goes to.
    pub destination: Option<String>,
    /// The rule that wants it.
    pub rule: Option<String>,
    /// `external_id`: the FTS job.
    pub job: Option<String>,
    /// `external_host`: the FTS.
    pub fts: Option<String>,
    /// `dest_url`.
    pub url: Option<String>,
    /// When the job was submitted.
    pub submitted_at: Option<String>,
    /// When the request was made.
    pub created_at: Option<String>,
    /// When it was last changed.
    pub updated_at: Option<String>,
    /// `err_msg`.
    pub error: Option<String>,
    /// The try before this one.
    pub previous: Option<RequestId>,
}

impl Rucio {
    /// What of `requests_history` is not there, or not for us; nothing when all is.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn history_lacks(&self) -> Result<Option<String>, DatabaseError> {
        self.database.missing(&[schema::HISTORY]).await.during(WHAT)
    }

    /// The request of this id, ended or not.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn trace_request(&self, id: &RequestId) -> Result<Option<Traced>, DatabaseError> {
        for (archived, sql) in
            [(false, traced!("requests", "r.id = $1")), (true, traced!("requests_history", "r.id = $1"))]
        {
            if let Some(found) = self.traced(Statement::new(sql).with(id), archived).await?.pop() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The requests of this FTS job; those that have ended only when there are no others, since they are not indexed by it.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn trace_job(&self, job: &str) -> Result<Vec<Traced>, DatabaseError> {
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        for (archived, sql) in [
            (false, traced!("requests", "r.external_id = $1 ORDER BY r.created_at, r.id LIMIT $2")),
            (true, traced!("requests_history", "r.external_id = $1 ORDER BY r.created_at, r.id LIMIT $2")),
        ] {
            let found = self.traced(Statement::new(sql).with(job).with(most), archived).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    async fn traced(&self, statement: Statement, archived: bool) -> Result<Vec<Traced>, DatabaseError> {
        let time =
            |row: &Row, at| Ok::<_, sqlx::Error>(row.optional_time(at)?.map(|at| at.as_str().to_owned()));
        let read = |row: &Row| {
            let [scope, name] = [row.get::<Option<String>>(2)?, row.get(3)?].map(Option::unwrap_or_default);
            Ok(Traced {
                request: RequestId(row.id(0)?),
                state: row.get(1)?,
                archived,
                did: format!("{scope}:{name}"),
                destination: row.get(4)?,
                rule: row.optional_id(5)?,
                job: row.get(6)?,
                fts: row.get(7)?,
                url: row.get(8)?,
                submitted_at: time(row, 9)?,
                created_at: time(row, 10)?,
                updated_at: time(row, 11)?,
                error: row.get(12)?,
                previous: row.optional_id(13)?.map(RequestId),
            })
        };
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }
}
