//! Where requests, jobs and tokens went, for a person. Nothing here writes.

use serde::Serialize;
use serde_json::Value as Json;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, schema};

const WHAT: &str = "tracing";

/// Most files that are told.
pub const MOST: usize = 1000;

/// What is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// `t_file.file_id`.
    File(i64),
    /// `t_token.token_id`, which is the fingerprint of the token as it was handed in.
    Token(String),
    /// `t_file.job_id`.
    Job(String),
    /// Rucio's id of a request, in `t_file.file_metadata`.
    Request(String),
}

/// A file on its way. Times are in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct TracedFile {
    /// `t_file.file_id`.
    pub file_id: i64,
    /// `t_file.job_id`.
    pub job: String,
    /// Rucio's id of its request, if its metadata names one.
    pub request: Option<String>,
    /// `t_file.file_state`.
    pub state: String,
    /// `t_file.source_surl`.
    pub source: String,
    /// `t_file.dest_surl`.
    pub destination: String,
    /// `t_file.src_token_id`.
    pub source_token: Option<String>,
    /// `t_file.dst_token_id`.
    pub destination_token: Option<String>,
    /// `t_file.reason`.
    pub reason: Option<String>,
    /// When its job was submitted.
    pub submitted_at: Option<String>,
    /// When its transfer began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

impl FtsDatabase {
    /// The files that this is about, the oldest first. By a request, all of FTS's files are read.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn trace(&self, sought: &Sought) -> Result<Vec<TracedFile>, DatabaseError> {
        let files = Statement::new(
            "SELECT f.file_id, f.job_id, f.file_state, f.source_surl, f.dest_surl, f.src_token_id, f.dst_token_id, f.reason, \
             CAST(j.submit_time AS CHAR), CAST(f.start_time AS CHAR), CAST(f.finish_time AS CHAR), f.file_metadata \
             FROM t_file f JOIN t_job j ON j.job_id = f.job_id WHERE ",
        );
        let files = match sought {
            Sought::File(id) => files.then("f.file_id = ?").with(*id),
            Sought::Job(id) => files.then("f.job_id = ?").with(id),
            Sought::Token(id) => {
                let mut ids = self.made_of(id).await?;
                ids.push(id.clone());
                files.then("f.src_token_id IN ").list(&ids).then(" OR f.dst_token_id IN ").list(&ids)
            }
            Sought::Request(id) => files.then("f.file_metadata LIKE ?").with(format!("%{id}%")),
        };
        let files = files.then(" ORDER BY f.file_id LIMIT ?").with(most());
        let rows = self.database.fetch(files).await.during(WHAT)?;
        let files: Vec<TracedFile> = rows.iter().map(read).collect::<Result<_, _>>().during(WHAT)?;
        Ok(match sought {
            // Elsewhere in the metadata the id means something else.
            Sought::Request(id) => {
                files.into_iter().filter(|file| file.request.as_ref() == Some(id)).collect()
            }
            _ => files,
        })
    }

    /// The tokens that we made of this one.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn made_of(&self, id: &str) -> Result<Vec<String>, DatabaseError> {
        if schema::missing(&self.database).await.during(WHAT)?.is_some() {
            return Ok(Vec::new());
        }
        let made = Statement::new(
            "SELECT token_id FROM token_exchange_token WHERE subject_id = ? ORDER BY token_id LIMIT ?",
        );
        let rows = self.database.fetch(made.with(id).with(most())).await.during(WHAT)?;
        rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)
    }
}

fn most() -> i64 {
    i64::try_from(MOST).unwrap_or(i64::MAX)
}

fn read(row: &Row) -> Result<TracedFile, sqlx::Error> {
    let text = |at| row.get::<Option<String>>(at).map(|text| text.filter(|text| !text.is_empty()));
    let metadata = text(11)?.and_then(|text| serde_json::from_str::<Json>(&text).ok());
    let request = metadata.as_ref().and_then(|metadata| metadata.get("request_id")?.as_str());
    Ok(TracedFile {
        file_id: row.integer(0)?,
        job: row.get(1)?,
        request: request.map(str::to_owned),
        state: row.get(2)?,
        source: text(3)?.unwrap_or_default(),
        destination: text(4)?.unwrap_or_default(),
        source_token: text(5)?,
        destination_token: text(6)?,
        reason: text(7)?,
        submitted_at: text(8)?,
        started_at: text(9)?,
        finished_at: text(10)?,
    })
}
