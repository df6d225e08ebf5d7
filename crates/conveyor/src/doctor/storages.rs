//! Storages, where jobs carry tokens for them: each with the token that it would get.

use std::collections::BTreeMap;

use daemon::doctor::{Asked, Desk, Door, Examined, Finding, Minter, PROBE, knock, of_refusal, of_token};
use token_core::Clock;
use token_core::http::client;
use url::Url;

use super::Vo;
use super::rses::{davs, fts};
use crate::access::Access;
use crate::settings::Settings;
use crate::tokens::{Side, TokenRules};
use crate::topology::Rse;

/// Most RSEs whose storages are looked at.
const MOST: usize = 50;

/// Looks over the storages of a VO's RSEs.
pub(super) async fn look_over(
    vo: &Vo,
    access: &Access,
    rules: &TokenRules,
    settings: &Settings,
    issuers: &BTreeMap<String, Examined>,
    desk: &Desk,
    clock: &dyn Clock,
) -> Vec<Finding> {
    let mut rses: Vec<&Rse> =
        vo.topology.rses().filter(|rse| rules.by_token(rse, "davs") && davs(rse).next().is_some()).collect();
    rses.sort_by(|a, b| a.name.cmp(&b.name));
    let more = rses.len().saturating_sub(MOST);
    rses.truncate(MOST);
    let looked = desk.each(rses, async |rse| {
        let of = format!("storage of {}", rse.name);
        let looked = desk.look(&of, one(&of, rse, access, rules, settings, issuers, clock)).await;
        looked.unwrap_or_else(|| vec![desk.late(&of, "access")])
    });
    let mut findings: Vec<Finding> = looked.await.into_iter().flatten().collect();
    if more > 0 {
        findings.push(Finding::skipped("storages", "access", format!("{more} more than {MOST} RSEs")));
    }
    findings
}

async fn one(
    of: &str,
    rse: &Rse,
    access: &Access,
    rules: &TokenRules,
    settings: &Settings,
    issuers: &BTreeMap<String, Examined>,
    clock: &dyn Clock,
) -> Vec<Finding> {
    // The line about RSEs says so of one without.
    let (Some(fts), Some(protocol)) = (fts(rse), davs(rse).next()) else { return Vec::new() };
    let oauth = &access.grantor(&fts).oauth;
    let issuer = issuers.get(oauth.issuer().as_str());
    if issuer.is_some_and(|issuer| !issuer.usable) {
        return vec![Finding::skipped(of, "token", "its issuer can't be used")];
    }
    let Ok(request) = rules.request(rse, Side::Destination) else {
        return vec![Finding::skipped(of, "token", "its path cannot stand in a scope")];
    };
    let port = if protocol.port == 0 { 443 } else { protocol.port };
    let path = format!("{}/{PROBE}", protocol.prefix.trim_matches('/'));
    let url = format!("https://{}:{port}/{}", protocol.hostname, path.trim_start_matches('/'));
    let Ok(url) = Url::parse(&url) else {
        return vec![Finding::bad(of, "davs", format!("{url} is no URL"), "mend the RSE's davs protocol")];
    };
    let given = match oauth.client_credentials_as_given(&request).await {
        Ok(given) => given,
        Err(error) => return vec![of_refusal(of, &error, (oauth.client_id(), "its secret or key file"))],
    };
    let asked = Asked {
        of,
        issuer: oauth.issuer(),
        client_id: oauth.client_id(),
        request: &request,
        life: (rules.min_life, "`storage_tokens.min_life_s`"),
        narrows: false,
        answer: oauth.answer(),
    };
    let keys = issuer.and_then(|issuer| issuer.keys.as_ref());
    let mut findings = of_token(&asked, &given, keys, clock.now());
    let ca_file = settings.fts.ca_file.clone();
    let Ok(http) = client(&settings.fts.http()) else { return findings };
    let door = Door { of: of.to_owned(), url, request, section: "[[rse]]", base: None, ca_file };
    let mint: Minter<'_> = &|request| {
        Box::pin(
            async move { oauth.client_credentials_as_given(&request).await.ok().map(|given| given.token) },
        )
    };
    let name = format!("issuer {}", oauth.issuer());
    let issuers = issuer.and_then(|issuer| issuer.offset).map(|offset| (name.as_str(), offset));
    findings.extend(knock(&http, &door, &given.token, mint, issuers, clock).await);
    findings
}
