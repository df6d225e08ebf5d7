//! Rows of one job that belong together, when some of them have left `TOKEN_PREP` without us; and the end of a job. Pure.

use super::{Fate, Kind, submit_one};

/// What FTS itself writes when a file of a job has failed.
const SOME_FAILED: &str = "One or more files failed. Please have a look at the details for more information";

/// Fits the fates of a job's waiting rows to its `others`: rows, by id and state, that are not in `TOKEN_PREP` any more,
/// because `fts_token` or a person let them go before.
///
/// FTS 3.14.4 passes over a row that is still in `TOKEN_PREP` when the one before it ends. Released to `NOT_USED` after that, it
/// stays there for good; put to `SUBMITTED`, it runs and the job ends well (observed for several sources and several hops).
pub fn together<T>(kind: Kind, others: &[(i64, String)], fates: &mut Vec<(i64, Fate<T>)>) {
    let waits = fates.iter().any(|(_, fate)| matches!(fate, Fate::Wait(_)));
    match kind {
        Kind::Replicas if !waits => replicas(others, fates),
        Kind::Hops if !waits => hops(others, fates),
        _ => (),
    }
}

/// One row at a time runs, and one that ends well is enough.
fn replicas<T>(others: &[(i64, String)], fates: &mut Vec<(i64, Fate<T>)>) {
    let any = |states: &[&str]| others.iter().any(|(_, state)| states.contains(&state.as_str()));
    let runs = others.iter().any(|(_, state)| !ended(state) && state != "NOT_USED");
    let mut releases = fates.iter_mut().filter(|(_, fate)| matches!(fate, Fate::Release { .. })).peekable();
    if any(&["FINISHED"]) {
        releases.for_each(|(_, fate)| *fate = Fate::Spare);
    } else if runs {
        for (_, fate) in releases {
            if let Fate::Release { state, .. } = fate {
                "NOT_USED".clone_into(state);
            }
        }
    } else if releases.peek().is_some() {
        submit_one(fates);
    } else if fates.iter().any(|(_, fate)| matches!(fate, Fate::Fail(_)))
        && let Some((id, _)) = others.iter().find(|(_, state)| state == "NOT_USED")
    {
        fates.push((*id, Fate::Revive));
    }
}

/// Each row runs when the one before it has ended well; none runs when one has failed.
fn hops<T>(others: &[(i64, String)], fates: &mut [(i64, Fate<T>)]) {
    let failed = others.iter().any(|(_, state)| ended(state) && state != "FINISHED");
    let first = fates.iter().map(|(id, _)| *id).min();
    for (id, fate) in fates {
        let Fate::Release { state, .. } = fate else { continue };
        let mut before = others.iter().filter(|(other, _)| other < id).peekable();
        if failed {
            *fate = Fate::Spare;
        } else if Some(*id) == first
            && before.peek().is_some()
            && before.all(|(_, state)| state == "FINISHED")
        {
            "SUBMITTED".clone_into(state);
        }
    }
}

fn ended(state: &str) -> bool {
    matches!(state, "FINISHED" | "FAILED" | "CANCELED")
}

/// The state and reason with which a job ends, by the states of all its rows; none while something may still happen. As FTS 3.14.4
/// was observed to end them.
pub fn job_end(kind: Kind, rows: &[String]) -> Option<(&'static str, &'static str)> {
    let count = |state: &str| rows.iter().filter(|row| *row == state).count();
    let (finished, failed, cancelled) = (count("FINISHED"), count("FAILED"), count("CANCELED"));
    let all = finished + failed + cancelled == rows.len();
    let state = match kind {
        Kind::Replicas if finished > 0 => "FINISHED",
        Kind::Hops if failed > 0 => "FAILED",
        _ if !all => return None,
        _ if finished == rows.len() => "FINISHED",
        _ if cancelled == rows.len() => return Some(("CANCELED", TOO_LONG)),
        _ if finished == 0 && failed > 0 => "FAILED",
        _ => "FINISHEDDIRTY",
    };
    Some((state, if state == "FINISHED" { "" } else { SOME_FAILED }))
}

/// FTS's own words for files that it takes out of its queue when their `max_time_in_queue` has passed (read in its sources, not
/// observed); clients know them.
pub const TOO_LONG: &str = "Job has been canceled because it stayed in the queue for too long";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: Kind, others: &[(i64, &str)], fates: &[(i64, &str)]) -> String {
        let others: Vec<(i64, String)> =
            others.iter().map(|(id, state)| (*id, (*state).to_owned())).collect();
        let mut fates: Vec<(i64, Fate<u8>)> = fates
            .iter()
            .map(|(id, word)| {
                let fate = match *word {
                    "fail" => Fate::Fail("no".into()),
                    "wait" => Fate::Wait("down".into()),
                    state => Fate::Release { state: state.into(), source: 1, destination: 2 },
                };
                (*id, fate)
            })
            .collect();
        together(kind, &others, &mut fates);
        let word = |(id, fate): (i64, Fate<u8>)| match fate {
            Fate::Release { state, .. } => format!("{id} {state}"),
            other => format!("{id} {}", format!("{other:?}").split('(').next().unwrap_or_default()),
        };
        fates.into_iter().map(word).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn rows_that_come_all_together_go_as_planned() {
        for kind in [Kind::Plain, Kind::Replicas, Kind::Hops] {
            let planned = [(1, "SUBMITTED"), (2, "NOT_USED"), (3, "NOT_USED")];
            assert_eq!(words(kind, &[], &planned), "1 SUBMITTED, 2 NOT_USED, 3 NOT_USED");
        }
    }

    #[test]
    fn a_replica_left_behind_runs_when_no_other_will() {
        let late = [(2, "NOT_USED"), (3, "NOT_USED")];
        let of = |state| words(Kind::Replicas, &[(1, state)], &late);
        assert_eq!(of("FAILED"), "2 SUBMITTED, 3 NOT_USED");
        assert_eq!(of("CANCELED"), "2 SUBMITTED, 3 NOT_USED");
        for runs in ["SUBMITTED", "READY", "ACTIVE", "STAGING", "ON_HOLD"] {
            assert_eq!(of(runs), "2 NOT_USED, 3 NOT_USED", "{runs}");
        }
        assert_eq!(of("FINISHED"), "2 Spare, 3 Spare");
        assert_eq!(
            words(Kind::Replicas, &[(1, "FAILED")], &[(2, "wait"), (3, "NOT_USED")]),
            "2 Wait, 3 NOT_USED"
        );
    }

    #[test]
    fn a_replica_that_was_let_go_too_early_follows_one_whose_token_is_refused() {
        let failed = [(1, "fail")];
        assert_eq!(words(Kind::Replicas, &[(2, "NOT_USED"), (3, "NOT_USED")], &failed), "1 Fail, 2 Revive");
        assert_eq!(words(Kind::Replicas, &[(2, "ACTIVE"), (3, "NOT_USED")], &failed), "1 Fail");
        assert_eq!(words(Kind::Replicas, &[(2, "FINISHED"), (3, "NOT_USED")], &failed), "1 Fail");
    }

    #[test]
    fn a_hop_left_behind_runs_when_the_one_before_it_has_ended_well() {
        let of = |state| words(Kind::Hops, &[(1, state)], &[(2, "NOT_USED"), (3, "NOT_USED")]);
        assert_eq!(of("FINISHED"), "2 SUBMITTED, 3 NOT_USED");
        assert_eq!(of("ACTIVE"), "2 NOT_USED, 3 NOT_USED");
        assert_eq!(of("FAILED"), "2 Spare, 3 Spare");
        assert_eq!(words(Kind::Hops, &[(2, "NOT_USED")], &[(1, "SUBMITTED")]), "1 SUBMITTED");
    }

    #[test]
    fn jobs_end_as_they_do_in_fts() {
        for (kind, rows, expected) in [
            (Kind::Plain, "FAILED FAILED", Some("FAILED")),
            (Kind::Plain, "FINISHED FAILED", Some("FINISHEDDIRTY")),
            (Kind::Plain, "FAILED CANCELED", Some("FAILED")),
            (Kind::Plain, "CANCELED CANCELED", Some("CANCELED")),
            (Kind::Plain, "FAILED TOKEN_PREP", None),
            (Kind::Plain, "FAILED ACTIVE", None),
            (Kind::Replicas, "FAILED FAILED", Some("FAILED")),
            (Kind::Replicas, "FAILED NOT_USED", None),
            (Kind::Replicas, "FAILED FINISHED NOT_USED", Some("FINISHED")),
            (Kind::Hops, "FAILED NOT_USED", Some("FAILED")),
            (Kind::Hops, "FINISHED FAILED", Some("FAILED")),
            (Kind::Hops, "FINISHED NOT_USED", None),
        ] {
            let states: Vec<String> = rows.split(' ').map(str::to_owned).collect();
            assert_eq!(job_end(kind, &states).map(|(state, _)| state), expected, "{kind:?} {rows}");
        }
    }
}
