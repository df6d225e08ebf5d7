//! `[share]`: which part of the queue this process works on.

use serde::Deserialize;

use crate::expression::Expression;
use crate::share::{PartitionBy, Share};

/// `[share]`. Lists that are empty mean all.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShareSettings {
    /// Activities whose requests are submitted.
    pub activities: Vec<String>,
    /// Activities whose requests are not.
    pub exclude_activities: Vec<String>,
    /// Names of the RSEs that requests may go to.
    pub rses: Vec<String>,
    /// More of them, by an RSE expression.
    pub include_rses: String,
    /// RSEs that requests may not go to, by an RSE expression.
    pub exclude_rses: String,
    /// Whether a heartbeat is kept as Rucio's submitters do, and only the slice of the queue taken that it gives.
    pub heartbeat: bool,
    /// How old a worker's heartbeat may be: ten times what Rucio's `--sleep-time` is over one second.
    pub heartbeat_life_s: u64,
    /// How often ours is renewed, and others are looked for.
    pub heartbeat_renew_s: u64,
    /// What requests are divided by.
    pub partition_by: PartitionBy,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            activities: Vec::new(),
            exclude_activities: Vec::new(),
            rses: Vec::new(),
            include_rses: String::new(),
            exclude_rses: String::new(),
            heartbeat: false,
            heartbeat_life_s: 5990,
            heartbeat_renew_s: 10,
            partition_by: PartitionBy::Id,
        }
    }
}

impl ShareSettings {
    /// The rules.
    ///
    /// # Errors
    /// One line that names the key, when an expression can't be read.
    pub fn share(&self, ignore_availability: bool) -> Result<Share, String> {
        let expression = |key: &str, text: &str| match text {
            "" => Ok(None),
            text => match text.parse::<Expression>() {
                Ok(expression) => Ok(Some(expression)),
                Err(error) => Err(format!("`share.{key}`: `{text}`: {error}")),
            },
        };
        Ok(Share {
            activities: self.activities.clone(),
            exclude_activities: self.exclude_activities.clone(),
            rses: self.rses.clone(),
            include_rses: expression("include_rses", &self.include_rses)?,
            exclude_rses: expression("exclude_rses", &self.exclude_rses)?,
            ignore_availability,
        })
    }
}
