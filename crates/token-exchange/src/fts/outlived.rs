//! Transfers that run longer than the token that they were started with lives, and that nobody can give another.

use std::time::Duration;

use token_core::UnixSeconds;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, seconds, stamp};

const WHAT: &str = "looking at running transfers";
/// Most transfers that are looked at.
const MOST: i64 = 10_000;

/// Tokens that files may outlive.
#[derive(Clone, Debug)]
pub struct Short {
    /// The issuer.
    pub issuer: String,
    /// The audience.
    pub audience: String,
    /// How many.
    pub tokens: i64,
    /// Files that use them.
    pub files: i64,
    /// When the first of them ends.
    pub first_end: Option<UnixSeconds>,
}

impl FtsDatabase {
    /// Unmanaged tokens that files wait for or run on, that end within `needed` and that are not going to be renewed in time, by issuer
    /// and audience. Of ours, those whose renewal fails and those that never live as long. Our tables have to be there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn short_lived(&self, now: UnixSeconds, needed: Duration) -> Result<Vec<Short>, DatabaseError> {
        const WHAT: &str = "looking for tokens that end soon";
        let statement = Statement::new(&format!(
            "SELECT t.issuer, t.audience, count(DISTINCT t.token_id), count(DISTINCT f.file_id), \
             CAST(min(t.access_token_expiry) AS CHAR) FROM t_file f{} JOIN t_token t ON t.token_id IN (f.src_token_id, f.dst_token_id) \
             LEFT JOIN token_exchange_token n ON n.token_id = t.token_id \
             WHERE f.file_state IN ('SUBMITTED', 'READY', 'ACTIVE', 'STAGING', 'STARTED', 'ON_HOLD', 'ON_HOLD_STAGING', 'FORCE_START') \
             AND coalesce(t.unmanaged, 0) = 1 AND t.access_token_expiry <= ? \
             AND (n.token_id IS NULL OR n.message IS NOT NULL OR n.expires_at - n.obtained_at < ?) \
             GROUP BY t.issuer, t.audience ORDER BY 5",
            self.state_index
        ));
        let life = i64::try_from(needed.as_secs()).unwrap_or(i64::MAX);
        let rows =
            self.database.fetch(statement.with(stamp(now.plus(needed))).with(life)).await.during(WHAT)?;
        let read = |row: &Row| {
            Ok(Short {
                issuer: row.get(0)?,
                audience: row.get(1)?,
                tokens: row.integer(2)?,
                files: row.integer(3)?,
                first_end: row.get::<Option<String>>(4)?.as_deref().and_then(seconds),
            })
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// How many running transfers have outlived the unmanaged token of ours that they were started with. Their copy goes on; what
    /// FTS looks at after it is refused by the storage (observed).
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn outlived(&self, now: UnixSeconds) -> Result<usize, DatabaseError> {
        let statement = Statement::new(
            "SELECT f.file_id, CAST(f.start_time AS CHAR), max(n.obtained_at - n.expires_at) FROM t_file f \
             JOIN t_token t ON t.token_id IN (f.src_token_id, f.dst_token_id) AND coalesce(t.unmanaged, 0) = 1 \
             JOIN token_exchange_token n ON n.token_id = t.token_id WHERE f.file_state = 'ACTIVE' \
             GROUP BY f.file_id, f.start_time LIMIT ?",
        );
        let statement = statement.with(MOST);
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        let outlived = |row: &Row| -> Result<bool, sqlx::Error> {
            let started = row.get::<Option<String>>(1)?.and_then(|text| seconds(&text));
            let life = -row.integer(2)?;
            Ok(started.is_some_and(|started| now.0 - started.0 > life))
        };
        let rows: Vec<bool> = rows.iter().map(outlived).collect::<Result<_, _>>().during(WHAT)?;
        Ok(rows.into_iter().filter(|outlived| *outlived).count())
    }
}
