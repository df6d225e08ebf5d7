//! RSEs: which of them can be used by token, and what the others lack.

use daemon::doctor::{Finding, listed};
use url::Url;

use crate::tokens::{Side, TokenRules};
use crate::topology::{Protocol, Rse, Topology};

/// The FTS that transfers to an RSE go to, if its attribute is the URL of one, or a list whose first is.
pub(super) fn fts(rse: &Rse) -> Option<Url> {
    Url::parse(rse.attribute("fts")?.split(',').next()?.trim())
        .ok()
        .filter(|url| url.scheme() == "https" && url.has_host())
}

/// A URL without a slash at its end.
pub(super) fn base(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// The protocols that take tokens.
pub(super) fn davs(rse: &Rse) -> impl Iterator<Item = &Protocol> {
    rse.protocols.iter().filter(|protocol| protocol.scheme == "davs")
}

/// What the RSEs of a VO lack.
pub(super) fn look_over(of: &str, topology: &Topology, rules: &TokenRules) -> Vec<Finding> {
    let mut rses: Vec<&Rse> = topology.rses().collect();
    rses.sort_by(|a, b| a.name.cmp(&b.name));
    if rses.is_empty() {
        return vec![Finding::bad(of, "RSEs", "there is none", "is `rucio.vo` the right VO?")];
    }
    let those = |fits: &dyn Fn(&Rse) -> bool| -> Vec<&str> {
        rses.iter().filter(|rse| fits(rse)).map(|rse| rse.name.as_str()).collect()
    };
    let by_token = |rse: &Rse| rules.by_token(rse, "davs");
    let mut findings = Vec::new();
    let usable = those(&|rse| by_token(rse) && davs(rse).next().is_some() && fts(rse).is_some());
    let count = format!("{} of {} can be written by token", usable.len(), rses.len());
    findings.push(match usable.is_empty() {
        false => Finding::good(of, "RSEs", count),
        true => Finding::bad(of, "RSEs", count, "the lines below say what each lacks"),
    });
    let mut doubt = |names: Vec<&str>, check, found: &str, todo: &str| {
        if !names.is_empty() {
            let found = format!("{} {found}: {}", names.len(), listed(&names));
            findings.push(Finding::doubt(of, check, found, todo));
        }
    };
    doubt(
        those(&|rse| rse.attribute("fts").is_none_or(str::is_empty)),
        "fts",
        "without the attribute `fts`, so that nothing is submitted to them",
        "rucio-admin rse set-attribute --rse RSE --key fts --value https://FTS:8446, if transfers go there",
    );
    doubt(
        those(&|rse| !by_token(rse)),
        "oidc_support",
        "without `oidc_support`, so that their transfers are left to Rucio's own submitter",
        "rucio-admin rse set-attribute --rse RSE --key oidc_support --value True, if the storage takes tokens; or an [[rse]]",
    );
    doubt(
        those(&|rse| by_token(rse) && davs(rse).next().is_none()),
        "davs",
        "with `oidc_support` and without a davs protocol, so that nothing goes by token",
        "rucio-admin rse add-protocol with scheme davs",
    );
    // 0 is the best rank; what has none is off.
    let idle = |protocol: &Protocol| protocol.tpc_read.is_none() && protocol.tpc_write.is_none();
    doubt(
        those(&|rse| by_token(rse) && davs(rse).next().is_some() && davs(rse).all(idle)),
        "davs",
        "whose davs protocol is off for third-party copies",
        "set third_party_copy_read and third_party_copy_write of its domains",
    );
    let mut bad = |names: Vec<&str>, check, found: &str, todo: &str| {
        if !names.is_empty() {
            let found = format!("{} {found}: {}", names.len(), listed(&names));
            findings.push(Finding::bad(of, check, found, todo));
        }
    };
    bad(
        those(&|rse| rse.attribute("fts").is_some_and(|text| !text.is_empty()) && fts(rse).is_none()),
        "fts",
        "whose attribute `fts` is no https URL",
        "set it to https://FTS:8446; a token is not sent in clear",
    );
    let outside = |rse: &Rse| {
        let base = rse.attribute("oidc_base_path").filter(|base| !base.is_empty());
        base.is_some_and(|base| davs(rse).any(|protocol| !protocol.prefix.starts_with(base)))
    };
    bad(
        those(&|rse| by_token(rse) && outside(rse)),
        "oidc_base_path",
        "whose davs prefix does not begin with their `oidc_base_path`, so that scopes have the whole path",
        "make the attribute the front of the prefix, or take it away",
    );
    let unnamed = |rse: &Rse| {
        davs(rse).next().is_some()
            && [Side::Source, Side::Destination].iter().any(|side| rules.request(rse, *side).is_err())
    };
    bad(
        those(&|rse| by_token(rse) && unnamed(rse)),
        "path",
        "whose path cannot stand in a scope",
        "see the prefix of its davs protocol, `oidc_base_path`, and [[rse]]",
    );
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use daemon::doctor::Level;

    use super::*;

    fn rse(name: &str, attributes: &[(&str, &str)], schemes: &[(&str, &str)]) -> Rse {
        Rse {
            attributes: attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            protocols: schemes.iter().map(|(scheme, prefix)| Protocol::plain(scheme, prefix)).collect(),
            ..Rse::plain(name)
        }
    }

    fn told(rses: Vec<Rse>) -> Vec<(Level, &'static str, String)> {
        let topology = Topology::new(rses, HashMap::new());
        let findings = look_over("RSEs", &topology, &TokenRules::default());
        findings.into_iter().map(|finding| (finding.level, finding.check, finding.found)).collect()
    }

    #[test]
    fn what_each_lacks_is_said_with_its_name() {
        let (fts, oidc) = (("fts", "https://f:8446"), ("oidc_support", "True"));
        let all = told(vec![
            rse("GOOD", &[fts, oidc], &[("davs", "/vo/")]),
            rse("X509", &[fts], &[("davs", "/vo/")]),
            rse("NOFTS", &[oidc], &[("davs", "/vo/")]),
            rse("ROOT", &[fts, oidc], &[("root", "/vo/")]),
            rse("PLAIN", &[("fts", "http://f"), oidc], &[("davs", "/vo/")]),
            rse("BASE", &[fts, oidc, ("oidc_base_path", "/pnfs")], &[("davs", "/vo/")]),
            rse("CLIMBS", &[fts, oidc], &[("davs", "/../vo/")]),
        ]);
        let of = |check: &str, level: Level, name: &str| {
            all.iter()
                .any(|line| line.0 == level && line.1 == check && line.2.ends_with(&format!(": {name}")))
        };
        assert!(all[0].2.starts_with("3 of 7 can be written by token"), "{all:?}");
        assert!(of("fts", Level::Yellow, "NOFTS") && of("oidc_support", Level::Yellow, "X509"), "{all:?}");
        assert!(of("davs", Level::Yellow, "ROOT") && of("fts", Level::Red, "PLAIN"), "{all:?}");
        assert!(of("oidc_base_path", Level::Red, "BASE") && of("path", Level::Red, "CLIMBS"), "{all:?}");
        let good = told(vec![rse("GOOD", &[fts, oidc], &[("davs", "/vo/")])]);
        assert!(good.len() == 1 && good[0].0 == Level::Green, "{good:?}");
        assert_eq!(told(vec![rse("X509", &[fts], &[])])[0].0, Level::Red, "none at all is wrong");
    }
}
