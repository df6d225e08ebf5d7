//! The issuers that tokens come from and the tokens that are kept: what both daemons tell of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use token_core::{CallCounts, Clock, GuardStatus, Holding, OAuthClient, TokenKeeper, UnixSeconds};

use super::Family;
use crate::settings::IssuerSettings;
use crate::vitals::Check;

/// Clients at issuers, and the keeper of their tokens.
#[derive(Clone)]
pub struct Issuers {
    clients: Vec<Arc<OAuthClient>>,
    keeper: Arc<TokenKeeper>,
    clock: Arc<dyn Clock>,
}

/// How one issuer is: of all clients that are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct IssuerStatus {
    /// Its guard; where several guard it, the worst of them.
    pub(crate) guard: GuardStatus,
    calls: Vec<CallCounts>,
}

impl IssuerStatus {
    /// How many calls there were, and how many of them gave nothing.
    pub(crate) fn calls_and_failures(&self) -> (u64, u64) {
        let outcomes = self.calls.iter().flat_map(|calls| &calls.outcomes);
        outcomes.fold((0, 0), |(all, failed), (outcome, count)| {
            (all + count, failed + if *outcome == "ok" { 0 } else { *count })
        })
    }

    /// Whether no call has given a token, and that is not for what a submitter's own token was exchanged for: of that a submitter could
    /// make anything.
    fn gives_nothing(&self) -> bool {
        let (calls, failed) = self.calls_and_failures();
        let of_a_submitter = |counts: &CallCounts| {
            let asked = |outcome: &str| ["refused", "mismatch"].contains(&outcome);
            counts.grant != "client_credentials"
                && counts.outcomes.iter().any(|(outcome, count)| asked(outcome) && *count > 0)
        };
        calls > 0 && failed == calls && !self.calls.iter().any(of_a_submitter)
    }
}

impl Issuers {
    /// These clients; several may be at one issuer.
    pub fn new(clients: Vec<Arc<OAuthClient>>, keeper: Arc<TokenKeeper>, clock: Arc<dyn Clock>) -> Self {
        Self { clients, keeper, clock }
    }

    /// From now on the client of these settings has another rate.
    pub fn set_rate(&self, settings: &IssuerSettings) {
        for client in &self.clients {
            let same_client = settings.client_id.is_empty() || client.client_id() == settings.client_id;
            if same_client && client.issuer().same_but_for_slash(&settings.url) {
                client.guard().set_rate(settings.calls_per_s, settings.burst);
            }
        }
    }

    /// The time that they go by.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// The tokens that are kept and have not ended.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        self.keeper.holdings()
    }

    /// Each issuer once, whether its name is written with a slash at the end or without.
    pub(crate) fn each(&self) -> BTreeMap<String, IssuerStatus> {
        let mut all: BTreeMap<String, IssuerStatus> = BTreeMap::new();
        let mut guards = Vec::new();
        for client in &self.clients {
            let of = all.entry(plain(client.issuer().as_str())).or_default();
            of.calls.extend(client.call_counts());
            let guard = Arc::as_ptr(client.guard());
            if !guards.contains(&guard) {
                guards.push(guard);
                of.guard = together(of.guard, client.guard().status());
            }
        }
        all
    }

    /// Whether tokens can be had: of each issuer, that it is asked, or that a token of it is there.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let (now, held) = (self.clock.now(), self.holdings());
        let check = |(issuer, status): (String, IssuerStatus)| {
            let last =
                held.iter().filter(|held| plain(&held.issuer) == issuer).map(|held| held.last_end).max();
            let left_s = last.map(|end| now.until(end).as_secs()).filter(|left| *left > 0);
            let (calls, failed) = status.calls_and_failures();
            let never = calls > 0 && failed == calls;
            let can_give = !status.gives_nothing();
            let why = match (status.guard.open_for, left_s) {
                (None, Some(left)) => format!("it is asked, and a token of it lives for another {left} s"),
                (None, None) if calls == 0 => {
                    "no token of it was needed yet; `doctor` asks for one".to_owned()
                }
                (None, None) if never => {
                    format!("none of its {calls} calls gave a token: `doctor` and the log say why")
                }
                (None, None) => "it is asked; no token of it is kept now".to_owned(),
                (Some(wait), Some(left)) => format!(
                    "not asked for another {} s, since its last calls failed; a token of it lives for another {left} s",
                    wait.as_secs()
                ),
                (Some(wait), None) => format!(
                    "not asked for another {} s, since its last calls failed; no token of it is kept",
                    wait.as_secs()
                ),
            };
            Check {
                name: format!("issuer {issuer}"),
                ok: (status.guard.open_for.is_none() && can_give) || left_s.is_some(),
                why,
            }
        };
        self.each().into_iter().map(check).collect()
    }

    /// The families.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = self.of_tokens();
        families.extend(self.of_calls());
        families
    }

    fn of_tokens(&self) -> Vec<Family> {
        let counts = self.keeper.counts();
        let requests = Family::counter(
            "token_cache_requests_total",
            &["result"],
            "Wishes for tokens: `hit` (served from memory or disk), `shared` (by a fetch that another had begun), `miss` (fetched, none was kept), `stale` (fetched, the one that was kept lived too short, had ended or was rejected)",
        )
        .count(["hit"], counts.kept)
        .count(["shared"], counts.shared)
        .count(["miss"], counts.missed)
        .count(["stale"], counts.stale);
        let renewals = Family::counter(
            "token_cache_renewals_total",
            &["outcome"],
            "Tokens fetched ahead of the end of one that still did: `ok` or `failed`",
        )
        .count(["ok"], counts.renewed)
        .count(["failed"], counts.not_renewed);
        let failed = Family::counter(
            "token_cache_fetches_failed_total",
            &[],
            "Fetches of tokens that failed, renewals among them",
        )
        .count([], counts.failed);
        let mut entries = Family::gauge(
            "token_cache_entries",
            &["place"],
            "Tokens that are kept in `memory` and on `disk`",
        )
        .measure(["memory"], counts.in_memory as f64);
        let mut usable = Family::gauge(
            "token_cache_disk_usable",
            &[],
            "1 while the cache on disk can be used, 0 while it can't and memory alone serves; absent without `[cache]`",
        );
        let mut errors =
            Family::counter("token_cache_disk_errors_total", &[], "Calls to the cache on disk that failed");
        let mut aside = Family::counter(
            "token_cache_disk_set_aside_total",
            &[],
            "How often the cache on disk was set aside since it could not be read",
        );
        if let Some(disk) = &counts.behind {
            entries = entries.measure(["disk"], disk.entries as f64);
            usable = usable.measure([], f64::from(u8::from(disk.trouble.is_none())));
            errors = errors.count([], disk.errors);
            aside = aside.count([], disk.set_aside);
        }
        let mut ends = Family::gauge(
            "token_expires_in_seconds",
            &["issuer", "audience"],
            "Seconds until the end of the token in memory that lives longest, for each audience at each issuer; absent when there is none. At most 500 audiences, those that end first",
        );
        let now = self.clock.now();
        for held in self.holdings() {
            let left = now.until(held.last_end).as_secs_f64();
            ends = ends.measure([&plain(&held.issuer), &held.audience], left);
        }
        vec![requests, renewals, failed, entries, usable, errors, aside, ends]
    }

    fn of_calls(&self) -> Vec<Family> {
        const BY_ISSUER: &[&str] = &["issuer"];
        let mut calls = Family::counter(
            "token_issuer_calls_total",
            &["issuer", "grant", "outcome"],
            "Calls to issuers, by OAuth grant and outcome: `ok`, `refused` (an OAuth error), `busy` (408, 429, 5xx), `unreachable`, `unusable` (no token in the answer), `mismatch` (another token than was asked for), `other`",
        );
        let mut took = Family::histogram(
            "token_issuer_call_duration_seconds",
            &["issuer", "grant"],
            "How long calls to issuers took, whatever they came to, without the wait for their turn",
        );
        let mut held_back = Family::counter(
            "token_issuer_calls_held_back_total",
            &["issuer", "reason"],
            "Calls that were not sent: `breaker` (its last calls failed) or `budget` (no turn in time)",
        );
        let mut open = Family::gauge(
            "token_issuer_breaker_open",
            BY_ISSUER,
            "1 while an issuer is not asked since its last calls failed, else 0",
        );
        let mut opened = Family::counter(
            "token_issuer_breaker_opened_total",
            BY_ISSUER,
            "How often an issuer began to be left alone",
        );
        let mut budget = Family::gauge(
            "token_issuer_budget_used_ratio",
            BY_ISSUER,
            "Share of the burst that is used up: 0 after a quiet time, 1 when the next call waits for its turn, more when others wait already",
        );
        let mut in_flight =
            Family::gauge("token_issuer_calls_in_flight", BY_ISSUER, "Calls that are on their way");
        let mut limit = Family::gauge(
            "token_issuer_calls_in_flight_limit",
            BY_ISSUER,
            "Most calls at a time (`max_in_flight`)",
        );
        for (issuer, IssuerStatus { guard, calls: counts }) in self.each() {
            let issuer = issuer.as_str();
            for CallCounts { grant, outcomes, durations, seconds } in merged(counts) {
                for (outcome, count) in outcomes {
                    calls = calls.count([issuer, grant, outcome], count);
                }
                let classes =
                    durations.into_iter().map(|(up_to, count)| (up_to.unwrap_or(f64::INFINITY), count));
                took = took.spread([issuer, grant], seconds, classes.collect());
            }
            held_back = held_back
                .count([issuer, "breaker"], guard.held_by_breaker)
                .count([issuer, "budget"], guard.held_by_budget);
            open = open.measure([issuer], f64::from(u8::from(guard.open_for.is_some())));
            opened = opened.count([issuer], guard.opened);
            budget = budget.measure([issuer], guard.budget_used);
            in_flight = in_flight.measure([issuer], guard.in_flight as f64);
            limit = limit.measure([issuer], guard.max_in_flight as f64);
        }
        vec![calls, took, held_back, open, opened, budget, in_flight, limit]
    }
}

/// An issuer's name without the slash at its end.
pub(crate) fn plain(issuer: &str) -> String {
    issuer.trim_end_matches('/').to_owned()
}

fn together(a: GuardStatus, b: GuardStatus) -> GuardStatus {
    GuardStatus {
        open_for: a.open_for.max(b.open_for),
        opened: a.opened + b.opened,
        in_flight: a.in_flight + b.in_flight,
        max_in_flight: a.max_in_flight + b.max_in_flight,
        budget_used: a.budget_used.max(b.budget_used),
        held_by_breaker: a.held_by_breaker + b.held_by_breaker,
        held_by_budget: a.held_by_budget + b.held_by_budget,
    }
}

/// The calls of several clients by grant.
fn merged(counts: Vec<CallCounts>) -> Vec<CallCounts> {
    let mut by_grant: Vec<CallCounts> = Vec::new();
    for more in counts {
        let Some(known) = by_grant.iter_mut().find(|known| known.grant == more.grant) else {
            by_grant.push(more);
            continue;
        };
        known.outcomes.iter_mut().zip(more.outcomes).for_each(|((_, sum), (_, count))| *sum += count);
        known.durations.iter_mut().zip(more.durations).for_each(|((_, sum), (_, count))| *sum += count);
        known.seconds += more.seconds;
    }
    by_grant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_gives_nothing_when_that_is_no_submitters_doing() {
        let gives_nothing = |calls: &[(&'static str, &'static str, u64)]| {
            let call = |&(grant, outcome, count): &(&'static str, &'static str, u64)| CallCounts {
                grant,
                outcomes: vec![(outcome, count), ("other", 0)],
                durations: Vec::new(),
                seconds: 0.0,
            };
            IssuerStatus { guard: GuardStatus::default(), calls: calls.iter().map(call).collect() }
                .gives_nothing()
        };
        assert!(!gives_nothing(&[]), "it was not asked");
        assert!(gives_nothing(&[("client_credentials", "refused", 2)]), "our own client");
        assert!(gives_nothing(&[("token_exchange", "unreachable", 1)]));
        assert!(
            !gives_nothing(&[("token_exchange", "refused", 9)]),
            "the tokens that jobs came with may be why"
        );
        assert!(!gives_nothing(&[("client_credentials", "ok", 1), ("token_exchange", "busy", 5)]));
    }
}
