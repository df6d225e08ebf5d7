//! Transfers that run longer than the token that they were started with lives, and that nobody can give another.

use token_core::UnixSeconds;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, seconds};

const WHAT: &str = "looking at running transfers";
/// Most transfers that are looked at.
const MOST: i64 = 10_000;

impl FtsDatabase {
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
