//! What becomes of the files of a job once it is known which of their tokens are to be had. Pure.

mod together;

use crate::plan::Side;
pub use together::{TOO_LONG, job_end, together};

/// What became of one side's token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token<T> {
    /// Got.
    Got(T),
    /// Not now; in words.
    Wait(String),
    /// Never; in words.
    Refused(String),
}

/// A file that waits in `TOKEN_PREP`, and its two tokens.
#[derive(Clone, Debug)]
pub struct Waiting<T> {
    /// `t_file.file_id`.
    pub file: i64,
    /// `t_file.file_state_initial`.
    pub planned: String,
    /// The source's token.
    pub source: Token<T>,
    /// The destination's token.
    pub destination: Token<T>,
}

/// `t_job.job_type`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files that have nothing to do with each other (`N`, `Y`).
    Plain,
    /// Several sources for one file (`R`): one row is `SUBMITTED`, the others wait as `NOT_USED`.
    Replicas,
    /// A file over several hops (`H`): the first is `SUBMITTED`, the others wait as `NOT_USED`.
    Hops,
}

impl Kind {
    /// From the column.
    pub fn parse(letter: Option<&str>) -> Self {
        match letter {
            Some("R") => Self::Replicas,
            Some("H") => Self::Hops,
            _ => Self::Plain,
        }
    }

    /// The same, by what FTS had planned for its rows: `waiting` for those in `TOKEN_PREP`, and for `going` of all something else
    /// than to be spared. Several destinations make a job `R` too, and none of their rows is there in place of another (observed).
    pub fn planned<'a>(self, mut waiting: impl Iterator<Item = &'a str>, going: i64) -> Self {
        match self {
            Self::Replicas if going > 1 && waiting.any(|planned| planned != "NOT_USED") => Self::Plain,
            kind => kind,
        }
    }
}

/// What becomes of one file.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate<T> {
    /// It leaves `TOKEN_PREP` for this state with these tokens.
    Release {
        /// The state.
        state: String,
        /// The source's token.
        source: T,
        /// The destination's token.
        destination: T,
    },
    /// It fails, for a reason in words.
    Fail(String),
    /// It will not be needed, since another row of its job has failed or done it: `NOT_USED`.
    Spare,
    /// Its job has stayed in the queue for longer than it may: `CANCELED`, as FTS does with files that wait for a slot.
    Expire,
    /// It was `NOT_USED` already, with tokens of its own, and FTS will not come back to it: `SUBMITTED`.
    Revive,
    /// It stays where it is; in words.
    Wait(String),
}

/// Decides for all waiting files of one job.
///
/// The rows of a job with several sources or hops go together: FTS passes over a row that is still in `TOKEN_PREP` when the
/// one before it ends, and never comes back to it (observed). A refused source leaves the others to try; a refused hop ends
/// the job before its first hop has begun.
pub fn decide<T: Clone>(kind: Kind, files: Vec<Waiting<T>>) -> Vec<(i64, Fate<T>)> {
    let mut fates: Vec<(i64, Fate<T>)> = files.into_iter().map(|file| (file.file, alone(file))).collect();
    if kind == Kind::Plain {
        return fates;
    }
    let waits = fates.iter().find_map(|(_, fate)| match fate {
        Fate::Wait(why) => Some(why.clone()),
        _ => None,
    });
    let failed = fates.iter().any(|(_, fate)| matches!(fate, Fate::Fail(_)));
    if let Some(why) = waits {
        // A refusal stays one: it will be found again when the others can be decided too.
        fates.iter_mut().for_each(|(_, fate)| *fate = Fate::Wait(why.clone()));
    } else if failed && kind == Kind::Hops {
        let released = fates.iter_mut().filter(|(_, fate)| matches!(fate, Fate::Release { .. }));
        released.for_each(|(_, fate)| *fate = Fate::Spare);
    } else if failed {
        submit_one(&mut fates);
    }
    fates
}

fn alone<T>(file: Waiting<T>) -> Fate<T> {
    use Token::{Got, Refused, Wait};
    match (file.source, file.destination) {
        (Refused(why), _) => Fate::Fail(format!("{} token: {why}", Side::Source.name())),
        (_, Refused(why)) => Fate::Fail(format!("{} token: {why}", Side::Destination.name())),
        (Wait(why), _) | (_, Wait(why)) => Fate::Wait(why),
        (Got(source), Got(destination)) => Fate::Release { state: file.planned, source, destination },
    }
}

/// When the row that was to go first has failed, the next goes first.
fn submit_one<T>(fates: &mut [(i64, Fate<T>)]) {
    let first = |fate: &Fate<T>| matches!(fate, Fate::Release { state, .. } if state != "NOT_USED");
    if fates.iter().any(|(_, fate)| first(fate)) {
        return;
    }
    let next = fates.iter_mut().find_map(|(_, fate)| match fate {
        Fate::Release { state, .. } => Some(state),
        _ => None,
    });
    if let Some(state) = next {
        "SUBMITTED".clone_into(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: i64, planned: &str, source: Token<u8>) -> Waiting<u8> {
        Waiting { file: id, planned: planned.into(), source, destination: Token::Got(9) }
    }

    fn words(kind: Kind, files: Vec<Waiting<u8>>) -> Vec<String> {
        let word = |(_, fate): (i64, Fate<u8>)| match fate {
            Fate::Release { state, .. } => state,
            Fate::Fail(why) => why,
            Fate::Wait(_) => "wait".into(),
            other => format!("{other:?}"),
        };
        decide(kind, files).into_iter().map(word).collect()
    }

    fn pair(first: Token<u8>, second: Token<u8>) -> Vec<Waiting<u8>> {
        vec![file(1, "SUBMITTED", first), file(2, "NOT_USED", second)]
    }

    #[test]
    fn rows_for_several_destinations_are_no_spares() {
        let kind = |kind: Kind, waiting: &[&str], going| kind.planned(waiting.iter().copied(), going);
        let two = ["SUBMITTED", "SUBMITTED"];
        assert_eq!(kind(Kind::Replicas, &two, 2), Kind::Plain);
        assert_eq!(kind(Kind::Replicas, &two[..1], 2), Kind::Plain, "the other has left TOKEN_PREP");
        assert_eq!(kind(Kind::Replicas, &["SUBMITTED", "NOT_USED"], 1), Kind::Replicas);
        assert_eq!(
            kind(Kind::Replicas, &["NOT_USED"], 2),
            Kind::Replicas,
            "the others were tried one by one"
        );
        assert_eq!(kind(Kind::Replicas, &[], 2), Kind::Replicas);
        assert_eq!(kind(Kind::Hops, &two, 2), Kind::Hops);
    }

    #[test]
    fn files_of_a_plain_job_go_each_their_own_way() {
        let files = vec![
            file(1, "SUBMITTED", Token::Got(1)),
            file(2, "SUBMITTED", Token::Wait("down".into())),
            file(3, "SUBMITTED", Token::Refused("no".into())),
        ];
        assert_eq!(words(Kind::Plain, files), ["SUBMITTED", "wait", "SOURCE token: no"]);
    }

    #[test]
    fn rows_that_belong_together_wait_together() {
        for kind in [Kind::Replicas, Kind::Hops] {
            assert_eq!(words(kind, pair(Token::Got(1), Token::Wait("down".into()))), ["wait", "wait"]);
            assert_eq!(words(kind, pair(Token::Got(1), Token::Got(2))), ["SUBMITTED", "NOT_USED"]);
        }
    }

    #[test]
    fn a_refused_replica_makes_way_and_a_refused_hop_ends_the_job() {
        let refused = || Token::Refused("no".to_owned());
        assert_eq!(words(Kind::Replicas, pair(refused(), Token::Got(2))), ["SOURCE token: no", "SUBMITTED"]);
        assert_eq!(words(Kind::Replicas, pair(Token::Got(1), refused())), ["SUBMITTED", "SOURCE token: no"]);
        assert_eq!(words(Kind::Hops, pair(Token::Got(1), refused())), ["Spare", "SOURCE token: no"]);
    }
}
