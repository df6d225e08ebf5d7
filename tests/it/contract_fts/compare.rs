//! An answer, and rows, beside the recorded ones.

use std::collections::BTreeSet;

use serde_json::Value;
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::names::Names;
use super::recording::Row;
use super::rows::is_time;

/// How far times may be apart, in seconds.
const TIMES: i64 = 15;
/// A number that is as large is a time.
const EPOCH: i64 = 1_000_000_000;

/// Goes through values and keeps what differs.
pub(crate) struct Comparison<'a> {
    pub(crate) names: &'a mut Names,
    /// Members and columns whose values the server makes up.
    pub(crate) made_up: &'a [&'static str],
    pub(crate) differences: Vec<String>,
}

impl Comparison<'_> {
    /// Notes a difference between two things that are shown.
    pub(crate) fn differ(&mut self, what: &str, recorded: impl ToString, here: impl ToString) {
        let short = |text: String| match text.char_indices().nth(160) {
            None => text,
            Some((at, _)) => format!("{}…", &text[..at]),
        };
        let (recorded, here) = (short(recorded.to_string()), short(here.to_string()));
        self.differences.push(format!("{what}: recorded {recorded}, here {here}"));
    }

    /// Compares JSON values.
    pub(crate) fn value(&mut self, at: &str, recorded: &Value, here: &Value) {
        match (recorded, here) {
            (Value::Object(theirs), Value::Object(ours)) => {
                let keys: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
                for key in keys {
                    let place = format!("{at}.{key}");
                    match (theirs.get(key), ours.get(key)) {
                        (Some(theirs), Some(ours)) => self.member(&place, key, theirs, ours),
                        (Some(theirs), None) => self.differ(&place, theirs, "nothing"),
                        (None, Some(ours)) => self.differ(&place, "nothing", ours),
                        (None, None) => (),
                    }
                }
            }
            (Value::Array(theirs), Value::Array(ours)) => {
                if theirs.len() != ours.len() {
                    self.differ(&format!("length of {at}"), theirs.len(), ours.len());
                }
                for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                    self.value(&format!("{at}[{index}]"), theirs, ours);
                }
            }
            _ if self.same(recorded, here) => (),
            _ => self.differ(at, recorded, here),
        }
    }

    fn member(&mut self, at: &str, key: &str, recorded: &Value, here: &Value) {
        match self.made_up.iter().find(|name| **name == key) {
            Some(kind) if !recorded.is_null() && !here.is_null() => {
                if !self.names.stands_for(kind, recorded, here) {
                    self.differ(at, recorded, here);
                }
            }
            _ => self.value(at, recorded, here),
        }
    }

    fn same(&self, recorded: &Value, here: &Value) -> bool {
        match (recorded, here) {
            (Value::String(theirs), Value::String(ours)) => {
                if let (Some(theirs), Some(ours)) = (seconds(theirs), seconds(ours)) {
                    return (theirs - ours).abs() <= TIMES;
                }
                words(&self.names.here(theirs)) == words(ours) || Names::same_host(theirs, ours)
            }
            (Value::Number(theirs), Value::Number(ours)) => match (theirs.as_i64(), ours.as_i64()) {
                (Some(theirs), Some(ours)) if theirs > EPOCH => (theirs - ours).abs() <= TIMES,
                _ => theirs.as_f64() == ours.as_f64(),
            },
            _ => recorded == here,
        }
    }

    /// Compares a row. A column that was not recorded was null, where both tables have the `same_columns`.
    pub(crate) fn row(&mut self, at: &str, recorded: &Row, here: &Row, same_columns: bool) {
        for (column, theirs) in recorded {
            let place = format!("{at}.{column}");
            match here.get(column) {
                // Another version of the schema.
                None => (),
                Some(ours) if *column == "job_metadata" || column.ends_with("_metadata") => {
                    let json = |text: &Value| {
                        serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or(Value::Null)
                    };
                    self.value(&place, &json(theirs), &json(ours));
                }
                Some(ours) => self.member(&place, column, theirs, ours),
            }
        }
        let more = here.iter().filter(|(column, ours)| !recorded.contains_key(*column) && !ours.is_null());
        for (column, ours) in more.filter(|_| same_columns) {
            self.differ(&format!("{at}.{column}"), "nothing", ours);
        }
    }
}

/// A message without the statement and the parameters that the database adds.
fn words(text: &str) -> &str {
    text.split("\n[SQL:").next().unwrap_or_default()
}

/// The words of an HTML page.
pub(crate) fn page(html: &str) -> String {
    let mut words = String::new();
    for part in html.split('<') {
        words.push_str(part.split_once('>').map_or(part, |(_, text)| text));
        words.push(' ');
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn seconds(text: &str) -> Option<i64> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let text = is_time(text).then(|| text.replacen('T', " ", 1))?;
    PrimitiveDateTime::parse(&text, format).ok().map(|at| at.assume_utc().unix_timestamp())
}
