//! The commands that look and tell. None of them writes, locks, or asks an issuer.

mod explain;
mod page;
mod plan;
mod status;
mod trace;

use clap::Subcommand;
use daemon::Failure;
use serde::Serialize;
use token_core::UnixSeconds;

use crate::doctor::Doctor;
use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::Planning;

/// What is to be told.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Make our tables, `token_exchange_lease`, `token_exchange_token` and `token_exchange_look`, in FTS's database. Harmless when they are there.
    InitDb,
    /// Look at the configuration, without starting anything.
    #[command(subcommand)]
    Config(daemon::config::Command),
    /// Look over FTS's database, issuers, what an exchange gives, and each storage with the token it would get: a line each, with what
    /// to do. Tokens are asked for; nothing is written. Exit code 0: all good; 1: something is wrong that may pass; 2: something is to
    /// be mended.
    Doctor(Doctor),
    /// Show which tokens the whole queue would take, and how many calls at each granularity. Nothing is asked for.
    Plan {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show what becomes of one file, and why.
    Explain {
        /// FTS's `file_id`.
        file_id: i64,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Trace a request of Rucio's, a job, a file or a token to the others: which files, with which tokens, made of which.
    Trace {
        /// The id of a request or of a job, a `file_id`, or a token's fingerprint (`token_id`, 16 hex digits). By a request, all of
        /// FTS's files are read.
        id: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show issuers, backlog, leases and tokens, as far as the database knows.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// An issuer, for `status`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShownIssuer {
    /// Its name.
    pub url: String,
    /// How its tokens are got.
    pub mode: crate::plan::Mode,
    /// Our client there.
    pub client_id: Option<String>,
    /// Where that and its secret come from.
    pub client_from: &'static str,
    /// The VO that FTS counts its tokens as.
    pub vo: Option<String>,
    /// The scope that FTS wants of submissions.
    pub required_scope: Option<String>,
    /// Most calls at a time.
    pub max_in_flight: usize,
    /// Calls a second in the long run.
    pub calls_per_s: u32,
}

/// Carries a command out that only looks.
///
/// # Errors
/// When the database fails, or there is no such file.
pub(crate) async fn show(
    command: &Command,
    fts: &FtsDatabase,
    planning: &Planning,
    issuers: Vec<ShownIssuer>,
    now: UnixSeconds,
) -> Result<(), Failure> {
    match command {
        Command::InitDb | Command::Config(_) | Command::Doctor(_) => Ok(()),
        Command::Plan { json } => {
            let planned = plan::plan(fts, planning, now).await.map_err(database)?;
            page::print(*json, &planned, plan::Plan::page)
        }
        Command::Explain { file_id, json } => {
            let found = explain::explain(fts, planning, *file_id, now).await.map_err(database)?;
            let Some(explained) = found else {
                return Err(Failure::runtime(format!(
                    "FTS's database has no file {file_id} (t_file.file_id)"
                )));
            };
            page::print(*json, &explained, explain::Explained::page)
        }
        Command::Trace { id, json } => {
            let kinds = trace::kinds(id);
            if kinds.is_empty() {
                return Err(Failure::configuration(
                    "an id is a request's (32 hex digits), a job's, a file's (a number), or a token's (16 hex digits)",
                ));
            }
            let traced = trace::trace(fts, &kinds, now).await.map_err(database)?;
            let traced = traced
                .ok_or_else(|| Failure::configuration(format!("FTS's database knows nothing of `{id}`")))?;
            page::print(*json, &traced, trace::Trace::page)
        }
        Command::Status { json } => {
            let status = status::status(fts, planning, issuers, now).await.map_err(database)?;
            page::print(*json, &status, status::Status::page)
        }
    }
}

fn database(error: DatabaseError) -> Failure {
    Failure::runtime(error)
}
