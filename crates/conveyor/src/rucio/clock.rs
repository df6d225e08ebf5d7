//! The clock of the database's server.

use token_core::UnixSeconds;

use super::database::Database;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};

impl Rucio {
    /// What time it is there; none for a file, which has no clock of its own.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn clock(&self) -> Result<Option<UnixSeconds>, DatabaseError> {
        const WHAT: &str = "asking for the time";
        let Database::Postgres(_) = &self.database else { return Ok(None) };
        let time = Statement::new("SELECT CAST(extract(epoch FROM clock_timestamp()) AS bigint)");
        let rows = self.database.fetch(time).await.during(WHAT)?;
        rows.first().map(|row| row.integer(0)).transpose().during(WHAT).map(|time| time.map(UnixSeconds))
    }
}
