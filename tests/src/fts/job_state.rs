//! The state of a job, from those of its files.

/// Why a job is not simply FINISHED.
pub(super) const SOME_FAILED: &str =
    "One or more files failed. Please have a look at the details for more information";

/// The end of a job: its state and reason; none while something may still happen. `rows` are the states of its files.
pub(super) fn end(job_type: &str, rows: &[String]) -> Option<(&'static str, &'static str)> {
    let count = |state: &str| rows.iter().filter(|row| *row == state).count();
    let (finished, failed, canceled) = (count("FINISHED"), count("FAILED"), count("CANCELED"));
    let done = finished + failed + canceled == rows.len();
    let end = match job_type {
        // One replica is enough; the spare ones stay as they are.
        "R" if finished > 0 => "FINISHED",
        // A hop that failed ends the chain; later hops stay as they are.
        "H" if failed > 0 => "FAILED",
        _ if !done => return None,
        _ if finished == rows.len() => "FINISHED",
        _ if canceled == rows.len() => "CANCELED",
        _ if finished == 0 && failed > 0 => "FAILED",
        _ => "FINISHEDDIRTY",
    };
    Some((end, if end == "FINISHED" { "" } else { SOME_FAILED }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_the_observed_ones() {
        for (job_type, rows, expected) in [
            ("N", "FINISHED FINISHED", Some("FINISHED")),
            ("N", "FINISHED FAILED", Some("FINISHEDDIRTY")),
            ("N", "FAILED FAILED", Some("FAILED")),
            ("N", "FINISHED ACTIVE", None),
            ("N", "FINISHED TOKEN_PREP", None),
            ("R", "FAILED FINISHED NOT_USED", Some("FINISHED")),
            ("R", "FAILED FAILED", Some("FAILED")),
            ("R", "FAILED NOT_USED", None),
            ("R", "FAILED TOKEN_PREP", None),
            ("H", "FAILED NOT_USED", Some("FAILED")),
            ("H", "FINISHED FAILED", Some("FAILED")),
            ("H", "FINISHED TOKEN_PREP", None),
            ("H", "FINISHED FINISHED", Some("FINISHED")),
        ] {
            let rows: Vec<String> = rows.split(' ').map(str::to_owned).collect();
            assert_eq!(end(job_type, &rows).map(|(state, _)| state), expected, "{job_type} {rows:?}");
        }
    }
}
