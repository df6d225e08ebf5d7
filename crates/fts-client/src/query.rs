//! What to ask for: fields of files, jobs by their properties, files by theirs.

use url::form_urlencoded::Serializer;

use crate::state::JobState;

/// The fields of files that a poll asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFields {
    /// No files at all, only the jobs.
    None,
    /// What Rucio's poller asks for.
    Poll,
    /// What is needed to show how far a job is: [`FileFields::Poll`] and the file's number, size and throughput.
    Watch,
    /// These, by FTS's names. FTS leaves out names that it does not know.
    These(&'static [&'static str]),
}

impl FileFields {
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Poll => &[
                "file_state",
                "dest_surl",
                "finish_time",
                "start_time",
                "staging_start",
                "staging_finished",
                "reason",
                "source_surl",
                "file_metadata",
            ],
            Self::Watch => &[
                "file_id",
                "file_state",
                "source_surl",
                "dest_surl",
                "start_time",
                "finish_time",
                "reason",
                "filesize",
                "throughput",
            ],
            Self::These(names) => names,
        }
    }
}

/// Which jobs to list. Nothing set: all unfinished jobs that we may see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobQuery {
    /// In one of these states. Without any, only unfinished jobs are listed; with some and no `limit`, finished ones are
    /// left out too.
    pub states: Vec<JobState>,
    /// Of this VO.
    pub vo: Option<String>,
    /// Of this user; only oneself may be asked for.
    pub user_dn: Option<String>,
    /// Of this delegation id; only one's own may be asked for.
    pub delegation_id: Option<String>,
    /// From this storage, written as FTS does: scheme and host without port.
    pub source_se: Option<String>,
    /// To this storage.
    pub dest_se: Option<String>,
    /// Ended within so many minutes.
    pub time_window_min: Option<u32>,
    /// At most so many; FTS refuses more than 500.
    pub limit: Option<u16>,
}

impl JobQuery {
    pub(crate) fn to_path(&self) -> String {
        let mut query = begin("/jobs");
        let states: Vec<_> = self.states.iter().map(JobState::as_str).collect();
        let states = (!states.is_empty()).then(|| states.join(","));
        let window = self.time_window_min.map(|minutes| format!("{}:{}", minutes / 60, minutes % 60));
        let limit = self.limit.map(|limit| limit.to_string());
        for (name, value) in [
            ("state_in", &states),
            ("vo_name", &self.vo),
            ("user_dn", &self.user_dn),
            ("dlg_id", &self.delegation_id),
            ("source_se", &self.source_se),
            ("dest_se", &self.dest_se),
            ("time_window", &window),
            ("limit", &limit),
        ] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish().trim_end_matches('?').to_owned()
    }
}

/// Which files to list: unfinished ones, at most 1000.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileQuery {
    /// Of this VO.
    pub vo: Option<String>,
    /// From this storage.
    pub source_se: Option<String>,
    /// To this storage.
    pub dest_se: Option<String>,
    /// With exactly this source.
    pub source_surl: Option<String>,
    /// With exactly this destination.
    pub dest_surl: Option<String>,
}

impl FileQuery {
    pub(crate) fn to_path(&self) -> String {
        let mut query = begin("/files");
        for (name, value) in [
            ("vo_name", &self.vo),
            ("source_se", &self.source_se),
            ("dest_se", &self.dest_se),
            ("source_surl", &self.source_surl),
            ("dest_surl", &self.dest_surl),
        ] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish().trim_end_matches('?').to_owned()
    }
}

/// A path with one query parameter.
pub(crate) fn with(path: &str, name: &str, value: &str) -> String {
    begin(path).append_pair(name, value).finish()
}

fn begin(path: &str) -> Serializer<'static, String> {
    Serializer::for_suffix(format!("{path}?"), path.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        assert_eq!(JobQuery::default().to_path(), "/jobs");
        let query = JobQuery {
            states: vec![JobState::Finished, JobState::Failed],
            dest_se: Some("davs://a.example".into()),
            user_dn: Some("/CN=a b&c".into()),
            time_window_min: Some(90),
            limit: Some(5),
            ..JobQuery::default()
        };
        assert_eq!(
            query.to_path(),
            "/jobs?state_in=FINISHED%2CFAILED&user_dn=%2FCN%3Da+b%26c&dest_se=davs%3A%2F%2Fa.example&time_window=1%3A30&limit=5"
        );
        assert_eq!(with("/ban/se", "storage", "davs://a"), "/ban/se?storage=davs%3A%2F%2Fa");
    }
}
