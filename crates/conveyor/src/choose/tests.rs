use std::collections::HashMap;

use fts_client::VerifyChecksum;
use token_core::UnixSeconds;

use super::*;
use crate::request::{Replica, RequestId};
use crate::topology::Protocol;

fn protocol(scheme: &str) -> Protocol {
    Protocol { port: 1, ..Protocol::plain(scheme, "/p") }
}

fn rse(name: &str) -> Rse {
    let attributes = [("fts", "https://fts:8446"), ("oidc_support", "true")];
    Rse {
        attributes: attributes
            .into_iter()
            .chain([(name, "true")])
            .map(|(k, v)| (k.into(), v.into()))
            .collect(),
        protocols: vec![protocol("davs")],
        ..Rse::plain(name)
    }
}

fn request(sources: &[(&str, i64)]) -> Request {
    let replica =
        |(rse, ranking): &(&str, i64)| Replica { rse: RseId((*rse).into()), path: None, ranking: *ranking };
    Request {
        id: RequestId("0".repeat(32)),
        scope: "test".into(),
        name: "f".into(),
        rule_id: None,
        activity: None,
        bytes: Some(1),
        md5: None,
        adler32: Some("00000001".into()),
        account: None,
        attributes: Attributes::Missing,
        priority: None,
        destination: RseId("D".into()),
        prepared_source: None,
        retried: false,
        retry_count: 0,
        datatype: None,
        parent: None,
        seen_at: UnixSeconds(1_795_458_026),
        made_at: None,
        replicas: sources.iter().map(replica).collect(),
    }
}

fn rules() -> Rules {
    Rules { max_extra_sources: 5, ..Rules::default() }
}

/// A and B are linked to D at distances 2 and 1; C is not linked.
fn verdict(request: &Request, change: impl Fn(&mut HashMap<&str, Rse>)) -> Verdict {
    let mut rses: HashMap<_, _> = ["A", "B", "C", "D"].map(|name| (name, rse(name))).into();
    change(&mut rses);
    let link = |from: &str, distance| ((RseId(from.into()), RseId("D".into())), distance);
    let topology = Topology::new(rses.into_values().collect(), [link("A", 2), link("B", 1)].into());
    choose(request, &topology, &rules())
}

fn sources(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Submit(plan) => plan.sources.into_iter().map(|source| source.rse.0).collect(),
        other => panic!("not submitted: {other:?}"),
    }
}

fn state(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::End(end, words) => (end.letter(), words),
        Verdict::Leave(words) => ("Q", words),
        Verdict::Submit(_) => panic!("submitted"),
    }
}

#[test]
fn a_source_rse_that_is_not_known_yet_ends_nothing() {
    let words =
        "a source RSE is newer than what was read of the RSEs: looked at again when they are read anew";
    assert_eq!(state(verdict(&request(&[("NEW", 0)]), |_| ())), ("Q", words));
    assert_eq!(state(verdict(&request(&[("NEW", 0), ("C", 0)]), |_| ())), ("Q", words));
    assert_eq!(sources(verdict(&request(&[("NEW", 0), ("A", 0)]), |_| ())), ["A"]);
}

#[test]
fn ranking_comes_before_distance() {
    assert_eq!(sources(verdict(&request(&[("A", 0), ("B", 0)]), |_| ())), ["B", "A"]);
    assert_eq!(sources(verdict(&request(&[("A", 0), ("B", -1)]), |_| ())), ["A", "B"]);
}

#[test]
fn a_prepared_source_is_the_main_one_while_it_can_be_used() {
    let mut request = request(&[("A", 0), ("B", 0)]);
    request.prepared_source = Some(RseId("A".into()));
    assert_eq!(sources(verdict(&request, |_| ())), ["A", "B"]);
    assert_eq!(
        sources(verdict(&request, |rses| rses.get_mut("A").unwrap().availability_read = false)),
        ["B"]
    );
}

#[test]
fn every_reason_has_its_state_and_words() {
    let one = request(&[("A", 0)]);
    assert_eq!(state(verdict(&request(&[]), |_| ())), ("N", "no replica"));
    assert_eq!(state(verdict(&request(&[("C", 0)]), |_| ())), ("N", "no distance"));
    let blocked = |rses: &mut HashMap<&str, Rse>| rses.get_mut("A").unwrap().availability_read = false;
    assert_eq!(state(verdict(&one, blocked)), ("N", "blocked source"));
    let root = |rses: &mut HashMap<&str, Rse>| rses.get_mut("D").unwrap().protocols = vec![protocol("root")];
    assert_eq!(state(verdict(&one, root)), ("M", "scheme mismatch"));
    let no_tpc = |rses: &mut HashMap<&str, Rse>| rses.get_mut("A").unwrap().protocols[0].tpc_read = None;
    assert_eq!(state(verdict(&one, no_tpc)), ("M", "scheme mismatch"));
    let no_fts = |rses: &mut HashMap<&str, Rse>| drop(rses.get_mut("D").unwrap().attributes.remove("fts"));
    assert_eq!(state(verdict(&one, no_fts)), ("Q", "no `fts` attribute"));
    let tape = |rses: &mut HashMap<&str, Rse>| rses.get_mut("A").unwrap().tape = true;
    assert_eq!(sources(verdict(&one, tape)), ["A"]);
    let mut no_tape = one.clone();
    no_tape.attributes = Attributes::parse(Some(r#"{"allow_tape_source": false}"#));
    assert_eq!(state(verdict(&no_tape, tape)), ("O", "only tape sources"));
    let x509 =
        |rses: &mut HashMap<&str, Rse>| drop(rses.get_mut("A").unwrap().attributes.remove("oidc_support"));
    assert_eq!(state(verdict(&one, x509)).0, "Q");
    let long =
        |rses: &mut HashMap<&str, Rse>| rses.get_mut("D").unwrap().protocols[0].prefix = "/p".repeat(1020);
    assert_eq!(state(verdict(&one, long)), ("Q", "a URL is longer than Rucio's database takes"));
}

#[test]
fn the_named_sources_are_the_only_ones() {
    let mut named = request(&[("A", 0), ("B", 0)]);
    named.attributes = Attributes::parse(Some(r#"{"source_replica_expression": "A"}"#));
    assert_eq!(sources(verdict(&named, |_| ())), ["A"]);
    named.attributes = Attributes::parse(Some(r#"{"source_replica_expression": "*\\B"}"#));
    assert_eq!(sources(verdict(&named, |_| ())), ["A"]);
    named.attributes = Attributes::parse(Some(r#"{"source_replica_expression": "tier="}"#));
    assert_eq!(state(verdict(&named, |_| ())), ("N", "no replica at the named source"));
}

#[test]
fn checksums_follow_both_ends() {
    let plan = |change: &dyn Fn(&mut HashMap<&str, Rse>)| match verdict(&request(&[("A", 0)]), change) {
        Verdict::Submit(plan) => (plan.verify, plan.checksum),
        other => panic!("{other:?}"),
    };
    let set = |name: &'static str, key: &'static str, value: &'static str| {
        move |rses: &mut HashMap<&str, Rse>| {
            rses.get_mut(name).unwrap().attributes.insert(key.into(), value.into());
        }
    };
    let adler = Some("ADLER32:00000001".to_owned());
    assert_eq!(plan(&|_| ()), (VerifyChecksum::Both, adler.clone()));
    assert_eq!(plan(&set("A", "supported_checksums", "none")), (VerifyChecksum::Target, adler.clone()));
    assert_eq!(plan(&set("D", "supported_checksums", "none")), (VerifyChecksum::Source, adler.clone()));
    assert_eq!(plan(&set("D", "supported_checksums", "sha1")), (VerifyChecksum::Target, None));
    assert_eq!(plan(&set("A", "verify_checksum", "false")), (VerifyChecksum::Target, adler));
}

#[test]
fn a_source_that_failed_is_taken_again_only_where_rucio_is_to_be_followed() {
    let mut again = request(&[("A", -1), ("B", 0)]);
    (again.prepared_source, again.retried) = (Some(RseId("A".into())), true);
    assert_eq!(sources(verdict(&again, |_| ())), ["B", "A"]);
    let rses = ["A", "B", "D"].map(rse);
    let link = |from: &str| ((RseId(from.into()), RseId("D".into())), 1);
    let topology = Topology::new(rses.into(), [link("A"), link("B")].into());
    let as_rucio = Rules { retry_same_source: true, ..rules() };
    assert_eq!(sources(choose(&again, &topology, &as_rucio)), ["A", "B"]);
}

#[test]
fn a_way_goes_over_others_and_begins_at_the_source_nearest_to_its_end() {
    let open = |mut rse: Rse| {
        rse.columns.insert("availability_write".into(), "true".into());
        rse.attributes.insert("available_for_multihop".into(), "true".into());
        rse
    };
    let link = |from: &str, to: &str, distance| ((RseId(from.into()), RseId(to.into())), distance);
    let links = [link("A", "H", 1), link("H", "D", 1), link("B", "H", 9), link("C", "A", 1)];
    let rses = vec![rse("A"), rse("B"), rse("C"), open(rse("H")), rse("D")];
    let topology = Topology::new(rses, links.into());
    let hops = |sources: &[(&str, i64)]| match choose(&request(sources), &topology, &rules()) {
        Verdict::Submit(plan) => plan.hops().into_iter().map(|hop| hop.sources[0].rse.0.clone()).collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(hops(&[("A", 0)]), ["A", "H"]);
    assert_eq!(hops(&[("A", -1), ("B", 0)]), ["B", "H"], "ranking comes first");
    // C's own way goes by way of A, which has the file too.
    assert_eq!(hops(&[("A", -5), ("C", 0)]), ["A", "H"]);
    assert_eq!(hops(&[("H", -5), ("A", 0)]), ["H"]);
}
