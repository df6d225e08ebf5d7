//! What stands in FTS's database.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::database::Database;

/// What a database holds, as text.
pub(crate) struct Seen {
    /// State, reason, finish time, source token, destination token; by id.
    pub(crate) files: BTreeMap<i64, [Option<String>; 5]>,
    /// State, and when it was finished; by id.
    pub(crate) jobs: BTreeMap<String, [Option<String>; 2]>,
    /// By id.
    pub(crate) tokens: BTreeMap<String, Stored>,
    /// When it is tried again, and why it was not done; by job.
    pub(crate) leases: BTreeMap<String, (i64, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) token: String,
    pub(crate) expiry: String,
    pub(crate) scope: String,
    pub(crate) audience: String,
    /// Refresh token, `unmanaged`, `retired`, issuer.
    pub(crate) others: [Option<String>; 4],
}

impl Seen {
    /// Looks.
    pub(crate) async fn of(database: &Database) -> Result<Self> {
        fn row<const N: usize>(texts: Vec<Option<String>>) -> Result<(String, [Option<String>; N])> {
            let mut texts = texts.into_iter();
            let id = texts.next().flatten().context("an id")?;
            let rest: Vec<_> = texts.collect();
            Ok((id, rest.try_into().ok().context("as many columns as asked for")?))
        }
        let columns = ["file_id", "file_state", "reason", "finish_time", "src_token_id", "dst_token_id"];
        let files = database.rows(&columns, "t_file").await?.into_iter().map(|texts| {
            let (id, rest) = row(texts)?;
            Ok((id.parse()?, rest))
        });
        let jobs =
            database.rows(&["job_id", "job_state", "job_finished"], "t_job").await?.into_iter().map(row);
        let columns = [
            "token_id",
            "access_token",
            "access_token_expiry",
            "scope",
            "audience",
            "refresh_token",
            "unmanaged",
            "retired",
            "issuer",
        ];
        let tokens = database.rows(&columns, "t_token").await?.into_iter().map(|texts| {
            let (id, [token, expiry, scope, audience, others @ ..]) = row::<8>(texts)?;
            let [token, expiry, scope, audience] =
                [token, expiry, scope, audience].map(Option::unwrap_or_default);
            Ok((id, Stored { token, expiry, scope, audience, others }))
        });
        let leases = database.rows(&["job_id", "retry_at", "message"], "token_exchange_lease").await?;
        let leases = leases.into_iter().map(|texts| {
            let (id, [retry_at, message]) = row::<2>(texts)?;
            Ok((id, (retry_at.unwrap_or_default().parse()?, message.unwrap_or_default())))
        });
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            jobs: jobs.collect::<Result<_>>()?,
            tokens: tokens.collect::<Result<_>>()?,
            leases: leases.collect::<Result<_>>()?,
        })
    }
}
