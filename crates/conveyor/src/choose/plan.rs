//! What is submitted for a request.

use fts_client::VerifyChecksum;
use serde_json::{Value, json};

use super::{Rules, checksum, pinned};
use crate::request::{Attributes, Replica, Request, RequestId};
use crate::rucio::queue::Claimed;
use crate::topology::{Rse, RseId, Topology};

/// One source of a transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it is.
    pub rse: RseId,
    /// Its URL, byte for byte as FTS will show it: Rucio's poller finds the source by it.
    pub url: String,
    /// Its ranking.
    pub ranking: i64,
}

/// What a transfer to tape asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    /// Whether a file that lies there already may be written over.
    pub overwrite: bool,
    /// The same while it is in the disk buffer only.
    pub overwrite_when_only_on_disk: bool,
    /// How long the file may take to get onto tape, in seconds.
    pub archive_timeout_s: Option<i64>,
}

/// What is known of an RSE that a file goes by way of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnTheWay {
    /// Its name.
    pub rse: String,
    /// When the file may be deleted there, in seconds from now; less than 0 is at once, `None` never.
    pub tombstone_after_s: Option<i64>,
}

/// A request that can be submitted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request.
    pub request: Request,
    /// The FTS, as the destination's `fts` attribute names it.
    pub fts: String,
    /// The sources, the main one first.
    pub sources: Vec<Source>,
    /// Where the file goes.
    pub destination_url: String,
    /// What FTS compares.
    pub verify: VerifyChecksum,
    /// `ALGORITHM:value`, where one fits both ends.
    pub checksum: Option<String>,
    /// IPv4 only.
    pub ipv4: bool,
    /// S3 in path style.
    pub s3_alternate: bool,
    /// No checks before and after the copy.
    pub strict_copy: bool,
    /// Whether the main source is tape.
    pub from_tape: bool,
    /// If the destination is tape.
    pub tape: Option<Tape>,
    /// Set for a hop on the way of another request.
    pub on_the_way: Option<OnTheWay>,
    /// The hops that come before this one, the first one first. Their requests are made when they are claimed, and have no id
    /// before.
    pub before: Vec<Self>,
}

/// One hop that was chosen.
pub(super) struct Leg<'a> {
    pub(super) request: Request,
    pub(super) sources: Vec<Source>,
    /// Those of the sources, the main one first.
    pub(super) rses: Vec<&'a Rse>,
    pub(super) destination: &'a Rse,
    pub(super) destination_url: String,
}

impl Plan {
    /// The plan of a request whose hops these are, its own the last.
    pub(super) fn of_legs(mut legs: Vec<Leg<'_>>, fts: &str, topology: &Topology) -> Option<Self> {
        let last = Self::of_leg(legs.pop()?, fts.to_owned());
        let hop = |leg: Leg<'_>| {
            let on_the_way = Some(on_the_way(leg.destination, topology));
            Self { on_the_way, ..Self::of_leg(leg, fts.to_owned()) }
        };
        let before = legs.into_iter().map(hop).collect();
        Some(Self { before, ..last })
    }

    /// Its hops, itself the last.
    pub fn hops(mut self) -> Vec<Self> {
        let mut hops = std::mem::take(&mut self.before);
        hops.push(self);
        hops
    }

    fn of_leg(leg: Leg<'_>, fts: String) -> Self {
        let Leg { request, sources, rses, destination, destination_url } = leg;
        let main = rses.first().copied().unwrap_or(destination);
        let verify = checksum::strategy(main, destination);
        Self {
            checksum: checksum::value(&request, main, destination, verify),
            verify,
            ipv4: destination.is("use_ipv4") || rses.iter().any(|rse| rse.is("use_ipv4")),
            s3_alternate: [main, destination].iter().all(|rse| rse.attribute("s3_url_style") != Some("host")),
            strict_copy: destination.is("strict_copy"),
            from_tape: main.is_tape(),
            tape: destination.is_tape().then(|| tape(destination)),
            request,
            fts,
            sources,
            destination_url,
            on_the_way: None,
            before: Vec::new(),
        }
    }

    /// The request for a hop on the way of another, as Rucio makes it; its id comes when it is claimed.
    pub(super) fn hop_request(request: &Request, source: &Rse, destination: &Rse) -> Request {
        let attributes = json!({
            "activity": request.activity,
            "source_replica_expression": source.name,
            "lifetime": null,
            "ds_scope": null,
            "ds_name": null,
            "bytes": request.bytes,
            "md5": request.md5,
            "adler32": request.adler32,
            "priority": null,
            "allow_tape_source": true,
            "dsn": null,
            "is_intermediate_hop": true,
        });
        let attributes = match attributes {
            Value::Object(map) => Attributes::Object(map),
            _ => Attributes::Missing,
        };
        Request {
            id: RequestId(String::new()),
            rule_id: Some("0".repeat(32)),
            attributes,
            destination: destination.id.clone(),
            prepared_source: None,
            retried: false,
            retry_count: 0,
            parent: None,
            replicas: Vec::new(),
            ..request.clone()
        }
    }
}

/// A delay of 0 leaves it to the RSE's own `tombstone_delay`.
fn on_the_way(rse: &Rse, topology: &Topology) -> OnTheWay {
    let own = || rse.attribute("tombstone_delay").and_then(|text| text.trim().parse().ok());
    let delay = topology.tombstone_delay_s(rse).filter(|delay| *delay != 0).or_else(own);
    OnTheWay { rse: rse.name.clone(), tombstone_after_s: delay.filter(|delay| *delay != 0) }
}

fn tape(destination: &Rse) -> Tape {
    let overwrite_when_only_on_disk = destination.is("overwrite_when_only_on_disk");
    let timeout = destination.attribute("archive_timeout").filter(|text| !text.is_empty());
    Tape {
        overwrite: !overwrite_when_only_on_disk && destination.is("overwrite"),
        overwrite_when_only_on_disk,
        archive_timeout_s: timeout.and_then(|text| text.trim().parse().ok()),
    }
}

/// The plan that a claim was made by, from what the claim wrote down; the main source is found as it was chosen. `None` when an
/// RSE of it is gone.
pub fn replan(claimed: Claimed, topology: &Topology, rules: &Rules) -> Option<Plan> {
    let Claimed { request, fts, destination_url, mut urls, .. } = claimed;
    let destination = topology.rse(&request.destination)?;
    let mut used: Vec<(&Replica, &Rse)> =
        request.replicas.iter().map(|r| Some((r, topology.rse(&r.rse)?))).collect::<Option<_>>()?;
    // A hop has one source, which its request names; others who came by may have written down theirs.
    if request.attributes.truth("is_intermediate_hop") == Some(true) {
        let named = request.attributes.text("source_replica_expression");
        used.retain(|(_, rse)| Some(rse.name.as_str()) == named);
    }
    let pinned = pinned(&request, rules);
    used.sort_by_key(|(replica, rse)| {
        let distance = topology.distance(&rse.id, &destination.id).unwrap_or(i64::MAX);
        let cost = (i64::from(rse.is_tape()) - replica.ranking, rse.is_tape(), distance);
        (pinned != Some(&rse.id), rse.attribute("fts").is_none(), cost)
    });
    let source = |(r, _): &(&Replica, &Rse)| {
        Some(Source { rse: r.rse.clone(), url: urls.remove(&r.rse)?, ranking: r.ranking })
    };
    let sources =
        used.iter().map(source).collect::<Option<Vec<_>>>().filter(|sources| !sources.is_empty())?;
    let rses: Vec<_> = used.iter().map(|(_, rse)| *rse).collect();
    let leg = Leg { request: request.clone(), sources, rses, destination, destination_url };
    Some(Plan::of_leg(leg, fts))
}
