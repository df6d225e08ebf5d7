//! Reads for `doctor`. Nothing here writes or locks.

use token_core::{AccessToken, UnixSeconds};

use super::database::Database;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, stamp};

const WHAT: &str = "looking it over";

impl FtsDatabase {
    /// What time it is there; none for a file, which has no clock of its own.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn clock(&self) -> Result<Option<UnixSeconds>, DatabaseError> {
        let Database::Mysql(_) = &self.database else { return Ok(None) };
        let rows = self.database.fetch(Statement::new("SELECT UNIX_TIMESTAMP()")).await.during(WHAT)?;
        rows.first().map(|row| row.integer(0)).transpose().during(WHAT).map(|time| time.map(UnixSeconds))
    }

    /// The tokens that live longest of those that jobs were submitted with, without those that were handed over for them.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn submitted_tokens(
        &self,
        now: UnixSeconds,
        most: u32,
    ) -> Result<Vec<AccessToken>, DatabaseError> {
        let (_, initialised) = self.shape().await?;
        let others = match initialised {
            true => " AND NOT EXISTS (SELECT 1 FROM token_exchange_token o WHERE o.token_id = t.token_id)",
            false => "",
        };
        let statement = Statement::new(
            "SELECT t.access_token FROM t_token t WHERE coalesce(t.retired, 0) = 0 AND t.access_token_expiry > ?",
        )
        .with(stamp(now))
        .then(others)
        .then(" ORDER BY t.access_token_expiry DESC LIMIT ?")
        .with(i64::from(most));
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        let texts: Vec<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)?;
        Ok(texts.into_iter().filter_map(|text| AccessToken::new(text).ok()).collect())
    }

    /// The URLs of the last files.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn last_urls(&self, most: u32) -> Result<Vec<String>, DatabaseError> {
        let statement =
            Statement::new("SELECT source_surl, dest_surl FROM t_file ORDER BY file_id DESC LIMIT ?");
        let rows = self.database.fetch(statement.with(i64::from(most))).await.during(WHAT)?;
        let mut urls = Vec::new();
        for row in &rows {
            for at in [0, 1] {
                urls.extend(row.get::<Option<String>>(at).during(WHAT)?);
            }
        }
        Ok(urls)
    }
}
