//! An explanation for people, or as JSON.

use daemon::terminal::{self, say};

use super::Explanation;

pub(super) fn show(explanation: &Explanation, json: bool) {
    if json {
        say(&serde_json::to_string(explanation).unwrap_or_default());
        return;
    }
    // The job is told in several lines.
    for line in lines(explanation).iter().flat_map(|lines| lines.split('\n')) {
        say(&terminal::line(line));
    }
}

fn lines(explanation: &Explanation) -> Vec<String> {
    let Explanation { request_id, did, destination, vo, eligible, outcome, reason, .. } = explanation;
    let mut lines = vec![
        format!("request      {request_id}, {did} to {destination} (VO {vo})"),
        format!("eligible     {}", if *eligible { "yes" } else { "no" }),
    ];
    for condition in &explanation.conditions {
        let mark = if condition.holds { "ok" } else { "NO" };
        lines.push(format!("  {mark}  {}: {}", condition.what, condition.found));
    }
    let whether = if *eligible { "would" } else { "if it were eligible, it would" };
    let reason = reason.as_deref().unwrap_or_default();
    lines.push(match *outcome {
        "submit" => format!("outcome      {whether} be submitted"),
        "leave" => format!("outcome      {whether} be left in the queue: {reason}"),
        letter => format!("outcome      {whether} get state {letter}: {reason}"),
    });
    lines.push(format!("sources      {}", explanation.sources.len()));
    for source in &explanation.sources {
        let place = source.preference.map_or("-".to_owned(), |place| place.to_string());
        let distance = source.distance.map_or("none".to_owned(), |distance| distance.to_string());
        let mut line = format!("  {place}  {}: ranking {}, distance {distance}", source.rse, source.ranking);
        if source.tape {
            line += ", on tape";
        }
        match (&source.url, &source.dropped) {
            (Some(url), _) => line += &format!(", {url}"),
            (None, Some(reason)) => line += &format!(", not taken: {reason}"),
            (None, None) => line += ", not named in the job",
        }
        lines.push(line);
    }
    for (what, text) in [("destination", &explanation.destination_url), ("FTS", &explanation.fts)] {
        lines.extend(text.as_ref().map(|text| format!("{what:<12} {text}")));
    }
    if let Some(token) = &explanation.token {
        lines.push(format!(
            "token        audience `{}`, scope `{}`, {}",
            token.audience, token.scope, token.how
        ));
    }
    for token in &explanation.storage_tokens {
        lines.push(format!("token        for {} {}: {}", token.side, token.rse, token.wanted));
    }
    if let Some(job) = &explanation.job {
        lines.push(format!("job          {}", serde_json::to_string_pretty(job).unwrap_or_default()));
    }
    lines
}
