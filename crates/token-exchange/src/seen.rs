//! What can be seen of a running worker: what it has done since it began, what it has in hand, and what waits in FTS's database.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::metrics::{Family, OTHERS};
use daemon::page::{Cell, Section, span};
use daemon::{Observed, Work};
use token_core::{Clock, UnixSeconds};

use crate::failed::Faults;
use crate::fresh::renewer::Outcome;
use crate::fts::FtsDatabase;
use crate::fts::look::{Backlog, Leases};
use crate::worker::Report;

/// Most rows of a table of the status page.
const MOST: usize = 100;

/// Most endpoints, of both sides, by which failures are counted; those at others are summed up.
const ENDPOINTS: usize = 1000;

/// What is seen.
pub struct Seen {
    fts: FtsDatabase,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: Report,
    put_off: usize,
    renewed: u64,
    not_renewed: u64,
    answered: u64,
    refused: u64,
    outlived: Option<usize>,
    /// Questions answered over HTTP, by who erred.
    answers: BTreeMap<&'static str, u64>,
    /// Files that FTS failed for a token's reason, by side and endpoint.
    failed_by_fts: BTreeMap<(String, String), u64>,
    jobs_in_hand: usize,
    files_in_hand: usize,
    /// As the database told when it was last looked at.
    backlog: Option<Vec<Backlog>>,
    leases: Option<Leases>,
}

/// A worker's part in what is seen.
pub struct Sight {
    /// What it shows.
    pub seen: Arc<Seen>,
    /// Its work.
    pub work: Work,
}

impl Seen {
    /// Nothing done yet, on this database.
    pub fn new(fts: FtsDatabase, clock: Arc<dyn Clock>) -> Self {
        Self { fts, clock, state: Mutex::default() }
    }

    /// This was done just now.
    pub(crate) fn did(&self, report: &Report) {
        let mut state = self.lock();
        state.put_off += report.waiting.values().sum::<usize>();
        state.done.add(report);
        // Reasons may be many.
        state.done.waiting.clear();
    }

    /// So much is in hand now.
    pub(crate) fn in_hand(&self, jobs: usize, files: usize) {
        let mut state = self.lock();
        (state.jobs_in_hand, state.files_in_hand) = (jobs, files);
    }

    /// A token was renewed, or was not.
    pub(crate) fn renewal(&self, outcome: &Outcome) {
        let mut state = self.lock();
        match outcome {
            Outcome::Renewed(..) => state.renewed += 1,
            Outcome::Refused(_) | Outcome::NotNow(_) => state.not_renewed += 1,
        }
    }

    /// So many refresh requests were answered with a token, or with a failure.
    pub(crate) fn refresh_requests(&self, requests: usize, with_token: bool) {
        let mut state = self.lock();
        let sum = if with_token { &mut state.answered } else { &mut state.refused };
        *sum += requests as u64;
    }

    /// FTS has failed these for a token's reason.
    pub(crate) fn failed_by_fts(&self, faults: &Faults) {
        add(&mut self.lock().failed_by_fts, faults);
    }

    /// A question was answered over HTTP; who erred.
    pub(crate) fn http_answer(&self, erred: &'static str) {
        *self.lock().answers.entry(erred).or_default() += 1;
    }

    /// So many transfers have outlived their tokens.
    pub(crate) fn outlived(&self, transfers: usize) {
        self.lock().outlived = Some(transfers);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed for Seen {
    fn families(&self) -> Vec<Family> {
        let (state, now) = (self.lock(), self.clock.now());
        let mut families = of_work(&state);
        families.extend(of_tokens(&state));
        families.extend(of_backlog(&state, now));
        families
    }

    fn look(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let now = self.clock.now();
            let (backlog, leases) = (self.fts.backlog(now).await.ok(), self.fts.leases(now).await.ok());
            let mut state = self.lock();
            (state.backlog, state.leases) = (backlog, leases);
        })
    }

    fn sections(&self) -> Vec<Section> {
        let (state, now) = (self.lock(), self.clock.now());
        let groups = state.backlog.iter().flatten();
        let waiting = groups.take(MOST).map(|group| {
            let why = match (group.leased, &group.message) {
                (true, _) => Cell::text("a worker has them in hand"),
                (false, Some(why)) => Cell::bad(why),
                (false, None) => Cell::text("nobody has looked at them yet"),
            };
            let oldest = group.oldest.map_or_else(|| "-".to_owned(), |at| span(at.until(now).as_secs()));
            vec![Cell::text(group.files), Cell::text(oldest), why]
        });
        let Report { released, failed, cancelled, lost, .. } = &state.done;
        let done = [
            ("files released", *released as u64),
            ("files failed", *failed as u64),
            ("files cancelled", *cancelled as u64),
            ("leases lost to other workers", *lost as u64),
            ("tokens renewed", state.renewed),
            ("renewals that failed and are tried again", state.not_renewed),
            ("refresh requests answered", state.answered),
            ("refresh requests refused", state.refused),
        ];
        let by_fts =
            state.failed_by_fts.iter().take(MOST).map(|((side, endpoint), files)| {
                vec![Cell::text(endpoint), Cell::text(side), Cell::bad(files)]
            });
        vec![
            Section {
                title: "Backlog: files that wait for their tokens",
                head: &["files", "oldest", "why"],
                rows: waiting.collect(),
                none: "no file waits",
            },
            Section {
                title: "Done since the start",
                head: &["what", "count"],
                rows: done.map(|(what, count)| vec![Cell::text(what), Cell::text(count)]).into(),
                none: "",
            },
            Section {
                title: "Failed by FTS for a token's reason",
                head: &["endpoint", "side", "files"],
                rows: by_fts.collect(),
                none: "none since the start",
            },
        ]
    }

    fn line(&self) -> String {
        let state = self.lock();
        let Report { released, failed, .. } = &state.done;
        format!(
            "{released} files released and {failed} failed since the start, {} in hand, {} tokens renewed",
            state.files_in_hand, state.renewed
        )
    }
}

fn of_work(state: &State) -> Vec<Family> {
    let Report { jobs, released, failed, cancelled, lost, short_lived, retired, .. } = &state.done;
    vec![
        Family::counter("token_exchange_jobs_leased_total", &[], "Jobs taken in hand; one that is put off is taken again")
            .count([], *jobs as u64),
        Family::counter("token_exchange_leases_lost_total", &[], "Jobs whose lease another worker had when they were to be handed over; nothing was written for them")
            .count([], *lost as u64),
        Family::counter("token_exchange_files_total", &["outcome"], "Files whose wait has ended: `released` (with tokens), `failed` (a definite refusal), `cancelled` (their job was, or was in the queue for too long)")
            .count(["released"], *released as u64)
            .count(["failed"], *failed as u64)
            .count(["cancelled"], *cancelled as u64),
        Family::counter("token_exchange_files_put_off_total", &[], "How often a file was put off, to be tried again later")
            .count([], state.put_off as u64),
        Family::counter(
            "token_exchange_short_lived_files_total",
            &[],
            "Files released with an unmanaged token that lives shorter than `worker.min_token_life_s`",
        )
        .count([], short_lived.files as u64),
        Family::gauge("token_exchange_jobs_in_hand", &[], "Jobs leased by this worker that are not handed over yet")
            .measure([], state.jobs_in_hand as f64),
        Family::counter(
            "token_exchange_tokens_deleted_total",
            &[],
            "Tokens deleted from FTS's table that have ended and that no file refers to",
        )
        .count([], *retired as u64),
        Family::gauge("token_exchange_files_in_hand", &[], "Their files")
            .measure([], state.files_in_hand as f64),
    ]
}

fn of_tokens(state: &State) -> Vec<Family> {
    let mut outlived = Family::gauge(
        "token_exchange_outlived_transfers",
        &[],
        "Transfers that run longer than the unmanaged token lives that they were started with, looked up every minute",
    );
    if let Some(transfers) = state.outlived {
        outlived = outlived.measure([], transfers as f64);
    }
    let mut failed = Family::counter(
        "token_exchange_failed_by_fts_total",
        &["side", "endpoint"],
        "Files that FTS failed for a token's reason, by the side and endpoint whose token it was; each is counted by one worker",
    );
    for ((side, endpoint), files) in &state.failed_by_fts {
        failed = failed.count([side, endpoint], *files);
    }
    let mut answers = Family::counter(
        "token_exchange_http_answers_total",
        &["erred"],
        "Questions for tokens over HTTP (`[api]`) that were answered, by who erred: `nobody` (a token was given), `caller`, `issuer` or `token-exchange`",
    );
    for (erred, count) in &state.answers {
        answers = answers.count([*erred], *count);
    }
    vec![
        failed,
        answers,
        Family::counter("token_exchange_renewals_total", &["outcome"], "Tokens renewed in FTS's database, in time or since one was asked for: `renewed` or `failed` (tried again later)")
            .count(["renewed"], state.renewed)
            .count(["failed"], state.not_renewed),
        Family::counter("token_exchange_refresh_requests_total", &["outcome"], "Refresh requests of `fts_url_copy`: `answered` (with a token) or `refused`")
            .count(["answered"], state.answered)
            .count(["refused"], state.refused),
        outlived,
    ]
}

/// What the database tells: of all workers together.
fn of_backlog(state: &State, now: UnixSeconds) -> Vec<Family> {
    let mut files = Family::gauge(
        "token_exchange_backlog_files",
        &["state"],
        "Files in `TOKEN_PREP`, of all workers: `new` (nobody has looked at them), `leased` (a worker has them in hand), `put_off` (tried again later). Looked up at most every 10 s",
    );
    let mut oldest = Family::gauge(
        "token_exchange_backlog_oldest_age_seconds",
        &[],
        "How long ago the job of the oldest of them was submitted; 0 when none waits",
    );
    if let Some(backlog) = &state.backlog {
        let sum = |of: fn(&Backlog) -> bool| {
            backlog.iter().filter(|group| of(group)).map(|group| group.files).sum::<i64>() as f64
        };
        files = files
            .measure(["new"], sum(|group| !group.leased && group.message.is_none()))
            .measure(["leased"], sum(|group| group.leased))
            .measure(["put_off"], sum(|group| !group.leased && group.message.is_some()));
        let first = backlog.iter().filter_map(|group| group.oldest).min();
        oldest = oldest.measure([], first.map_or(0.0, |at| at.until(now).as_secs_f64()));
    }
    let mut leases = Family::gauge(
        "token_exchange_leases",
        &["state"],
        "Leases of all workers: `held`, `ended` (with a worker that died; anyone may take them), `put_off`",
    );
    if let Some(Leases { held, ended, put_off, .. }) = &state.leases {
        leases = leases
            .measure(["held"], *held as f64)
            .measure(["ended"], *ended as f64)
            .measure(["put_off"], *put_off as f64);
    }
    vec![files, oldest, leases]
}

/// Sums failures up, by side and endpoint. Submitters write what endpoints there are: those beyond the bound are one.
fn add(sums: &mut BTreeMap<(String, String), u64>, faults: &Faults) {
    for (fault, (files, _)) in faults {
        let mut of = (fault.side.to_owned(), fault.endpoint.clone());
        if sums.len() >= ENDPOINTS && !sums.contains_key(&of) {
            of.1 = OTHERS.to_owned();
        }
        *sums.entry(of).or_default() += *files as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blame::{Cause, Fault, What};

    #[test]
    fn endpoints_that_submitters_make_up_do_not_fill_the_memory() {
        let fault = |n: usize| Fault {
            side: "source",
            endpoint: format!("https://s{n}.example"),
            what: What::Refused,
            cause: Cause::Unseen,
        };
        let mut sums = BTreeMap::new();
        for n in (0..ENDPOINTS + 500).chain([0]) {
            add(&mut sums, &Faults::from([(fault(n), (2, 1))]));
        }
        let of = |endpoint: &str| sums[&("source".to_owned(), endpoint.to_owned())];
        assert_eq!((sums.len(), of(OTHERS), of("https://s0.example")), (ENDPOINTS + 1, 1000, 4));
    }
}
