//! The tables and columns we use, and the one table that is ours.

use std::collections::BTreeSet;

use sqlx::SqlitePool;

const USED: [(&str, &[&str]); 5] = [
    ("t_schema_vers", &["major"]),
    ("t_hosts", &["hostname", "service_name", "beat", "drain"]),
    (
        "t_token",
        &[
            "token_id",
            "access_token",
            "access_token_expiry",
            "refresh_token",
            "issuer",
            "scope",
            "audience",
            "retired",
            "unmanaged",
        ],
    ),
    ("t_job", &["job_id", "job_state", "job_type", "cancel_job", "reason", "job_finished"]),
    (
        "t_file",
        &[
            "file_id",
            "job_id",
            "file_state",
            "file_state_initial",
            "source_surl",
            "dest_surl",
            "src_token_id",
            "dst_token_id",
            "reason",
            "finish_time",
        ],
    ),
];

/// The schema whose token columns we know.
const MAJOR: i64 = 10;

/// The first thing that is not as it should be.
pub(super) async fn missing(pool: &SqlitePool) -> Result<Option<String>, sqlx::Error> {
    for (table, used) in USED {
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(table).fetch_all(pool).await?;
        let columns: BTreeSet<_> = columns.iter().map(String::as_str).collect();
        if columns.is_empty() {
            return Ok(Some(format!("table `{table}`")));
        }
        if let Some(column) = used.iter().find(|column| !columns.contains(**column)) {
            return Ok(Some(format!("column `{table}.{column}`")));
        }
    }
    let major: Option<i64> =
        sqlx::query_scalar("SELECT max(major) FROM t_schema_vers").fetch_one(pool).await?;
    Ok((major != Some(MAJOR)).then(|| format!("schema version {MAJOR} in `t_schema_vers`")))
}

pub(super) async fn initialised(pool: &SqlitePool) -> Result<bool, sqlx::Error> {
    let columns: Vec<String> =
        sqlx::query_scalar("SELECT name FROM pragma_table_info('token_exchange_lease')")
            .fetch_all(pool)
            .await?;
    Ok(!columns.is_empty())
}

/// Times are seconds since the epoch, so that no session's time zone can move them.
pub(super) async fn create(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS token_exchange_lease (\
         job_id CHAR(36) NOT NULL PRIMARY KEY, \
         owner CHAR(32) NOT NULL, \
         lease_end BIGINT NOT NULL, \
         attempts INTEGER NOT NULL, \
         retry_at BIGINT NOT NULL, \
         message VARCHAR(2048))",
    )
    .execute(pool)
    .await
    .map(drop)
}
