//! What came out: rows of a figure, what it is to be, and whether it is.

use serde_json::{Value, json};

/// One figure.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// The figure, or why there is none.
    pub(crate) figure: Result<Figure, String>,
}

/// A figure and its goal.
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// Other figures in words, for the reader.
    pub(crate) note: String,
    pub(crate) goal: Option<Goal>,
}

/// What a figure is to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    Below(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::Below(bound) => value < bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::Below(bound) => format!("< {bound}"),
        }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: Result<Figure, String>) {
        self.0.push(Row { what: what.into(), figure });
    }

    /// Whether no goal was missed. What was not measured misses none.
    pub(crate) fn all_met(&self) -> bool {
        let figures = self.0.iter().filter_map(|row| row.figure.as_ref().ok());
        figures.filter_map(|figure| figure.goal.map(|goal| goal.met(figure.value))).all(|met| met)
    }

    pub(crate) fn table(&self) -> String {
        let width = self.0.iter().map(|row| row.what.len()).max().unwrap_or(0);
        let line = |row: &Row| match &row.figure {
            Err(why) => format!("{:width$}  not measured: {why}\n", row.what),
            Ok(Figure { value, unit, note, goal }) => {
                let goal = goal.map_or(String::new(), |goal| {
                    format!("  goal {}: {}", goal.text(), if goal.met(*value) { "met" } else { "MISSED" })
                });
                format!("{:width$}  {value:>8.2} {unit:<5}{goal:20}  {note}", row.what).trim_end().to_owned()
                    + "\n"
            }
        };
        self.0.iter().map(line).collect()
    }

    pub(crate) fn json(&self) -> String {
        let row = |row: &Row| match &row.figure {
            Err(why) => json!({"what": row.what, "not_measured": why}),
            Ok(Figure { value, unit, note, goal }) => json!({"what": row.what, "value": value, "unit": unit,
                "note": note, "goal": goal.map(Goal::text), "met": goal.map(|goal| goal.met(*value))}),
        };
        json!({ "rows": self.0.iter().map(row).collect::<Vec<Value>>() }).to_string()
    }
}

/// The value below which this part of the sorted samples lies.
pub(crate) fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = ((samples.len() as f64) * part) as usize;
    samples.get(at.min(samples.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
