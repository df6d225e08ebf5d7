//! The golden file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) jobs: Vec<GoldenJob>,
    pub(super) requests: Vec<GoldenRequest>,
    /// What stood in the tables afterwards; older golden files have none.
    #[serde(default)]
    pub(super) tables: BTreeMap<String, GoldenTable>,
}

#[derive(Deserialize)]
pub(super) struct GoldenJob {
    pub(super) params: Value,
    /// Whether it went by token, where that was written down.
    #[serde(default)]
    token: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct GoldenRequest {
    pub(super) request_id: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) source_rse: Option<String>,
    #[serde(default)]
    dest_rse: Option<String>,
    pub(super) dest_url: Option<String>,
    pub(super) job: Option<usize>,
    pub(super) file: Option<Value>,
}

/// Rows as text, and the statement that gives them.
#[derive(Deserialize)]
pub(super) struct GoldenTable {
    pub(super) sql: String,
    pub(super) rows: Vec<Vec<String>>,
}

impl Golden {
    /// Whether these requests' job went with a certificate; assumed where nothing was written down.
    pub(super) fn went_with_certificate(&self, requests: &[&GoldenRequest]) -> bool {
        let job = requests.first().and_then(|request| self.jobs.get(request.job?));
        job.is_some_and(|job| job.token != Some(true))
    }
}

impl GoldenRequest {
    /// The RSE it is for.
    pub(super) fn destination(&self) -> Option<&str> {
        let posted = || self.file.as_ref()?["metadata"]["dst_rse"].as_str();
        self.dest_rse.as_deref().or_else(posted)
    }
}
