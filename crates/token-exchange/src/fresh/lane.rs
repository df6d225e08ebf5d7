//! Renews while the daemon runs, beside whatever else it does.

use std::time::Duration;

use token_core::retry::{RetryPolicy, Waits};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::renewer::{Done, Renewer};

/// How often what is due is looked for: an index is read, no more.
const EVERY: Duration = Duration::from_secs(1);
/// How often tokens are looked for that others exchanged, most of FTS's token table being read.
const ADOPT_EVERY: Duration = Duration::from_secs(60);

/// Renews until `stop` fires; what is under way then is finished.
pub async fn run(renewer: &Renewer, stop: &CancellationToken) {
    let mut waits = Waits::new(&RetryPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(30),
        ..RetryPolicy::default()
    });
    let adopt_every = ADOPT_EVERY.min(renewer.margin / 3);
    let mut adopted: Option<Instant> = None;
    let mut outlived = 0;
    while !stop.is_cancelled() {
        let look = adopted.is_none_or(|at| at.elapsed() >= adopt_every);
        let round = async {
            if look {
                renewer.adopt().await?;
                let now = renewer.fts.outlived(renewer.clock.now()).await?;
                if now > outlived {
                    warn!(
                        transfers = now,
                        "transfers have run longer than the unmanaged token lives that they were started with: without \
                         `strict_copy` they fail at their last check; set `[refresh] messaging_directory`"
                    );
                }
                outlived = now;
                renewer.seen.outlived(now);
            }
            renewer.rounds().await
        };
        let rest = match round.await {
            Ok(done) => {
                waits.reset();
                if look {
                    adopted = Some(Instant::now());
                }
                if done != Done::default() {
                    info!(
                        renewed = done.renewed,
                        not_renewed = done.failed,
                        over = done.forgotten,
                        "tokens kept fresh"
                    );
                }
                EVERY
            }
            Err(reason) => {
                let rest = waits.pause();
                error!(%reason, again_in_s = rest.as_secs(), "renewals ended early");
                rest
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => (),
            () = stop.cancelled() => (),
        }
    }
}
