//! Which part of the queue this process works on: by activity, by destination RSE, or as one of several workers that share it by
//! Rucio's heartbeats.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::expression::Expression;
use crate::topology::{RseId, Topology};

/// What the configuration says of the part of the queue that is ours. Everything is ours that nothing excludes.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Activities whose requests are ours; empty: all.
    pub activities: Vec<String>,
    /// Activities whose requests are not.
    pub exclude_activities: Vec<String>,
    /// Names of RSEs that ours go to.
    pub rses: Vec<String>,
    /// More of them, by an expression. Without this and `rses`: all.
    pub include_rses: Option<Expression>,
    /// RSEs that ours do not go to.
    pub exclude_rses: Option<Expression>,
    /// Requests whose destination may not be written, or whose source may not be read, are ours nevertheless.
    pub ignore_availability: bool,
}

/// The column whose hash tells which worker a request is for: Rucio's `[conveyor] partition_hash_var`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionBy {
    /// The request's own id.
    #[default]
    Id,
    /// The rule: all of one rule go to one worker.
    RuleId,
    /// The destination.
    DestRseId,
    /// The scope of the file.
    Scope,
    /// The name of the file.
    Name,
    /// The activity.
    Activity,
}

impl PartitionBy {
    /// From Rucio's own way of writing it, `requests.rule_id` or `rule_id`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("requests.").unwrap_or(text) {
            "id" => Some(Self::Id),
            "rule_id" => Some(Self::RuleId),
            "dest_rse_id" => Some(Self::DestRseId),
            "scope" => Some(Self::Scope),
            "name" => Some(Self::Name),
            "activity" => Some(Self::Activity),
            _ => None,
        }
    }

    /// The column.
    pub fn column(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::RuleId => "rule_id",
            Self::DestRseId => "dest_rse_id",
            Self::Scope => "scope",
            Self::Name => "name",
            Self::Activity => "activity",
        }
    }
}

/// One worker's place among those that share the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which it is, from 0.
    pub worker: u32,
    /// How many they are.
    pub of: u32,
    /// By what requests are divided.
    pub by: PartitionBy,
}

/// The part of the queue that is ours now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Activities; empty: all.
    pub activities: Vec<String>,
    /// Activities that are not.
    pub exclude_activities: Vec<String>,
    /// Destinations; `None`: all.
    pub destinations: Option<BTreeSet<RseId>>,
    /// The slice of it that heartbeats give us; `None`: the whole.
    pub place: Option<Place>,
    /// Whether closed destinations count too.
    pub ignore_availability: bool,
}

impl Share {
    /// The part of the queue that these rules and this topology give.
    pub fn part(&self, topology: &Topology, place: Option<Place>) -> Part {
        Part {
            activities: self.activities.clone(),
            exclude_activities: self.exclude_activities.clone(),
            destinations: self.destinations(topology),
            place: place.filter(|place| place.of > 1),
            ignore_availability: self.ignore_availability,
        }
    }

    /// As Rucio's submitter has it: those named and those of the expression, or all, without those excluded.
    fn destinations(&self, topology: &Topology) -> Option<BTreeSet<RseId>> {
        let open = self.rses.is_empty() && self.include_rses.is_none();
        if open && self.exclude_rses.is_none() {
            return None;
        }
        let ours = topology.rses().filter(|rse| {
            let included = open
                || self.rses.contains(&rse.name)
                || self.include_rses.as_ref().is_some_and(|expression| expression.allows(rse));
            included && !self.exclude_rses.as_ref().is_some_and(|expression| expression.allows(rse))
        });
        Some(ours.map(|rse| rse.id.clone()).collect())
    }

    /// What a person should know of the rules and this topology: RSEs that do not exist, and rules that leave nothing.
    pub fn doubts(&self, topology: &Topology) -> Vec<String> {
        let unknown = self.rses.iter().filter(|name| topology.named(name).is_none());
        let mut doubts: Vec<_> = unknown.map(|name| format!("there is no RSE `{name}`")).collect();
        if self.destinations(topology).is_some_and(|destinations| destinations.is_empty()) {
            doubts.push("no RSE is left to submit to".into());
        }
        doubts
    }
}

impl Part {
    /// Whether nothing can be in it.
    pub fn is_empty(&self) -> bool {
        self.destinations.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Whether requests of this activity are in it.
    pub fn has_activity(&self, activity: Option<&str>) -> bool {
        let among = |list: &[String]| activity.is_some_and(|activity| list.iter().any(|one| one == activity));
        (self.activities.is_empty() || among(&self.activities)) && !among(&self.exclude_activities)
    }

    /// Whether requests to this RSE are in it.
    pub fn has_destination(&self, rse: &RseId) -> bool {
        self.destinations.as_ref().is_none_or(|destinations| destinations.contains(rse))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::topology::Rse;

    fn topology() -> Topology {
        let rse = |name: &str| Rse {
            id: RseId(name.to_lowercase()),
            name: name.into(),
            tape: false,
            deterministic: true,
            staging_area: false,
            availability_read: true,
            attributes: [(name.to_owned(), "true".to_owned())].into(),
            protocols: vec![],
            columns: HashMap::new(),
        };
        Topology::new(["A", "B", "C"].map(rse).into(), HashMap::new())
    }

    fn destinations(rses: &[&str], include: &str, exclude: &str) -> Option<String> {
        let share = Share {
            rses: rses.iter().map(|name| (*name).to_owned()).collect(),
            include_rses: include.parse().ok(),
            exclude_rses: exclude.parse().ok(),
            ..Share::default()
        };
        let part = share.part(&topology(), None);
        part.destinations.map(|ids| ids.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn destinations_are_those_named_or_all_without_those_excluded() {
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(destinations(&[], "", ""), None);
        assert_eq!(destinations(&["A"], "", ""), is("a"));
        assert_eq!(destinations(&["A"], "B|C", ""), is("abc"));
        assert_eq!(destinations(&[], "*", "B"), is("ac"));
        assert_eq!(destinations(&[], "", "A|B"), is("c"));
        assert_eq!(destinations(&["A"], "", "A"), is(""));
        let share = Share { rses: vec!["Z".into()], ..Share::default() };
        assert_eq!(
            share.doubts(&topology()),
            ["there is no RSE `Z`", "no RSE is left to submit to"],
            "a slip of the pen is said, and does not mean all RSEs"
        );
    }

    #[test]
    fn activities_are_those_named_without_those_excluded() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let part = |activities: &[&str], exclude: &[&str]| Part {
            activities: list(activities),
            exclude_activities: list(exclude),
            ..Part::default()
        };
        assert!(part(&[], &[]).has_activity(None) && part(&[], &["A"]).has_activity(None));
        assert!(!part(&["A"], &[]).has_activity(None) && !part(&["A"], &["A"]).has_activity(Some("A")));
        assert!(part(&["A", "B"], &["C"]).has_activity(Some("B")));
    }
}
