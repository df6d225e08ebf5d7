//! Renewal in place: which tokens are due, who renews each, and the writing down of what came of it.

use std::collections::BTreeMap;

use token_core::{AccessToken, RefreshToken, UnixSeconds, random_hex};

use super::database::Row;
use super::hand_over::writing::cut;
use super::remembered::{How, Origin, Submitter, adopt};
use super::schema::OLDER;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, seconds, stamp};
use crate::fresh;

const WHAT: &str = "renewing tokens";

/// Whether a file that is not at its end refers to the token `t`. The spare rows of a job that has ended stay `NOT_USED`.
const LIVE: &str = "(EXISTS (SELECT 1 FROM t_file f JOIN t_job j ON j.job_id = f.job_id WHERE f.src_token_id = t.token_id \
    AND f.file_state NOT IN ('FINISHED', 'FAILED', 'CANCELED') \
    AND j.job_state NOT IN ('FINISHED', 'FAILED', 'FINISHEDDIRTY', 'CANCELED')) \
    OR EXISTS (SELECT 1 FROM t_file f JOIN t_job j ON j.job_id = f.job_id WHERE f.dst_token_id = t.token_id \
    AND f.file_state NOT IN ('FINISHED', 'FAILED', 'CANCELED') \
    AND j.job_state NOT IN ('FINISHED', 'FAILED', 'FINISHEDDIRTY', 'CANCELED')))";

/// A token that is ours to renew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// `t_token.token_id`.
    pub token_id: String,
    /// Who we are for this lease.
    pub owner: String,
}

/// A token that FTS holds, as far as its renewal goes.
#[derive(Clone, Debug)]
pub struct Renewable {
    /// `t_token.token_id`; it stays when the token is renewed.
    pub id: String,
    /// The token that stands there now.
    pub token: AccessToken,
    /// When that ends, as FTS sees it.
    pub expires_at: UnixSeconds,
    /// When it was got, if that is known.
    pub obtained_at: Option<UnixSeconds>,
    /// Its refresh token.
    pub refresh: Option<RefreshToken>,
    /// The issuer as `t_token_provider` writes it.
    pub issuer: String,
    /// Its scopes.
    pub scope: String,
    /// Its audience.
    pub audience: String,
    /// Whether `fts_url_copy` does not ask for it.
    pub unmanaged: bool,
    /// Where it comes from, if it was written down.
    pub origin: Option<Origin>,
    /// How often it was tried in a row without success.
    pub attempts: i64,
    /// How often it was tried at all.
    pub turn: i64,
    /// How often it was handed over.
    pub handed: i64,
    /// Why the last try failed.
    pub message: Option<String>,
    /// Whether a file that is not at its end refers to it.
    pub live: bool,
}

/// What came of a renewal.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// The new token.
    pub token: AccessToken,
    /// When it was got.
    pub obtained_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// The token it was exchanged for, where that is another one than before.
    pub subject_id: Option<String>,
}

impl FtsDatabase {
    /// Takes up to `limit` tokens that are due, for us alone until `end`.
    ///
    /// # Errors
    /// When a statement fails; then nothing is taken.
    pub async fn take_due(
        &self,
        limit: u32,
        now: UnixSeconds,
        end: UnixSeconds,
    ) -> Result<Vec<Hold>, DatabaseError> {
        self.tried(async || {
            let find = "SELECT token_id FROM token_exchange_token WHERE renew_at <= ? AND lease_end <= ? \
                        ORDER BY renew_at LIMIT ?";
            let find = || Statement::new(find).with(now.0).with(now.0).with(i64::from(limit));
            // A look without a lock first: most find nothing.
            if self.database.fetch(find()).await.during(WHAT)?.is_empty() {
                return Ok(Vec::new());
            }
            let mut transaction = self.begin(WHAT).await?;
            let dialect = transaction.dialect();
            let rows = transaction.fetch(find().then(dialect.lock_free_ones().unwrap_or_default())).await;
            let ids: Vec<String> =
                rows.during(WHAT)?.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)?;
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let owner = random_hex();
            let taking =
                Statement::new("UPDATE token_exchange_token SET owner = ?, lease_end = ? WHERE token_id IN ")
                    .with(&owner)
                    .with(end.0)
                    .list(&ids)
                    .then(" AND lease_end <= ?")
                    .with(now.0);
            transaction.execute(taking).await.during(WHAT)?;
            let ours = Statement::new("SELECT token_id FROM token_exchange_token WHERE token_id IN ")
                .list(&ids)
                .then(" AND owner = ?")
                .with(&owner);
            let rows = transaction.fetch(ours).await.during(WHAT)?;
            transaction.commit().await.during(WHAT)?;
            let hold = |row: &Row| Ok(Hold { token_id: row.get(0)?, owner: owner.clone() });
            rows.iter().map(hold).collect::<Result<_, sqlx::Error>>().during(WHAT)
        })
        .await
    }

    /// Takes one token until `end`, whether it is due or not; none when somebody else has it in hand.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn take_token(
        &self,
        token: &Renewable,
        now: UnixSeconds,
        end: UnixSeconds,
    ) -> Result<Option<Hold>, DatabaseError> {
        let dialect = self.database.dialect();
        self.tried(async || {
            if token.origin.is_none() {
                let row = adopt(dialect, &token.id, token.expires_at, end);
                self.database.execute(row).await.during(WHAT)?;
            }
            let owner = random_hex();
            let taking = Statement::new(
                "UPDATE token_exchange_token SET owner = ?, lease_end = ? WHERE token_id = ? AND lease_end <= ?",
            );
            let taking = taking.with(&owner).with(end.0).with(&token.id).with(now.0);
            let taken = self.database.execute(taking).await.during(WHAT)?;
            Ok((taken == 1).then(|| Hold { token_id: token.id.clone(), owner }))
        })
        .await
    }

    /// Writes down which tokens are to be renewed that others exchanged: those with a refresh token that end before `until` and
    /// that files are waiting for. Returns how many.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn adopt_refreshable(
        &self,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<usize, DatabaseError> {
        let find = format!(
            "SELECT t.token_id, CAST(t.access_token_expiry AS CHAR) FROM t_token t \
             LEFT JOIN token_exchange_token n ON n.token_id = t.token_id WHERE n.token_id IS NULL \
             AND coalesce(t.refresh_token, '') <> '' AND coalesce(t.unmanaged, 0) = 0 AND t.access_token_expiry <= ? \
             AND {LIVE} LIMIT 500"
        );
        self.tried(async || {
            let rows = self.database.fetch(Statement::new(&find).with(stamp(until))).await.during(WHAT)?;
            for row in &rows {
                let (id, end): (String, String) = (row.get(0).during(WHAT)?, row.get(1).during(WHAT)?);
                let end = seconds(&end).unwrap_or(now);
                let row = adopt(self.database.dialect(), &id, end, now);
                self.database.execute(row).await.during(WHAT)?;
            }
            Ok(rows.len())
        })
        .await
    }

    /// What FTS holds under these ids; what it does not hold is not there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn renewable(&self, ids: &[&str]) -> Result<BTreeMap<String, Renewable>, DatabaseError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let statement = Statement::new(&format!(
            "SELECT t.token_id, t.access_token, CAST(t.access_token_expiry AS CHAR), t.refresh_token, t.issuer, t.scope, \
             t.audience, coalesce(t.unmanaged, 0), n.how, n.subject_id, n.subject_sub, n.subject_audience, \
             coalesce(n.obtained_at, 0), coalesce(n.attempts, 0), coalesce(n.turn, 0), n.message, \
             CASE WHEN {LIVE} THEN 1 ELSE 0 END, coalesce(n.handed, 0) \
             FROM t_token t LEFT JOIN token_exchange_token n ON n.token_id = t.token_id WHERE t.token_id IN "
        ))
        .list(ids.iter().copied());
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        let mut tokens = BTreeMap::new();
        for row in &rows {
            if let Some(token) = renewable(row).during(WHAT)? {
                tokens.insert(token.id.clone(), token);
            }
        }
        Ok(tokens)
    }

    /// Puts a new token into the row of the old one, and its refresh token with it, all or nothing. A refresh token is only
    /// written over the one that it was got with.
    ///
    /// # Errors
    /// [`DatabaseError::LeaseLost`] when another has the token in hand by now; then only the refresh token was written.
    pub async fn renewed(
        &self,
        hold: &Hold,
        renewed: &Renewed,
        refresh: Option<(&RefreshToken, &RefreshToken)>,
    ) -> Result<(), DatabaseError> {
        let due = fresh::renew_at(&hold.token_id, renewed.obtained_at, renewed.expires_at);
        let mut ours = Statement::new(
            "UPDATE token_exchange_token SET owner = '', lease_end = 0, turn = turn + 1, attempts = 0, message = NULL, \
             obtained_at = ?, expires_at = ?, renew_at = ?",
        )
        .with(renewed.obtained_at.0)
        .with(renewed.expires_at.0)
        .with(due.0);
        if let Some(subject) = &renewed.subject_id {
            ours = ours.then(", subject_id = ?").with(subject);
        }
        let ours = ours.then(" WHERE token_id = ? AND owner = ?").with(&hold.token_id).with(&hold.owner);
        let (columns, marks) =
            if self.older_columns { (OLDER.as_slice(), true) } else { ([].as_slice(), false) };
        let columns: String = columns.iter().map(|column| format!(", {column} = ?")).collect();
        let mut theirs = Statement::new(&format!(
            "UPDATE t_token SET access_token = ?, access_token_expiry = ?, refresh_message = NULL, refresh_timestamp = ?, \
             marked_for_refresh = 0, retired = 0{columns} WHERE token_id = ?"
        ))
        .with(renewed.token.expose())
        .with(stamp(renewed.expires_at))
        .with(stamp(renewed.obtained_at));
        if marks {
            let half = renewed.obtained_at.plus(renewed.obtained_at.until(renewed.expires_at) / 2);
            theirs = theirs.with(stamp(renewed.obtained_at)).with(stamp(half));
        }
        let theirs = theirs.with(&hold.token_id);
        self.tried(async || {
            let mut transaction = self.begin(WHAT).await?;
            if let Some((old, new)) = refresh {
                transaction.execute(rotated(&hold.token_id, old, new)).await.during(WHAT)?;
            }
            let still_ours = transaction.execute(ours.clone()).await.during(WHAT)? == 1;
            if still_ours {
                transaction.execute(theirs.clone()).await.during(WHAT)?;
            }
            transaction.commit().await.during(WHAT)?;
            if still_ours { Ok(()) } else { Err(DatabaseError::LeaseLost(hold.token_id.clone())) }
        })
        .await
    }

    /// Writes down why a token was not renewed, and when it is tried again. FTS's own columns say it too. A refresh token that came
    /// nevertheless is kept.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn not_renewed(
        &self,
        hold: &Hold,
        why: &str,
        now: UnixSeconds,
        again: UnixSeconds,
        refresh: Option<(&RefreshToken, &RefreshToken)>,
    ) -> Result<(), DatabaseError> {
        let why = cut(why);
        self.tried(async || {
            let mut transaction = self.begin(WHAT).await?;
            if let Some((old, new)) = refresh {
                transaction.execute(rotated(&hold.token_id, old, new)).await.during(WHAT)?;
            }
            let ours = Statement::new(
                "UPDATE token_exchange_token SET owner = '', lease_end = 0, turn = turn + 1, attempts = attempts + 1, \
                 message = ?, renew_at = ? WHERE token_id = ? AND owner = ?",
            );
            let ours = ours.with(&why).with(again.0).with(&hold.token_id).with(&hold.owner);
            if transaction.execute(ours).await.during(WHAT)? == 1 {
                let theirs = Statement::new(
                    "UPDATE t_token SET refresh_message = ?, refresh_timestamp = ?, marked_for_refresh = 0 WHERE token_id = ?",
                );
                let theirs = theirs.with(&why).with(stamp(now)).with(&hold.token_id);
                transaction.execute(theirs).await.during(WHAT)?;
            }
            transaction.commit().await.during(WHAT)
        })
        .await
    }

    /// Holds on to a token for its renewal until `end`, right before its refresh token is used: who has waited for a place may have
    /// lost it to another, who uses the same refresh token.
    ///
    /// # Errors
    /// [`DatabaseError::LeaseLost`] when it is not ours any more.
    pub async fn hold_on(
        &self,
        hold: &Hold,
        now: UnixSeconds,
        end: UnixSeconds,
    ) -> Result<(), DatabaseError> {
        let statement = Statement::new(
            "UPDATE token_exchange_token SET lease_end = ? WHERE token_id = ? AND owner = ? AND lease_end > ?",
        );
        let statement = statement.with(end.0).with(&hold.token_id).with(&hold.owner).with(now.0);
        match self.tried(async || self.database.execute(statement.clone()).await.during(WHAT)).await? {
            0 => Err(DatabaseError::LeaseLost(hold.token_id.clone())),
            _ => Ok(()),
        }
    }

    /// Ends a lease early, since nothing was done.
    ///
    /// # Errors
    /// When a statement fails; the lease then ends by itself.
    pub async fn let_go(&self, hold: &Hold) -> Result<(), DatabaseError> {
        let statement = Statement::new(
            "UPDATE token_exchange_token SET owner = '', lease_end = 0 WHERE token_id = ? AND owner = ?",
        );
        let statement = statement.with(&hold.token_id).with(&hold.owner);
        self.tried(async || self.database.execute(statement.clone()).await.during(WHAT).map(drop)).await
    }

    /// Forgets tokens that no file waits for any more, each with how often it had been handed over when that was seen; none for one
    /// that FTS itself has deleted. One that was handed over again meanwhile stays.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn forget(&self, over: &[(&Hold, Option<i64>)]) -> Result<(), DatabaseError> {
        for (hold, handed) in over {
            let statement =
                Statement::new("DELETE FROM token_exchange_token WHERE token_id = ? AND owner = ?");
            let statement = statement.with(&hold.token_id).with(&hold.owner);
            let statement = match handed {
                Some(handed) => statement.then(" AND handed = ?").with(*handed),
                None => statement,
            };
            let forget = async || self.database.execute(statement.clone()).await.during(WHAT);
            if self.tried(forget).await? == 0 {
                self.let_go(hold).await?;
            }
        }
        Ok(())
    }
}

fn rotated(id: &str, old: &RefreshToken, new: &RefreshToken) -> Statement {
    let statement =
        Statement::new("UPDATE t_token SET refresh_token = ? WHERE token_id = ? AND refresh_token = ?");
    statement.with(new.expose()).with(id).with(old.expose())
}

/// None when what stands there is no token at all.
fn renewable(row: &Row) -> Result<Option<Renewable>, sqlx::Error> {
    let text = |at| row.get::<Option<String>>(at).map(|text| text.filter(|text| !text.is_empty()));
    let Ok(token) = AccessToken::new(row.get::<String>(1)?) else { return Ok(None) };
    let obtained_at = row.integer(12)?;
    let submitter = text(9)?.map(|token_id| -> Result<Submitter, sqlx::Error> {
        Ok(Submitter { token_id, subject: text(10)?, audience: text(11)?.unwrap_or_default() })
    });
    let how = text(8)?.and_then(|name| How::parse(&name));
    let submitter = submitter.transpose()?;
    Ok(Some(Renewable {
        id: row.get(0)?,
        token,
        expires_at: seconds(&row.get::<String>(2)?).unwrap_or(UnixSeconds(0)),
        obtained_at: (obtained_at > 0).then_some(UnixSeconds(obtained_at)),
        refresh: text(3)?.and_then(|text| RefreshToken::new(text).ok()),
        issuer: row.get(4)?,
        scope: row.get(5)?,
        audience: row.get(6)?,
        unmanaged: row.integer(7)? != 0,
        origin: how.map(|how| Origin { how, submitter }),
        attempts: row.integer(13)?,
        turn: row.integer(14)?,
        handed: row.integer(17)?,
        message: text(15)?,
        live: row.integer(16)? != 0,
    }))
}
