//! Retirement while the daemon runs: FTS's token table is walked through in small steps, and what is old and unused is deleted.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use token_core::{Clock, UnixSeconds};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::fts::{DatabaseError, FtsDatabase};
use crate::seen::Seen;
use crate::worker::Report;

/// Between two steps others have the database to themselves.
const STEP: Duration = Duration::from_millis(50);

/// `[retire]`: old tokens in FTS's database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetireSettings {
    /// Whether tokens are deleted that have ended and that no file refers to.
    pub enabled: bool,
    /// The rest between two walks through FTS's token table.
    pub interval_s: u64,
    /// How long a token is kept after its end.
    pub keep_s: u64,
    /// Tokens looked at in one statement, and deleted in one at most; at most 5000.
    pub batch: u32,
}

impl Default for RetireSettings {
    fn default() -> Self {
        Self { enabled: true, interval_s: 600, keep_s: 3600, batch: 500 }
    }
}

impl RetireSettings {
    /// Who does it.
    pub(crate) fn retirement(&self, fts: FtsDatabase, clock: Arc<dyn Clock>) -> Option<Retirement> {
        self.enabled.then(|| Retirement {
            fts,
            clock,
            // A token that was good when it came with a submission has ended for longer than a submission takes.
            keep: Duration::from_secs(self.keep_s.max(60)),
            batch: self.batch.clamp(1, 5000),
            interval: Duration::from_secs(self.interval_s.max(1)),
        })
    }
}

/// Deletes old tokens.
pub(crate) struct Retirement {
    fts: FtsDatabase,
    clock: Arc<dyn Clock>,
    keep: Duration,
    batch: u32,
    interval: Duration,
}

impl Retirement {
    /// Walks through the table once, unless `stop` fires; how many tokens were deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn walk(&self, stop: &CancellationToken) -> Result<usize, DatabaseError> {
        let (mut tokens, mut after) = (0, String::new());
        loop {
            let now = self.clock.now();
            let before =
                UnixSeconds(now.0.saturating_sub(i64::try_from(self.keep.as_secs()).unwrap_or(i64::MAX)));
            let retired = self.fts.retire(&after, self.batch, now, before).await?;
            tokens += retired.tokens;
            let Some(last) = retired.last else {
                self.fts.retire_leases(now, before).await?;
                return Ok(tokens);
            };
            after = last;
            tokio::select! {
                () = tokio::time::sleep(STEP) => (),
                () = stop.cancelled() => return Ok(tokens),
            }
        }
    }

    /// Walks again and again until `stop` fires.
    pub(crate) async fn run(&self, seen: &Seen, stop: &CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            match self.walk(stop).await {
                Ok(0) => failing = false,
                Ok(tokens) => {
                    failing = false;
                    seen.did(&Report { retired: tokens, ..Report::default() });
                    info!(tokens, "old tokens that no file refers to were deleted");
                }
                Err(error) if !failing => {
                    failing = true;
                    warn!(%error, "old tokens are not deleted, which hurts nobody now; it is tried again and again");
                }
                Err(_) => (),
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => (),
                () = stop.cancelled() => (),
            }
        }
    }
}
