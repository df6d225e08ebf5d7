//! This process among the workers that share Rucio's queue.

use token_core::UnixSeconds;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::owner;
use crate::rucio::heartbeat::{Living, Worker, submitter};
use crate::rucio::{DatabaseError, Rucio};
use crate::settings::ShareSettings;
use crate::share::{PartitionBy, Place};

/// A heartbeat, renewed now and then, and the place that it gives.
pub struct Pulse {
    rucio: Rucio,
    worker: Worker,
    by: PartitionBy,
    life_s: i64,
    renew_s: i64,
    last: Mutex<Option<(UnixSeconds, Place)>>,
}

impl Pulse {
    /// This process as a worker of Rucio's kind; nothing is written yet. `None` when no part is to be taken.
    pub fn of_this_process(rucio: &Rucio, settings: &ShareSettings) -> Option<Self> {
        settings.heartbeat.then(|| Self {
            rucio: rucio.clone(),
            worker: Worker {
                readable: submitter(&settings.activities),
                host: owner::host(),
                pid: std::process::id(),
            },
            by: settings.partition_by,
            life_s: i64::try_from(settings.heartbeat_life_s).unwrap_or(i64::MAX),
            renew_s: i64::try_from(settings.heartbeat_renew_s).unwrap_or(i64::MAX),
            last: Mutex::new(None),
        })
    }

    /// Renews the heartbeat when it is time to, and tells our place.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn place(&self, now: UnixSeconds) -> Result<Place, DatabaseError> {
        let mut last = self.last.lock().await;
        let before = match *last {
            Some((at, place)) if now.0 < at.0.saturating_add(self.renew_s) => return Ok(place),
            Some((_, place)) => Some(place),
            None => {
                self.rucio.bury_the_dead(&self.worker, now).await?;
                None
            }
        };
        self.rucio.beat(&self.worker, now).await?;
        let place = self.seen(now).await?;
        if before != Some(place) {
            info!(
                worker = place.worker,
                of = place.of,
                name = self.worker.readable,
                "place among the workers"
            );
        }
        *last = Some((now, place));
        Ok(place)
    }

    /// The workers that live now; nothing is written.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn others(&self, now: UnixSeconds) -> Result<Vec<Living>, DatabaseError> {
        self.rucio.living(&self.worker, self.life_s, now).await
    }

    async fn seen(&self, now: UnixSeconds) -> Result<Place, DatabaseError> {
        let living = self.others(now).await?;
        let (worker, of) = self.worker.among(&living);
        let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Place { worker: small(worker), of: small(of), by: self.by })
    }

    /// Leaves the others to it.
    pub async fn stop(&self) {
        if self.last.lock().await.take().is_some()
            && let Err(error) = self.rucio.leave(&self.worker).await
        {
            warn!(%error, "our heartbeat stays; others wait for it until it is too old");
        }
    }
}
