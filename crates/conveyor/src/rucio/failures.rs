//! What failed lately, by source, for the ranking strategy `FailureRate`: read as Rucio's `TransferStatsManager` reads it.

use std::collections::HashMap;

use token_core::UnixSeconds;

use super::stamp::Stamp;
use super::statement::Statement;
use super::{DatabaseError, During as _, Rucio};
use crate::topology::{FailureRates, RseId};

const WHAT: &str = "reading what failed lately";

/// How far back it is looked, in seconds.
const LOOK_BACK_S: i64 = 3600;
/// Rucio's intervals of sums, in seconds, the longest first. Of the shortest there is a row from each poller; those of the others may be
/// there twice, made by two daemons at once.
const RESOLUTIONS: [i64; 3] = [86_400, 3600, RAW_S];
const RAW_S: i64 = 300;

const NEWEST: &str = "SELECT max(t.timestamp) FROM transfer_stats t WHERE t.resolution = $1";

const WITHIN: &str =
    " FROM transfer_stats t WHERE t.resolution = $1 AND t.timestamp >= $2 AND t.timestamp < $3";

impl Rucio {
    /// Of ten thousand files that were tried from each RSE in the hour before `now`, how many failed.
    ///
    /// # Errors
    /// When a statement fails.
    pub(super) async fn failure_rates(&self, now: UnixSeconds) -> Result<FailureRates, DatabaseError> {
        let mut from = now.0.saturating_sub(LOOK_BACK_S);
        let mut tried: HashMap<RseId, (i64, i64)> = HashMap::new();
        for resolution in RESOLUTIONS {
            let newest = Statement::new(NEWEST).with(resolution);
            let rows = self.database.fetch(newest).await.during(WHAT)?;
            let newest = rows.first().map(|row| row.optional_time(0)).transpose().during(WHAT)?.flatten();
            let Some(newest) = newest.as_ref().and_then(Stamp::seconds).filter(|newest| *newest >= from)
            else {
                continue;
            };
            let columns = match resolution {
                RAW_S => {
                    format!("SELECT t.src_rse_id, t.files_done AS done, t.files_failed AS failed{WITHIN}")
                }
                _ => format!(
                    "SELECT t.src_rse_id, max(t.files_done) AS done, max(t.files_failed) AS failed{WITHIN} \
                     GROUP BY t.timestamp, t.src_rse_id, t.dest_rse_id"
                ),
            };
            let sums = format!(
                "SELECT s.src_rse_id, CAST(sum(s.done) AS BIGINT), CAST(sum(s.failed) AS BIGINT) FROM ({columns}) AS s \
                 GROUP BY s.src_rse_id"
            );
            let [after, until] = [from + 1, newest + 1].map(|at| Stamp::from(UnixSeconds(at)));
            let sums = Statement::new(&sums).with(resolution).with(&after).with(&until);
            for row in self.database.fetch(sums).await.during(WHAT)? {
                let (done, failed) = tried.entry(RseId(row.id(0).during(WHAT)?)).or_default();
                *done = done.saturating_add(row.integer(1).during(WHAT)?);
                *failed = failed.saturating_add(row.integer(2).during(WHAT)?);
            }
            from = newest.saturating_add(resolution);
        }
        Ok(FailureRates(tried.into_iter().map(|(rse, (done, failed))| (rse, rate(done, failed))).collect()))
    }
}

/// With floats, as Rucio's Python has it: sources that tie there tie here.
#[expect(clippy::as_conversions, reason = "as Python does: whole, towards zero")]
fn rate(done: i64, failed: i64) -> i64 {
    match done.saturating_add(failed) {
        0 => 0,
        tried => (failed as f64 / tried as f64 * 10_000.0) as i64,
    }
}
