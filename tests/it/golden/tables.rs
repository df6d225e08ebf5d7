//! The tables after a pass, row by row.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;
use serde_json::Value;
use testbed::grid::Grid;

use super::golden::GoldenTable;
use super::reason::{ByDesign, Reason};

/// What a message has of one run only.
const OF_ONE_RUN: [&str; 4] = ["request-id", "external-id", "external-host", "queued_at"];

/// The rows of `sources` as they were: request, RSE and URL.
pub(super) async fn source_urls(grid: &Grid) -> Result<HashSet<Vec<String>>> {
    let rows = grid.rucio.texts(
        "SELECT q.scope || ':' || q.name || ' > ' || d.rse, s.rse, x.url FROM sources x JOIN requests q ON q.id = x.request_id \
         JOIN rses d ON d.id = q.dest_rse_id JOIN rses s ON s.id = x.rse_id",
    );
    Ok(rows.await?.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect())
}

/// How many rows were compared, and those that only one of the two has. Left out are those of files that are left by design, and of
/// RSEs without tokens what is counted.
pub(super) async fn compare(
    grid: &Grid,
    tables: &BTreeMap<String, GoldenTable>,
    left: &HashSet<String>,
    without_tokens: &BTreeSet<String>,
    before: &HashSet<Vec<String>>,
    by_design: &mut ByDesign,
) -> Result<(usize, Vec<String>)> {
    let (mut total, mut failures) = (0, Vec::new());
    for (name, table) in tables {
        let ours = grid.rucio.texts(&table.sql).await?.into_iter();
        let ours: Vec<Vec<String>> =
            ours.map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
        let counted = |row: &[String]| name == "updated_rse_counters" && without_tokens.contains(&row[0]);
        let of_left = |row: &[String]| left.iter().any(|file| is_of(row, file));
        let lines = |rows: &[Vec<String>]| {
            let rows = rows.iter().filter(|row| !counted(row) && !of_left(row));
            let mut lines: BTreeMap<String, usize> = BTreeMap::new();
            for row in rows {
                *lines.entry(line(name, row, before).0).or_default() += 1;
            }
            lines
        };
        let known: HashSet<&Vec<String>> = table.rows.iter().collect();
        for row in &ours {
            if counted(row) || of_left(row) {
                *by_design.entry(Reason::Certificate).or_default() += 1;
            } else if !known.contains(row) {
                for reason in line(name, row, before).1 {
                    *by_design.entry(reason).or_default() += 1;
                }
            }
        }
        let (theirs, ours) = (lines(&table.rows), lines(&ours));
        total += theirs.values().sum::<usize>();
        for line in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            let (theirs, ours) = (theirs.get(line), ours.get(line));
            if theirs != ours {
                let count = |count: Option<&usize>| count.copied().unwrap_or_default();
                failures.push(format!("{name}: Rucio {} x, ours {} x: {line}", count(theirs), count(ours)));
            }
        }
    }
    Ok((total, failures))
}

/// Whether a row is about this file.
fn is_of(row: &[String], file: &str) -> bool {
    let named = |cell: &String| {
        let did = cell.split(" > ").next().unwrap_or_default();
        did.split_once(':').is_some_and(|(_, name)| name == file)
    };
    let told = || {
        let payload = row.get(1).and_then(|cell| serde_json::from_str::<Value>(cell).ok());
        payload.is_some_and(|payload| payload["name"] == *file)
    };
    row.first().is_some_and(named) || told()
}

/// A row as one line, and for which reasons something was taken out. JSON in it is written in one way.
fn line(table: &str, row: &[String], before: &HashSet<Vec<String>>) -> (String, BTreeSet<Reason>) {
    let mut reasons = BTreeSet::new();
    let cell = |(at, cell): (usize, &String)| {
        // Destination and URL of an earlier try, which Rucio leaves standing.
        let stands = table == "sources" && (at == 2 || at == 3);
        if stands && before.iter().any(|old| old[0] == row[0] && old[1] == row[1]) {
            reasons.insert(Reason::TriedBefore);
            return "(tried before)".to_owned();
        }
        match serde_json::from_str::<Value>(cell) {
            Ok(Value::Object(mut object)) => {
                let before = object.len();
                object.retain(|key, _| !OF_ONE_RUN.contains(&key.as_str()));
                if object.len() < before {
                    reasons.insert(Reason::OneRun);
                }
                Value::Object(object).to_string()
            }
            _ => {
                let without = timeless(cell);
                if without != *cell {
                    reasons.insert(Reason::Time);
                }
                without
            }
        }
    };
    let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join(" | ");
    (line, reasons)
}

/// Without a time (ten digits) after the last `_`.
pub(super) fn timeless(text: &str) -> String {
    match text.rsplit_once('_') {
        Some((before, time)) if time.len() == 10 && time.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{before}_(time)")
        }
        _ => text.to_owned(),
    }
}
