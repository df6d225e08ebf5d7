//! Metrics: families of numbers that are gathered when somebody asks. The work counts for itself; nothing is counted twice, and a
//! scrape is all that they cost.

mod issuers;
mod process;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use token_core::http::printable;

pub use issuers::Issuers;
pub(crate) use issuers::{IssuerStatus, plain};
pub(crate) use process::of_process;

/// The `Content-Type` of [`text`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Most points of one family. Whatever the world is like, a scrape stays small.
const MOST: usize = 500;
/// What the labels of those beyond say.
pub const OTHERS: &str = "others";

/// A metric: its name, what it means, and its numbers.
#[derive(Clone, Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    points: Vec<(Vec<String>, Number)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Debug)]
enum Number {
    Count(u64),
    Measure(f64),
    /// The sum, and how many up to each bound and above the one before.
    Spread(f64, Vec<(f64, u64)>),
}

impl Family {
    /// Counts what has happened since the process began; its name ends with `_total`.
    pub fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help, points: Vec::new() }
    }

    /// Tells how something is now.
    pub fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help, points: Vec::new() }
    }

    /// Tells how many took how long.
    pub fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help, points: Vec::new() }
    }

    /// With a count, under these values of its labels.
    #[must_use]
    pub fn count<const N: usize>(self, values: [&str; N], count: u64) -> Self {
        self.with(values, Number::Count(count))
    }

    /// With a measure, under these values of its labels.
    #[must_use]
    pub fn measure<const N: usize>(self, values: [&str; N], measure: f64) -> Self {
        self.with(values, Number::Measure(measure))
    }

    /// With durations: their sum, and how many up to each bound and above the one before.
    #[must_use]
    pub fn spread<const N: usize>(self, values: [&str; N], sum: f64, classes: Vec<(f64, u64)>) -> Self {
        self.with(values, Number::Spread(sum, classes))
    }

    fn with<const N: usize>(mut self, values: [&str; N], number: Number) -> Self {
        self.points.push((values.map(printable).to_vec(), number));
        self
    }

    /// What the documentation of metrics says of it: a row of its table.
    pub fn row(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        format!("| `{}` | {kind} | {} | {} |", self.name, labels.join(", "), self.help)
    }

    /// At most so many points: of counts the others are summed up, of measures the lowest stay, which are those that worry.
    fn bounded(mut self) -> Self {
        if self.points.len() <= MOST {
            return self;
        }
        let key = |number: &Number| match number {
            Number::Count(count) => -(*count as f64),
            Number::Measure(measure) => *measure,
            Number::Spread(sum, _) => -sum,
        };
        self.points.sort_by(|(_, a), (_, b)| key(a).total_cmp(&key(b)));
        let rest = self.points.split_off(MOST);
        if self.kind == Kind::Counter {
            let sum =
                rest.iter().map(|(_, number)| if let Number::Count(count) = number { *count } else { 0 });
            let values = self.labels.iter().map(|_| OTHERS.to_owned()).collect();
            self.points.push((values, Number::Count(sum.sum())));
        }
        self
    }

    fn encode(self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, kind) = match self.kind {
            // The encoder puts the end on again.
            Kind::Counter => (self.name.strip_suffix("_total").unwrap_or(self.name), MetricType::Counter),
            Kind::Gauge => (self.name, MetricType::Gauge),
            Kind::Histogram => (self.name, MetricType::Histogram),
        };
        let mut metric = encoder.encode_descriptor(name, self.help, None, kind)?;
        for (values, number) in &self.points {
            let labels: Vec<_> =
                self.labels.iter().zip(values).map(|(name, value)| (*name, value.as_str())).collect();
            let labels = labels.as_slice();
            let mut point = metric.encode_family(&labels)?;
            match number {
                Number::Count(count) => point.encode_counter::<NoLabelSet, _, f64>(count, None)?,
                Number::Measure(measure) => point.encode_gauge(measure)?,
                Number::Spread(sum, classes) => {
                    let count = classes.iter().map(|(_, count)| count).sum();
                    point.encode_histogram::<NoLabelSet>(*sum, count, classes, None)?;
                }
            }
        }
        Ok(())
    }
}

/// Families as Prometheus reads them.
pub fn text(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Gathered(families)));
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Gathered(Vec<Family>);

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.clone().bounded().encode(&mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let counter = Family::counter("x_total", &["a", "b"], "What x is").count(["1", "say \"hi\"\\\n"], 7);
        let gauge = Family::gauge("y", &[], "What y is").measure([], 0.5);
        let spread = Family::histogram("z_seconds", &["a"], "What z is").spread(
            ["1"],
            2.5,
            vec![(0.1, 1), (f64::INFINITY, 2)],
        );
        assert_eq!(counter.row(), "| `x_total` | counter | `a`, `b` | What x is |");
        let text = text(vec![counter, gauge, spread, Family::gauge("none", &["a"], "Nothing yet")]);
        for line in [
            "# TYPE x_total counter",
            "# HELP y What y is",
            "y 0.5",
            "z_seconds_bucket{a=\"1\",le=\"0.1\"} 1",
            "z_seconds_bucket{a=\"1\",le=\"+Inf\"} 3",
            "z_seconds_count{a=\"1\"} 3",
            "# TYPE none gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let quoted = text.lines().find(|line| line.starts_with("x_total{")).unwrap();
        assert!(
            quoted.starts_with("x_total{a=\"1\",b=\"say \\\"hi\\\"\\\\") && quoted.ends_with("} 7"),
            "{quoted}"
        );
    }

    #[test]
    fn a_family_never_has_more_than_so_many_points() {
        let mut counts = Family::counter("c_total", &["a"], "h");
        let mut ends = Family::gauge("g", &["a"], "h");
        for n in 0..MOST + 100 {
            let count = u64::from(n < 100) * 100 + 1;
            counts = counts.count([&n.to_string()], count);
            ends = ends.measure([&n.to_string()], 1000.0 - f64::from(u32::try_from(n).unwrap()));
        }
        let (counts, ends) = (text(vec![counts]), text(vec![ends]));
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((lines(&counts), lines(&ends)), (MOST + 1, MOST));
        assert!(
            counts.contains("c_total{a=\"others\"} 100\n") && counts.contains("{a=\"99\"} 101"),
            "{counts}"
        );
        assert!(ends.contains("{a=\"599\"} 401") && !ends.contains("{a=\"0\"}"));
    }
}
