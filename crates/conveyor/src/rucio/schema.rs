//! The tables and columns we use. A changed database is found at start, not in the middle of a submission.

use std::collections::BTreeSet;

use sqlx::SqlitePool;

const USED: [(&str, &[&str]); 11] = [
    (
        "requests",
        &[
            "id",
            "request_type",
            "scope",
            "name",
            "dest_rse_id",
            "source_rse_id",
            "attributes",
            "state",
            "external_id",
            "external_host",
            "previous_attempt_id",
            "rule_id",
            "activity",
            "bytes",
            "md5",
            "adler32",
            "dest_url",
            "submitted_at",
            "err_msg",
            "requested_at",
            "created_at",
            "updated_at",
            "account",
            "priority",
            "transfertool",
        ],
    ),
    (
        "rses",
        &[
            "id",
            "rse",
            "vo",
            "rse_type",
            "deterministic",
            "staging_area",
            "availability_read",
            "availability_write",
            "deleted",
        ],
    ),
    ("rse_attr_map", &["rse_id", "key", "value"]),
    (
        "rse_protocols",
        &[
            "rse_id",
            "scheme",
            "hostname",
            "port",
            "prefix",
            "impl",
            "third_party_copy_read",
            "third_party_copy_write",
            "extended_attributes",
        ],
    ),
    ("distances", &["src_rse_id", "dest_rse_id", "distance"]),
    ("replicas", &["rse_id", "scope", "name", "path", "state"]),
    (
        "sources",
        &[
            "request_id",
            "scope",
            "name",
            "rse_id",
            "dest_rse_id",
            "url",
            "bytes",
            "ranking",
            "is_using",
            "created_at",
            "updated_at",
        ],
    ),
    ("rules", &["id", "expires_at", "child_rule_id"]),
    ("transfer_hops", &["next_hop_request_id"]),
    ("dids", &["scope", "name", "datatype"]),
    ("messages", &["id", "event_type", "payload", "payload_nolimit", "services", "created_at", "updated_at"]),
];

/// The first table or column that is not there.
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
    Ok(None)
}
