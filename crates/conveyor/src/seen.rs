//! What can be seen of a running conveyor: what it has done since it began, and how each VO and each FTS is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::metrics::Family;
use daemon::page::{Cell, Section, span};
use daemon::{Observed, Work};
use fts_client::FtsError;
use token_core::{Clock, UnixSeconds};
use url::Url;

use crate::submit::{Pass, Report};

/// What all VOs have done together, and how each is.
pub struct Seen {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sums; what is no event (`left`, `open`) is not in it.
    done: Report,
    vos: BTreeMap<String, Vo>,
    fts: BTreeMap<String, Fts>,
}

/// A VO's queue as its last walk over all of it found it.
#[derive(Clone, Debug, Default)]
struct Vo {
    queued: usize,
    waiting_since: Option<UnixSeconds>,
    left: BTreeMap<String, usize>,
    open: usize,
    walk: Duration,
    walked_at: Option<UnixSeconds>,
}

/// An FTS: by VO, why it can't be used, if it can't.
type Fts = BTreeMap<String, Option<String>>;

/// A submitter's part in what is seen.
pub struct Sight {
    /// What all of them show.
    pub seen: Arc<Seen>,
    /// Its work.
    pub work: Work,
}

impl Seen {
    /// Nothing done yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// This was done just now.
    pub(crate) fn did(&self, report: &Report) {
        let mut state = self.lock();
        state.done.add(report);
        state.done.left.clear();
        state.done.open = 0;
    }

    /// A VO's whole queue was walked over.
    pub(crate) fn walked(&self, vo: &str, pass: &Pass, took: Duration) {
        let now = self.clock.now();
        let walked = Vo {
            queued: pass.queue.requests,
            waiting_since: pass.queue.waiting_since,
            left: pass.report.left.clone(),
            open: pass.report.open,
            walk: took,
            walked_at: Some(now),
        };
        self.lock().vos.insert(vo.to_owned(), walked);
    }

    /// An FTS can be used for a VO, or can't.
    pub(crate) fn fts(&self, fts: &str, vo: &str, trouble: Option<&FtsError>) {
        let mut state = self.lock();
        let of = state.fts.entry(host(fts)).or_default();
        match (of.get(vo), trouble) {
            (Some(None), None) => (),
            _ => drop(of.insert(vo.to_owned(), trouble.map(ToString::to_string))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An FTS's host and port: RSEs write its URL in several ways.
pub(crate) fn host(fts: &str) -> String {
    let url = Url::parse(fts).ok();
    let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
    host.map_or_else(|| fts.to_owned(), |(host, port)| format!("{host}:{port}"))
}

impl Observed for Seen {
    fn families(&self) -> Vec<Family> {
        let (state, now) = (self.lock(), self.clock.now());
        let done = &state.done;
        let looked_at = Family::counter(
            "conveyor_requests_looked_at_total",
            &[],
            "Requests that were read and decided about; one that stays in the queue is read again now and then",
        )
        .count([], done.picked as u64);
        let recovered = Family::counter(
            "conveyor_claims_recovered_total",
            &[],
            "Requests whose claim was open from before and was resolved by the id of its job",
        )
        .count([], done.recovered as u64);
        let mut submissions = Family::counter(
            "conveyor_submissions_total",
            &["fts", "outcome"],
            "Requests posted, by FTS host and outcome: `submitted` (FTS has them), `refused` (state `A`), `given_back` (certainly not sent; back in `Q`), `unknown` (no answer tells; looked up later)",
        );
        let mut jobs = Family::counter("conveyor_jobs_total", &["fts"], "Jobs that FTS has, by FTS host");
        for (fts, done) in &done.fts {
            let fts = host(fts);
            submissions = submissions
                .count([&fts, "submitted"], done.submitted as u64)
                .count([&fts, "refused"], done.refused as u64)
                .count([&fts, "given_back"], done.released as u64)
                .count([&fts, "unknown"], done.unknown as u64);
            jobs = jobs.count([&fts], done.jobs as u64);
        }
        let mut ended = Family::counter(
            "conveyor_requests_ended_total",
            &["reason"],
            "Requests that got state `N`, `O` or `M` instead of being submitted, by reason",
        );
        for (reason, count) in &done.ended {
            ended = ended.count([reason], *count as u64);
        }
        let mut authorised = Family::counter(
            "conveyor_authorised_total",
            &["mode"],
            "Requests submitted, by how their transfers are authorised: `token for FTS`, `managed storage tokens` or `unmanaged storage tokens`",
        );
        for (mode, count) in &done.authorised {
            authorised = authorised.count([mode], *count as u64);
        }
        let mut families = vec![looked_at, recovered, submissions, jobs, ended, authorised];
        families.extend(of_queues(&state.vos, now));
        let mut up = Family::gauge(
            "conveyor_fts_up",
            &["fts"],
            "1 while an FTS can be used, 0 while it, or the issuer of its tokens, can't be for one VO at least; by FTS host",
        );
        for (fts, vos) in &state.fts {
            up = up.measure([fts], f64::from(u8::from(vos.values().all(Option::is_none))));
        }
        families.push(up);
        families
    }

    fn sections(&self) -> Vec<Section> {
        let (state, now) = (self.lock(), self.clock.now());
        let of_fts = |(fts, vos): (&String, &Fts)| {
            let trouble = vos.iter().find_map(|(vo, why)| why.as_ref().map(|why| (vo, why)));
            let posts =
                state.done.fts.iter().filter(|(url, _)| host(url) == *fts).map(|(_, posts)| posts.submitted);
            let submitted = Cell::text(posts.sum::<usize>());
            match trouble {
                None => vec![Cell::text(fts), Cell::good("used"), submitted, Cell::text("")],
                Some((vo, why)) => {
                    vec![
                        Cell::text(fts),
                        Cell::bad("can't be used"),
                        submitted,
                        Cell::text(format!("VO {vo}: {why}")),
                    ]
                }
            }
        };
        let of_vo = |(vo, of): (&String, &Vo)| {
            let oldest = of.waiting_since.map_or_else(|| "-".to_owned(), |at| span(at.until(now).as_secs()));
            let open = if of.open > 0 { Cell::bad(of.open) } else { Cell::text(of.open) };
            let walked =
                of.walked_at.map_or_else(String::new, |at| format!("{} ago", span(at.until(now).as_secs())));
            vec![Cell::text(vo), Cell::text(of.queued), Cell::text(oldest), open, Cell::text(walked)]
        };
        let left = state.vos.iter().flat_map(|(vo, of)| {
            of.left.iter().map(move |(why, count)| vec![Cell::text(vo), Cell::text(count), Cell::text(why)])
        });
        vec![
            Section {
                title: "FTS",
                head: &["FTS", "state", "submitted", "last error"],
                rows: state.fts.iter().map(of_fts).collect(),
                none: "no FTS was needed yet",
            },
            Section {
                title: "Rucio's queue, as it was last walked over",
                head: &["VO", "requests", "oldest that waits", "fate not known", "walked"],
                rows: state.vos.iter().map(of_vo).collect(),
                none: "it was not walked over yet",
            },
            Section {
                title: "Left in the queue",
                head: &["VO", "requests", "why"],
                rows: left.collect(),
                none: "nothing was left",
            },
        ]
    }

    fn line(&self) -> String {
        let state = self.lock();
        let queued: usize = state.vos.values().map(|vo| vo.queued).sum();
        let away: Vec<&str> = state
            .fts
            .iter()
            .filter(|(_, vos)| vos.values().any(Option::is_some))
            .map(|(fts, _)| fts.as_str())
            .collect();
        let away =
            if away.is_empty() { String::new() } else { format!("; can't be used: {}", away.join(", ")) };
        let queued = match state.vos.is_empty() {
            true => "the queue is being read".to_owned(),
            false => format!("{queued} in the queue"),
        };
        format!("{} requests submitted since the start, {queued}{away}", state.done.submitted)
    }
}

fn of_queues(vos: &BTreeMap<String, Vo>, now: UnixSeconds) -> Vec<Family> {
    const BY_VO: &[&str] = &["vo"];
    let mut queued = Family::gauge(
        "conveyor_queue_requests",
        BY_VO,
        "Requests in Rucio's queue (state `Q`, our part of it) as the last walk over all of it found them",
    );
    let mut age = Family::gauge(
        "conveyor_queue_oldest_age_seconds",
        BY_VO,
        "How long ago the oldest was made of those that wait for an FTS, a token or the end of a ban; 0 when none does. What is left \
         for another reason stands in conveyor_queue_left",
    );
    let mut left = Family::gauge(
        "conveyor_queue_left",
        &["vo", "reason"],
        "Requests that the last walk left in the queue, by reason",
    );
    let mut open = Family::gauge(
        "conveyor_claims_open",
        BY_VO,
        "Requests that are claimed (state `G`) while the fate of their job is not known",
    );
    let mut walk = Family::gauge(
        "conveyor_walk_duration_seconds",
        BY_VO,
        "How long the last walk over the whole queue took",
    );
    let mut walked = Family::gauge(
        "conveyor_walk_timestamp_seconds",
        BY_VO,
        "When that walk ended, in seconds since 1970",
    );
    for (vo, of) in vos {
        queued = queued.measure([vo], of.queued as f64);
        age = age.measure([vo], of.waiting_since.map_or(0.0, |since| since.until(now).as_secs_f64()));
        for (reason, count) in &of.left {
            left = left.measure([vo, reason], *count as f64);
        }
        open = open.measure([vo], of.open as f64);
        walk = walk.measure([vo], of.walk.as_secs_f64());
        if let Some(at) = of.walked_at {
            walked = walked.measure([vo], at.0 as f64);
        }
    }
    vec![queued, age, left, open, walk, walked]
}

#[cfg(test)]
mod tests {
    use token_core::ManualClock;

    use super::*;

    #[test]
    fn an_fts_is_one_however_its_url_is_written_and_up_when_it_is_for_every_vo() {
        let seen = Seen::new(Arc::new(ManualClock::new(UnixSeconds(0))));
        let error = FtsError::Unreachable { fts: "f".into(), reason: "refused" };
        seen.fts("https://fts.example:8446", "a", None);
        seen.fts("https://fts.example:8446/", "b", Some(&error));
        let up = || {
            let text = daemon::metrics::text(seen.families());
            text.lines().filter(|line| line.starts_with("conveyor_fts_up{")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(up(), "conveyor_fts_up{fts=\"fts.example:8446\"} 0.0");
        assert!(seen.line().ends_with("can't be used: fts.example:8446"));
        seen.fts("https://fts.example:8446", "b", None);
        assert_eq!(up(), "conveyor_fts_up{fts=\"fts.example:8446\"} 1.0");
    }
}
