//! Which cores issuers run on, and which all else.

use std::thread;

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

/// One runtime for the issuers, on the first core that this process may use, and one for all else, on the others, which processes that
/// are started from it use too. On a machine with one core, both have that.
pub(crate) fn apart() -> Result<(Runtime, Runtime)> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let (first, others) = cores.split_first().context("no core")?;
    let others = if others.is_empty() { cores.as_slice() } else { others };
    // A thread has the cores of the one that starts it.
    let issuers = thread::scope(|scope| scope.spawn(|| on(&[*first], 1)).join());
    let issuers = issuers.map_err(|_| anyhow::anyhow!("the runtime of the issuers"))??;
    Ok((issuers, on(others, others.len())?))
}

fn on(cores: &[usize], threads: usize) -> Result<Runtime> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set)?;
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}
