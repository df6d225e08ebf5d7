//! The tables and columns we use, and the one table that is ours.

use daemon::sqlite::Used;
use sqlx::SqlitePool;

pub(super) const USED: [Used; 5] = [
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
pub(super) const MAJOR: i64 = 10;

/// The newest major version that the database says of itself.
pub(super) async fn version(pool: &SqlitePool) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(major) FROM t_schema_vers").fetch_one(pool).await
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
