//! What a command prints: lines for a person, or one JSON object.

use std::fmt::{Display, Write as _};

use daemon::Failure;
use daemon::terminal::{self, say};
use serde::Serialize;

/// Lines of names and what they are.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// `name` and `text`, the texts below each other.
    pub(super) fn line(&mut self, name: &str, text: impl Display) {
        let _ = writeln!(self.0, "{name:<14} {}", terminal::line(&text.to_string()));
    }

    /// A line under the one before.
    pub(super) fn more(&mut self, text: impl Display) {
        self.line("", text);
    }

    /// The whole.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Prints to standard output.
pub(super) fn print<T: Serialize>(
    json: bool,
    told: &T,
    page: impl FnOnce(&T) -> Page,
) -> Result<(), Failure> {
    if json {
        say(&serde_json::to_string(told).map_err(Failure::runtime)?);
    } else {
        say(page(told).text().trim_end_matches('\n'));
    }
    Ok(())
}

/// A time span for a person.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
