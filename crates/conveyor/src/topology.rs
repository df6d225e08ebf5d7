//! RSEs, their attributes and protocols, the distances between them, and what Rucio's own configuration says of transfers: what
//! changes seldom.

use std::collections::{HashMap, HashSet};

use crate::choose::Strategy;
use crate::expression::Expression;

/// Rucio's id of an RSE: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RseId(pub String);

/// One RSE.
#[derive(Clone, Debug, PartialEq)]
pub struct Rse {
    /// Its id.
    pub id: RseId,
    /// Its name, unique within its VO.
    pub name: String,
    /// Whether its type is TAPE.
    pub tape: bool,
    /// Whether paths follow from names.
    pub deterministic: bool,
    /// Whether it is a staging area.
    pub staging_area: bool,
    /// Whether it may be read.
    pub availability_read: bool,
    /// Attributes; booleans are the texts `true` and `false`.
    pub attributes: HashMap<String, String>,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// Other columns that an RSE expression may ask for, by name; truths as in `attributes`.
    pub columns: HashMap<String, String>,
}

/// One protocol of an RSE.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// `davs`, `root`, ...
    pub scheme: String,
    /// The host.
    pub hostname: String,
    /// The port; 0 is none.
    pub port: i64,
    /// The path before every file's.
    pub prefix: String,
    /// The Python class that makes its URLs.
    pub implementation: String,
    /// Rank for third-party reads; `None` is off.
    pub tpc_read: Option<i64>,
    /// Rank for third-party writes; `None` is off.
    pub tpc_write: Option<i64>,
    /// `web_service_path` of the extended attributes.
    pub web_service_path: Option<String>,
}

impl Rse {
    /// An attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    /// Whether an attribute is set and neither empty nor false; every other text counts, as in Python.
    pub fn is(&self, key: &str) -> bool {
        self.attribute(key).is_some_and(truthy)
    }

    /// Whether an attribute is set and empty or false.
    pub fn is_not(&self, key: &str) -> bool {
        self.attribute(key).is_some_and(|value| !truthy(value))
    }

    /// Whether transfers may go by token: Rucio wants the truth itself.
    pub fn has_tokens(&self) -> bool {
        self.attribute("oidc_support").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn column_is(&self, name: &str) -> bool {
        self.columns.get(name).is_some_and(|value| value == "true")
    }

    /// Whether files can be put there that no rule wants: Rucio makes no replica on a volatile RSE, nor one without a path.
    pub fn takes_hops(&self) -> bool {
        self.deterministic && !self.column_is("volatile")
    }

    /// Whether files must be brought from tape.
    pub fn is_tape(&self) -> bool {
        self.tape || self.is("staging_required")
    }

    /// `DISK` or `TAPE`, as it stands in a file's metadata.
    pub fn kind(&self) -> &'static str {
        if self.is_tape() { "TAPE" } else { "DISK" }
    }
}

fn truthy(value: &str) -> bool {
    !value.is_empty() && !value.eq_ignore_ascii_case("false")
}

/// Rucio's configuration in its database: value by section and option.
pub type Options = HashMap<(String, String), String>;

/// `[hermes] services_list`, without the one for mails, which are no transfers' messages.
pub(crate) fn message_services(list: Option<&str>) -> Vec<String> {
    let list = list.unwrap_or("activemq,email").split(',').map(str::trim);
    list.filter(|service| !service.is_empty() && *service != "email").map(str::to_owned).collect()
}

/// Rucio's default cost of one more hop (`[transfers] hop_penalty`).
const HOP_PENALTY: i64 = 10;
/// How long a replica on the way is kept, in seconds (`[transfers] multihop_tombstone_delay`).
const TOMBSTONE_DELAY_S: &str = "7200";

/// All RSEs of one VO, distances, and Rucio's own configuration of transfers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    rses: HashMap<RseId, Rse>,
    /// By destination: sources, in the order of their ids.
    links: HashMap<RseId, Vec<(RseId, i64)>>,
    hubs: HashSet<RseId>,
    open_hubs: HashSet<RseId>,
    hop_penalty: i64,
    options: Options,
    admins: HashSet<String>,
    strategies: Vec<Strategy>,
    unknown_strategy: Option<String>,
    failures: FailureRates,
}

/// Of ten thousand files that were tried from an RSE in the last hour, how many failed.
#[derive(Clone, Debug, Default)]
pub struct FailureRates(pub HashMap<RseId, i64>);

/// They change all the time: that is no other topology.
impl PartialEq for FailureRates {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Topology {
    /// Puts one together, with Rucio's default configuration; distances that are NULL are left out by the caller.
    pub fn new(rses: Vec<Rse>, distances: HashMap<(RseId, RseId), i64>) -> Self {
        let mut links: HashMap<RseId, Vec<(RseId, i64)>> = HashMap::new();
        for ((source, destination), distance) in distances {
            links.entry(destination).or_default().push((source, distance));
        }
        for sources in links.values_mut() {
            sources.sort();
        }
        let rses = rses.into_iter().map(|rse| (rse.id.clone(), rse)).collect();
        let topology = Self { rses, links, ..Self::default() };
        topology.configured(Options::new(), HashSet::new())
    }

    /// With Rucio's own configuration, and the accounts that are its administrators.
    pub fn configured(mut self, options: Options, admins: HashSet<String>) -> Self {
        let get = |option: &str| options.get(&("transfers".to_owned(), option.to_owned())).map(|v| v.trim());
        let hubs = get("multihop_rse_expression").unwrap_or("available_for_multihop=true");
        if let Ok(hubs) = hubs.parse::<Expression>() {
            let hubs: Vec<&Rse> = self.rses.values().filter(|rse| hubs.allows(rse)).collect();
            let open = |rse: &&&Rse| rse.availability_read && rse.column_is("availability_write");
            let ids = [
                hubs.iter().filter(open).map(|rse| rse.id.clone()).collect(),
                hubs.iter().map(|rse| rse.id.clone()).collect(),
            ];
            [self.open_hubs, self.hubs] = ids;
        }
        self.hop_penalty = get("hop_penalty").and_then(|text| text.parse().ok()).unwrap_or(HOP_PENALTY);
        match get("source_ranking_strategies").map_or_else(|| Ok(Strategy::DEFAULT.to_vec()), Strategy::list)
        {
            Ok(strategies) => self.strategies = strategies,
            Err(name) => self.unknown_strategy = Some(name),
        }
        Self { options, admins, ..self }
    }

    /// With what failed lately, for [`Strategy::FailureRate`].
    pub fn with_failures(self, failures: FailureRates) -> Self {
        Self { failures, ..self }
    }

    /// Of ten thousand files that were tried from this RSE in the last hour, how many failed; 0 where none was tried, as in Rucio.
    pub fn failure_rate(&self, id: &RseId) -> i64 {
        self.failures.0.get(id).copied().unwrap_or_default()
    }

    /// An RSE by its id.
    pub fn rse(&self, id: &RseId) -> Option<&Rse> {
        self.rses.get(id)
    }

    /// An RSE by its name.
    pub fn named(&self, name: &str) -> Option<&Rse> {
        self.rses.values().find(|rse| rse.name == name)
    }

    /// All RSEs, in no order.
    pub fn rses(&self) -> impl Iterator<Item = &Rse> {
        self.rses.values()
    }

    /// The distance, if the two are linked; a negative one counts as 0.
    pub fn distance(&self, source: &RseId, destination: &RseId) -> Option<i64> {
        self.written_distance(source, destination).map(|distance| distance.max(0))
    }

    /// The distance as it is written, which may be negative.
    pub fn written_distance(&self, source: &RseId, destination: &RseId) -> Option<i64> {
        let sources = self.links.get(destination)?;
        sources.binary_search_by(|(id, _)| id.cmp(source)).ok().map(|at| sources[at].1)
    }

    /// What is linked to an RSE, with the distance; a negative one counts as 0.
    pub fn links_into(&self, destination: &RseId) -> impl Iterator<Item = (&Rse, i64)> {
        let sources = self.links.get(destination).into_iter().flatten();
        sources.filter_map(|(id, distance)| Some((self.rse(id)?, (*distance).max(0))))
    }

    /// The RSEs that files may go by way of: those that may be read and written, or all.
    pub fn hubs(&self, ignore_availability: bool) -> &HashSet<RseId> {
        if ignore_availability { &self.hubs } else { &self.open_hubs }
    }

    /// What it costs to go by way of this RSE.
    pub fn hop_penalty(&self, rse: &Rse) -> i64 {
        rse.attribute("hop_penalty").and_then(|text| text.trim().parse().ok()).unwrap_or(self.hop_penalty)
    }

    /// How long a replica that is on the way there is kept, in seconds; `None` when the attribute is no number. 0 is for ever,
    /// and less than 0 not at all.
    pub fn tombstone_delay_s(&self, rse: &Rse) -> Option<i64> {
        let default = self.option("transfers", "multihop_tombstone_delay").unwrap_or(TOMBSTONE_DELAY_S);
        rse.attribute("multihop_tombstone_delay").unwrap_or(default).trim().parse().ok()
    }

    /// An option of Rucio's configuration, in its database or in the `rucio.cfg` that was given.
    pub fn option(&self, section: &str, option: &str) -> Option<&str> {
        self.options.get(&(section.to_owned(), option.to_owned())).map(String::as_str)
    }

    /// The services that Rucio's messages about transfers are for: a row each.
    pub fn message_services(&self) -> Vec<String> {
        message_services(self.option("hermes", "services_list"))
    }

    /// Whether a policy package may have algorithms of its own in place of Rucio's default ones for files of this VO.
    pub fn has_policy_package(&self, vo: Option<&str>) -> bool {
        let of = |option: &str| self.option("policy", option).is_some_and(|name| !name.trim().is_empty());
        of("package") || vo.is_some_and(|vo| of(&format!("package-{vo}")))
    }

    /// Whether an account is an administrator of Rucio's, for whom restricted RSEs are open.
    pub fn is_admin(&self, account: Option<&str>) -> bool {
        account.is_some_and(|account| self.admins.contains(account))
    }

    /// How sources are sifted and ranked; or the name of a way that we do not know.
    pub fn strategies(&self) -> Result<&[Strategy], &str> {
        self.unknown_strategy.as_deref().map_or(Ok(self.strategies.as_slice()), Err)
    }

    /// How many RSEs there are.
    pub fn len(&self) -> usize {
        self.rses.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rses.is_empty()
    }
}

#[cfg(test)]
impl Rse {
    /// One of no particular kind.
    pub(crate) fn plain(name: &str) -> Self {
        Self {
            id: RseId(name.into()),
            name: name.into(),
            tape: false,
            deterministic: true,
            staging_area: false,
            availability_read: true,
            attributes: HashMap::new(),
            protocols: Vec::new(),
            columns: HashMap::new(),
        }
    }
}

#[cfg(test)]
impl Protocol {
    /// One of no particular kind, for third-party copies both ways.
    pub(crate) fn plain(scheme: &str, prefix: &str) -> Self {
        Self {
            scheme: scheme.into(),
            hostname: "h".into(),
            port: 443,
            prefix: prefix.into(),
            implementation: "rucio.rse.protocols.gfal.Default".into(),
            tpc_read: Some(1),
            tpc_write: Some(1),
            web_service_path: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_for_each_service_but_mail() {
        assert_eq!(message_services(None), ["activemq"]);
        assert_eq!(
            message_services(Some("influx, elastic,email,activemq")),
            ["influx", "elastic", "activemq"]
        );
        assert!(message_services(Some("email")).is_empty());
    }
}
