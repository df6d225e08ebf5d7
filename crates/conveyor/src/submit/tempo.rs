//! How fast is worked: what can change while the daemon runs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::settings::SubmitSettings;

/// Most requests at a time: SQLite takes 32,766 values in a statement.
const MOST: u32 = 5000;

/// The tempo that holds now.
#[derive(Debug)]
pub struct Tempo(Mutex<Rates>);

/// A tempo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// How many requests at a time.
    pub(crate) batch: u32,
    /// How many posts at a time, for each page of requests in hand.
    pub(crate) jobs_in_flight: usize,
    /// The rest between walks over the whole queue.
    pub(crate) sleep: Duration,
    /// The rest between looks at what has come.
    pub(crate) look: Duration,
}

impl Tempo {
    /// As the configuration has it.
    pub fn new(settings: &SubmitSettings) -> Self {
        Self(Mutex::new(rates(settings)))
    }

    /// From now on as the configuration has it.
    pub(crate) fn set(&self, settings: &SubmitSettings) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rates(settings);
    }

    /// The tempo that holds now.
    pub(crate) fn now(&self) -> Rates {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rates(settings: &SubmitSettings) -> Rates {
    Rates {
        batch: settings.batch.clamp(1, MOST),
        jobs_in_flight: settings.jobs_in_flight.max(1),
        sleep: Duration::from_secs(settings.sleep_s),
        look: Duration::from_secs(settings.look_every_s),
    }
}
