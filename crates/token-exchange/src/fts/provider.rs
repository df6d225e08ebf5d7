//! The clients that FTS has at issuers: `t_token_provider`.

use std::fmt;

use token_core::ClientSecret;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase};

/// A row. FTS holds the secret in clear.
#[derive(Clone)]
pub struct Provider {
    /// What the operator calls it.
    pub name: String,
    /// The issuer, with a slash at the end whether its tokens have one or not.
    pub issuer: String,
    /// The client's id there.
    pub client_id: String,
    /// Its secret.
    pub client_secret: ClientSecret,
    /// The scope that a submission's token must have.
    pub required_submission_scope: Option<String>,
    /// The VO that tokens of this issuer count as.
    pub vo_mapping: Option<String>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({} as {})", self.issuer, self.client_id)
    }
}

impl FtsDatabase {
    /// The clients that FTS has.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn providers(&self) -> Result<Vec<Provider>, DatabaseError> {
        const WHAT: &str = "reading t_token_provider";
        let statement = Statement::new(
            "SELECT name, issuer, client_id, client_secret, required_submission_scope, vo_mapping \
             FROM t_token_provider ORDER BY issuer",
        );
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        let filled =
            |row: &Row, at| Ok::<_, sqlx::Error>(row.get::<Option<String>>(at)?.filter(|s| !s.is_empty()));
        let read = |row: &Row| {
            Ok(Provider {
                name: row.get(0)?,
                issuer: row.get(1)?,
                client_id: row.get(2)?,
                client_secret: ClientSecret::new(row.get::<String>(3)?),
                required_submission_scope: filled(row, 4)?,
                vo_mapping: filled(row, 5)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }
}
