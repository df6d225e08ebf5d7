//! How far watched jobs are: a line that moves on a terminal, a new line at every change elsewhere.

use std::collections::BTreeMap;
use std::io::Write as _;

use fts_client::{FileState, JobState, JobStatus};

use super::show::in_words;

/// Widest bar, in characters.
const BAR: usize = 30;

/// The line that moves.
pub(super) struct Progress {
    terminal: bool,
    last: String,
}

impl Progress {
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, last: String::new() }
    }

    pub(super) fn show<'a>(&mut self, jobs: impl Iterator<Item = &'a JobStatus>) {
        let line = summary(jobs);
        if line == self.last {
            return;
        }
        let mut out = std::io::stderr();
        let _ = match self.terminal {
            true => write!(out, "\r\x1b[K{}", cut(&line, width())),
            false => writeln!(out, "fts-client: {line}"),
        };
        let _ = out.flush();
        self.last = line;
    }

    /// Leaves the line before something else is written.
    pub(super) fn leave(&mut self) {
        if self.terminal && !self.last.is_empty() {
            let _ = writeln!(std::io::stderr());
        }
        self.last.clear();
    }
}

/// Files that FTS is done with, of all.
fn summary<'a>(jobs: impl Iterator<Item = &'a JobStatus>) -> String {
    let (mut done, mut all, mut bytes) = (0_usize, 0_usize, 0_i64);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for job in jobs {
        for file in &job.files {
            let Some(state) = &file.file_state else { continue };
            let spare = job.job_state.is_terminal() && *state == FileState::NotUsed;
            all += 1;
            done += usize::from(state.is_terminal() || spare);
            bytes += if *state == FileState::Finished { file.filesize.unwrap_or(0).max(0) } else { 0 };
            *counts.entry(state.as_str()).or_default() += 1;
        }
        if job.files.is_empty() && job.job_state != JobState::Finished {
            *counts.entry(job.job_state.as_str()).or_default() += 1;
        }
    }
    let filled = (done * BAR).checked_div(all).unwrap_or(0);
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
    format!("[{bar}] {done}/{all} files, {bytes} bytes  {}", in_words(&counts))
}

fn cut(line: &str, width: usize) -> String {
    line.chars().filter(|c| !c.is_control()).take(width.saturating_sub(1)).collect()
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_counts_files_that_have_ended() {
        let job: JobStatus = serde_json::from_value(serde_json::json!({
            "job_id": "8e531ad2-e76a-11f1-b890-02fc00000001", "job_state": "FINISHED",
            "files": [{"file_state": "FINISHED", "filesize": 7}, {"file_state": "NOT_USED"}],
        }))
        .unwrap();
        let line = summary([&job].into_iter());
        assert_eq!(line, format!("[{}] 2/2 files, 7 bytes  1 FINISHED, 1 NOT_USED", "#".repeat(BAR)));
        assert_eq!(cut(&line, 5), "[###");
        assert!(summary(std::iter::empty()).contains("0/0"));
    }
}
