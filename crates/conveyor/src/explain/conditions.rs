//! The conditions of the picker, one by one.

use serde::Serialize;

use crate::rucio::heartbeat::Living;
use crate::rucio::look::Sight;
use crate::rucio::queue::{AHEAD_S, IN_HAND_S};
use crate::share::Part;

/// One condition.
#[derive(Debug, Serialize)]
pub(super) struct Condition {
    /// What is asked.
    pub(super) what: &'static str,
    /// Whether it is met.
    pub(super) holds: bool,
    /// How things are.
    pub(super) found: String,
}

/// All conditions that the request and the configuration decide.
pub(super) fn all(sight: &Sight, served: &[String], part: &Part) -> Vec<Condition> {
    let request = &sight.request;
    let (name, vo, deleted, writable) = &sight.destination;
    let condition = |what, holds, found: String| Condition { what, holds, found };
    let yes_no = |yes: bool, words: [&str; 2]| words[usize::from(!yes)].to_owned();
    let activity = request.activity.as_deref();
    let mut conditions = vec![
        condition("it is queued", sight.state == "Q", state(sight)),
        condition("it is a transfer", sight.kind == "T", format!("type {}", kind(&sight.kind))),
        condition(
            "its transfer tool is FTS",
            sight.transfertool.as_deref().is_none_or(|tool| tool == "fts3"),
            sight.transfertool.as_ref().map_or("none is set".into(), |tool| format!("`{tool}`")),
        ),
        condition(
            "its rule wants it still",
            sight.rule.is_none_or(|(ended, child)| !ended || child),
            match sight.rule {
                None => "there is no rule any more, which counts as wanting".into(),
                Some((true, false)) => "the rule has expired".into(),
                Some((true, true)) => "the rule has expired, but a child rule goes on".into(),
                Some((false, _)) => "the rule goes on".into(),
            },
        ),
        condition(
            "no earlier hop holds it back",
            sight.after.is_none(),
            sight.after.as_ref().map_or("it is no later hop".into(), |before| {
                format!("it is the next hop of request {before}")
            }),
        ),
        condition(
            "its destination is there",
            !deleted,
            format!("{name} {}", yes_no(*deleted, ["is deleted", "is there"])),
        ),
        condition(
            "its destination may be written",
            *writable || part.ignore_availability,
            match (writable, part.ignore_availability) {
                (true, _) => format!("{name} is available for writing"),
                (false, false) => format!("{name} is not available for writing"),
                (false, true) => format!("{name} is not available for writing, which is ignored"),
            },
        ),
        condition(
            "its VO is served",
            served.contains(vo),
            format!("VO `{vo}`; served: {}", served.join(", ")),
        ),
        condition(
            "its activity is ours",
            part.has_activity(activity),
            format!(
                "{}{}",
                activity.map_or("no activity".into(), |activity| format!("`{activity}`")),
                yes_no(part.has_activity(activity), ["", ", which [share] leaves to others"])
            ),
        ),
        condition(
            "its destination is ours",
            part.has_destination(&request.destination),
            format!(
                "{name}{}",
                yes_no(part.has_destination(&request.destination), ["", ", which [share] leaves to others"])
            ),
        ),
    ];
    conditions.extend(processed(sight));
    conditions
}

/// A submitter's stamp. One of Rucio's own has what it looked at to itself for a while.
fn processed(sight: &Sight) -> Option<Condition> {
    let (by, since) = sight.processed.as_ref()?;
    let what = "nobody else has it in hand";
    if by.starts_with("conveyor:") {
        return Some(Condition { what, holds: true, found: format!("claimed before by {by}") });
    }
    let since = (*since)?;
    let left = IN_HAND_S - since;
    let holds = by != "conveyor-submitter" || left <= 0 || since < -AHEAD_S;
    let found = match holds {
        true => format!("{by} looked at it {since} s ago"),
        false => {
            format!("{by} looked at it {since} s ago: left to it for another {left} s (not with --run-once)")
        }
    };
    Some(Condition { what, holds, found })
}

/// Whose slice it is in. With several conveyors, one of them has it.
pub(super) fn worker(whose: Option<u32>, living: &[Living]) -> Condition {
    let worker = whose.and_then(|number| Some((number, living.get(usize::try_from(number).ok()?)?)));
    Condition {
        what: "it is in the slice of a living worker",
        holds: worker.is_some(),
        found: match worker {
            Some((number, one)) => format!(
                "worker {number} of {}: process {} on {}{}",
                living.len(),
                one.pid,
                one.host,
                if one.thread == 0 { "" } else { ", one of Rucio's own" }
            ),
            None => "in none: what requests are divided by is empty in it".into(),
        },
    }
}

fn state(sight: &Sight) -> String {
    let words = match sight.state.as_str() {
        "P" => "PREPARING: Rucio's preparer has it",
        "W" => "WAITING: Rucio's throttler holds it back",
        "Q" => "QUEUED",
        "G" => "SUBMITTING: claimed",
        "S" => "SUBMITTED",
        "A" => "SUBMISSION_FAILED: Rucio's finisher queues it anew",
        "D" => "DONE",
        "F" => "FAILED",
        "L" => "LOST",
        "N" => "NO_SOURCES",
        "O" => "ONLY_TAPE_SOURCES",
        "M" => "MISMATCH_SCHEME",
        "U" => "SUSPEND",
        _ => "unknown",
    };
    let mut found = format!("{} ({words})", sight.state);
    if let Some(job) = &sight.job {
        found += &format!(", FTS job {job} at {}", sight.fts.as_deref().unwrap_or("an unknown FTS"));
    }
    if let Some(words) = sight.err_msg.as_ref().filter(|_| sight.state != "Q") {
        found += &format!(": {}", token_core::http::printable(words));
    }
    found
}

fn kind(letter: &str) -> &str {
    match letter {
        "T" => "T (transfer)",
        "I" => "I (stage in), for rucio-conveyor-stager",
        "O" => "O (stage out)",
        other => other,
    }
}
