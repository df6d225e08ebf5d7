//! Tokens that submitters have given since.

use token_core::UnixSeconds;

use super::remembered::How;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, stamp};

const WHAT: &str = "looking for a submitter's later tokens";
/// So many are looked at together.
pub const PAGE: usize = 100;

impl FtsDatabase {
    /// Ids of tokens that submitters have given: of this issuer and audience, those that end last first, a page from the `from`th
    /// on. Whose they are, their claims say. What we made of such is none.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn later_tokens(
        &self,
        issuer: &str,
        audience: &str,
        living_at: UnixSeconds,
        from: usize,
    ) -> Result<Vec<String>, DatabaseError> {
        let statement = Statement::new(
            "SELECT token_id FROM t_token WHERE issuer = ? AND audience = ? AND access_token_expiry > ? \
             AND NOT EXISTS (SELECT 1 FROM token_exchange_token n WHERE n.token_id = t_token.token_id AND n.how <> ?) \
             ORDER BY access_token_expiry DESC, token_id LIMIT ? OFFSET ?",
        );
        let statement =
            statement.with(issuer).with(audience).with(stamp(living_at)).with(How::Refresh.name());
        let (page, from) = (i64::try_from(PAGE), i64::try_from(from));
        let statement = statement.with(page.unwrap_or(i64::MAX)).with(from.unwrap_or(i64::MAX));
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)
    }
}
