//! `fts_server`: takes what is SUBMITTED, oldest first, and runs it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Inner;
use super::dav::Dav;
use super::schema::timestamp;
use super::sql::statement;
use super::store::HOST;
use super::work;

/// Transfers that run, and how to signal them.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<HashMap<i64, CancellationToken>>>);

impl Running {
    fn with<T>(&self, look: impl FnOnce(&mut HashMap<i64, CancellationToken>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs rounds until `stop` fires.
pub(super) async fn run(fts: Arc<Inner>, dav: Dav, stop: CancellationToken) {
    let running = Running::default();
    let mut rounds = tokio::time::interval(fts.config.interval);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = rounds.tick() => (),
            () = stop.cancelled() => return,
        }
        if let Err(error) = round(&fts, &dav, &running, &stop).await {
            tracing::warn!(%error, "a round of the scheduler failed");
        }
    }
}

async fn round(
    fts: &Arc<Inner>,
    dav: &Dav,
    running: &Running,
    stop: &CancellationToken,
) -> Result<(), sqlx::Error> {
    signal_cancelled(fts, running).await?;
    if !fts.scheduling.load(Ordering::Relaxed) {
        return Ok(());
    }
    let free = fts.config.parallel.saturating_sub(running.with(|running| running.len()));
    if free == 0 {
        return Ok(());
    }
    for file_id in claim(fts, free).await? {
        let cancelled = stop.child_token();
        running.with(|running| running.insert(file_id, cancelled.clone()));
        let (fts, dav, running) = (Arc::clone(fts), dav.clone(), running.clone());
        tokio::spawn(async move {
            // A signal ends the process where it stands: no clean-up (observed).
            tokio::select! {
                done = work::run(&fts, &dav, file_id) => if let Err(error) = done {
                    tracing::warn!(%error, file_id, "the end of a transfer could not be written");
                },
                () = cancelled.cancelled() => (),
            }
            running.with(|running| running.remove(&file_id));
        });
    }
    Ok(())
}

/// A cancelled file without a finish time is one whose transfer is to be ended.
async fn signal_cancelled(fts: &Inner, running: &Running) -> Result<(), sqlx::Error> {
    const CANCELLED: &str = "file_state = 'CANCELED' AND pid IS NOT NULL AND finish_time IS NULL";
    let find = format!("SELECT file_id FROM t_file WHERE {CANCELLED}");
    let rows = statement(find).fetch_all(&fts.database.reader).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut write = fts.database.write().await?;
    for row in rows {
        let file_id: i64 = row.get(0);
        if let Some(transfer) = running.with(|running| running.get(&file_id).cloned()) {
            transfer.cancel();
        }
        statement("UPDATE t_file SET finish_time = ? WHERE file_id = ? AND file_state = 'CANCELED'")
            .bind(timestamp(fts.clock.now()))
            .bind(file_id)
            .execute(&mut write)
            .await?;
    }
    write.commit().await
}

/// Takes up to `free` files: READY, and their jobs ACTIVE.
async fn claim(fts: &Inner, free: usize) -> Result<Vec<i64>, sqlx::Error> {
    const DUE: &str = "SELECT file_id, job_id FROM t_file WHERE file_state = 'SUBMITTED' \
                       AND (retry_timestamp IS NULL OR retry_timestamp <= ?) ORDER BY priority DESC, file_id LIMIT ?";
    let now = timestamp(fts.clock.now());
    let free = i64::try_from(free).unwrap_or(i64::MAX);
    // A look without the write lock first: most rounds find nothing.
    if statement(DUE).bind(&now).bind(1).fetch_optional(&fts.database.reader).await?.is_none() {
        return Ok(Vec::new());
    }
    let mut write = fts.database.write().await?;
    let rows = statement(DUE).bind(&now).bind(free).fetch_all(&mut write).await?;
    let mut claimed = Vec::new();
    for row in rows {
        let file_id: i64 = row.get(0);
        statement("UPDATE t_file SET file_state = 'READY', reason = '', start_time = ?, finish_time = NULL, transfer_host = ?, \
             pid = ?, filesize = 0, transferred = 0, tx_duration = 0, throughput = 0, current_failures = 0 \
             WHERE file_id = ?",
        )
        .bind(&now)
        .bind(HOST)
        .bind(i64::from(std::process::id()))
        .bind(file_id)
        .execute(&mut write)
        .await?;
        // The job of a file that was cancelled and then released stays CANCELED.
        statement("UPDATE t_job SET job_state = 'ACTIVE' WHERE job_id = ? AND job_state IN ('SUBMITTED', 'STAGING')")
            .bind(row.get::<&str>(1))
            .execute(&mut write)
            .await?;
        claimed.push(file_id);
    }
    write.commit().await?;
    Ok(claimed)
}
