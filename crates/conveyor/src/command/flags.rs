//! The flags of `rucio-conveyor-submitter` that mean the same here; each counts before its key in the configuration file.

use clap::Args;

use crate::job::GroupBy;
use crate::settings::Settings;

/// Flags over the configuration.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "As in rucio-conveyor-submitter")]
pub(crate) struct Flags {
    /// Requests looked at and claimed at a time [submit.batch].
    #[arg(long, value_name = "N", global = true)]
    bulk: Option<u32>,
    /// Most files in one job [submit.files_per_job].
    #[arg(long, value_name = "N", global = true)]
    group_bulk: Option<usize>,
    /// What the files of one job have in common [submit.group_by].
    #[arg(long, value_name = "POLICY", value_enum, global = true)]
    group_policy: Option<GroupBy>,
    /// Jobs being posted at a time [submit.jobs_in_flight].
    #[arg(long, value_name = "N", global = true)]
    total_threads: Option<usize>,
    /// FTS's way to pick among several sources [submit.selection_strategy].
    #[arg(long, value_name = "STRATEGY", global = true)]
    source_strategy: Option<String>,
    /// Sources named beside the main one [submit.max_extra_sources].
    #[arg(long, value_name = "N", global = true)]
    max_sources: Option<usize>,
    /// Seconds that a file may take to get onto tape, instead of what its RSE says that says anything; 0: no time is sent
    /// [submit.archive_timeout_override_s].
    #[arg(long, value_name = "SECONDS", global = true)]
    archive_timeout_override: Option<i64>,
    /// Seconds to rest when the queue has been walked to its end [submit.sleep_s].
    #[arg(long, value_name = "SECONDS", global = true)]
    sleep_time: Option<u64>,
    /// Submit to and from RSEs that are not available, too [submit.ignore_availability].
    #[arg(long, global = true)]
    ignore_availability: bool,
    /// Activities whose requests are submitted [share.activities].
    #[arg(long, value_name = "ACTIVITY", num_args = 1.., global = true)]
    activities: Vec<String>,
    /// Activities whose requests are not [share.exclude_activities].
    #[arg(long, value_name = "ACTIVITY", num_args = 1.., global = true)]
    exclude_activities: Vec<String>,
    /// Names of the RSEs that requests may go to [share.rses].
    #[arg(long, value_name = "RSE", num_args = 1.., global = true)]
    rses: Vec<String>,
    /// More of them, by an RSE expression [share.include_rses].
    #[arg(long, value_name = "EXPRESSION", global = true)]
    include_rses: Option<String>,
    /// RSEs that requests may not go to [share.exclude_rses].
    #[arg(long, value_name = "EXPRESSION", global = true)]
    exclude_rses: Option<String>,
    /// The VOs that are served [rucio.vos].
    #[arg(long, value_name = "VO", num_args = 1.., global = true)]
    vos: Vec<String>,
}

impl Flags {
    /// Puts what was given over the configuration.
    pub(crate) fn over(&self, settings: &mut Settings) {
        let Settings { rucio, submit, share, .. } = settings;
        set(&mut submit.batch, self.bulk);
        set(&mut submit.files_per_job, self.group_bulk);
        set(&mut submit.group_by, self.group_policy);
        set(&mut submit.archive_timeout_override_s, self.archive_timeout_override.map(Some));
        set(&mut submit.jobs_in_flight, self.total_threads);
        set(&mut submit.selection_strategy, self.source_strategy.clone());
        set(&mut submit.max_extra_sources, self.max_sources);
        set(&mut submit.sleep_s, self.sleep_time);
        set(&mut submit.ignore_availability, self.ignore_availability.then_some(true));
        set(&mut share.activities, given(&self.activities));
        set(&mut share.exclude_activities, given(&self.exclude_activities));
        set(&mut share.rses, given(&self.rses));
        set(&mut share.include_rses, self.include_rses.clone());
        set(&mut share.exclude_rses, self.exclude_rses.clone());
        set(&mut rucio.vos, given(&self.vos));
    }
}

fn set<T>(key: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *key = value;
    }
}

fn given(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}
