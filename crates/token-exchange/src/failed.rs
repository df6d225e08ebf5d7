//! Counts the files that FTS failed for a token's reason, each once, whichever of the workers is the first to look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use token_core::{Clock, UnixSeconds};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::blame::{Fault, fault};
use crate::endpoint::Endpoints;
use crate::fts::failed::Span;
use crate::fts::{DatabaseError, FtsDatabase};
use crate::seen::Seen;

/// How often.
const EVERY: Duration = Duration::from_secs(10);
/// The clocks of FTS's hosts and ours differ, and what has ended is committed a little later.
const SETTLE: i64 = 5;
/// The longest span in one go, and the oldest that is looked at, in seconds.
const SPAN: i64 = 600;
const OLDEST: i64 = 86_400;

/// Most lines for what one look has found: submitters write what storages there are.
const LINES: usize = 50;

/// Files, by whose token it was and what was wrong, with one of them.
pub(crate) type Faults = BTreeMap<Fault, (usize, i64)>;

/// Looks at what FTS has failed.
pub(crate) struct Watch {
    pub(crate) fts: FtsDatabase,
    pub(crate) endpoints: Endpoints,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seen: Arc<Seen>,
}

impl Watch {
    /// Looks again and again until `stop` fires, and tells what it sees.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            match self.look().await {
                Ok(faults) => {
                    failing = false;
                    self.seen.failed_by_fts(&faults);
                    tell(&faults);
                }
                Err(error) if !failing => {
                    failing = true;
                    warn!(%error, "what FTS fails is not looked at now; it is tried again and again");
                }
                Err(_) => (),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => (),
                () = stop.cancelled() => (),
            }
        }
    }

    /// What FTS has failed for a token's reason since anybody looked. The very first look only says where the second begins.
    async fn look(&self) -> Result<Faults, DatabaseError> {
        let now = UnixSeconds(self.clock.now().0 - SETTLE);
        let mut faults = Faults::new();
        loop {
            let Some(seen) = self.fts.failures_seen().await? else {
                self.fts.take_failures(None, now).await?;
                return Ok(faults);
            };
            let from = UnixSeconds(seen.0.max(now.0 - OLDEST));
            let span = Span { from, to: UnixSeconds(now.0.min(from.0 + SPAN)) };
            if span.from >= span.to {
                return Ok(faults);
            }
            let found = count(&self.fts, &self.endpoints, span).await?;
            if self.fts.take_failures(Some(seen), span.to).await? {
                for (fault, (files, example)) in found {
                    faults.entry(fault).or_insert((0, example)).0 += files;
                }
            }
        }
    }
}

/// What FTS has failed for a token's reason in a span. What we failed ourselves is not among it: that is counted when it is done.
pub(crate) async fn count(
    fts: &FtsDatabase,
    endpoints: &Endpoints,
    span: Span,
) -> Result<Faults, DatabaseError> {
    let mut faults = Faults::new();
    for failure in fts.failures(span).await? {
        if failure.reason.starts_with("[token-exchange] ") {
            continue;
        }
        if let Some(fault) = fault(&failure, endpoints) {
            faults.entry(fault).or_insert((0, failure.file)).0 += 1;
        }
    }
    Ok(faults)
}

fn tell(faults: &Faults) {
    for (fault, (files, file)) in faults.iter().take(LINES) {
        let why = fault.words();
        warn!(
            files,
            side = fault.side,
            endpoint = fault.endpoint,
            why,
            file,
            "FTS has failed files for their token"
        );
    }
    let files: usize = faults.values().skip(LINES).map(|(files, _)| files).sum();
    if files > 0 {
        warn!(files, "FTS has failed more files for their token; `token-exchange explain` tells of each");
    }
}
