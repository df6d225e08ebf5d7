//! The work: jobs are leased, their distinct tokens got, and files handed over, in lanes that do not wait for each other.
//!
//! - One lane looks at the database for jobs that nobody works on, and leases them.
//! - One lane for each issuer gets tokens, so many at a time. A token that is kept needs no place in it.
//! - One lane hands over what is ready, many jobs in one transaction.
//!
//! Leases are extended while their tokens are being got, and given back when the worker stops.

mod condition;
mod desk;
mod lanes;
mod pace;
mod shift;
mod side;
mod tempo;
pub(crate) mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use serde::Serialize;
use token_core::Clock;

use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::Planning;
use crate::seen::Sight;

pub use lanes::{Haste, Lanes};
use shift::{Shift, Until};
pub use tempo::Tempo;
pub(crate) use tokens::Lack;
pub use tokens::{IssuerClient, Tokens};

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Jobs leased.
    pub jobs: usize,
    /// Files released with tokens.
    pub released: usize,
    /// Files failed, for a definite reason.
    pub failed: usize,
    /// Files of cancelled jobs, and of jobs that stayed in the queue for too long, ended.
    pub cancelled: usize,
    /// Files put off, by reason.
    pub waiting: BTreeMap<String, usize>,
    /// Jobs whose lease was lost to another worker.
    pub lost: usize,
    /// Files released with a token that may end before their transfers do, since nobody renews it.
    pub short_lived: ShortLived,
    /// Old tokens deleted; with --run-once only, the daemon tells it in a line of its own.
    pub retired: usize,
}

/// Files whose transfers may outlive their tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShortLived {
    /// How many.
    pub files: usize,
    /// How long the shortest of these tokens lives.
    pub shortest_s: u64,
    /// The file that has it.
    pub file_id: i64,
}

impl ShortLived {
    fn count(&mut self, file_id: i64, life: Duration) {
        if self.files == 0 || life.as_secs() < self.shortest_s {
            (self.shortest_s, self.file_id) = (life.as_secs(), file_id);
        }
        self.files += 1;
    }

    fn add(&mut self, other: &Self) {
        if other.files > 0 && (self.files == 0 || other.shortest_s < self.shortest_s) {
            (self.shortest_s, self.file_id) = (other.shortest_s, other.file_id);
        }
        self.files += other.files;
    }
}

/// Works.
pub struct Worker {
    /// FTS's database.
    pub fts: FtsDatabase,
    /// Which tokens files need.
    pub planning: Planning,
    /// Where tokens come from.
    pub tokens: Arc<Tokens>,
    /// How fast is worked.
    pub tempo: Arc<Tempo>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where it is seen what is done.
    pub sight: Sight,
}

impl Report {
    /// Adds what was done besides.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { jobs, released, failed, cancelled, waiting, lost, short_lived, retired } = other;
        self.jobs += jobs;
        self.released += released;
        self.failed += failed;
        self.cancelled += cancelled;
        for (why, files) in waiting {
            *self.waiting.entry(why.clone()).or_default() += files;
        }
        self.lost += lost;
        self.short_lived.add(short_lived);
        self.retired += retired;
    }
}

impl Worker {
    /// Works until no job is due. Jobs that were put off since the start are not waited for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rounds(&self) -> Result<Report, DatabaseError> {
        Shift::new(self, Until::Idle).work().await
    }

    /// Works until it is told to stop; `account` is called now and then with what was done since the last time, if anything was. A
    /// database that fails is waited for.
    pub async fn forever(&self, account: impl Fn(&Report)) {
        let shift = Shift::new(self, Until::Stopped { account: &account });
        if let Err(error) = shift.work().await {
            tracing::error!(%error, "leases were not given back; they end by themselves");
        }
    }
}

/// How long a job is put off: 2, 4, 8, ... seconds, at most 5 minutes.
fn pause(attempts: i64) -> Duration {
    let doubled = u32::try_from(attempts.clamp(0, 8)).unwrap_or(8);
    Duration::from_secs((2_u64 << doubled).min(300))
}
