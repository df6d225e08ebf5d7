//! What was found, for people or as JSON.

use daemon::terminal::{self, say};

use super::Report;

pub(super) fn show(report: &Report, json: bool) {
    if json {
        say(&serde_json::to_string(report).unwrap_or_default());
        return;
    }
    for line in lines(report) {
        say(&terminal::line(&line));
    }
}

fn lines(report: &Report) -> Vec<String> {
    let line = |difference: &super::Difference| {
        let super::Difference { request_id, field, theirs, ours, reason } = difference;
        let reason = reason.as_deref().unwrap_or("NO REASON KNOWN");
        format!("{request_id} {field}: theirs {theirs}, ours {ours} ({reason})")
    };
    let mut lines: Vec<_> = report.differences.iter().map(line).collect();
    let states: Vec<_> = report.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    lines.push(format!(
        "compared     {} requests of the last {} s, by state: {}",
        report.compared,
        report.last_s,
        if states.is_empty() { "none".to_owned() } else { states.join("  ") }
    ));
    if report.compared == 0 {
        lines.push(
            "nothing to compare: Rucio's own submitter has worked on no request in that time (--last)".into(),
        );
        return lines;
    }
    lines.push(format!("the same     {}", report.same));
    lines.push(format!("explained    {} requests", report.explained));
    lines.extend(report.reasons.iter().map(|(reason, count)| format!("             {count}: {reason}")));
    lines.push(format!("unexplained  {} requests", report.unexplained));
    if report.not_compared > 0 {
        lines.push(format!(
            "not compared {} hops, since the request that they are for is gone",
            report.not_compared
        ));
    }
    lines
}
