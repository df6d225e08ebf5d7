//! Values of another kind than their key's. They are named here, since the library would round a fraction, take `true` for a number, and
//! in a section of two types forget the key.

use config::{Value, ValueKind};

use super::effective::{ENVIRONMENT, child_mut, variable};
use super::schema::{Shape, below};

/// Most seconds, and most of anything else that is counted in time: what is added to a clock must not overflow it.
const MOST_TIME: i64 = 1_000_000_000;

/// A value that can't be, and the variable that it came by.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) line: String,
    pub(super) variable: Option<String>,
}

/// Turns texts that are numbers or truth values into these.
///
/// # Errors
/// The first value that is of another kind than its key's, by its place; it is not shown.
pub(super) fn settle(shape: &Shape, value: &mut Value, prefix: &str) -> Result<(), Wrong> {
    below_here(shape, value, "", prefix)
}

fn below_here(shape: &Shape, value: &mut Value, place: &str, prefix: &str) -> Result<(), Wrong> {
    let from_environment = value.origin() == Some(ENVIRONMENT);
    let wrong = |line: String| Wrong { line, variable: from_environment.then(|| variable(place, prefix)) };
    match (shape, &mut value.kind) {
        (Shape::List(inner), ValueKind::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                below_here(inner, item, &format!("{place}[{index}]"), prefix)?;
            }
            Ok(())
        }
        (Shape::List(inner), ValueKind::Table(table)) if inner.section().is_some() => {
            let key = table.keys().min().map(|key| variable(&below(place, key), prefix));
            let of_environment = table.values().any(|value| value.origin() == Some(ENVIRONMENT));
            Err(Wrong {
                line: format!(
                    "`[[{place}]]` is a list of sections, which only the configuration file can set"
                ),
                variable: key.filter(|_| of_environment),
            })
        }
        (Shape::Map(inner), ValueKind::Table(table)) => {
            let mut names: Vec<String> = table.keys().cloned().collect();
            names.sort();
            for name in names {
                if let Some(value) = table.get_mut(&name) {
                    below_here(inner, value, &below(place, &name), prefix)?;
                }
            }
            Ok(())
        }
        (Shape::Section(section), ValueKind::Table(_)) => {
            for key in &section.keys {
                if let Some(value) = child_mut(value, key.name) {
                    below_here(&key.shape, value, &below(place, key.name), prefix)?;
                }
            }
            Ok(())
        }
        (Shape::Number { signed }, kind) => {
            let number = match kind {
                ValueKind::I64(number) => Some(*number),
                ValueKind::U64(number) => Some(i64::try_from(*number).unwrap_or(i64::MAX)),
                ValueKind::String(text) => text.trim().parse().ok(),
                ValueKind::Nil => return Ok(()),
                _ => None,
            };
            let Some(number) = number else {
                return Err(wrong(format!("`{place}`: a whole number is expected")));
            };
            let key = place.rsplit('.').next().unwrap_or(place);
            let least = match (key.ends_with("timeout_s"), signed) {
                (true, _) => 1,
                (false, false) => 0,
                (false, true) => i64::MIN,
            };
            if number < least {
                return Err(wrong(format!("`{place}`: it must be at least {least}")));
            }
            if key.ends_with("_s") && number > MOST_TIME {
                return Err(wrong(format!("`{place}`: it may be {MOST_TIME} seconds at most")));
            }
            *kind = ValueKind::I64(number);
            Ok(())
        }
        (Shape::Truth, kind) => {
            let truth = match kind {
                ValueKind::Boolean(truth) => Some(*truth),
                ValueKind::I64(0) => Some(false),
                ValueKind::I64(1) => Some(true),
                ValueKind::String(text) => match text.to_lowercase().as_str() {
                    "true" | "yes" | "on" | "1" => Some(true),
                    "false" | "no" | "off" | "0" => Some(false),
                    _ => None,
                },
                ValueKind::Nil => return Ok(()),
                _ => None,
            };
            let Some(truth) = truth else {
                return Err(wrong(format!("`{place}`: `true` or `false` is expected")));
            };
            *kind = ValueKind::Boolean(truth);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The variable that set what stands at the place that the library names, such as `http.listen`.
pub(super) fn set_by(value: &Value, place: &str, prefix: &str) -> Option<String> {
    let found = place.split('.').try_fold(value, |value, name| match &value.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    })?;
    (found.origin() == Some(ENVIRONMENT)).then(|| variable(place, prefix))
}

#[cfg(test)]
mod tests {
    use config::{Config, File, FileFormat};
    use serde::Deserialize;

    use super::*;
    use crate::config::schema::Configuration;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Example {
        wait_s: u64,
        timeout_s: Option<u32>,
        on: bool,
        offset: i64,
        part: Vec<Part>,
        name: String,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Part {
        batch: usize,
    }

    impl Configuration for Example {}

    fn settled(text: &str) -> Result<Value, String> {
        let config = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build().unwrap();
        let mut value = config.cache;
        settle(&Shape::of::<Example>(), &mut value, "X").map_err(|wrong| wrong.line)?;
        Ok(value)
    }

    #[test]
    fn texts_that_are_numbers_become_numbers() {
        let value = settled("wait_s = \"20\"\non = \"yes\"\noffset = -3\nname = \"1.5\"").unwrap();
        let ValueKind::Table(table) = value.kind else { panic!("a table") };
        assert_eq!(
            (&table["wait_s"].kind, &table["on"].kind),
            (&ValueKind::I64(20), &ValueKind::Boolean(true))
        );
        assert_eq!(table["name"].kind, ValueKind::String("1.5".into()));
    }

    #[test]
    fn what_is_of_another_kind_is_named_and_not_shown() {
        for (text, line) in [
            ("wait_s = 0.2", "`wait_s`: a whole number is expected"),
            ("wait_s = true", "`wait_s`: a whole number is expected"),
            ("wait_s = \"canary\"", "`wait_s`: a whole number is expected"),
            ("wait_s = -1", "`wait_s`: it must be at least 0"),
            ("wait_s = 1000000001", "`wait_s`: it may be 1000000000 seconds at most"),
            ("timeout_s = 0", "`timeout_s`: it must be at least 1"),
            ("on = 2", "`on`: `true` or `false` is expected"),
            ("[[part]]\nbatch = 1\n[[part]]\nbatch = 1.0", "`part[1].batch`: a whole number is expected"),
            (
                "[part]\nbatch = 1",
                "`[[part]]` is a list of sections, which only the configuration file can set",
            ),
        ] {
            assert_eq!(settled(text).unwrap_err(), line, "{text}");
        }
    }
}
