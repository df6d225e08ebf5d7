//! What goes to the screen: lines, tables, colours.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use fts_client::{FileStatus, JobStatus};
use serde::Serialize;

use super::Failure;

/// Where output goes, and in which form.
pub(super) struct Screen {
    pub(super) json: bool,
    colour: bool,
    /// Whether standard error is a terminal, on which a line can be written again.
    pub(super) terminal: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = std::io::stdout().is_terminal() && !plain;
        Self { json, colour, terminal: std::io::stderr().is_terminal() }
    }

    /// Data.
    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        // The reader may have seen enough.
        std::io::stdout().write_all(text.as_bytes()).map_err(|_| Failure::silent(Failure::NOT_NOW))
    }

    /// Data as JSON.
    pub(super) fn print_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new(Failure::NOT_NOW, format!("the answer can't be shown: {error}")))?;
        self.print(&format!("{text}\n"))
    }

    /// Anything else.
    pub(super) fn note(&self, line: &str) {
        let _ = writeln!(std::io::stderr(), "fts-client: {line}");
    }

    fn state(&self, word: &str, width: usize) -> String {
        let code = match word {
            "FINISHED" => "32",
            "FAILED" | "CANCELED" | "FINISHEDDIRTY" => "31",
            "ACTIVE" | "READY" => "33",
            _ => "0",
        };
        match self.colour {
            true => format!("\x1b[{code}m{word:<width$}\x1b[0m"),
            false => format!("{word:<width$}"),
        }
    }

    /// A row for each job.
    pub(super) fn jobs(&self, jobs: &[JobStatus]) -> String {
        let mut text = format!("{:<36}  {:<13}  {:<19}  FILES\n", "JOB", "STATE", "SUBMITTED (UTC)");
        for job in jobs {
            let submitted = job.details.submit_time.as_ref().map_or("", |time| time.as_str());
            let ends = match (&job.details.source_se, &job.details.dest_se) {
                _ if !job.files.is_empty() => in_words(&counts(&job.files)),
                (Some(source), Some(destination)) => format!("{source} -> {destination}"),
                _ => String::new(),
            };
            let state = self.state(job.job_state.as_str(), 13);
            let reason = job.details.reason.as_deref().filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!("  ({reason})")).unwrap_or_default();
            text += &safe(&format!("{}  {state}  {submitted:<19}  {ends}{reason}", job.job_id));
        }
        text
    }

    /// A row for each file.
    pub(super) fn files(&self, files: &[FileStatus]) -> String {
        let mut text =
            format!("{:>10}  {:<13}  {:>14}  {:>7}  FROM, TO, REASON\n", "FILE", "STATE", "BYTES", "MiB/s");
        for file in files {
            let id = file.file_id.map(|id| id.to_string()).unwrap_or_default();
            let state = self.state(file.file_state.as_ref().map_or("", |state| state.as_str()), 13);
            let bytes = file.filesize.map(|size| size.to_string()).unwrap_or_default();
            let speed = file.throughput.map(|speed| format!("{speed:.1}")).unwrap_or_default();
            let source = file.source_surl.as_deref().unwrap_or_default();
            text += &safe(&format!("{id:>10}  {state}  {bytes:>14}  {speed:>7}  {source}"));
            let indent = " ".repeat(52);
            for line in [&file.dest_surl, &file.reason].into_iter().flatten().filter(|line| !line.is_empty())
            {
                text += &safe(&format!("{indent}{line}"));
            }
        }
        text
    }
}

/// How many files are in which state.
pub(super) fn counts(files: &[FileStatus]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for file in files {
        *counts.entry(file.file_state.as_ref().map_or("?", |state| state.as_str())).or_default() += 1;
    }
    counts
}

pub(super) fn in_words(counts: &BTreeMap<&str, usize>) -> String {
    counts.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

/// One line without anything that could steer a terminal but our own colours.
pub(super) fn safe(line: &str) -> String {
    let mut shown = String::with_capacity(line.len() + 1);
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_control()) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let ours =
            ["\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m"].iter().find(|code| rest.starts_with(**code));
        match ours {
            Some(code) => {
                shown.push_str(code);
                rest = &rest[code.len()..];
            }
            None => {
                shown.push(' ');
                let mut characters = rest.chars();
                characters.next();
                rest = characters.as_str();
            }
        }
    }
    shown.push_str(rest);
    shown.truncate(shown.trim_end().len());
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fts_says_cannot_steer_the_terminal() {
        assert_eq!(
            safe("a\x1b]0;title\x07b\r\nc \x1b[31mFAILED\x1b[0m "),
            "a ]0;title b  c \x1b[31mFAILED\x1b[0m\n"
        );
    }
}
