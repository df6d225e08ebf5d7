//! How fast is worked: what can change while the daemon runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::settings::WorkerSettings;

/// Most jobs at a time: SQLite takes 32,766 values in a statement, and five are bound for each.
const MOST: u32 = 5000;

/// The tempo that holds now.
#[derive(Debug, Default)]
pub struct Tempo {
    batch: AtomicU32,
    interval_ms: AtomicU64,
}

impl Tempo {
    /// As the configuration has it.
    pub fn new(settings: &WorkerSettings) -> Self {
        let tempo = Self::default();
        tempo.set(settings);
        tempo
    }

    /// From now on as the configuration has it.
    pub(crate) fn set(&self, settings: &WorkerSettings) {
        self.batch.store(settings.batch.clamp(1, MOST), Ordering::Relaxed);
        self.interval_ms.store(settings.interval_ms.max(10), Ordering::Relaxed);
    }

    /// Jobs leased, and tokens renewed, at a time.
    pub(crate) fn batch(&self) -> u32 {
        self.batch.load(Ordering::Relaxed)
    }

    /// The rest between two looks when nothing waits.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.load(Ordering::Relaxed))
    }
}
