//! The tables and columns we use, and the tables that are ours.

use daemon::sqlite::Used;

use super::database::{Database, Row};
use super::statement::Statement;

pub(super) const USED: [Used; 6] = [
    ("t_schema_vers", &["major"]),
    (
        "t_token_provider",
        &["name", "issuer", "client_id", "client_secret", "required_submission_scope", "vo_mapping"],
    ),
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
            "marked_for_refresh",
            "refresh_message",
            "refresh_timestamp",
        ],
    ),
    (
        "t_job",
        &[
            "job_id",
            "job_state",
            "job_type",
            "cancel_job",
            "reason",
            "job_finished",
            "overwrite_flag",
            "submit_time",
            "max_time_in_queue",
        ],
    ),
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
            "start_time",
            "finish_time",
            "start_time",
            "file_metadata",
        ],
    ),
];

/// The schema whose token columns we know.
pub(super) const MAJOR: i64 = 10;
/// Columns of `t_token` that schema 9.1.0 had and 10.0.0 dropped. REST 3.13.4 still writes them (observed), so sites keep
/// them, and then a token of ours has them too.
pub(super) const OLDER: [&str; 2] = ["access_token_not_before", "access_token_refresh_after"];
/// Our tables: who works on which job, what was handed over, and what was looked at.
const LEASES: &str = "token_exchange_lease";
const TOKENS: &str = "token_exchange_token";
const LOOKS: &str = "token_exchange_look";

/// The newest major version that the database says of itself.
pub(super) async fn version(database: &Database) -> Result<Option<i64>, sqlx::Error> {
    let newest = "SELECT major FROM t_schema_vers ORDER BY major DESC LIMIT 1";
    database.fetch(Statement::new(newest)).await?.first().map(|row| row.integer(0)).transpose()
}

/// Whether `t_token` has the older columns.
pub(super) async fn has_older_columns(database: &Database) -> Result<bool, sqlx::Error> {
    let columns = database.columns("t_token").await?;
    Ok(OLDER.iter().all(|column| columns.contains(*column)))
}

/// An index of FTS's on `t_file`: its name, its first column, and what names it in a statement.
pub(super) type Index = (&'static str, &'static str, &'static str);
/// The index on the state.
pub(super) const STATE_INDEX: Index = ("idx_state", "file_state", " FORCE INDEX (idx_state)");
/// The index on the time of the end.
pub(super) const END_INDEX: Index = ("idx_finish_time", "finish_time", " FORCE INDEX (idx_finish_time)");

/// Names an index to a server that could choose another, where the index is there; SQLite has nothing to be told.
pub(super) async fn forced(
    database: &Database,
    (name, column, named): &Index,
) -> Result<&'static str, sqlx::Error> {
    let Database::Mysql(_) = database else { return Ok("") };
    let found = Statement::new(
        "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 't_file' \
         AND index_name = ? AND seq_in_index = 1 AND column_name = ?",
    );
    let found = found.with(*name).with(*column);
    Ok(if database.fetch(found).await?.is_empty() { "" } else { named })
}

/// The first of our tables that is not there.
pub(super) async fn missing(database: &Database) -> Result<Option<&'static str>, sqlx::Error> {
    for table in [LEASES, TOKENS, LOOKS] {
        if database.columns(table).await?.is_empty() {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// Times are seconds since the epoch, so that no session's time zone can move them.
pub(super) async fn create(database: &Database) -> Result<(), sqlx::Error> {
    let engine = database.dialect().engine();
    let jobs = format!(
        "CREATE TABLE IF NOT EXISTS {LEASES} (\
         job_id CHAR(36){} NOT NULL PRIMARY KEY, \
         owner CHAR(32) NOT NULL, \
         lease_end BIGINT NOT NULL, \
         attempts INTEGER NOT NULL, \
         retry_at BIGINT NOT NULL, \
         message VARCHAR(2048)){engine}",
        collation(database, "t_file", "job_id").await?,
    );
    database.execute(Statement::new(&jobs)).await?;
    let alike = collation(database, "t_token", "token_id").await?;
    let (inside, beside) = database.dialect().index(TOKENS, "renew_at");
    let tokens = format!(
        "CREATE TABLE IF NOT EXISTS {TOKENS} (\
         token_id CHAR(16){alike} NOT NULL PRIMARY KEY, \
         how VARCHAR(32) NOT NULL, \
         subject_id CHAR(16){alike} NOT NULL, \
         subject_sub VARCHAR(255) NOT NULL, \
         subject_audience VARCHAR(1024) NOT NULL, \
         obtained_at BIGINT NOT NULL, \
         expires_at BIGINT NOT NULL, \
         renew_at BIGINT NOT NULL, \
         owner CHAR(32) NOT NULL, \
         lease_end BIGINT NOT NULL, \
         turn BIGINT NOT NULL, \
         attempts INTEGER NOT NULL, \
         handed BIGINT NOT NULL, \
         message VARCHAR(2048){inside}){engine}"
    );
    database.execute(Statement::new(&tokens)).await?;
    if let Some(index) = beside {
        database.execute(Statement::new(&index)).await?;
    }
    let looks = format!(
        "CREATE TABLE IF NOT EXISTS {LOOKS} (name VARCHAR(32) NOT NULL PRIMARY KEY, up_to BIGINT NOT NULL){engine}"
    );
    database.execute(Statement::new(&looks)).await.map(drop)
}

/// That of a column of FTS's, whatever the database's default has become since FTS's tables were made: columns of two collations
/// can't be compared.
async fn collation(database: &Database, table: &str, column: &str) -> Result<String, sqlx::Error> {
    let Database::Mysql(_) = database else { return Ok(String::new()) };
    let statement = Statement::new(
        "SELECT CAST(collation_name AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?",
    );
    let rows = database.fetch(statement.with(table).with(column)).await?;
    let name: Option<String> = rows.first().map(|row: &Row| row.get(0)).transpose()?.flatten();
    let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    Ok(name.filter(plain).map(|name| format!(" COLLATE {name}")).unwrap_or_default())
}
